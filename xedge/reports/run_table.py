"""The runs of a folder as rows, read from their run.json files: what the index and its figures are made of."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from xedge.core import files
from xedge.core.exceptions import ConfigurationError
from xedge.reports import kept
from xedge.reports.estimates import Estimates
from xedge.reports.kept import GOOD as GOOD
from xedge.reports.kept import Run

PLAN = "sweep.json"
_LEVEL = re.compile(r"p[0-9.]+_\w+")


def values_of(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of all parameters of the run whose run.json says `facts`."""
    return {row["name"]: row["value"] for row in facts["parameters"]}


def standing(runs: Sequence[Run], sha256: str, values: Mapping[str, Any], since: str = "") -> Run | None:
    """Return the run that stands for these values of a notebook: the latest of those that came out best.

    Runs that started before `since` do not count.
    """
    fitting = [run for run in runs if run.record.get("notebook_sha256") == sha256 and values_of(run.record) == values]
    young = [run for run in fitting if run.record["started_at"] >= since]
    most = max(((run.good, run.ok) for run in young), default=None)
    return next((run for run in reversed(young) if (run.good, run.ok) == most), None)


@dataclass(frozen=True)
class Row:
    """One run, or one that is planned and not there: how it is called, its parameters, and what its run.json says."""

    label: str
    parameters: dict[str, Any]
    run: Run | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """Return what run.json says, {} without a run."""
        return self.run.record if self.run is not None else {}

    @property
    def state(self) -> str:
        """Return the verdict of a completed run, else "completed", "failed", "interrupted", "unfinished", "missing"."""
        return kept.state(self.facts)

    @property
    def estimates(self) -> Estimates:
        """Return the numbers recorded, none of a run that did not complete."""
        return (self.facts.get("estimates") or {}) if self.facts.get("status") == "completed" else {}

    @property
    def distributions(self) -> dict[str, Any]:
        """Return what of → the curve of its distribution, none of a run that did not complete."""
        return (self.facts.get("distributions") or {}) if self.facts.get("status") == "completed" else {}

    def number(self, of: str, name: str) -> dict[str, Any]:
        """Return one number recorded, with its ends and its text, {} if there is none."""
        return self.estimates.get(of, {}).get(name, {})

    def value(self, of: str, name: str) -> Any:
        """Return one number recorded as such, None if there is none."""
        return self.number(of, name).get("value")

    @property
    def title(self) -> str:
        """Return how the run is called, with room between its parameters."""
        return self.label.replace(",", ", ")

    @property
    def headline(self) -> list[str]:
        """Return what the run's page begins with, each as a text."""
        return self.run.headline if self.run is not None else []

    @property
    def error(self) -> str:
        """Return the first line of the error that ended the run."""
        return self.run.failure if self.run is not None else ""


@dataclass(frozen=True)
class RunTable:
    """The runs in a folder: those of its sweep in the order planned, else all that there are in the order started."""

    folder: Path
    plan: dict[str, Any]
    rows: list[Row]

    @classmethod
    def read(cls, folder: Path) -> RunTable:
        """Read the runs in `folder` and the folders in it.

        Raises:
            ConfigurationError: there are none.
        """
        plan, runs = files.read_json(folder / PLAN), kept.below(folder)
        if planned := plan.get("runs", []):
            sha256 = plan["notebook_sha256"]
            standings = [standing(runs, sha256, cell["parameters"], cell.get("since", "")) for cell in planned]
            rows = [Row(cell["label"], cell["parameters"], run) for cell, run in zip(planned, standings, strict=True)]
            return cls(folder, plan, rows)
        if not runs:
            raise ConfigurationError(f"no runs in {folder}: it has no folder with a run.json, as `xedge report` writes")
        return cls(folder, {}, _rows(folder, runs))

    def by_notebook(self) -> dict[str, RunTable]:
        """Return name of the notebook → its runs."""
        groups: dict[str, list[Row]] = {}
        for row in self.rows:
            groups.setdefault(row.run.notebook.stem if row.run else "", []).append(row)
        return {name: RunTable(self.folder, {}, rows) for name, rows in groups.items()}

    @cached_property
    def runs(self) -> list[Row]:
        """The rows that have a run, finished or not."""
        return [row for row in self.rows if row.run is not None]

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
        names: dict[str, dict[str, None]] = {}
        for of, numbers in (item for row in self.rows for item in row.estimates.items()):
            names.setdefault(of, {}).update(dict.fromkeys(numbers))
        return {of: list(known) for of, known in names.items()}

    @cached_property
    def shown(self) -> dict[str, list[str]]:
        """What of → the numbers for the table: of the percentiles the lowest and the highest; all are in the CSV."""
        inner = {of: [name for name in names if _LEVEL.fullmatch(name)][1:-1] for of, names in self.columns.items()}
        return {of: [name for name in names if name not in inner[of]] for of, names in self.columns.items()}

    def records(self) -> list[dict[str, Any]]:
        """Return one mapping a row: label, parameters that differ, state, duration, and the numbers with their ends."""
        records = []
        for row in self.rows:
            record: dict[str, Any] = {"run": row.label, **{name: row.parameters.get(name) for name in self.varied}}
            record |= {"state": row.state, "duration_s": row.facts.get("duration_s")}
            for of, name in ((of, name) for of, names in self.columns.items() for name in names):
                number = row.number(of, name)
                for suffix, key in (("", "value"), ("_low", "low"), ("_high", "high")):
                    record[f"{of} {name}{suffix}"] = number.get(key)
            records.append(record)
        return records


def _rows(folder: Path, runs: Sequence[Run]) -> list[Row]:
    """Return the runs as rows, called by their folders' names, by longer ones where two have one name."""
    names = Counter(run.folder.name for run in runs)
    return [
        Row(
            run.folder.name if names[run.folder.name] == 1 else str(run.folder.relative_to(folder)),
            values_of(run.record),
            run,
        )
        for run in runs
    ]
