"""The runs of a folder as rows, read from their run.json files: what the index and its figures are made of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from xedge.core import files
from xedge.core.exceptions import ConfigurationError
from xedge.reports.estimates import Estimates

PLAN = "sweep.json"
OUTDATED = "outdated"
"""The status that a sweep gives a completed run which it is going to repeat."""

GOOD = ("VALID", "completed")
_LEVEL = re.compile(r"p[0-9.]+_\w+")


def values_of(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of all parameters of the run whose run.json says `facts`."""
    return {row["name"]: row["value"] for row in facts["parameters"]}


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
        status = str(self.facts.get("status", "missing"))
        return {"completed": self.facts.get("verdict") or status, "running": "unfinished"}.get(status, status)

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
    def error(self) -> str:
        """Return the first line of the error that ended the run."""
        error = self.facts.get("error") or {}
        return f"{error['type']}: {error['message']}".splitlines()[0] if error else ""


@dataclass(frozen=True)
class RunTable:
    """The runs in a folder: those of its sweep in the order planned, else all that there are in the order started."""

    folder: Path
    plan: dict[str, Any]
    rows: list[Row]

    @classmethod
    def read(cls, folder: Path) -> RunTable:
        """Read the runs in `folder`.

        Raises:
            ConfigurationError: there are none.
        """
        plan = files.read_json(folder / PLAN)
        planned = [Row(cell["name"], cell["label"], cell["parameters"], {}) for cell in plan.get("runs", [])]
        if not planned:
            planned = [Row(path.parent.name, path.parent.name, {}, {}) for path in folder.glob("*/run.json")]
        rows = []
        for row in planned:
            facts = files.read_json(folder / row.name / "run.json")
            whole = {"status", "notebook", "parameters", "command"} <= facts.keys()  # else it is not a run's
            if whole and facts["status"] != OUTDATED:
                row = replace(row, parameters=row.parameters or values_of(facts), facts=facts)
            rows.append(row)
        if not rows:
            raise ConfigurationError(f"no runs in {folder}: it has no folder with a run.json, as `xedge report` writes")
        if not plan:
            rows.sort(key=lambda row: str(row.facts.get("started_at")))
        return cls(folder, plan, rows)

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
