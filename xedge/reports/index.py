"""One page that compares several runs, built from what their run.json files say and nothing else."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from xedge.core import files
from xedge.core.exceptions import ConfigurationError
from xedge.reports import estimates, page
from xedge.reports.commands import as_text

NAME = "index.html"
PLAN = "sweep.json"
OUTDATED = "outdated"
"""The status that a sweep gives a completed run which it is going to repeat."""

_TEMPLATES = Path(__file__).with_name("templates")
GOOD = ("VALID", "completed")
_LEVEL = re.compile(r"p[0-9.]+_\w+")
_NOT_COMPARED = ("notebook", "started", "duration")


@dataclass(frozen=True)
class Row:
    """One run: the name of its page and folder, how it is called, its parameters, and what its run.json says."""

    name: str
    label: str
    parameters: dict[str, Any]
    facts: dict[str, Any]

    @property
    def state(self) -> str:
        """Return the verdict of a completed run, else "completed", "failed", "interrupted", "unfinished", "missing"."""
        status = self.facts.get("status", "missing")
        if status == "completed":
            return str(self.facts.get("verdict") or status)
        return "unfinished" if status == "running" else str(status)

    @property
    def estimates(self) -> estimates.Estimates:
        """Return the numbers recorded, none of a run that did not complete."""
        return (self.facts.get("estimates") or {}) if self.facts.get("status") == "completed" else {}

    @property
    def distributions(self) -> dict[str, Any]:
        """Return what of → the curve of its distribution, none of a run that did not complete."""
        return (self.facts.get("distributions") or {}) if self.facts.get("status") == "completed" else {}

    def value(self, of: str, name: str) -> float | None:
        """Return one number recorded, None if there is none."""
        return self.estimates.get(of, {}).get(name, {}).get("value")

    @property
    def told(self) -> str:
        """Return how the run is called, with room between its parameters."""
        return self.label.replace(",", ", ")

    @property
    def error(self) -> str:
        """Return the first line of the error that ended the run."""
        error = self.facts.get("error") or {}
        return f"{error['type']}: {error['message']}".splitlines()[0] if error else ""


@dataclass(frozen=True)
class Comparison:
    """The runs in a folder: those of its sweep in the order planned, else all that there are in the order started."""

    folder: Path
    plan: dict[str, Any]
    rows: list[Row]

    @classmethod
    def read(cls, folder: Path) -> Comparison:
        """Read the runs in `folder`.

        Raises:
            ConfigurationError: there are none.
        """
        plan = files.read_json(folder / PLAN)
        planned = [Row(one["name"], one["label"], one["parameters"], {}) for one in plan.get("runs", [])]
        if not planned:
            planned = [Row(path.parent.name, path.parent.name, {}, {}) for path in folder.glob("*/run.json")]
        rows = [cls._row(folder, row) for row in planned]
        if not rows:
            raise ConfigurationError(f"no runs in {folder}: it has no folder with a run.json, as `xedge report` writes")
        if not plan:
            rows.sort(key=lambda row: str(row.facts.get("started_at")))
        return cls(folder, plan, rows)

    @staticmethod
    def _row(folder: Path, row: Row) -> Row:
        facts = files.read_json(folder / row.name / "run.json")
        if not facts or facts["status"] == OUTDATED:
            return row
        values = {one["name"]: one["value"] for one in facts["parameters"]}
        return Row(row.name, row.label, row.parameters or values, facts)

    @cached_property
    def runs(self) -> list[Row]:
        """The rows that have a run, finished or not."""
        return [row for row in self.rows if row.facts]

    @cached_property
    def varied(self) -> list[str]:
        """The parameters whose values differ between the runs that have them."""
        values: dict[str, set[str]] = {}
        for name, value in (item for row in self.rows for item in row.parameters.items()):
            values.setdefault(name, set()).add(repr(value))
        return [name for name, different in values.items() if len(different) > 1]

    @cached_property
    def columns(self) -> dict[str, list[str]]:
        """What of → the numbers recorded in any of the runs."""
        return estimates.columns(row.estimates for row in self.rows)

    @cached_property
    def shown(self) -> dict[str, list[str]]:
        """What of → the numbers for the table: of the percentiles the lowest and the highest; all are in the CSV."""
        found = {}
        for of, names in self.columns.items():
            inner = [name for name in names if _LEVEL.fullmatch(name)][1:-1]
            found[of] = [name for name in names if name not in inner]
        return found

    def records(self) -> list[dict[str, Any]]:
        """Return one mapping a row: label, parameters that differ, state, duration, and the numbers with their ends."""
        found = []
        for row in self.rows:
            record: dict[str, Any] = {"run": row.label, **{name: row.parameters.get(name) for name in self.varied}}
            record |= {"state": row.state, "duration_s": row.facts.get("duration_s")}
            for of, name in ((of, name) for of, names in self.columns.items() for name in names):
                number = row.estimates.get(of, {}).get(name, {})
                for suffix, key in (("", "value"), ("_low", "low"), ("_high", "high")):
                    record[f"{of} {name}{suffix}"] = number.get(key)
            found.append(record)
        return found


def build(folder: Path) -> Path:
    """Write the page that compares the runs in `folder`, and return its path.

    Raises:
        ConfigurationError: there are no runs.
    """
    comparison = Comparison.read(folder)
    page = folder / NAME
    files.write_text(page, _rendered(comparison))
    return page


def _rendered(comparison: Comparison) -> str:
    import jinja2

    from xedge.reports import index_figures

    script = (_TEMPLATES / "index" / "sort.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    folders = [_TEMPLATES / "index", _TEMPLATES / "xedge"]
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(folders), autoescape=True, trim_blocks=True)
    environment.filters["base64"] = page.as_base64
    shared, differing = _conditions(comparison)
    return environment.get_template(
        "runs.html.j2"
    ).render(
        policy=f"{page.CONTENT_POLICY}; script-src 'sha256-{digest}'",
        script=script,
        title=_title(comparison),
        rows=[_cells(comparison, row) for row in comparison.rows],
        numbered=bool(comparison.varied and comparison.plan),  # the columns say what a run is
        varied=comparison.varied,
        columns={of: [estimates.heading(name) for name in names] for of, names in comparison.shown.items()},
        counts=_counts(comparison),
        ranges=list(_ranges(comparison))[:3],
        trends=index_figures.trends(comparison),
        small=index_figures.small_multiples(comparison),
        shared=_shared_parameters(comparison),
        conditions=shared,
        differing=differing,
        command=comparison.plan.get("command", "\n".join(row.facts["command"] for row in comparison.runs)),
        csv=_csv(comparison),
    )


def _title(comparison: Comparison) -> str:
    notebooks = {str(row.facts["notebook"]) for row in comparison.runs} | {comparison.plan.get("notebook", "")} - {""}
    named = {Path(name).name.removesuffix(".ipynb") for name in notebooks}
    what = named.pop() if len(named) == 1 else comparison.folder.name
    return f"{what.lstrip('0123456789_-').replace('_', ' ').capitalize()}: {len(comparison.rows)} runs compared"


def _cells(comparison: Comparison, row: Row) -> dict[str, Any]:
    page = f"{row.name}.html"
    numbers = [row.estimates.get(of, {}).get(name, {}) for of, names in comparison.shown.items() for name in names]
    seconds = row.facts.get("duration_s")
    return {
        "label": row.told,
        "page": quote(page) if (comparison.folder / page).is_file() and row.facts else "",
        "state": row.state,
        "error": row.error,
        "parameters": [as_text(row.parameters[n]) if n in row.parameters else "" for n in comparison.varied],
        "numbers": [{"text": one.get("text", ""), "value": one.get("value")} for one in numbers],
        "duration": {"text": f"{seconds:.1f}" if seconds is not None else "", "value": seconds},
        "files": list(_links(comparison.folder, row)),
    }


def _links(folder: Path, row: Row) -> Iterator[dict[str, str]]:
    for name in ["run.json", *row.facts.get("files", [])] if row.facts else []:
        path = folder / row.name / name
        if path.is_file():
            size = page.file_size(path.stat().st_size)
            yield {"name": name, "href": quote(f"{row.name}/{name}"), "size": size}


def _counts(comparison: Comparison) -> dict[str, Any]:
    """How many of the runs came out how; a run without a verdict that completed is as good as VALID."""
    states = [row.state for row in comparison.rows]
    good = sum(state in GOOD for state in states)
    word = "VALID" if "VALID" in states or "completed" not in states else "completed"
    others = [state for state in dict.fromkeys(states) if state not in GOOD]
    worst = next((w for w in ("failed", "INVALID", "SATURATED") if w in others), "missing" if others else "VALID")
    told = {state: [row.told for row in comparison.rows if row.state == state] for state in others}
    return {"good": f"{good} of {len(states)} {word}", "others": told, "class": worst.lower()}


def _ranges(comparison: Comparison) -> Iterator[dict[str, str]]:
    """Yield the lowest and the highest of the last number of everything measured, over the runs that are VALID."""
    good = [row for row in comparison.rows if row.state in GOOD]
    for of, names in comparison.columns.items():
        values = {
            name: [(number, row) for row in good if (number := row.value(of, name)) is not None] for name in names
        }
        known = [name for name in names if values[name]]
        if not known:
            continue
        found = sorted(values[known[-1]], key=lambda one: one[0])
        (low, lowest), (high, highest) = found[0], found[-1]
        label, unit = estimates.split(known[-1])
        value = page.short(low) if low == high else f"{page.short(low)} to {page.short(high)}"
        detail = lowest.told if low == high else f"lowest at {lowest.told}; highest at {highest.told}"
        yield {"label": f"{of}, {label}", "value": value, "unit": unit, "detail": detail}


def _shared_parameters(comparison: Comparison) -> list[dict[str, Any]]:
    """The parameters with one value in all runs, as the first run that has them tells them."""
    found: dict[str, dict[str, Any]] = {}
    for row in comparison.runs:
        for one in row.facts["parameters"]:
            if one["name"] not in comparison.varied:
                found.setdefault(one["name"], page.parameter(one))
    return list(found.values())


def _conditions(comparison: Comparison) -> tuple[list[tuple[str, str]], list[tuple[str, dict[str, list[str]]]]]:
    """Return the conditions that all finished runs share, and of the others each value with the runs under it."""
    finished = [row for row in comparison.runs if row.state != "unfinished"]
    told = {row.told: dict(page.conditions(row.facts)) for row in finished}
    names = dict.fromkeys(name for one in told.values() for name in one if name not in _NOT_COMPARED)
    shared, differing = [], []
    for name in names:
        values: dict[str, list[str]] = {}
        for label, one in told.items():
            values.setdefault(one.get(name, "not recorded"), []).append(label)
        if len(values) == 1:
            shared.append((name, next(iter(values))))
        else:
            differing.append((name, values))
    return shared, differing


def _csv(comparison: Comparison) -> str:
    """Return the table as the address of a CSV file inside the page."""
    records, text = comparison.records(), io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return "data:text/csv;base64," + base64.b64encode(text.getvalue().encode()).decode("ascii")
