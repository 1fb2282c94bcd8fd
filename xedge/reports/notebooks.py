"""Which notebook is meant by a name, and what its report is called."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from pathlib import Path

from xedge.core import paths
from xedge.core.exceptions import ConfigurationError


def find(notebook: str | os.PathLike[str]) -> Path:
    """Return the notebook meant by a path, a stem ("02_edge_vs_cloud") or a name ("edge_vs_cloud").

    Raises:
        ConfigurationError: there is none, or a name fits several; the message lists what there is.
    """
    given = Path(notebook)
    if given.suffix == ".ipynb" and given.is_file():
        return given.resolve()
    there = {path.stem: path for path in sorted(paths.notebooks_dir().glob("*.ipynb"))}
    wanted = given.name.removesuffix(".ipynb")
    fitting = [path for stem, path in there.items() if wanted in (stem, report_name(path))]
    exact = [path for path in fitting if path.stem == wanted]
    if len(exact or fitting) == 1 and given.name == str(given):
        return (exact or fitting)[0].resolve()
    if fitting and given.name == str(given):
        raise ConfigurationError(f"{notebook} can be {' or '.join(path.stem for path in fitting)}: say which")
    close = difflib.get_close_matches(wanted, [*there, *map(report_name, there.values())], n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    names = ", ".join(there) or "none"
    raise ConfigurationError(f"no notebook {notebook}: {hint}In {paths.notebooks_dir()}: {names}")


def report_name(notebook: Path) -> str:
    """Return the base name of a notebook's report: its stem without the number in front."""
    return re.sub(r"^\d+[_-]+", "", notebook.stem) or notebook.stem


def content_sha256(notebook: Path) -> str:
    """Return the hash of what a notebook does and says: its cells' kinds, tags and sources, not its outputs."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    said = [[one["cell_type"], one.get("metadata", {}).get("tags", []), "".join(one["source"])] for one in cells]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()
