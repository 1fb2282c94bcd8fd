"""Trains the two reference models from fixed seeds and says how good they are on data not seen."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import nn
from torch.nn import functional

from xedge.core.exceptions import ConfigurationError
from xedge.models.architectures import SimpleAnomalyDetector, VibrationCNN
from xedge.scenario import vibration

Progress = Callable[[str, int, int], None]
Array = NDArray[Any]
Reference = SimpleAnomalyDetector | VibrationCNN

DATA_SEED, HELD_OUT_SEED, WEIGHT_SEED = 6205, 6206, 7


@dataclass(frozen=True)
class Recipe:
    """How much a model is trained: windows to learn from and be judged on, epochs, batch, learning rate."""

    windows: int
    held_out: int
    epochs: int
    batch: int
    learning_rate: float


RECIPES: dict[tuple[str, bool], Recipe] = {
    ("anomaly_detector", False): Recipe(10_000, 5_000, epochs=25, batch=128, learning_rate=5e-3),
    ("anomaly_detector", True): Recipe(1_500, 1_000, epochs=20, batch=64, learning_rate=5e-3),
    ("vibration_cnn", False): Recipe(5_000, 4_000, epochs=3, batch=64, learning_rate=3e-3),
    ("vibration_cnn", True): Recipe(512, 512, epochs=2, batch=32, learning_rate=3e-3),
}


def train(name: str, *, quick: bool = False, progress: Progress | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """Train the reference model `name` and judge it on windows from another seed.

    Returns the module in eval mode and its card's facts: `metrics`, `data_seed` and what it was made with. The metrics
    are `roc_auc` and `accuracy` (share of held-out windows on the right side of probability 0.5). Seeds are fixed: the
    same machine makes the same weights again. `quick` learns from less data, for tests; `progress(label, done, total)`
    is called after every epoch.

    Raises:
        ConfigurationError: `name` is not a reference model.
    """
    recipe = RECIPES.get((name, quick))
    if recipe is None:
        raise ConfigurationError(f"{name!r} is not a reference model: they are {sorted({k for k, _ in RECIPES})}")
    started = time.perf_counter()
    signals, labels = vibration.windows(recipe.windows, DATA_SEED)
    held_out, held_out_labels = vibration.windows(recipe.held_out, HELD_OUT_SEED)
    module: Reference
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(WEIGHT_SEED)
        if name == "anomaly_detector":
            signals, held_out = vibration.features(signals), vibration.features(held_out)
            mean, deviation = signals.mean(axis=0, dtype=np.float64), signals.std(axis=0, dtype=np.float64)
            module = SimpleAnomalyDetector()
            _fit(module, ((signals - mean) / deviation).astype(np.float32), labels, recipe, name, progress)
            fold_standardisation(module.hidden, mean, deviation)
        else:
            module = VibrationCNN()
            _fit(module, signals, labels, recipe, name, progress)
    with torch.inference_mode():
        parts = torch.split(torch.from_numpy(held_out), 256)
        scores = torch.cat([module.eval()(part)[:, 0] for part in parts]).numpy()
    accuracy = float(np.mean((scores > 0.5) == (held_out_labels == 1)))
    seeds = {"data_seed": DATA_SEED, "held_out_seed": HELD_OUT_SEED, "weight_seed": WEIGHT_SEED}
    duration_s = round(time.perf_counter() - started, 2)
    return module, {
        "metrics": {"roc_auc": round(roc_auc(held_out_labels, scores), 4), "accuracy": round(accuracy, 4)},
        "data_seed": DATA_SEED,
        "training": {"quick": quick, **seeds, **vars(recipe), "duration_s": duration_s},
    }


def fold_standardisation(linear: nn.Linear, mean: Array, deviation: Array) -> None:
    """Change `linear` in place so that it takes raw inputs instead of standardised ones.

    W ((x - m) / s) + b = (W / s) x + (b - (W / s) m), with m and s of shape (inputs,); computed in float64.
    """
    with torch.no_grad():
        weight = linear.weight.double() / torch.from_numpy(np.asarray(deviation, np.float64))
        bias = linear.bias.double() - weight @ torch.from_numpy(np.asarray(mean, np.float64))
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)


def _fit(
    module: Reference, inputs: Array, labels: Array, recipe: Recipe, label: str, progress: Progress | None
) -> None:
    """Minimise the binary cross entropy of the logits: finite where that of the probability is not."""
    known, wanted = torch.from_numpy(inputs), torch.from_numpy(labels.astype(np.float32))
    optimiser = torch.optim.AdamW(module.parameters(), recipe.learning_rate, weight_decay=1e-3)
    steps = recipe.epochs * -(-len(known) // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.learning_rate, total_steps=steps)
    module.train()
    for epoch in range(recipe.epochs):
        for rows in torch.split(torch.randperm(len(known)), recipe.batch):
            loss = functional.binary_cross_entropy_with_logits(module.logits(known[rows])[:, 0], wanted[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        if progress is not None:
            progress(label, epoch + 1, recipe.epochs)


def roc_auc(labels: Array, scores: Array) -> float:
    """Return the area under the ROC curve: how often a positive outscores a negative, a tie counting half.

    The Mann-Whitney statistic (Hanley & McNeil 1982, doi:10.1148/radiology.143.1.7063747):
    (R - p (p + 1) / 2) / (p q), R the sum of the positives' ranks (tied scores share their mean rank), p
    positives, q negatives. `labels` (0 or 1) and `scores` have shape (n,).

    Raises:
        ConfigurationError: the shapes differ, or only one of the two labels occurs.
    """
    labels, scores = np.asarray(labels), np.asarray(scores)
    if labels.shape != scores.shape or labels.ndim != 1:
        raise ConfigurationError(f"labels have shape {labels.shape}, scores {scores.shape}: give two of shape (n,)")
    positive = labels == 1
    p, q = int(positive.sum()), int((~positive).sum())
    if not (p and q):
        raise ConfigurationError(f"{p} positives and {q} negatives: the ROC curve needs at least one of each")
    return float((rankdata(scores)[positive].sum() - p * (p + 1) / 2) / (p * q))
