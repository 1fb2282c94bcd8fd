"""Two runs or saved measurements compared: how they were taken, and which numbers differ by more than noise."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xedge.core.exceptions import ConfigurationError, MeasurementError, ReportError
from xedge.reports import conversion, estimates, kept, page, publish
from xedge.results import comparison
from xedge.results.evidence import COMPARED_LEVELS
from xedge.results.measurement import Measurement
from xedge.results.words import level_name

_LEVELS = {f"{level_name(p)}_ms": p for p in COMPARED_LEVELS}
LEAST_PAIRS = 3  # replications in both: of two a paired interval is wider than those of the runs
_WIDE = 60
_OF_THE_RUN = ("run", "started", "duration")


@dataclass(frozen=True)
class Taken:
    """One of the two: what it is called, what was asked, the conditions, its numbers, and the rows behind them."""

    title: str
    parameters: Mapping[str, str]
    conditions: Mapping[str, str]
    estimates: estimates.Estimates
    measurements: Mapping[str, tuple[Measurement, str]]
    """Of what → the measurement that has it, and its placement there."""
    is_run: bool = True

    @classmethod
    def open(cls, place: str | os.PathLike[str]) -> Taken:
        """Return what is at `place`: the folder, run.json or page of a run, or the folder of a saved measurement.

        Of the page or folder above several runs the one on top is meant.

        Raises:
            ConfigurationError: there is nothing of the kind.
        """
        path = Path(place)
        if any((path / name).is_file() for name in ("conditions.json", "plan.json")):
            return cls._of_measurement(path)
        folder = path if path.is_dir() else path.parent
        home = path.with_suffix("") if path.suffix == ".html" and not (path.parent / "run.json").is_file() else folder
        run = kept.latest(home) if not (folder / "run.json").is_file() or home != folder else kept.Run.read(folder)
        if run is None or not path.exists():
            raise ConfigurationError(
                f"{place} is neither a run nor a measurement: give a folder with run.json (`xedge runs` lists them), "
                "the page of a run, or a folder that a measurement was saved in"
            )
        return cls._of_run(run)

    @classmethod
    def _of_run(cls, run: kept.Run) -> Taken:
        facts = run.record
        recorded = (facts.get("estimates") or {}) if run.ok else {}
        parameters = {row["name"]: conversion.as_text(row["value"]) for row in facts["parameters"]}
        conditions = {name: text for name, text in page.conditions(facts) if name not in _OF_THE_RUN}
        taken: dict[str, list[tuple[Measurement, str]]] = {}
        for label, measurement in _saved(run.folder):
            for placement in measurement.placements:
                for of in (f"{label}: {placement}", placement):
                    if of in recorded:
                        taken.setdefault(of, []).append((measurement, placement))
        known = {of: own[0] for of, own in taken.items() if len(own) == 1}
        return cls(f"{run.notebook.stem} {run.folder.name} ({run.state})", parameters, conditions, recorded, known)

    @classmethod
    def _of_measurement(cls, folder: Path) -> Taken:
        measurement = Measurement.load(folder)
        findings = publish.findings(measurement)
        asked = dict(page.flat(measurement.conditions.get("scenario") or {}))
        conditions = dict(page.flat(publish.shown_conditions(measurement.conditions)))
        known = {placement: (measurement, placement) for placement in measurement.placements}
        title = f"measurement {folder} ({measurement.verdict.word})"
        return cls(title, asked, conditions, estimates.checked(findings.estimates), known, is_run=False)


def _saved(folder: Path) -> Iterator[tuple[str, Measurement]]:
    for path in sorted(folder.rglob("conditions.json")):
        try:
            if isinstance(json.loads(path.read_text(encoding="utf-8")), dict):
                yield path.parent.name, Measurement.load(path.parent)
        except (MeasurementError, KeyError, TypeError, ValueError):
            continue  # rows of another study


@dataclass(frozen=True)
class Difference:
    """How much higher a number is in b than in a, with the ends of its interval, or why that is not known."""

    of: str
    name: str
    a: str
    b: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    note: str = ""

    @property
    def shown(self) -> bool | None:
        """Whether it is more than noise: the interval does not reach zero; None without an interval."""
        if self.low is None or self.high is None:
            return None
        return not self.low <= 0 <= self.high

    def __str__(self) -> str:
        label, unit = estimates.split(self.name)
        if self.value is None:
            return f"{self.of}, {label}: {self.a} and {self.b}: {self.note}"
        if self.value == 0:
            return f"{self.of}, {label}: {self.a} {unit}".rstrip() + " in both"
        figure, interval = estimates.parts(abs(self.value), *self._ends())
        amount = f"{figure} ({interval}) {unit}".rstrip() if interval else f"{figure} {unit}".rstrip()
        which = "higher" if self.value > 0 else "lower"
        words = {
            True: f"more than noise: {amount} {which} in B",
            False: f"no difference is shown: {amount} {which} in B",
            None: f"{amount} {which} in B; {self.note or 'without intervals nobody knows whether that is noise'}",
        }[self.shown]
        return f"{self.of}, {label}: {self.a} and {self.b} {unit}".rstrip() + f": {words}"

    def _ends(self) -> tuple[float | None, float | None]:
        if self.low is None or self.high is None or self.value is None:
            return None, None
        return (self.low, self.high) if self.value >= 0 else (-self.high, -self.low)


@dataclass(frozen=True)
class Compared:
    """Two runs compared; printed, it says so in words. `a` and `b` are what they are called."""

    a: str
    b: str
    asked: Mapping[str, tuple[str, str]]
    conditions: Mapping[str, tuple[str, str]]
    numbers: list[Difference]
    only: Mapping[str, list[str]]

    def __str__(self) -> str:
        lines = [f"A: {self.a}", f"B: {self.b}", ""]
        for title, pairs in (("asked for", self.asked), ("conditions", self.conditions)):
            lines.append(f"{title}, A and B: " + ("the same" if not pairs else ""))
            for name, (a, b) in pairs.items():
                wide = len(a) + len(b) > _WIDE
                lines += [f"  {name}:", f"    A: {a}", f"    B: {b}"] if wide else [f"  {name}: {a} and {b}"]
        shown = [number for number in self.numbers if number.shown]
        lines += ["", f"numbers: {len(shown)} of {len(self.numbers)} differ by more than noise"]
        lines += [f"  {number}" for number in sorted(self.numbers, key=lambda number: not number.shown)]
        lines += [f"  only in {which}: {', '.join(names)}" for which, names in self.only.items() if names]
        if len(self.numbers) > 1:
            lines.append("Intervals of 95 %: of twenty numbers that are alike, one differs so by chance.")
        lines.append("What changed on the machine between the two is in no interval: run both again, by turns, to see.")
        return "\n".join(line.rstrip() for line in lines)


def compare(a: str | os.PathLike[str], b: str | os.PathLike[str]) -> Compared:
    """Compare two runs or measurements, each given as `Taken.open` takes it.

    Where both have saved rows, percentiles are compared replication by replication, else by their intervals.

    Raises:
        ConfigurationError: one of them is neither a run nor a measurement.
    """
    try:
        one, other = Taken.open(a), Taken.open(b)
    except (ReportError, MeasurementError) as exc:
        raise ConfigurationError(str(exc)) from exc
    names = {of: {name for name in own if name in other.estimates.get(of, {})} for of, own in one.estimates.items()}
    alike = one.is_run == other.is_run
    pairs = [(of, name) for of, own in one.estimates.items() for name in own if name in names[of]]
    return Compared(
        one.title,
        other.title,
        _differing(one.parameters, other.parameters, alike),
        _differing(one.conditions, other.conditions, alike),
        [_difference(one, other, of, name) for of, name in pairs],
        {which: _missing(x, y) for which, x, y in (("A", one, other), ("B", other, one))},
    )


def _differing(a: Mapping[str, str], b: Mapping[str, str], alike: bool) -> dict[str, tuple[str, str]]:
    """Return what differs; of a run and a measurement, which are not `alike`, only what both have."""
    both = {name: (a.get(name, "–"), b.get(name, "–")) for name in [*a, *b] if alike or (name in a and name in b)}
    return {name: values for name, values in both.items() if values[0] != values[1]}


def _missing(a: Taken, b: Taken) -> list[str]:
    return [f"{of}, {name}" for of, own in a.estimates.items() for name in own if name not in b.estimates.get(of, {})]


def _difference(first: Taken, second: Taken, of: str, name: str) -> Difference:
    a, b = first.estimates[of][name], second.estimates[of][name]
    words = of, name, str(a.get("text")), str(b.get("text"))
    if a["value"] is None or b["value"] is None:
        return Difference(*words, note="cannot be compared")
    if name in _LEVELS and of in first.measurements and of in second.measurements:
        rows_a, rows_b = (m.evidence[place] for m, place in (first.measurements[of], second.measurements[of]))
        if len(rows_a.latencies.keys() & rows_b.latencies.keys()) >= LEAST_PAIRS:
            paired = comparison.difference(rows_a, rows_b, _LEVELS[name])
            if paired.value is not None and math.isfinite(paired.value) and paired.low is not None:
                return Difference(*words, paired.value, paired.low, paired.high)
    return Difference(*words, b["value"] - a["value"], *independent(a, b))


def independent(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Return the ends of the interval of b − a from the intervals of two independent estimates, which may be lopsided.

    Zou and Donner (Statistics in Medicine 27, 2008): the distances to the ends that face each other add up in squares.

    >>> independent({"value": 10, "low": 7, "high": 13}, {"value": 20, "low": 16, "high": 24})
    (5.0, 15.0)
    """
    if any(of.get(end) is None for of in (a, b) for end in ("low", "high")):
        return None, None
    difference = b["value"] - a["value"]
    down = math.hypot(b["value"] - b["low"], a["high"] - a["value"])
    up = math.hypot(b["high"] - b["value"], a["value"] - a["low"])
    return difference - down, difference + up
