"""A notebook: which one a name means, and what it holds, read once."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from xedge.core import paths
from xedge.core.exceptions import ConfigurationError
from xedge.reports import parameters


def find(notebook: str | os.PathLike[str]) -> Path:
    """Return the notebook meant by a path, a stem ("02_edge_vs_cloud") or a name ("edge_vs_cloud").

    Raises:
        ConfigurationError: there is none, or a name fits several; the message lists what there is.
    """
    path = Path(notebook)
    if path.suffix == ".ipynb" and path.is_file():
        return path.resolve()
    there = {path.stem: path for path in sorted(paths.notebooks_dir().glob("*.ipynb"))}
    wanted = path.name.removesuffix(".ipynb")
    fitting = [source for stem, source in there.items() if wanted in (stem, report_name(source))]
    fitting = [there[wanted]] if wanted in there else fitting
    if fitting and path.name == str(path):
        if len(fitting) > 1:
            raise ConfigurationError(f"{notebook} can be {' or '.join(source.stem for source in fitting)}: say which")
        return fitting[0].resolve()
    if not there and path.name == str(path):
        raise ConfigurationError(
            f"no notebook {notebook}: there are none in {paths.notebooks_dir()}. `xedge init DIR` makes a folder with "
            "all of them: run the command in it, or set XEDGE_HOME to it"
        )
    close = difflib.get_close_matches(wanted, [*there, *map(report_name, there.values())], n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise ConfigurationError(f"no notebook {notebook}: {hint}In {paths.notebooks_dir()}: {', '.join(there) or 'none'}")


def report_name(notebook: Path) -> str:
    """Return the base name of a notebook's report: its stem without the number in front."""
    return re.sub(r"^\d+[_-]+", "", notebook.stem) or notebook.stem


@dataclass(frozen=True)
class Notebook:
    """A notebook as its author wrote it, opened once: where it is, and its cells as the file holds them."""

    path: Path
    cells: list[dict[str, Any]] = field(repr=False)

    @classmethod
    def open(cls, notebook: str | os.PathLike[str] | Notebook) -> Notebook:
        """Return the notebook meant by a path, a stem or a name, as `find` takes them; an open one as it is.

        Raises:
            ConfigurationError: there is none, a name fits several, or the file is not a notebook.
        """
        if isinstance(notebook, Notebook):
            return notebook
        path = find(notebook)
        try:
            return cls(path, json.loads(path.read_text(encoding="utf-8"))["cells"])
        except OSError as exc:
            raise ConfigurationError(f"cannot read the notebook {path}: {exc.strerror or exc}") from exc
        except (ValueError, KeyError, TypeError) as exc:
            raise ConfigurationError(f"{path} is not a notebook (format 4): open it in Jupyter and save it") from exc

    @property
    def name(self) -> str:
        """How a command names it: by its stem if it is one of the project's, else by its path."""
        return self.path.stem if self.path.parent == paths.notebooks_dir().resolve() else str(self.path)

    @cached_property
    def parameters(self) -> list[parameters.Parameter]:
        """Its parameters in the order written.

        Raises:
            ConfigurationError: a line of the parameters cell is not `name: type = value  # help`.
        """
        return parameters.of_cells(self.cells, self.path)

    @cached_property
    def sha256(self) -> str:
        """The hash of what it does and says: its cells' kinds, tags and sources, not its outputs."""
        said = [[c["cell_type"], c.get("metadata", {}).get("tags", []), "".join(c["source"])] for c in self.cells]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()
