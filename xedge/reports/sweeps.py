"""One notebook run with many sets of parameters, one after the other, with an index page that compares the runs."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xedge.core import files, paths
from xedge.core.exceptions import ConfigurationError
from xedge.core.progress import Progress
from xedge.reports import conversion, index, kept, kernel, parameters
from xedge.reports import run as report
from xedge.reports.notebooks import Notebook, report_name
from xedge.reports.run_table import PLAN, RunTable, standing
from xedge.scenario import thresholds

if TYPE_CHECKING:
    import pandas as pd

AGAIN = ("failed", "invalid", "all")


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
    """One run to be: its label, the values that are set, all values, and the limits it may not cross."""

    label: str
    changes: dict[str, Any]
    values: dict[str, Any]
    fail_if: Sequence[str] = ()


def sweep(
    notebook: str | os.PathLike[str],
    grid: Mapping[str, Any],
    out_dir: str | os.PathLike[str] | None = None,
    *,
    again: str = "failed",
    timeout_s: float = 1800.0,
    progress: bool = True,
    fail_if: Sequence[str] = (),
) -> Sweep:
    """Run a notebook with every combination of values, and compare the runs on one page.

    Every name and value is checked before the first run starts. A run that completed before in the folder, with the
    same values and the same notebook, stands; so a sweep that was interrupted goes on where it was. Those that are run
    again are kept too. A failed run does not stop the others. They run one after the other: side by side they would
    disturb each other's latencies.

    Args:
        notebook: a path, a stem or a name, as `report.find` takes them.
        grid: parameter → a value or several, lists of those that are lists, or text (`parameters.convert_several`).
        out_dir: the folder of the sweep; by default `NAME_sweep` in the project's `reports`.
        again: what to run although it is there: "failed" or interrupted, "invalid" (also what is not VALID), "all".
        timeout_s: the longest that one cell of the notebook may take, seconds.
        progress: show how far the sweep is and how long it will take.
        fail_if: limits such as "edge.p99_ms > 20" for each run; one that stands keeps what it said of its own.

    Raises:
        ConfigurationError: an unknown notebook, name or value, or another sweep is at work in this folder.
        KeyboardInterrupt: interrupted, with the runs so far and the index written; SIGTERM ends as SystemExit(143).
    """
    source = Notebook.open(notebook)
    grid = parameters.convert_several(source.parameters, grid)
    combinations = [dict(zip(grid, chosen, strict=True)) for chosen in itertools.product(*grid.values())]
    command = conversion.command("sweep", str(notebook), {name: conversion.as_texts(grid[name]) for name in grid})
    out = Path(out_dir or paths.reports_dir() / f"{report_name(source.path)}_sweep").resolve()
    thresholds.read(fail_if)
    return _run(source, combinations, command, out, again, timeout_s, progress, [fail_if] * len(combinations))


def run_sets(
    notebook: str | os.PathLike[str],
    sets: Sequence[Mapping[str, Any]],
    out_dir: str | os.PathLike[str] | None = None,
    *,
    timeout_s: float = 1800.0,
    progress: bool = True,
    fail_if: Sequence[Sequence[str]] = (),
) -> Sweep:
    """Run a notebook once with each set of parameters, and compare the runs on one page.

    The sets are values by name, one mapping a run, `fail_if` the limits of each; the folder is by default `NAME_runs`
    in the project's `reports`. The other arguments are those of `sweep`, as is what it raises.
    """
    source = Notebook.open(notebook)
    converted = [parameters.convert(source.parameters, values) for values in sets]
    texts = [{name: conversion.as_text(value) for name, value in values.items()} for values in converted]
    repeat = "\n".join(conversion.command("report", str(notebook), each) for each in texts)
    out = Path(out_dir or paths.reports_dir() / f"{report_name(source.path)}_runs").resolve()
    thresholds.read([text for each in fail_if for text in each])
    return _run(source, converted, repeat, out, "all", timeout_s, progress, fail_if)


def _run(
    source: Notebook,
    sets: list[dict[str, Any]],
    command: str,
    out: Path,
    again: str,
    timeout_s: float,
    progress: bool,
    fail_if: Sequence[Sequence[str]] = (),
) -> Sweep:
    if again not in AGAIN:
        raise ConfigurationError(f"again is {again!r}, expected one of {', '.join(AGAIN)}")
    cells = _planned(source, sets, fail_if)
    with _alone(out), kernel.terminated_as_exception():
        since = _since(cells, source, out, again)
        pairs = list(zip(cells, since, strict=True))
        plan = [{"label": cell.label, "parameters": cell.values, "since": begun} for cell, begun in pairs]
        facts = {"notebook": source.path.stem, "notebook_sha256": source.sha256, "command": command, "runs": plan}
        files.write_json(out / PLAN, facts)
        to_do = [cell for cell, row in zip(cells, RunTable.read(out).rows, strict=True) if not (row.run and row.run.ok)]
        options: dict[str, Any] = {"out_dir": out, "timeout_s": timeout_s, "progress": False}
        try:
            with Progress(len(to_do), "runs", source.path.stem, enabled=progress) as line:
                for done, cell in enumerate(to_do):
                    index.build(out)
                    options["on_cell"] = lambda *_, done=done: line.update(done)
                    run = report.run(source, cell.changes, fail_if=cell.fail_if, **options)
                    line.update(done + 1)
                    said = f"{done + 1} of {line.total}, {cell.label}: {run.outcome}"
                    line.note("; ".join(filter(None, [said, line.left(done + 1)])))
                line.finish(_result(out).sentence)
        finally:
            index.build(out)
    return _result(out)


def _planned(source: Notebook, sets: list[dict[str, Any]], fail_if: Sequence[Sequence[str]]) -> list[_Cell]:
    """Return the runs to be, called by the parameters in which they differ, in the order of the notebook's."""
    defaults = {parameter.name: parameter.default for parameter in source.parameters}
    values = [defaults | changes for changes in sets]
    if twice := next((row for place, row in enumerate(values) if row in values[:place]), None):
        raise ConfigurationError(f"two runs have the same parameters: {twice}")
    varied = [name for name in defaults if any(row[name] != values[0][name] for row in values)]
    labels = [",".join(f"{name}={conversion.as_text(row[name])}" for name in varied) or "run" for row in values]
    return [_Cell(*cell) for cell in zip(labels, sets, values, fail_if or [()] * len(sets), strict=True)]


def _since(cells: list[_Cell], source: Notebook, out: Path, again: str) -> list[str]:
    """Return for each cell from when on its runs count: from now for one to be repeated, else as planned before.

    So a sweep that is to repeat what is there, is interrupted and taken up again, goes on with the rest.
    """
    runs, before = kept.below(out), files.read_json(out / PLAN).get("runs", [])
    since, now = [], kept.now()
    for cell in cells:
        begun = next((entry.get("since", "") for entry in before if entry["parameters"] == cell.values), "")
        run = standing(runs, source.sha256, cell.values, begun)
        repeat = run is not None and run.ok and (again == "all" or (again == "invalid" and not run.good))
        since.append(now if repeat else begun)
    return since


def _result(out: Path) -> Sweep:
    table = RunTable.read(out)
    missing = [row.label for row in table.rows if row.run is None]
    runs = [row.run for row in table.rows if row.run is not None]
    return Sweep(notebook=table.plan["notebook"], index=out / index.NAME, runs=runs, missing=missing)


def _alone(out: Path) -> AbstractContextManager[Any]:
    """Return the folder's lock, held; the system releases it however this process ends."""
    from filelock import FileLock, Timeout

    files.check_writable(out)
    try:
        return FileLock(out / ".lock").acquire(timeout=0)
    except Timeout as exc:
        message = f"another sweep is at work in {out}: wait until it is done, or give another folder (--out)"
        raise ConfigurationError(message) from exc
