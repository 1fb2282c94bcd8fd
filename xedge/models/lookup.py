"""Which file of a model is meant by a name, a path or a reference to a registry."""

import contextlib
import difflib
import json
import os
from pathlib import Path
from typing import Any

from xedge.core.exceptions import ModelNotFoundError
from xedge.core.paths import models_dir, project_root
from xedge.models.kinds import NUMBERS, kind_in, registered_folder

SUFFIXES = (".onnx", ".pt", ".json")
REFERENCE_MODELS = ("anomaly_detector", "vibration_cnn")


def model_path(model: str | os.PathLike[str], suffix: str) -> Path:
    """Return the file of `model`: a path as it is, or `models/NAME` + `suffix` (".onnx", ".pt", ".json").

    A path to one of a model's files also names its others: `models/a.onnx` with suffix ".pt" is `models/a.pt`, and so
    does the path without the ending. A path is seen from the working folder, or else from the project's. A text model
    is named by its folder, `models/NAME` too, or as in the registry: `xedge-topic@production`.

    Raises:
        ModelNotFoundError: no such file, or a file of another kind; the message says what to do.
        RegistryError: the registry does not have the text model asked for.
    """
    path = Path(model)
    folder = registered_folder(str(model)) or next(
        (place for place in (path, models_dir() / path) if kind_in(place) != NUMBERS), None
    )
    if folder is not None:
        file = folder / ("card.json" if suffix == ".json" else f"model{suffix}")
        if not file.is_file():
            raise ModelNotFoundError(f"no file {file}: the text model in this folder is not whole; train it again")
        return file
    if path.suffix not in SUFFIXES and path.is_file():
        raise ModelNotFoundError(f"{path} is not a model file: give one that ends in {', '.join(SUFFIXES)}")
    base = path.with_suffix("") if path.suffix in SUFFIXES else path
    is_name = path.name == str(model) and base == path
    folder = models_dir() if is_name else base.parent
    if not is_name and not base.is_absolute() and not folder.joinpath(f"{base.name}{suffix}").is_file():
        folder = project_root() / folder
    file = folder / f"{base.name}{suffix}"
    if not file.is_file():
        raise ModelNotFoundError(_not_found(file))
    return file


def cloud_file(model: str | os.PathLike[str]) -> Path:
    """Return the .pt file of `model`, or its .onnx file where that is all there is: ONNX Runtime serves it then.

    Raises:
        ModelNotFoundError, RegistryError: as `model_path`.
    """
    try:
        return model_path(model, ".pt")
    except ModelNotFoundError:
        with contextlib.suppress(ModelNotFoundError):
            return model_path(model, ".onnx")
        raise


def card_facts(file: Path) -> dict[str, Any]:
    """Return what the card beside a model's file says; nothing where there is no card, or none that can be read."""
    with contextlib.suppress(OSError, ValueError):
        facts = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
        return facts if isinstance(facts, dict) else {}
    return {}


def models_in(folder: Path) -> list[str]:
    """Return the names of the models whose files lie in `folder`, sorted."""
    return sorted({file.stem for suffix in SUFFIXES[:2] for file in folder.glob(f"[!.]*{suffix}")})


def _not_found(file: Path) -> str:
    there = models_in(file.parent)
    if file.stem in there:
        others = ", ".join(other.name for s in SUFFIXES if (other := file.with_suffix(s)).is_file())
        return f"no model file {file}, only {others}: export the model again for all engines, with xedge.export"
    close = difflib.get_close_matches(file.stem, [*there, *REFERENCE_MODELS], n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return (
        f"no model file {file}: there {'are ' + ', '.join(there) if there else 'is no model'} (`xedge models` lists "
        f"them).{hint} `xedge build` (in a notebook `xedge.build()`) makes the reference models "
        f"{' and '.join(REFERENCE_MODELS)}, `xedge.export(module, example, name)` one of your own"
    )
