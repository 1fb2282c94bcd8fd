"""Where the project's folders are, whichever folder a notebook or command runs in."""

from __future__ import annotations

import os
import re
from pathlib import Path

from xedge.core.exceptions import ModelNotFoundError

_REGISTERED = re.compile(r"(?:models:/+)?xedge-(?:topic|sentiment)(?:[@/][^@/]+)?")


def project_root() -> Path:
    """Return the folder that holds `notebooks`, `models` and `reports`.

    `XEDGE_HOME` if set; else the nearest folder at or above the working folder that has a `notebooks` folder
    beside a `pyproject.toml` or `environment.yml`; else the checkout this package was installed from (an
    editable install); else the working folder.
    """
    if home := os.environ.get("XEDGE_HOME"):
        return Path(home).expanduser().resolve()
    here = Path.cwd().resolve()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[2]):
        if (folder / "notebooks").is_dir() and any(
            (folder / name).is_file() for name in ("pyproject.toml", "environment.yml")
        ):
            return folder
    return here


def models_dir() -> Path:
    """Return the folder that models are written to and looked up in."""
    return project_root() / "models"


def notebooks_dir() -> Path:
    """Return the folder of the notebooks' sources."""
    return project_root() / "notebooks"


def reports_dir() -> Path:
    """Return the folder that reports are written to."""
    return project_root() / "reports"


def is_text_model(folder: Path) -> bool:
    """Return whether `folder` holds a version of a text model."""
    return (folder / "labels.json").is_file()


def registered_folder(model: str | os.PathLike[str]) -> Path | None:
    """Return the folder of a text model that is named as in the registry, or None for any other name.

    `xedge-topic` is what `predict_topic` would take, `xedge-topic@ALIAS` and `xedge-topic/NUMBER` are of the registry.

    Raises:
        RegistryError: the registry has no such model or version, or cannot be reached.
    """
    if not _REGISTERED.fullmatch(str(model)):
        return None
    from xedge.text.registry import references
    from xedge.text.registry.registry import Registry

    asked = references.parse(str(model))
    task = asked.name.removeprefix("xedge-")
    if str(model) == asked.name:
        return references.configured_folder(task) or Registry().resolve(task).folder
    return Registry()._resolve(task, asked).folder


def model_path(model: str | os.PathLike[str], suffix: str) -> Path:
    """Return the file of `model`: a path as it is, or `models/NAME` + `suffix` (".onnx", ".pt", ".json").

    A path to one of a model's files also names its others: `models/a.onnx` with suffix ".pt" is `models/a.pt`.
    A text model is named by its folder, `models/NAME` too, or as in the registry: `xedge-topic@production`.

    Raises:
        ModelNotFoundError: no such file; the message says how to make it.
        RegistryError: the registry does not have the text model asked for.
    """
    given = Path(model)
    is_name = given.name == str(model) and given.suffix not in {".onnx", ".pt", ".json"}
    folder = registered_folder(model) or next(filter(is_text_model, (given, models_dir() / given)), None)
    if folder is not None:
        path = folder / ("card.json" if suffix == ".json" else f"model{suffix}")
    else:
        path = models_dir() / f"{model}{suffix}" if is_name else given.with_suffix(suffix)
    if not path.is_file():
        if folder is not None:
            raise ModelNotFoundError(f"no file {path}: the text model in this folder is not whole; train it again")
        raise ModelNotFoundError(
            f"no model file {path}: build the reference models with `xedge build` "
            f"(in a notebook `xedge.build()`), or write your own there with `xedge.export(module, example, name)`"
        )
    return path
