"""Run a notebook with parameters and leave one page that can be shared, also when it fails; what a notebook records."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from xedge.core import files, machine, paths, telling
from xedge.core.exceptions import ConfigurationError, ReportError
from xedge.core.progress import Progress
from xedge.reports import conversion, estimates, kept, kernel
from xedge.reports import parameters as notebook_parameters
from xedge.reports.kept import Run as Run
from xedge.reports.notebooks import Notebook, report_name
from xedge.scenario import thresholds
from xedge.serving.broker import check_environment

DEFAULT_NOTEBOOKS = ("02_edge_vs_cloud",)
VERDICTS = ("VALID", "SATURATED", "INVALID")  # the worst last
FOLDER_VARIABLE = "XEDGE_REPORT_DIR"


def run_many(
    notebooks: Sequence[str | os.PathLike[str]] | None = None,
    parameters: Mapping[str, Any] | None = None,
    out_dir: str | os.PathLike[str] | None = None,
    *,
    timeout_s: float = 1800.0,
    progress: bool = True,
    fail_if: Sequence[str] = (),
) -> list[Run]:
    """Run notebooks one after the other and return their runs; a failed one does not stop the rest.

    Names, values and notebooks (by default `02_edge_vs_cloud`) are checked before the first one starts; every notebook
    must have every parameter. The arguments are those of `run`.

    Raises:
        ConfigurationError: an unknown notebook, parameter or value, or two notebooks for one report.
    """
    check_environment()
    opened = [Notebook.open(notebook) for notebook in notebooks or DEFAULT_NOTEBOOKS]
    names = [report_name(notebook.path) for notebook in opened]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigurationError(f"two notebooks for one report: {', '.join(sorted(twice))}; run them apart")
    for notebook in opened:
        notebook_parameters.convert(notebook.parameters, parameters or {})
    options: dict[str, Any] = {"out_dir": out_dir, "timeout_s": timeout_s, "progress": progress, "fail_if": fail_if}
    return [run(each, parameters, **options) for each in opened]


def run(
    notebook: str | os.PathLike[str] | Notebook,
    parameters: Mapping[str, Any] | None = None,
    *,
    out_dir: str | os.PathLike[str] | None = None,
    name: str = "",
    timeout_s: float = 1800.0,
    progress: bool = True,
    on_cell: Callable[[int, int], None] | None = None,
    fail_if: Sequence[str] = (),
) -> Run:
    """Run a notebook in a kernel of this interpreter and write its report.

    Makes the folder `NAME/TIMESTAMP-parameters` for this run alone and leaves there its page `NAME.html`, the executed
    `NAME.ipynb`, `run.json` and what the notebook saves in `data_dir()`. The page `NAME.html` above shows the latest
    good run (completed, and VALID or without a verdict), or the latest if none was ever good. Several may run at once.
    A cell that fails does not raise here: the run's status then says "failed".

    Args:
        notebook: a path, a stem or a name, as `notebooks.find` takes them, or an open notebook.
        parameters: values by name, converted by the notebook's annotations.
        out_dir: where to write; by default the project's `reports`.
        name: of the report; by default the notebook's without its number.
        timeout_s: the longest that one cell may take, seconds.
        progress: show the cells' progress.
        on_cell: called with (cells done, cells in all) when a cell starts.
        fail_if: limits such as "edge.p99_ms > 20"; run.json then says under `thresholds` which were crossed.

    Raises:
        ConfigurationError: an unknown notebook, parameter or value, or nothing can be written; nothing was started.
        ReportError: the report could not be written where it belongs; the message says where it is.
        KeyboardInterrupt: interrupted, with the report written; SIGTERM ends as SystemExit(143) the same way.
    """
    source = Notebook.open(notebook)
    values = notebook_parameters.convert(source.parameters, parameters or {})
    limits = thresholds.read(fail_if)
    facts = _facts(source, values)
    changed = kept.changed(facts["parameters"])
    name = name or report_name(source.path)
    folder = kept.new_folder(Path(out_dir or paths.reports_dir()).resolve(), name, changed, facts["started_at"])
    facts = {"name": name, "run": folder.name, **facts}
    files.write_json(folder / "run.json", facts)
    began = time.monotonic()
    with Progress(1, "cells", source.path.stem, enabled=progress) as line, telling.listening(line.hear) as heard:

        def show(done: int, total: int) -> None:
            line.total = total
            line.update(done)
            if on_cell is not None:
                on_cell(done, total)

        kept_env = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}  # it would hide figures
        env = kept_env | {FOLDER_VARIABLE: str(folder)} | heard
        execution = kernel.execute(source.path, values, env, timeout_s, show)
        facts |= {"status": execution.status, "duration_s": round(time.monotonic() - began, 3)}
        facts["error"] = _located(execution)
        facts["files"] = _data(folder, name)
        finished = replace(_written(folder, facts, execution, limits), notebook=source.path)
        line.finish(finished.sentence)
    if execution.interruption is not None:
        raise execution.interruption
    return finished


def _data(folder: Path, name: str) -> list[str]:
    """Return the files that the notebook has saved in the folder of its run."""
    own = {folder / file for file in ("run.json", "record.json", f"{name}.ipynb", f"{name}.html")}
    saved = [path for path in sorted(folder.rglob("*")) if path.is_file() and path not in own]
    return [str(path.relative_to(folder)) for path in saved if path.name[0] != "."]


def _facts(notebook: Notebook, values: dict[str, Any]) -> dict[str, Any]:
    """Return what run.json says before the first cell runs."""
    rows = []
    for parameter in notebook.parameters:
        value = values.get(parameter.name, parameter.default)
        about = {"default": parameter.default, "changed": value != parameter.default, "help": parameter.help}
        rows.append({"name": parameter.name, "value": value} | about)
    return {
        "notebook": notebook.name,
        "notebook_sha256": notebook.sha256,
        "status": "running",
        "verdict": None,
        "error": None,
        "parameters": rows,
        "command": conversion.command("report", notebook.name, kept.changed(rows)),
        "started_at": kept.now(),
        "duration_s": None,
        "versions": machine.versions(),
        "host": machine.host(),
        "git": machine.git_commit(notebook.path.parent),
    }


def _located(execution: kernel.Execution) -> dict[str, Any] | None:
    """Return the error with the cell it happened in, counted as in the notebook's source."""
    if execution.error is None:
        return None
    if execution.cell < 0:
        return {**execution.error, "cell_index": None, "source": ""}
    cells = execution.notebook.cells
    injected = sum("injected-parameters" in cell.metadata.get("tags", []) for cell in cells[: execution.cell])
    return {**execution.error, "cell_index": execution.cell - injected, "source": cells[execution.cell].source}


def _written(
    folder: Path, facts: dict[str, Any], execution: kernel.Execution, limits: Sequence[thresholds.Threshold]
) -> Run:
    """Write the report and return the run; elsewhere, and raise with where, if that cannot be done."""
    recorded = files.read_json(folder / "record.json")
    facts = {**facts, **recorded, **{name: facts[name] for name in facts if name != "verdict"}}
    if limits:
        facts["thresholds"] = [limit.checked(facts) for limit in limits]
    try:
        return _finish(folder, facts, execution)
    except OSError as exc:
        reason = exc.strerror or exc
    elsewhere = kept.new_folder(Path(tempfile.gettempdir()) / "xedge-reports", facts["name"], {}, facts["started_at"])
    run = _finish(elsewhere, {**facts, "run": elsewhere.name}, execution)
    raise ReportError(f"the report could not be written in {folder} ({reason}): {run.sentence}")


def _finish(folder: Path, facts: dict[str, Any], execution: kernel.Execution) -> Run:
    """Write the executed notebook, the page, and last run.json, which says that all is there; then the page on top."""
    import nbformat

    from xedge.reports import page

    notebook = execution.notebook
    notebook.metadata["xedge"] = {"status": facts["status"], "error": facts["error"]}
    text = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
    files.write_text(folder / f"{facts['name']}.ipynb", f"{text}\n")
    before, run = kept.latest(folder.parent), Run.of(folder, facts)
    shown = kept.best(run, *([before] if before else [])) or run
    facts["on_top"] = shown.folder.name
    html = page.page(notebook, facts, folder, execution.cell if execution.error else None)
    files.write_text(folder / f"{facts['name']}.html", html)
    files.write_json(folder / "run.json", facts)
    kept.put_on_top(folder.parent)
    return Run.read(folder)


def data_dir() -> Path | None:
    """Return the folder a notebook saves its data in while a report is made of it; None when interactive."""
    folder = os.environ.get(FOLDER_VARIABLE)
    return Path(folder) if folder else None


def record(key: str, value: Any) -> None:
    """Put one fact on top of the report and into its run.json; does nothing when interactive.

    Args:
        key: `verdict` ("VALID", "INVALID" or "SATURATED"), `headline` (up to four mappings with label, value, unit and
            detail, the last two optional), `conclusion` (a sentence or two; an empty line begins a paragraph),
            `answer` (one sentence, with which the page then begins instead), `doubts` (with about, placement, severity,
            text and remedy), `conditions` (a mapping), `estimates` (for the summary table and the index over several
            runs, the unit at the end of each name: {"edge": {"p99_ms": estimate, "knee_hz": {"value": 410, "low": 395,
            "high": 425}}}), `distributions` (what the index draws small: {"edge": {"latency_ms": […], "share": […]}}),
            or a name of your own, which goes to run.json only.
        value: anything that JSON can hold; numbers and arrays of NumPy too.

    Raises:
        ConfigurationError: a verdict, headline, conditions or estimates of another form.
    """
    _check_record(key, value)
    if key == "estimates":
        value = estimates.checked(value)
    if (folder := data_dir()) is not None:
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
        is_list = isinstance(value, list | tuple) and len(value) <= 4
        if not is_list or not all(isinstance(entry, Mapping) and {"label", "value"} <= entry.keys() for entry in value):
            raise ConfigurationError("record: headline is a list of up to four {label, value, unit, detail}")


def _are_curves(value: Any) -> bool:
    curves: list[Any] = list(value.values()) if isinstance(value, Mapping) else [None]
    known = all(isinstance(curve, Mapping) and curve.keys() == {"latency_ms", "share"} for curve in curves)
    return known and all(len(curve["latency_ms"]) == len(curve["share"]) for curve in curves)
