"""One page that compares several runs, built from what their run.json files say and nothing else."""

import csv
import hashlib
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from xedge.core import files
from xedge.reports import estimates, fragments, page
from xedge.reports.conversion import as_text
from xedge.reports.kept import Run
from xedge.reports.run_table import GOOD, Row, RunTable

NAME = "index.html"
_TEMPLATES = Path(__file__).with_name("templates")
_NOT_COMPARED = ("notebook", "run", "started", "duration")


def build(folder: Path) -> Path:
    """Write the page that compares the runs in `folder` and the folders in it, and return its path.

    Runs of several notebooks are listed one notebook after the other; of one, numbers and figures are compared.

    Raises:
        ConfigurationError: there are no runs.
    """
    path, table = folder / NAME, RunTable.read(folder)
    files.write_text(path, _listed(table) if not table.plan and len(table.by_notebook()) > 1 else _compared(table))
    return path


def _rendered(name: str, **values: Any) -> str:
    import jinja2

    script = (_TEMPLATES / "index" / "sort.js").read_text(encoding="utf-8")
    digest = fragments.as_base64(hashlib.sha256(script.encode()).digest())
    folders = [_TEMPLATES / "index", _TEMPLATES / "xedge"]
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(folders), autoescape=True, trim_blocks=True)
    environment.filters["base64"] = fragments.as_base64
    policy = f"{page.CONTENT_POLICY}; script-src 'sha256-{digest}'"
    return environment.get_template(name).render(policy=policy, script=script, **values)


def _title(notebook: str) -> str:
    return notebook.lstrip("0123456789_-").replace("_", " ").capitalize()


def _listed(table: RunTable) -> str:
    """Return the page that lists the runs of several notebooks."""
    parts = sorted(table.by_notebook().items())
    sections = [
        {
            "title": _title(name),
            "notebook": name,
            "counts": _counts(part),
            "varied": part.varied,
            "groups": [[_cells(part, row) for row in rows] for rows in _alike(part)],
        }
        for name, part in parts
    ]
    title = f"{len(table.rows)} runs of {len(parts)} notebooks"
    return _rendered("list.html.j2", title=title, folder=str(table.folder), sections=sections)


def _alike(table: RunTable) -> list[list[Row]]:
    """Return the runs with the same parameters together, the latest first, also of the groups."""
    groups: dict[str, list[Row]] = {}
    for row in reversed(table.rows):
        groups.setdefault(repr([row.parameters.get(name) for name in table.varied]), []).append(row)
    return list(groups.values())


def _compared(table: RunTable) -> str:
    """Return the page that compares runs of one notebook."""
    from xedge.reports import index_figures

    name = table.plan.get("notebook") or next(iter(table.by_notebook()))
    records, text = table.records(), io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    shared, differing = _conditions(table)
    constants: dict[str, dict[str, Any]] = {}  # the parameters with one value in all runs, as the first run tells them
    for parameter in (p for row in table.runs for p in row.facts["parameters"] if p["name"] not in table.varied):
        constants.setdefault(parameter["name"], page.typed(parameter))
    return _rendered(
        "runs.html.j2",
        title=f"{_title(name)}: {len(table.rows)} runs compared",
        rows=[_cells(table, row) for row in table.rows],
        numbered=bool(table.varied and table.plan),  # the columns say what a run is
        varied=table.varied,
        columns={of: [estimates.heading(name) for name in names] for of, names in table.shown.items()},
        counts=_counts(table),
        ranges=list(_ranges(table))[:3],
        trends=index_figures.trends(table),
        small=index_figures.small_multiples(table),
        shared=list(constants.values()),
        conditions=shared,
        differing=differing,
        command=table.plan.get("command", "\n".join(row.facts["command"] for row in table.runs)),
        csv=f"data:text/csv;base64,{fragments.as_base64(text.getvalue())}",
    )


def _cells(table: RunTable, row: Row) -> dict[str, Any]:
    numbers = [row.number(of, name) for of, names in table.shown.items() for name in names]
    seconds = row.facts.get("duration_s")
    return {
        "label": row.title,
        "started": str(row.facts.get("started_at", ""))[:19].replace("T", " "),
        "page": _href(table, row.run.html) if row.run and row.run.html.is_file() else "",
        "state": row.state,
        "error": row.error,
        "headline": row.headline,
        "parameters": [as_text(row.parameters[n]) if n in row.parameters else "" for n in table.varied],
        "numbers": [{"text": number.get("text", ""), "value": number.get("value")} for number in numbers],
        "duration": {"text": f"{seconds:.1f}" if seconds is not None else "", "value": seconds},
        "files": list(_files(table, row.run)) if row.run else [],
    }


def _files(table: RunTable, run: Run) -> Iterator[dict[str, str]]:
    for name in ["run.json", *run.record.get("files", [])]:
        path = run.folder / name
        if path.is_file():
            yield {"name": name, "href": _href(table, path), "size": page.file_size(path.stat().st_size)}


def _href(table: RunTable, path: Path) -> str:
    return quote(path.relative_to(table.folder).as_posix())


def _counts(table: RunTable) -> dict[str, Any]:
    """How many of the runs came out how; a run without a verdict that completed is as good as VALID."""
    states = [row.state for row in table.rows]
    good = sum(state in GOOD for state in states)
    word = "VALID" if "VALID" in states or "completed" not in states else "completed"
    others = [state for state in dict.fromkeys(states) if state not in GOOD]
    worst = next((w for w in ("failed", "INVALID", "SATURATED") if w in others), "missing" if others else "VALID")
    labels = {state: [row.title for row in table.rows if row.state == state] for state in others}
    return {"good": f"{good} of {len(states)} {word}", "others": labels, "class": worst.lower()}


def _ranges(table: RunTable) -> Iterator[dict[str, str]]:
    """Yield the lowest and the highest of the last number of everything measured, over the runs that are VALID."""
    good = [row for row in table.rows if row.state in GOOD]
    for of, names in table.columns.items():
        known = [name for name in names if any(row.value(of, name) is not None for row in good)]
        if not known:
            continue
        values = [(row.value(of, known[-1]), row) for row in good]
        ordered = sorted((pair for pair in values if pair[0] is not None), key=lambda pair: pair[0])
        (low, lowest), (high, highest) = ordered[0], ordered[-1]
        label, unit = estimates.split(known[-1])
        value = page.short(low) if low == high else f"{page.short(low)} to {page.short(high)}"
        detail = lowest.title if low == high else f"lowest at {lowest.title}; highest at {highest.title}"
        yield {"label": f"{of}, {label}", "value": value, "unit": unit, "detail": detail}


def _conditions(table: RunTable) -> tuple[list[tuple[str, ...]], list[tuple[str, dict[str, list[str]]]]]:
    """Return the conditions that all finished runs share, and of the others each value with the runs under it."""
    finished = [row for row in table.runs if row.state != "unfinished"]
    conditions = {row.title: dict(page.conditions(row.facts)) for row in finished}
    names = dict.fromkeys(name for of_run in conditions.values() for name in of_run if name not in _NOT_COMPARED)
    values: dict[str, dict[str, list[str]]] = {name: {} for name in names}
    for name, label in itertools.product(names, conditions):
        values[name].setdefault(conditions[label].get(name, "not recorded"), []).append(label)
    shared = [(name, *labels) for name, labels in values.items() if len(labels) == 1]
    return shared, [(name, labels) for name, labels in values.items() if len(labels) > 1]
