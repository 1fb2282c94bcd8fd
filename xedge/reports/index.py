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
from xedge.reports.run_table import GOOD, Row, RunTable

NAME = "index.html"
_TEMPLATES = Path(__file__).with_name("templates")
_NOT_COMPARED = ("notebook", "started", "duration")


def build(folder: Path) -> Path:
    """Write the page that compares the runs in `folder`, and return its path.

    Raises:
        ConfigurationError: there are no runs.
    """
    path = folder / NAME
    files.write_text(path, _rendered(RunTable.read(folder)))
    return path


def _rendered(table: RunTable) -> str:
    import jinja2

    from xedge.reports import index_figures

    script = (_TEMPLATES / "index" / "sort.js").read_text(encoding="utf-8")
    digest = fragments.as_base64(hashlib.sha256(script.encode()).digest())
    folders = [_TEMPLATES / "index", _TEMPLATES / "xedge"]
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(folders), autoescape=True, trim_blocks=True)
    environment.filters["base64"] = fragments.as_base64
    template = environment.get_template("runs.html.j2")
    notebooks = {str(row.facts["notebook"]) for row in table.runs} | {table.plan.get("notebook", "")} - {""}
    named = {Path(name).name.removesuffix(".ipynb") for name in notebooks}
    what = named.pop() if len(named) == 1 else table.folder.name
    records, text = table.records(), io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    shared, differing = _conditions(table)
    told: dict[str, dict[str, Any]] = {}  # the parameters with one value in all runs, as the first run tells them
    for parameter in (p for row in table.runs for p in row.facts["parameters"] if p["name"] not in table.varied):
        told.setdefault(parameter["name"], page.typed(parameter))
    return template.render(
        policy=f"{page.CONTENT_POLICY}; script-src 'sha256-{digest}'",
        script=script,
        title=f"{what.lstrip('0123456789_-').replace('_', ' ').capitalize()}: {len(table.rows)} runs compared",
        rows=[_cells(table, row) for row in table.rows],
        numbered=bool(table.varied and table.plan),  # the columns say what a run is
        varied=table.varied,
        columns={of: [estimates.heading(name) for name in names] for of, names in table.shown.items()},
        counts=_counts(table),
        ranges=list(_ranges(table))[:3],
        trends=index_figures.trends(table),
        small=index_figures.small_multiples(table),
        shared=list(told.values()),
        conditions=shared,
        differing=differing,
        command=table.plan.get("command", "\n".join(row.facts["command"] for row in table.runs)),
        csv=f"data:text/csv;base64,{fragments.as_base64(text.getvalue())}",
    )


def _cells(table: RunTable, row: Row) -> dict[str, Any]:
    numbers = [row.number(of, name) for of, names in table.shown.items() for name in names]
    seconds = row.facts.get("duration_s")
    names = ["run.json", *row.facts.get("files", [])] if row.facts else []
    paths = {name: table.folder / row.name / name for name in names}
    html = f"{row.name}.html"
    return {
        "label": row.title,
        "page": quote(html) if (table.folder / html).is_file() and row.facts else "",
        "state": row.state,
        "error": row.error,
        "parameters": [as_text(row.parameters[n]) if n in row.parameters else "" for n in table.varied],
        "numbers": [{"text": number.get("text", ""), "value": number.get("value")} for number in numbers],
        "duration": {"text": f"{seconds:.1f}" if seconds is not None else "", "value": seconds},
        "files": [
            {"name": name, "href": quote(f"{row.name}/{name}"), "size": page.file_size(path.stat().st_size)}
            for name, path in paths.items()
            if path.is_file()
        ],
    }


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
    shared = [(name, *found) for name, found in values.items() if len(found) == 1]
    return shared, [(name, found) for name, found in values.items() if len(found) > 1]
