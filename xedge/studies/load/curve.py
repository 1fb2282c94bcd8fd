"""Latency over load: measurements at many rates, which rate still meets a deadline, the knee, and saturation."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from xedge.core.exceptions import MeasurementError
from xedge.results import storage, words
from xedge.results.measurement import Measurement
from xedge.results.words import level_name, milliseconds, number
from xedge.studies.load.probe import Probe, has_less_power, judge
from xedge.studies.load.search import bracket, edge

if TYPE_CHECKING:
    from xedge.results.figures import ReportFigure

USEFUL = 5000  # requests a rate from which on its p99 is worth publishing; for p95 a fifth of them


@dataclass(frozen=True)
class Limit:
    """The highest rate of a placement that was shown to meet the deadline, and the next one tried, which was not.

    `met_hz` is None if no rate met it, `failed_hz` if none failed; `resolved` says whether the two are as close as
    asked for, or it is known that there is nothing to find.
    """

    arm: str
    met_hz: float | None
    failed_hz: float | None
    resolved: bool
    reason: str


@dataclass(frozen=True)
class Knee:
    """The rate with the greatest power, and the nearest rates on both sides that were shown to have less.

    `low_hz` or `high_hz` is None where none was shown.
    """

    arm: str
    rate_hz: float
    low_hz: float | None
    high_hz: float | None


@dataclass(frozen=True, eq=False, repr=False)
class LoadCurve:
    """Placements measured at many rates, searched for the highest that meets a deadline.

    Args:
        measurements: one a rate, in the order taken.
        deadline_ms: what the latency at level `p` may be at most.
        p: the level, 0.99 for p99.
        resolution: how close met and missed rate were to come, 0.05 is 5 %.
        ended: why the search ended before all was found; empty when it was found.
    """

    measurements: tuple[Measurement, ...]
    deadline_ms: float
    p: float
    resolution: float
    ended: str = ""

    def __post_init__(self) -> None:
        if not self.measurements:
            raise MeasurementError("a load curve without a measurement: measure at least one rate")

    @cached_property
    def arms(self) -> list[str]:
        """The placements, in the order of the scenario."""
        return list(self.measurements[0].conditions["scenario"]["placements"])

    @cached_property
    def probes(self) -> tuple[Probe, ...]:
        """Every placement at every rate it was measured at, in the order taken."""
        taken = [(one, arm) for one in self.measurements for arm in one.placements]
        return tuple(judge(one, arm, self.deadline_ms, self.p) for one, arm in taken)

    def latest(self, arm: str) -> dict[float, Probe]:
        """Return rate -> the last probe there, by ascending rate: a rate tried twice counts as the second time."""
        found = {probe.rate_hz: probe for probe in self.probes if probe.arm == arm}
        if not found:
            raise MeasurementError(f"no placement {arm!r} in this load curve: it has {', '.join(self.arms)}")
        return dict(sorted(found.items()))

    def limit(self, arm: str) -> Limit:
        """Return the highest rate that meets the deadline, with the bracket it rests on."""
        probes = self.latest(arm)
        met_hz, failed_hz = bracket({rate: probe.outcome for rate, probe in probes.items()})
        fastest = next((probe for probe in probes.values() if probe.hopeless), None)
        if met_hz is None and fastest is not None:
            reason = f"even the fastest answer took {fastest.fastest_ms:.3g} ms"
            return Limit(arm, None, failed_hz, True, reason)
        if failed_hz is not None:
            close = met_hz is not None and failed_hz <= met_hz * (1 + self.resolution) * 1.001
            return Limit(arm, met_hz, failed_hz, close, probes[failed_hz].reason)
        undecided = "" if met_hz else next(iter(probes.values())).reason
        return Limit(arm, met_hz, None, False, undecided or self.ended or "no rate tried failed")

    def knee(self, arm: str) -> Knee | None:
        """Return the rate with the greatest power; None without a steady state.

        Power is throughput over mean latency (A. Giessler et al., Computer Networks 2, 1978, 191-208). Where it is
        greatest, one percent more load costs one percent more latency; more costs ever more (L. Kleinrock, Power and
        deterministic rules of thumb for probabilistic problems in computer communications, ICC 1979, 43.1). M/M/1 has
        its knee at a utilisation of 0.5, M/D/1 at 2 - sqrt(2) = 0.59. The power is flat there, so the bracket is
        wide: its ends are the nearest rates whose power is lower in a paired comparison of the replications (95 %).
        """
        probes = {rate: probe for rate, probe in self.latest(arm).items() if probe.outcome != "invalid"}
        steady = {rate: probe for rate, probe in probes.items() if probe.outcome != "saturated"}
        if not steady:
            return None
        best = max(steady, key=lambda rate: float(np.mean(steady[rate].power)))
        lower = [r for r, one in probes.items() if one.outcome == "saturated" or has_less_power(one, probes[best])]
        below, above = [rate for rate in lower if rate < best], [rate for rate in lower if rate > best]
        return Knee(arm, best, max(below, default=None), min(above, default=None))

    def saturation(self, arm: str) -> tuple[float | None, float | None]:
        """Return the highest rate with a steady state and the lowest saturated one, in Hz."""
        return edge({rate: probe.outcome for rate, probe in self.latest(arm).items()})

    @property
    def verdict(self) -> str:
        """INVALID when nothing valid could be measured of a placement; a saturated rate is a result here."""
        undecided = [arm for arm in self.arms if all(one.outcome == "invalid" for one in self.latest(arm).values())]
        return "INVALID" if undecided else "VALID"

    def table(self) -> pd.DataFrame:
        """Return one row a probe: rates in Hz, p50 and the deadline's level in ms with intervals, outcome, reason.

        Saturated and invalid probes have no percentiles (NaN).
        """
        rows = []
        for probe in sorted(self.probes, key=lambda one: (self.arms.index(one.arm), one.rate_hz)):
            row: dict[str, Any] = {"placement": probe.arm, "rate_hz": probe.rate_hz, "answered_hz": probe.answered_hz}
            steady = probe.outcome in ("met", "missed")
            for name, estimate in (("p50", probe.p50), (level_name(self.p), probe.tail)):
                for suffix, value in (("", estimate.value), ("_low", estimate.low), ("_high", estimate.high)):
                    row[f"{name}_ms{suffix}"] = value if steady and value is not None else math.nan
            rows.append(row | {"requests": probe.requests, "outcome": probe.outcome, "reason": probe.reason})
        return pd.DataFrame(rows)

    def listing(self) -> pd.DataFrame:
        """Return `table()` as people read it, indexed by placement and rate."""
        rows = []
        for probe in sorted(self.probes, key=lambda one: (self.arms.index(one.arm), one.rate_hz)):
            steady = probe.outcome in ("met", "missed")
            told = [milliseconds(one, None, "") if steady else "–" for one in (probe.p50, probe.tail)]
            requests = words.count(probe.requests)
            rows.append([probe.arm, number(probe.rate_hz), number(probe.answered_hz), requests, *told, probe.outcome])
        heads = ["placement", "offered, /s", "answered, /s", "requests", "p50, ms", f"{level_name(self.p)}, ms"]
        return pd.DataFrame(rows, columns=[*heads, "outcome"]).set_index(heads[:2])

    def doubts(self) -> list[str]:
        """Return every doubt about the limits in words."""
        return [*self._undecided(), *self._contradicted(), *self._few(), *self._of_limits()]

    def _undecided(self) -> list[str]:
        found = [f"the search ended early: {self.ended}"] if self.ended else []
        for arm in self.arms:
            wasted = [probe for probe in self.latest(arm).values() if probe.outcome == "invalid"]
            if wasted:
                rates, why = ", ".join(number(probe.rate_hz) for probe in wasted), wasted[0].reason
                found.append(f"{arm} at {rates}/s: INVALID ({why}); it decides nothing")
            if not (limit := self.limit(arm)).resolved and limit.met_hz and limit.failed_hz:
                found.append(f"{arm}: met and failed rate are further apart than {100 * self.resolution:g} %")
        return found

    def _contradicted(self) -> list[str]:
        found = []
        for arm in self.arms:
            probes, failed = self.latest(arm), self.limit(arm).failed_hz
            above = [rate for rate, one in probes.items() if one.outcome == "met" and failed and rate > failed]
            if above:
                rates = ", ".join(map(number, above))
                found.append(f"{arm} failed at {number(failed or 0)}/s but met the deadline at {rates}/s")
        return found

    def _few(self) -> list[str]:
        fewest = min(probe.requests for probe in self.probes)
        useful = USEFUL * 0.01 / (1 - self.p)
        text = f"{words.count(fewest)} requests a rate only; a useful {level_name(self.p)} takes"
        return [f"{text} {words.count(round(useful))}"] if fewest < useful else []

    def _of_limits(self) -> list[str]:
        """What the measurement at the highest rate that met the deadline says of itself, one replication apart."""
        found = []
        for arm in self.arms:
            met_hz = self.limit(arm).met_hz
            at = [one for one in self.measurements if arm in one.placements and _rate(one) == met_hz][-1:]
            own = [doubt for one in at for doubt in one.checks() if doubt.placement == arm]
            found += [f"{doubt} (at {number(met_hz or 0)}/s)" for doubt in own]
        return found

    def conclusion(self) -> str:
        """Return in plain words what may be offered to each placement, where its knee is, and the doubts."""
        found = [f"{_capital(arm)} {self._meets(arm)}{self._knee_in_words(arm)}." for arm in self.arms]
        doubts = self.doubts()
        told = f"Doubts: {'; '.join(doubts)}." if doubts else "No check raised a doubt."
        return f"{' '.join(found)}\n\n{told}"

    def _meets(self, arm: str) -> str:
        limit, what = self.limit(arm), f"{self.deadline_ms:g} ms at {level_name(self.p)}"
        steady, stuck = self.saturation(arm)
        ends = f"; it saturates between {number(steady)} and {number(stuck)}/s" if steady and stuck else ""
        if limit.met_hz is None and limit.failed_hz is None:
            return f"could not be judged: {limit.reason}"
        if limit.met_hz is None:
            when = " until the search ended" if self.ended and not limit.resolved else ""
            return f"was not shown to meet {what} at any rate{when} (at {_rated(limit.failed_hz)} {limit.reason}){ends}"
        if limit.failed_hz is None:
            return f"meets {what} at {number(limit.met_hz)}/s, the highest rate tried: {limit.reason}"
        word = "saturated" if limit.failed_hz == stuck else "not shown to"
        return f"meets {what} up to {number(limit.met_hz)}/s (at {number(limit.failed_hz)}/s {word}){ends}"

    def _knee_in_words(self, arm: str) -> str:
        knee = self.knee(arm)
        if knee is None:
            return ""
        ends = (("above", knee.low_hz), ("below", knee.high_hz))
        within = " and ".join(f"{word} {number(rate)}/s" for word, rate in ends if rate is not None)
        return f"; its knee is near {number(knee.rate_hz)}/s{f' ({within})' if within else ''}"

    def plot(self) -> ReportFigure:
        """Return the figure: latency over the rate offered, and the rate answered."""
        from xedge.studies.load.figures import figure

        return figure(self)

    def save(self, path: str | Path, format: storage.Format | None = None) -> Path:  # noqa: A002
        """Write a folder with all rows (their column `probe` counts the measurements) and all conditions.

        Raises:
            MeasurementError: `path` is there and holds something else.
        """
        rows = [one.rows.assign(probe=number) for number, one in enumerate(self.measurements)]
        settings = {name: getattr(self, name) for name in ("deadline_ms", "p", "resolution", "ended")}
        conditions = {"load_curve": settings, "probes": [one.conditions for one in self.measurements]}
        verdict = {"verdict": self.verdict, "reasons": self.doubts()}
        return storage.write(Path(path), pd.concat(rows, ignore_index=True), conditions, verdict, format)

    @classmethod
    def load(cls, path: str | Path) -> LoadCurve:
        """Read the folder that `save` wrote.

        Raises:
            MeasurementError: the folder holds no load curve.
        """
        rows, conditions = storage.read(Path(path))
        if "load_curve" not in conditions:
            raise MeasurementError(f"{path} is no load curve; if it is a measurement, use Measurement.load")
        tables = {number: table.drop(columns="probe") for number, table in rows.groupby("probe")}
        taken = [Measurement(tables[number], one) for number, one in enumerate(conditions["probes"])]
        return cls(tuple(taken), **conditions["load_curve"])

    def __repr__(self) -> str:
        return str(self._summary().to_string(index=False))

    def _summary(self) -> pd.DataFrame:
        rows = []
        for arm in self.arms:
            limit, knee, (steady, stuck) = self.limit(arm), self.knee(arm), self.saturation(arm)
            lightest = next((one for one in self.latest(arm).values() if one.outcome in ("met", "missed")), None)
            rows.append(
                {
                    "placement": arm,
                    f"highest rate with {level_name(self.p)} ≤ {self.deadline_ms:g} ms": _rated(limit.met_hz),
                    "not shown at": _rated(limit.failed_hz),
                    "knee": _rated(knee.rate_hz if knee else None) + _between(knee),
                    "steady up to": _rated(steady),
                    "saturated at": _rated(stuck),
                    "p50 at least load, ms": milliseconds(lightest.p50, None, "") if lightest else "–",
                }
            )
        return pd.DataFrame(rows)

    def _repr_html_(self) -> str:
        table = self._summary()
        head = "".join(f"<th>{html.escape(name)}</th>" for name in table.columns)
        lines = [[html.escape(str(cell)) for cell in row] for row in table.itertuples(index=False)]
        body = "".join(f"<tr><th>{row[0]}</th><td>{'</td><td>'.join(row[1:])}</td></tr>" for row in lines)
        doubts = "".join(f"<li>{html.escape(doubt)}</li>" for doubt in self.doubts())
        listed = f"Doubts:<ul>{doubts}</ul>" if doubts else "No check raised a doubt."
        return f"<div><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{listed}</div>"


def _rate(measurement: Measurement) -> float:
    return float(measurement.conditions["scenario"]["workload"]["rate_hz"])


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _rated(rate_hz: float | None) -> str:
    return "–" if rate_hz is None else f"{number(rate_hz)}/s"


def _between(knee: Knee | None) -> str:
    if knee is None or (knee.low_hz is None and knee.high_hz is None):
        return ""
    low, high = ("…" if rate is None else number(rate) for rate in (knee.low_hz, knee.high_hz))
    return f" ({low} to {high})"
