"""One notebook run with many sets of parameters, one after the other, with an index page that compares the runs."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xedge.core import files, paths
from xedge.core.exceptions import ConfigurationError
from xedge.core.progress import Progress
from xedge.reports import conversion, index, kernel, parameters
from xedge.reports import run as report
from xedge.reports.notebooks import Notebook, report_name
from xedge.reports.run_table import OUTDATED, PLAN, RunTable, values_of

if TYPE_CHECKING:
    import pandas as pd

AGAIN = ("failed", "invalid", "all")
_NAME_LENGTH = 100


@dataclass(frozen=True)
class Sweep:
    """The runs of a sweep that there are, the labels of those that are missing, and the page that compares them."""

    notebook: str
    index: Path
    runs: list[report.Run]
    missing: list[str]

    @property
    def ok(self) -> bool:
        """Return whether every cell of the sweep is there and completed."""
        return not self.missing and all(run.ok for run in self.runs)

    @property
    def sentence(self) -> str:
        """Return the sweep in one sentence."""
        words = [run.verdict or "completed" if run.ok else run.status for run in self.runs]
        words += ["missing"] * len(self.missing)
        counts = ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))
        return f"{self.notebook}, {len(words)} run{'s' * (len(words) != 1)}: {counts}: {self.index}"

    def table(self) -> pd.DataFrame:
        """Return one row a run: the parameters that differ, status, verdict, and every number recorded, as numbers."""
        import pandas as pd

        return pd.DataFrame(RunTable.read(self.index.parent).records())

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True)
class _Cell:
    """One run to be: the name of its page and folder, its label, the values that are set, and all values."""

    name: str
    label: str
    changes: dict[str, Any]
    values: dict[str, Any]


def sweep(
    notebook: str | os.PathLike[str],
    grid: Mapping[str, Any],
    out_dir: str | os.PathLike[str] | None = None,
    *,
    again: str = "failed",
    timeout_s: float = 1800.0,
    progress: bool = True,
) -> Sweep:
    """Run a notebook with every combination of values, and compare the runs on one page.

    Every name and value is checked before the first run starts. Runs that completed before, with the same values and
    the same notebook, are kept; so a sweep that was interrupted goes on where it was. A failed run does not stop the
    others. They run one after the other: side by side they would disturb each other's latencies.

    Args:
        notebook: a path, a stem or a name, as `report.find` takes them.
        grid: parameter → a value or several, lists of those that are lists, or text (`parameters.convert_several`).
        out_dir: the folder of the sweep; by default `NAME_sweep` in the project's `reports`.
        again: what to run although it is there: "failed" or interrupted, "invalid" (also what is not VALID), "all".
        timeout_s: the longest that one cell of the notebook may take, seconds.
        progress: show how far the sweep is and how long it will take.

    Raises:
        ConfigurationError: an unknown notebook, name or value, or another sweep is at work in this folder.
        KeyboardInterrupt: interrupted, with the runs so far and the index written; SIGTERM ends as SystemExit(143).
    """
    source = Notebook.open(notebook)
    grid = parameters.convert_several(source.parameters, grid)
    combinations = [dict(zip(grid, chosen, strict=True)) for chosen in itertools.product(*grid.values())]
    command = conversion.command("sweep", str(notebook), {name: conversion.as_texts(grid[name]) for name in grid})
    out = Path(out_dir or paths.reports_dir() / f"{report_name(source.path)}_sweep").resolve()
    return _run(source, combinations, command, out, again, timeout_s, progress)


def run_sets(
    notebook: str | os.PathLike[str],
    sets: Sequence[Mapping[str, Any]],
    out_dir: str | os.PathLike[str] | None = None,
    *,
    timeout_s: float = 1800.0,
    progress: bool = True,
) -> Sweep:
    """Run a notebook once with each set of parameters, and compare the runs on one page.

    The sets are values by name, one mapping a run; the folder is by default `NAME_runs` in the project's `reports`. The
    other arguments are those of `sweep`, as is what it raises.
    """
    source = Notebook.open(notebook)
    converted = [parameters.convert(source.parameters, values) for values in sets]
    texts = [{name: conversion.as_text(value) for name, value in values.items()} for values in converted]
    repeat = "\n".join(conversion.command("report", str(notebook), each) for each in texts)
    out = Path(out_dir or paths.reports_dir() / f"{report_name(source.path)}_runs").resolve()
    return _run(source, converted, repeat, out, "all", timeout_s, progress)


def _run(
    source: Notebook, sets: list[dict[str, Any]], command: str, out: Path, again: str, timeout_s: float, progress: bool
) -> Sweep:
    if again not in AGAIN:
        raise ConfigurationError(f"again is {again!r}, expected one of {', '.join(AGAIN)}")
    planned = _planned(source, sets)
    with _alone(out), kernel.terminated_as_exception():
        cells = _placed(planned, out, source.sha256)
        to_do = [cell for cell in cells if not _keeps(out / cell.name, cell, source.sha256, again)]
        plan = [{"name": cell.name, "label": cell.label, "parameters": cell.values} for cell in cells]
        facts = {"notebook": source.path.stem, "notebook_sha256": source.sha256, "command": command, "runs": plan}
        files.write_json(out / PLAN, facts)
        options: dict[str, Any] = {"out_dir": out, "timeout_s": timeout_s, "progress": False}
        try:
            with Progress(len(to_do), "runs", source.path.stem, enabled=progress) as line:
                for done, cell in enumerate(to_do):
                    index.build(out)
                    options["on_cell"] = lambda *_, done=done: line.update(done)
                    run = report.run(source, cell.changes, name=cell.name, **options)
                    line.update(done + 1)
                    said = f"{done + 1} of {line.total}, {cell.label}: {run.outcome}"
                    line.note("; ".join(filter(None, [said, line.left(done + 1)])))
                line.finish(_result(source, cells, out).sentence)
        finally:
            index.build(out)
    return _result(source, cells, out)


def _planned(source: Notebook, sets: list[dict[str, Any]]) -> list[_Cell]:
    """Return the runs to be, named by the parameters in which they differ, in the order of the notebook's."""
    defaults = {parameter.name: parameter.default for parameter in source.parameters}
    values = [defaults | changes for changes in sets]
    if twice := next((row for place, row in enumerate(values) if row in values[:place]), None):
        raise ConfigurationError(f"two runs have the same parameters: {twice}")
    varied = [name for name in defaults if any(row[name] != values[0][name] for row in values)]
    labels = [",".join(f"{name}={conversion.as_text(row[name])}" for name in varied) or "run" for row in values]
    names = [_file_name(label) for label in labels]
    folded = [name.casefold() for name in names]  # not every file system tells a from A
    names = [_hashed(n, label) if folded.count(n.casefold()) > 1 else n for n, label in zip(names, labels, strict=True)]
    return [_Cell(*cell) for cell in zip(names, labels, sets, values, strict=True)]


def _file_name(label: str) -> str:
    """Return the label if every file system takes it, else what is left of it with a short hash of the whole."""
    safe = re.sub(r"[^\w.,=+-]+", "-", label, flags=re.ASCII).strip("-. ")
    return safe if safe == label and len(label) <= _NAME_LENGTH else _hashed(safe[:_NAME_LENGTH], label)


def _hashed(name: str, label: str) -> str:
    return f"{name}~{hashlib.sha256(label.encode()).hexdigest()[:8]}"


def _placed(cells: list[_Cell], out: Path, sha256: str) -> list[_Cell]:
    """Return the cells under the names of completed runs with their values, where there are such in the folder.

    A sweep that is extended by another parameter names its runs longer than before.
    """
    found = {path.parent.name: files.read_json(path) for path in sorted(out.glob("*/run.json"))}
    completed = {
        json.dumps(values_of(facts)): name
        for name, facts in found.items()
        if facts.get("status") == "completed" and facts.get("notebook_sha256") == sha256
    }
    return [replace(cell, name=completed.get(json.dumps(cell.values), cell.name)) for cell in cells]


def _keeps(folder: Path, cell: _Cell, sha256: str, again: str) -> bool:
    """Return whether the run in `folder` stands; if one that completed does not, its run.json says so from now on."""
    facts = files.read_json(folder / "run.json")
    if facts.get("status") != "completed":
        return False
    same = facts.get("notebook_sha256") == sha256 and values_of(facts) == cell.values
    kept = same and again != "all" and (again != "invalid" or facts["verdict"] in (None, "VALID"))
    if not kept:  # or a sweep that is interrupted and taken up again would keep it after all
        files.write_json(folder / "run.json", facts | {"status": OUTDATED})
    return kept


def _result(source: Notebook, cells: list[_Cell], out: Path) -> Sweep:
    runs = [report.Run.read(out / cell.name) for cell in cells if (out / cell.name / "run.json").is_file()]
    runs = [run for run in runs if run.status != OUTDATED]
    missing = [cell.label for cell in cells if cell.name not in {run.folder.name for run in runs}]
    return Sweep(notebook=source.path.stem, index=out / index.NAME, runs=runs, missing=missing)


def _alone(out: Path) -> AbstractContextManager[Any]:
    """Return the folder's lock, held; the system releases it however this process ends."""
    from filelock import FileLock, Timeout

    out.mkdir(parents=True, exist_ok=True)
    try:
        return FileLock(out / ".lock").acquire(timeout=0)
    except Timeout as exc:
        message = f"another sweep is at work in {out}: wait until it is done, or give another folder (--out)"
        raise ConfigurationError(message) from exc
