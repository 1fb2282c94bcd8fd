"""Which file of a model is meant by a name, a path or a reference to a registry."""

import os
from pathlib import Path

from xedge.core.exceptions import ModelNotFoundError
from xedge.core.paths import models_dir
from xedge.models.kinds import NUMBERS, kind_in, registered_folder

SUFFIXES = (".onnx", ".pt", ".json")


def model_path(model: str | os.PathLike[str], suffix: str) -> Path:
    """Return the file of `model`: a path as it is, or `models/NAME` + `suffix` (".onnx", ".pt", ".json").

    A path to one of a model's files also names its others: `models/a.onnx` with suffix ".pt" is `models/a.pt`, and so
    does the path without the ending. A text model is named by its folder, `models/NAME` too, or as in the registry:
    `xedge-topic@production`.

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
    file = (models_dir() if is_name else base.parent) / f"{base.name}{suffix}"
    if not file.is_file():
        raise ModelNotFoundError(
            f"no model file {file}: build the reference models with `xedge build` "
            f"(in a notebook `xedge.build()`), or write your own there with `xedge.export(module, example, name)`"
        )
    return file
