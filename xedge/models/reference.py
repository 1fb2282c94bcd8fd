"""The reference models, built from fixed seeds and exported for both engines, and the cards of all models."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xedge.core import files, paths
from xedge.core.exceptions import ConfigurationError, ModelError, ModelNotFoundError
from xedge.core.files import file_sha256, is_as_sealed
from xedge.core.progress import Progress
from xedge.core.tables import TableList
from xedge.models.kinds import NUMBERS, kind_in
from xedge.models.lookup import REFERENCE_MODELS, model_path
from xedge.scenario import vibration

# What the cards of the reference models say beside how they were made: what answers mean, and what makes their inputs.
ABOUT: dict[str, dict[str, Any]] = {
    "anomaly_detector": {"threshold": 0.5, "input_made_by": "bearing_features"},
    "vibration_cnn": {"threshold": 0.5},
}


@dataclass(frozen=True)
class ModelCard:
    """The card `models/NAME.json`: its path and its facts."""

    path: Path
    facts: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The model's name."""
        return str(self.facts["name"])

    @property
    def metrics(self) -> dict[str, float]:
        """What was measured on held-out data; empty if the card does not say."""
        return dict(self.facts.get("metrics") or {})

    def is_intact(self) -> bool:
        """Return whether the model's files exist and are the ones the card was written for."""
        sums = self.facts.get("sha256") or {"onnx": ""}
        files = {suffix: self.path.with_name(f"{self.name}.{suffix}") for suffix in sums}
        return all(file.is_file() and file_sha256(file) == sums[suffix] for suffix, file in files.items())


class Cards(TableList[ModelCard]):
    """Model cards that show themselves as a table."""

    columns = ("model", "architecture", "parameters", "input", "ROC-AUC", "accuracy", "max difference", "built")

    def cells(self, entry: ModelCard) -> tuple[str, ...]:
        """Return what the table says of one model."""
        facts, metrics = entry.facts, entry.metrics
        return (
            entry.name,
            str(facts["architecture"]),
            f"{facts['parameters']:,}" if facts["parameters"] is not None else "",
            " × ".join(map(str, facts["input_shape"])),
            *(f"{metrics[key]:.3f}" if key in metrics else "" for key in ("roc_auc", "accuracy")),
            f"{facts['parity']['max_abs_difference']:.1e}",
            facts["created_utc"][:10] + " (quick)" * bool((facts.get("training") or {}).get("quick")),
        )


def read_card(path: Path) -> ModelCard:
    """Return the card in the file `path`.

    Raises:
        ModelError: there is no such file, it is not a model card, or not as it was written.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        raise ModelError(f"{path} is not a readable model card ({exc}): build or export the model again") from exc
    needed = {"name", "architecture", "parameters", "input_shape", "sha256", "parity", "created_utc"}
    if not isinstance(facts, dict) or not needed <= facts.keys():
        raise ModelError(f"{path} is not a model card: build or export the model again")
    if not is_as_sealed(facts):
        raise ModelError(f"{path} is damaged or was edited since it was written: build or export the model again")
    return ModelCard(path, facts)


def build(
    names: str | Iterable[str] | None = None,
    *,
    models_dir: Path | None = None,
    quick: bool = False,
    force: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Cards:
    """Train and export the reference models `names` (all of them if None) and return their cards.

    A model whose files are the ones its card names, and which the present code made, is left alone unless
    `force`; without it no file is replaced that was not built here. `quick` trains on less data, for tests; a
    quick model is built again by a build that is not.
    `progress(label, done, total)` is called after every epoch; None shows a line in the notebook or terminal.

    Raises:
        ConfigurationError: a name is not a reference model, or is that of a model of yours.
        ParityError: the two engines disagree; nothing was written.
    """
    wanted = [names] if isinstance(names, str) else list(REFERENCE_MODELS if names is None else names)
    for name in wanted:
        _check_name(name)
    folder = Path(models_dir) if models_dir is not None else paths.models_dir()
    if others := [] if force else [name for name in wanted if _is_foreign(name, folder)]:
        raise ConfigurationError(
            f"{folder / others[0]}.onnx, .pt or .json is not as xedge built it: a model of yours, or damaged. Keep it "
            f"under another name, or replace it by `xedge build {others[0]} --force`"
        )
    return Cards(
        (None if force else _present(name, folder, quick)) or _build_one(name, folder, quick, progress)
        for name in wanted
    )


def ready(model: str, *, quick: bool = False) -> ModelCard:
    """Return the card of `model`, a name or a path; a reference model that is not there is built first.

    A model of yours is never trained over, whatever its name. For an .onnx file without a card its facts are read.

    Raises:
        ModelNotFoundError: neither a reference model, nor one exported to `models/`, nor an .onnx file.
        ModelError: a file is damaged, or not what its card says.
        RegistryError: a text model was named that the registry does not have.
    """
    if model in REFERENCE_MODELS and not _is_foreign(model, paths.models_dir()):
        return build(model, quick=quick)[0]
    try:
        path = model_path(model, ".json")
    except ModelNotFoundError:
        from xedge.models.adopted import described

        file = model_path(model, ".onnx")
        return ModelCard(file.with_suffix(".json"), described(file))
    if model in REFERENCE_MODELS and not (card := read_card(path)).is_intact():
        raise ModelError(
            f"{card.path.with_suffix('.onnx')} or .pt is not the file that its card names, damaged or replaced: put it "
            f"right, or build it with `xedge build {model} --force`"
        )
    if kind_in(path.parent) == NUMBERS:
        return read_card(path)
    facts = json.loads(path.read_text(encoding="utf-8"))
    return ModelCard(path, {"name": f"xedge-{facts['task']}", **facts})


def reference_inputs(name: str, n: int, seed: int) -> NDArray[np.float32]:
    """Return `n` realistic inputs of the reference model `name`, about half of them from damaged bearings.

    Features, shape (n, 32), for `anomaly_detector`; windows in m/s², shape (n, 1024), for `vibration_cnn`.

    Raises:
        ConfigurationError: `name` is not a reference model, or `n` or `seed` is negative.
    """
    _check_name(name)
    signals, _ = vibration.windows(n, seed)
    return vibration.features(signals) if name == "anomaly_detector" else signals


def _check_name(name: str) -> None:
    if name not in REFERENCE_MODELS:
        raise ConfigurationError(f"{name!r} is not a reference model: they are {', '.join(REFERENCE_MODELS)}")


def _recipe_sha256() -> str:
    """Return the hash of the code a reference model is made by: other code, other model."""
    own = (Path(__file__).with_name(f"{part}.py") for part in ("architectures", "training"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in (Path(vibration.__file__), *own))).hexdigest()


def _is_foreign(name: str, folder: Path) -> bool:
    """Whether files of that name are there that no build made."""
    there = [file for suffix in ("onnx", "pt") if (file := folder / f"{name}.{suffix}").is_file()]
    try:
        card = read_card(folder / f"{name}.json")
    except ModelError:
        return bool(there)
    sums = card.facts["sha256"]
    return "recipe_sha256" not in card.facts or any(file_sha256(file) != sums.get(file.suffix[1:]) for file in there)


def _present(name: str, folder: Path, quick: bool) -> ModelCard | None:
    try:
        card = read_card(folder / f"{name}.json")
    except ModelError:
        return None
    good_enough = quick or (card.facts.get("training") or {}).get("quick") is False
    current = card.facts.get("recipe_sha256") == _recipe_sha256()
    if not (good_enough and current and card.is_intact()):
        return None
    if not card.facts.items() >= ABOUT[name].items():  # of an earlier xedge: the same model, less said
        files.write_json(card.path, files.sealed({**card.facts, **ABOUT[name]}))
        return read_card(card.path)
    return card


def _build_one(name: str, folder: Path, quick: bool, progress: Callable[[str, int, int], None] | None) -> ModelCard:
    from xedge.models.export import export
    from xedge.models.training import RECIPES, train

    begun = perf_counter()
    epochs = RECIPES[name, quick].epochs
    with Progress(epochs, "epochs", f"training {name}", enabled=progress is None) as line:
        module, facts = train(name, quick=quick, progress=progress or (lambda _name, done, _epochs: line.update(done)))
        auc = facts["metrics"]["roc_auc"]
        line.finish(f"{name}: trained in {perf_counter() - begun:.1f} s, held-out ROC-AUC {auc:.3f}")
    inputs = reference_inputs(name, 1000 if quick else 2000, seed=6207)
    facts |= {"recipe_sha256": _recipe_sha256(), "origin": "reference", **ABOUT[name]}
    made = export(module, inputs[:8], name, models_dir=folder, card=facts, parity_inputs=inputs, overwrite=True)
    return read_card(made.card)
