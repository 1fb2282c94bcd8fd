"""Where the project's folders are, whichever folder a notebook or command runs in."""

import os
from pathlib import Path


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
        marks = folder / "pyproject.toml", folder / "environment.yml"
        if (folder / "notebooks").is_dir() and any(map(Path.is_file, marks)):
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
