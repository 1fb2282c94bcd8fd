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
from xedge.reports import commands
from xedge.reports import parameters as notebook_parameters
from xedge.reports.notebooks import Notebook, report_name
from xedge.reports.record import FOLDER_VARIABLE, VERDICTS, data_dir, record, recorded

if TYPE_CHECKING:
    from xedge.reports import kernel

__all__ = [  # what a notebook records stands in `record`, and is called as `run.record` in notebooks
    "DEFAULT_NOTEBOOKS", "VERDICTS", "Run", "data_dir", "record", "recorded", "report_name", "run", "run_many",
]  # fmt: skip
DEFAULT_NOTEBOOKS = ("02_edge_vs_cloud",)


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
    opened = [Notebook.open(notebook) for notebook in notebooks or DEFAULT_NOTEBOOKS]
    names = [notebook.report_name for notebook in opened]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigurationError(f"two notebooks for one report: {', '.join(sorted(twice))}; run them apart")
    for notebook in opened:
        notebook_parameters.convert(notebook.parameters, parameters or {})
    return [run(each, parameters, out_dir=out_dir, timeout_s=timeout_s, progress=progress) for each in opened]


def run(
    notebook: str | os.PathLike[str] | Notebook,
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
    A cell that fails does not raise here: the run's status then says "failed".

    Args:
        notebook: a path, a stem or a name, as `notebooks.find` takes them, or an open notebook.
        parameters: values by name, converted by the notebook's annotations.
        out_dir: where to write; by default the project's `reports`.
        name: of the page and the folder; by default the notebook's without its number.
        timeout_s: the longest that one cell may take, seconds.
        progress: show the cells' progress.
        on_cell: called with (cells done, cells in all) when a cell starts.

    Raises:
        ConfigurationError: an unknown notebook, parameter or value; nothing was started.
        KeyboardInterrupt: interrupted, with the report written; SIGTERM ends as SystemExit(143) the same way.
    """
    from xedge.reports import kernel

    source = Notebook.open(notebook)
    values = notebook_parameters.convert(source.parameters, parameters or {})
    out = Path(out_dir or paths.reports_dir()).resolve()
    folder = out / (name or source.report_name)
    files.clear(folder)
    before = files.files(folder)
    facts = {"name": folder.name, **_facts(source, values)}
    files.write_json(folder / "run.json", facts)
    began = time.monotonic()
    with Progress(1, "cells", source.stem, enabled=progress) as line:

        def show(done: int, total: int) -> None:
            line.total = total
            line.update(done)
            if on_cell is not None:
                on_cell(done, total)

        execution = kernel.execute(source.path, values, _environment(folder), timeout_s, show)
        facts |= {"status": execution.status, "duration_s": round(time.monotonic() - began, 3)}
        facts["error"] = _located(execution)
        facts["files"] = [path for path, changed in files.files(folder).items() if before.get(path) != changed]
        finished = _finish(source.path, out / f"{folder.name}.html", folder, facts, execution)
        line.finish(finished.sentence)
    if execution.interruption is not None:
        raise execution.interruption
    return finished


def _environment(folder: Path) -> dict[str, str]:
    """Return the kernel's environment: MPLBACKEND would leave it without figures."""
    kept = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    return kept | {FOLDER_VARIABLE: str(folder)}


def _facts(notebook: Notebook, values: dict[str, Any]) -> dict[str, Any]:
    """Return what run.json says before the first cell runs."""
    rows = [_parameter_row(parameter, values) for parameter in notebook.parameters]
    changed = {row["name"]: row["value"] for row in rows if row["changed"]}
    return {
        "notebook": notebook.name,
        "notebook_sha256": notebook.sha256,
        "status": "running",
        "verdict": None,
        "error": None,
        "parameters": rows,
        "command": commands.command("report", notebook.name, changed),
        "started_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "duration_s": None,
        "versions": machine.versions(),
        "host": machine.host(),
        "git": machine.git_commit(notebook.path.parent),
    }


def _parameter_row(parameter: notebook_parameters.Parameter, values: dict[str, Any]) -> dict[str, Any]:
    value = values.get(parameter.name, parameter.default)
    facts = {"name": parameter.name, "value": value, "default": parameter.default}
    return facts | {"changed": value != parameter.default, "help": parameter.help}


def _located(execution: kernel.Execution) -> dict[str, Any] | None:
    """Return the error with the cell it happened in, counted as in the notebook's source."""
    from xedge.reports import kernel

    if execution.error is None:
        return None
    if execution.cell < 0:
        return {**execution.error, "cell_index": None, "source": ""}
    index = kernel.position_in_source(execution.notebook, execution.cell)
    return {**execution.error, "cell_index": index, "source": execution.notebook.cells[execution.cell].source}


def _finish(source: Path, html: Path, folder: Path, facts: dict[str, Any], execution: kernel.Execution) -> Run:
    """Write the executed notebook, run.json and the page, in this order, and return the run."""
    import nbformat

    from xedge.reports import page

    from_notebook = files.read_json(folder / "record.json")
    facts |= {**from_notebook, **{name: facts[name] for name in facts if name != "verdict"}}
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
        record=from_notebook,
        error=facts["error"],
    )
