"""Where the project's folders are, whichever folder a notebook or command runs in."""

from __future__ import annotations

import os
from pathlib import Path

from xedge.exceptions import ModelNotFoundError


def project_root() -> Path:
    """Return the folder that holds `notebooks`, `models` and `reports`.

    `XEDGE_HOME` if set; else the nearest folder at or above the working folder that has a `notebooks` folder
    beside a `pyproject.toml` or `environment.yml`; else the checkout this package was installed from (an
    editable install); else the working folder.
    """
    if home := os.environ.get("XEDGE_HOME"):
        return Path(home).expanduser().resolve()
    here = Path.cwd().resolve()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[1]):
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


def model_path(model: str | os.PathLike[str], suffix: str) -> Path:
    """Return the file of `model`: a path as it is, or `models/NAME` + `suffix` (".onnx", ".pt", ".json").

    A path to one of a model's files also names its others: `models/a.onnx` with suffix ".pt" is `models/a.pt`.

    Raises:
        ModelNotFoundError: no such file; the message says how to make it.
    """
    given = Path(model)
    is_name = given.name == str(model) and given.suffix not in {".onnx", ".pt", ".json"}
    path = models_dir() / f"{model}{suffix}" if is_name else given.with_suffix(suffix)
    if not path.is_file():
        raise ModelNotFoundError(
            f"no model file {path}: build the reference models with `xedge build` "
            f"(in a notebook `xedge.build()`), or write your own there with `xedge.export(module, example, name)`"
        )
    return path
