"""Run a notebook with parameters and leave one page that can be shared, also when it fails."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xedge.core import files, machine, paths
from xedge.core.exceptions import ConfigurationError, ReportError
from xedge.core.progress import Progress
from xedge.reports import commands, estimates
from xedge.reports import parameters as notebook_parameters
from xedge.reports.notebooks import content_sha256, find, report_name

if TYPE_CHECKING:
    from xedge.reports import kernel

DEFAULT_NOTEBOOKS = ("02_edge_vs_cloud",)
VERDICTS = ("VALID", "SATURATED", "INVALID")  # the worst last
_FOLDER_VARIABLE = "XEDGE_REPORT_DIR"


@dataclass(frozen=True)
class Run:
    """One run of a notebook and where its results are.

    `record` is what the notebook recorded, `error` says what ended it early (None when completed).
    """

    name: str
    notebook: Path
    status: str
    duration_s: float
    html: Path
    folder: Path
    record: dict[str, Any]
    error: dict[str, Any] | None = None

    @property
    def ok(self) -> bool:
        """Return whether every cell ran."""
        return self.status == "completed"

    @property
    def verdict(self) -> str | None:
        """Return what the notebook says of its own measurement: VALID, INVALID, SATURATED or None."""
        return self.record.get("verdict")

    @property
    def outcome(self) -> str:
        """Return how it ended: "completed in 20.1 s, VALID" or "failed in cell 4 (ValueError: …)"."""
        if self.error is None:
            return f"{self.status} in {self.duration_s:.1f} s{f', {self.verdict}' if self.verdict else ''}"
        what = f"{self.error['type']}: {self.error['message']}".splitlines()[0]
        index = self.error["cell_index"]
        return f"{self.status} {'before the first cell' if index is None else f'in cell {index + 1}'} ({what})"

    @property
    def sentence(self) -> str:
        """Return the run in one sentence."""
        return f"{self.notebook.stem}: {self.outcome}: {self.html}"

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Return the run whose run.json is in `folder`; `record` is all that run.json says."""
        facts = files.read_json(folder / "run.json")
        return cls(
            name=facts["name"],
            notebook=Path(facts["notebook"].removesuffix(".ipynb") + ".ipynb"),
            status=facts["status"],
            duration_s=facts["duration_s"] or 0.0,
            html=folder.with_name(f"{folder.name}.html"),
            folder=folder,
            record=facts,
            error=facts["error"],
        )

    def raise_for_status(self) -> Run:
        """Return this run, or raise ReportError if a cell failed."""
        if not self.ok:
            raise ReportError(self.sentence)
        return self


def data_dir() -> Path | None:
    """Return the folder a notebook saves its data in while a report is made of it; None when interactive."""
    folder = os.environ.get(_FOLDER_VARIABLE)
    return Path(folder) if folder else None


def record(key: str, value: Any) -> None:
    """Put one fact on top of the report and into its run.json; does nothing when interactive.

    Args:
        key: `verdict` ("VALID", "INVALID" or "SATURATED"), `headline` (up to four mappings with label,
            value, unit and detail, the last two optional), `conclusion` (a sentence or two; an empty line begins a
            paragraph), `conditions` (a mapping), `estimates` (what the summary table and the index over several runs
            show: {"edge": {"p99_ms": estimate, "knee_hz": {"value": 410, "low": 395, "high": 425}, "load": 0.7}}, the
            unit at the end of each name), `distributions` (what the index draws small: {"edge": {"latency_ms": […],
            "share": […]}}), or a name of your own, which goes to run.json only.
        value: anything that JSON can hold; numbers and arrays of NumPy too.

    Raises:
        ConfigurationError: a verdict, headline, conditions or estimates of another form.
    """
    _check_record(key, value)
    if key == "estimates":
        value = estimates.checked(value)
    folder = data_dir()
    if folder is not None:
        files.write_json(folder / "record.json", {**recorded(), key: value})


def recorded() -> dict[str, Any]:
    """Return what this run has recorded so far; nothing when interactive."""
    folder = data_dir()
    return {} if folder is None else files.read_json(folder / "record.json")


def _check_record(key: str, value: Any) -> None:
    if key == "verdict" and value not in VERDICTS:
        raise ConfigurationError(f"record: the verdict is {value!r}, expected one of {', '.join(VERDICTS)}")
    if key == "conditions" and not isinstance(value, Mapping):
        raise ConfigurationError(f"record: conditions is a {type(value).__name__}, expected a mapping")
    if key == "distributions" and not _are_curves(value):
        raise ConfigurationError("record: distributions is {of what: {latency_ms: [numbers], share: [as many]}}")
    if key == "headline":
        numbers = value if isinstance(value, list | tuple) else [value]
        good = all(isinstance(one, Mapping) and {"label", "value"} <= one.keys() for one in numbers)
        if not good or len(numbers) > 4 or numbers is not value:
            raise ConfigurationError("record: headline is a list of up to four {label, value, unit, detail}")


def _are_curves(value: Any) -> bool:
    """Return whether `value` is what the index can draw: of what → as many latencies in ms as shares."""
    axes = ("latency_ms", "share")
    return isinstance(value, Mapping) and all(
        isinstance(curve, Mapping) and curve.keys() == set(axes) and len(curve[axes[0]]) == len(curve[axes[1]])
        for curve in value.values()
    )


def run_many(
    notebooks: Sequence[str | os.PathLike[str]] | None = None,
    parameters: Mapping[str, Any] | None = None,
    out_dir: str | os.PathLike[str] | None = None,
    *,
    timeout_s: float = 1800.0,
    progress: bool = True,
) -> list[Run]:
    """Run notebooks one after the other and return their runs; a failed one does not stop the rest.

    Names, values and notebooks are checked before the first one starts.

    Args:
        notebooks: paths, stems or names, as `find` takes them; by default `02_edge_vs_cloud`.
        parameters: values by name; every notebook must have every name.
        out_dir: where to write; by default the project's `reports`.
        timeout_s: the longest that one cell may take, seconds.
        progress: show the cells' progress.

    Raises:
        ConfigurationError: an unknown notebook, parameter or value, or two notebooks for one report.
    """
    found = [find(notebook) for notebook in notebooks or DEFAULT_NOTEBOOKS]
    names = [report_name(path) for path in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigurationError(f"two notebooks for one report: {', '.join(sorted(twice))}; run them apart")
    for path in found:
        notebook_parameters.convert(notebook_parameters.inspect(path), parameters or {})
    return [run(path, parameters, out_dir=out_dir, timeout_s=timeout_s, progress=progress) for path in found]


def run(
    notebook: str | os.PathLike[str],
    parameters: Mapping[str, Any] | None = None,
    *,
    out_dir: str | os.PathLike[str] | None = None,
    name: str = "",
    timeout_s: float = 1800.0,
    progress: bool = True,
    on_cell: Callable[[int, int], None] | None = None,
) -> Run:
    """Run a notebook in a kernel of this interpreter and write its report.

    Writes `NAME.html` and, in the folder `NAME`, the executed `NAME.ipynb`, `run.json` and what the notebook
    saves in `data_dir()`. Files that an earlier run left there are removed first; other files are left alone.

    Args:
        notebook: a path, a stem or a name, as `find` takes them.
        parameters: values by name, converted by the notebook's annotations.
        out_dir: where to write; by default the project's `reports`.
        name: of the page and the folder; by default the notebook's without its number.
        timeout_s: the longest that one cell may take, seconds.
        progress: show the cells' progress.
        on_cell: called with (cells done, cells in all) when a cell starts.

    Returns:
        The run; its status says "completed" or "failed". A cell that fails does not raise here.

    Raises:
        ConfigurationError: an unknown notebook, parameter or value; nothing was started.
        KeyboardInterrupt: interrupted, with the report written; SIGTERM ends as SystemExit(143) the same way.
    """
    from xedge.reports import kernel

    source = find(notebook)
    known = notebook_parameters.inspect(source)
    values = notebook_parameters.convert(known, parameters or {})
    out = Path(out_dir or paths.reports_dir()).resolve()
    folder = out / (name or report_name(source))
    files.clear(folder)
    before = files.files(folder)
    facts = {"name": folder.name, **_facts(source, known, values)}
    files.write_json(folder / "run.json", facts)
    began = time.monotonic()
    with Progress(1, "cells", source.stem, enabled=progress) as line:

        def show(done: int, total: int) -> None:
            line.total = total
            line.update(done)
            if on_cell is not None:
                on_cell(done, total)

        execution = kernel.execute(source, values, _environment(folder), timeout_s, show)
        facts |= {"status": execution.status, "duration_s": round(time.monotonic() - began, 3)}
        facts["error"] = _located(execution)
        facts["files"] = [path for path, changed in files.files(folder).items() if before.get(path) != changed]
        finished = _finish(source, out / f"{folder.name}.html", folder, facts, execution)
        line.finish(finished.sentence)
    if execution.interruption is not None:
        raise execution.interruption
    return finished


def _environment(folder: Path) -> dict[str, str]:
    """Return the kernel's environment: MPLBACKEND would leave it without figures."""
    kept = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    return kept | {_FOLDER_VARIABLE: str(folder)}


def _facts(source: Path, known: list[notebook_parameters.Parameter], values: dict[str, Any]) -> dict[str, Any]:
    rows = [
        {
            "name": one.name,
            "value": values.get(one.name, one.default),
            "default": one.default,
            "changed": values.get(one.name, one.default) != one.default,
            "help": one.help,
        }
        for one in known
    ]
    changed = {row["name"]: row["value"] for row in rows if row["changed"]}
    listed = source.parent == paths.notebooks_dir().resolve()
    return {
        "notebook": source.stem if listed else str(source),
        "notebook_sha256": content_sha256(source),
        "status": "running",
        "verdict": None,
        "error": None,
        "parameters": rows,
        "command": commands.command("report", source.stem if listed else str(source), changed),
        "started_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "duration_s": None,
        "versions": machine.versions(),
        "host": machine.host(),
        "git": machine.git_commit(source.parent),
    }


def _located(execution: kernel.Execution) -> dict[str, Any] | None:
    """Return the error with the cell it happened in, counted as in the notebook's source."""
    from xedge.reports import kernel

    if execution.error is None:
        return None
    cells = execution.notebook.cells
    where: dict[str, Any] = {"cell_index": None, "source": ""}
    if execution.cell >= 0:
        index = kernel.position_in_source(execution.notebook, execution.cell)
        where = {"cell_index": index, "source": cells[execution.cell].source}
    return {**execution.error, **where}


def _finish(source: Path, html: Path, folder: Path, facts: dict[str, Any], execution: kernel.Execution) -> Run:
    """Write the executed notebook, run.json and the page, in this order, and return the run."""
    import nbformat

    from xedge.reports import page

    recorded = files.read_json(folder / "record.json")
    facts |= {**recorded, **{name: facts[name] for name in facts if name != "verdict"}}
    notebook = execution.notebook
    notebook.metadata["xedge"] = {"status": facts["status"], "error": facts["error"]}
    writes: Any = nbformat.writes
    files.write_text(folder / f"{folder.name}.ipynb", writes(notebook) + "\n")
    files.write_json(folder / "run.json", facts)
    cell = execution.cell if execution.error else None
    files.write_text(html, page.page(notebook, facts, folder, cell))
    return Run(
        name=facts["name"],
        notebook=source,
        status=facts["status"],
        duration_s=facts["duration_s"],
        html=html,
        folder=folder,
        record=recorded,
        error=facts["error"],
    )
