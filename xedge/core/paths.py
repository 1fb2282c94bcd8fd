"""Where the project's folders are, whichever folder a notebook or command runs in."""

import os
from pathlib import Path


def project_root() -> Path:
    """Return the folder that holds `notebooks`, `models` and `reports`.

    `XEDGE_HOME` if set; else the nearest folder at or above the working folder that has a `notebooks` folder
    beside a `scenario.yaml`, as `xedge init` makes it, a `pyproject.toml` or an `environment.yml`; else the checkout
    this package was installed from (an editable install); else the working folder.
    """
    if home := os.environ.get("XEDGE_HOME"):
        return Path(home).expanduser().resolve()
    here = Path.cwd().resolve()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[2]):
        marks = ("scenario.yaml", "pyproject.toml", "environment.yml")
        if (folder / "notebooks").is_dir() and any((folder / mark).is_file() for mark in marks):
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


def shipped_notebooks() -> Path:
    """Return the folder of the notebooks that came with this package: of the wheel, or of the checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "notebooks"
    return inside if inside.is_dir() else package.parent / "notebooks"
