"""Trains a text model and writes it as a folder that is complete and checked, or not at all."""

import json
import math
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from xedge.core import machine
from xedge.core.exceptions import ConfigurationError
from xedge.core.files import file_sha256, sealed, write_json
from xedge.core.progress import Progress
from xedge.models.export import export
from xedge.text.architecture import TextClassifier
from xedge.text.features import BUCKETS, FEATURE_SPEC, encode, encode_batch, padded
from xedge.text.model import CARD, FILES, GOLDEN, LABELS, TextModel
from xedge.text.training import corpus as corpora
from xedge.text.training.corpus import Corpus
from xedge.text.training.evaluation import Evaluation, evaluate

Ids = NDArray[np.int32]

GOLDEN_TEXTS = ("", "?", "Grüße aus Köln 👋", "これは日本語の文です。", "\x00" + "very " * 600 + "long")
PARITY_INPUTS, PARITY_IDS = 1000, 512  # texts, and ids of each; longer ones are among the golden texts
FOLDS = 3


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    The training texts are cut into `FOLDS` parts; `folds` of them are answered by a model that has not seen them,
    for the temperature. `dropped` is the share of a text's ids that are left out at random, each time anew.
    """

    epochs: int
    folds: int
    batch: int
    dimensions: int = 16
    learning_rate: float = 0.02
    dropped: float = 0.3


def recipe_for(texts: int, epochs: int = 0, quick: bool = False) -> Recipe:
    """Return the recipe for so many training texts; `epochs` above 0 goes before its own number."""
    # Of many thousands, one part is enough to find the temperature on, and a few epochs to learn from.
    many = texts > 5000
    usual = 5 if many else 10 if quick else 20
    return Recipe(epochs or usual, folds=1 if many or quick else FOLDS, batch=min(256, max(32, texts // 20)))


@dataclass(frozen=True)
class TrainingResult:
    """A trained model's folder, the corpus it was made from and its answers to the texts held out."""

    task: str
    folder: Path
    corpus: Corpus
    evaluation: Evaluation
    temperature: float
    duration_s: float

    def __str__(self) -> str:
        accuracy = self.evaluation.accuracy
        return (
            f"{self.task}: held-out accuracy {accuracy.value:.3f} ({accuracy.low:.3f} to {accuracy.high:.3f}, "
            f"{accuracy.n} texts), always the commonest label {self.evaluation.majority_share:.3f}, "
            f"calibration error {self.evaluation.calibration_error:.3f}; trained in {self.duration_s:.1f} s"
        )


def train(
    task: str,
    folder: str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    *,
    labels_column: str = "label",
    epochs: int = 0,
    seed: int = 0,
    quick: bool = False,
    progress: bool = True,
) -> TrainingResult:
    """Train the model of `task` ("topic" or "sentiment"), write it as `folder` and judge it on texts held out.

    Every label has the same weight, however many texts it has. Afterwards the logits are divided by the temperature
    that makes the probabilities of unseen training texts most likely (Guo et al. 2017, arXiv:1706.04599). The folder
    holds model.onnx and model.pt, checked against each other, labels.json, golden.json and card.json; one that is
    there is replaced at the end, if it was a text model.

    Args:
        task: "topic" or "sentiment".
        folder: where to write the model.
        data: a CSV file as `xedge.text.training.corpus.read` takes it; None for the corpus that ships with xedge.
        labels_column: the column with the labels.
        epochs: how often every text is seen; 0 for the recipe's own number.
        seed: everything random comes from it: same data and seed, same weights on the same machine.
        quick: fewer epochs and folds, for tests.
        progress: show a line in the notebook or terminal.

    Raises:
        ConfigurationError: the data or a parameter cannot be used, or `folder` is there and is no text model.
        ParityError: the two engines disagree; nothing was written.
    """
    if epochs < 0 or seed < 0:
        raise ConfigurationError(f"epochs is {epochs} and seed {seed}: both must be 0 or more")
    began = time.perf_counter()
    target = Path(folder)
    if target.exists() and not (target / CARD).is_file():
        raise ConfigurationError(f"{target} is there and is not a text model: give a folder that is not there yet")
    corpus = corpora.read(task, data, labels_column)
    recipe = recipe_for(corpus.held_out.count(False), epochs, quick)
    with Progress(1, "epochs", f"training {task}", enabled=progress) as line, _reproducible(seed):
        module, temperature = _trained(corpus, recipe, line)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
            draft = Path(scratch) / "new"
            facts = {"seed": seed, "quick": quick, "temperature": temperature, **asdict(recipe)}
            evaluation = _write(draft, task, corpus, module, facts)
            if target.exists():
                target.rename(Path(scratch) / "old")
            draft.rename(target)
        result = TrainingResult(task, target, corpus, evaluation, temperature, time.perf_counter() - began)
        line.finish(str(result))
    return result


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """Draw from `seed` and add up in one order only, which takes one thread; both as before afterwards."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _trained(corpus: Corpus, recipe: Recipe, line: Progress) -> tuple[TextClassifier, float]:
    texts, labels = corpus.part(held_out=False)
    rows, targets = [encode(text) for text in texts], torch.tensor([corpus.names.index(label) for label in labels])
    k = len(corpus.names)
    line.total = recipe.epochs * (recipe.folds + 1)
    fold = torch.randperm(len(targets)) % FOLDS
    unseen = []
    for number in range(recipe.folds):
        apart = fold == number
        module = _fit(list(compress(rows, ~apart)), targets[~apart], k, recipe, line, number)
        unseen.append((_logits(module, list(compress(rows, apart))), targets[apart]))
    temperature = _temperature(*map(torch.cat, zip(*unseen, strict=True)))
    module = _fit(rows, targets, k, recipe, line, recipe.folds)
    with torch.no_grad():
        module.output.weight /= temperature
    return module, temperature


def _fit(rows: list[Ids], targets: Tensor, k: int, recipe: Recipe, line: Progress, number: int) -> TextClassifier:
    module = TextClassifier(BUCKETS, recipe.dimensions, k)
    torch.nn.init.orthogonal_(module.output.weight, gain=0.4)
    weight = _weights(targets, k)
    optimiser = torch.optim.Adam(module.parameters(), recipe.learning_rate)
    steps = recipe.epochs * -(-len(rows) // recipe.batch)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.01, steps)
    for epoch in range(recipe.epochs):
        for places in torch.split(torch.randperm(len(rows)), recipe.batch):
            shown = torch.from_numpy(padded([rows[i] for i in places]))
            kept = shown * (torch.rand(shown.shape) >= recipe.dropped)
            loss = functional.cross_entropy(module.logits(kept), targets[places], weight)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        line.update(number * recipe.epochs + epoch + 1)
    return module.eval()


def _weights(targets: Tensor, k: int) -> Tensor:
    """Return the weight of each label's texts, shape (k,), that gives all labels the same."""
    return len(targets) / (k * torch.bincount(targets, minlength=k).clamp(min=1)).float()


def _logits(module: TextClassifier, rows: list[Ids]) -> Tensor:
    with torch.no_grad():
        return torch.cat([module.logits(torch.from_numpy(padded(rows[i : i + 64]))) for i in range(0, len(rows), 64)])


def _temperature(logits: Tensor, targets: Tensor) -> float:
    """Return the temperature, between 1/20 and 20, under which the targets are most likely."""
    from scipy.optimize import minimize_scalar

    weight = _weights(targets, logits.shape[1])

    def loss(log_temperature: float) -> float:
        return float(functional.cross_entropy(logits / math.exp(log_temperature), targets, weight))

    return math.exp(minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded").x)


def _write(folder: Path, task: str, corpus: Corpus, module: TextClassifier, recipe: Mapping[str, Any]) -> Evaluation:
    """Write the five files, load them as a caller will, and return the answers to the texts held out."""
    folder.mkdir()
    held_out, _ = corpus.part(held_out=True)
    ids = encode_batch([*corpus.texts[: 2 * PARITY_INPUTS], *GOLDEN_TEXTS])[:, :PARITY_IDS]
    inputs = np.resize(ids, (max(PARITY_INPUTS, len(ids)), ids.shape[1]))
    init = {"buckets": BUCKETS, "dimensions": module.embedding.embedding_dim, "labels": len(corpus.names)}
    files = export(
        module, inputs[:4], "model", init=init, models_dir=folder, parity_inputs=inputs, tolerance=1e-5, free_axis=1
    )
    exported = json.loads(files.card.read_text(encoding="utf-8"))
    files.card.unlink()
    labels = {"task": task, "labels": corpus.names, "feature_spec": FEATURE_SPEC}
    write_json(folder / LABELS, labels)
    texts = [*GOLDEN_TEXTS, *held_out[:: max(1, len(held_out) // 11)]]
    with torch.inference_mode():
        answers = module(torch.from_numpy(encode_batch(texts))).numpy()
    write_json(folder / GOLDEN, {"texts": texts, "probabilities": answers.round(7).tolist()})
    data = {
        "file": corpus.source,
        "sha256": corpus.sha256,
        "split": corpus.split,
        "train": corpus.held_out.count(False),
        "held_out": corpus.held_out.count(True),
        "bad_rows": len(corpus.bad_rows),
        "duplicates": corpus.duplicates,
        "conflicting_labels": len(corpus.conflicts),
        "columns": corpus.columns,
        "columns_ignored": corpus.ignored,
    }
    card = {
        **labels,
        "data": data,
        "training": recipe,
        **{name: exported[name] for name in ("architecture", "init", "parameters", "parity")},
        "versions": exported["versions"] | machine.versions(),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "sha256": {name: file_sha256(folder / name) for name in FILES if name != CARD},
    }
    write_json(folder / CARD, card)
    evaluation = evaluate(TextModel.load(folder), corpus)
    write_json(folder / CARD, sealed({**card, "held_out": evaluation.facts()}))
    return evaluation
