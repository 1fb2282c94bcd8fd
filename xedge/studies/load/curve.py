"""The load curve: what many rates say, in words, as a figure, on a page and in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from xedge.core.exceptions import MeasurementError
from xedge.core.tables import html_table
from xedge.reports.publish import shown_conditions
from xedge.reports.study import Findings, Headline
from xedge.results import storage, words
from xedge.results.measurement import Measurement
from xedge.results.words import level_name, milliseconds, number
from xedge.studies.load.limits import STEADY, Limits

if TYPE_CHECKING:
    from xedge.results.canvas import ReportFigure

USEFUL = 5000  # requests a rate from which on its p99 is worth publishing; for p95 a fifth of them

UNDECIDED = {  # outcome: how it is called, and what follows
    "invalid": ("INVALID", "it decides nothing"),
    "undecided": ("undecided", "more requests a trial would tell"),
}


class LoadCurve(Limits):
    """Placements measured at many rates, searched for the highest that meets a deadline."""

    def conclusion(self) -> str:
        """Return in plain words what may be offered to each placement, where its knee is, and the doubts."""
        sentences = [f"{name[:1].upper()}{name[1:]} {self._meets(name)}{self._knee(name)}." for name in self.placements]
        listed = "; ".join(self.doubts())
        return f"{' '.join(sentences)}\n\n" + (f"Doubts: {listed}." if listed else "No check raised a doubt.")

    def _meets(self, placement: str) -> str:
        if reason := self.undecided(placement):
            return f"is INVALID: not decided at any of {len(self.latest(placement))} rates tried: {reason}"
        limit, what = self.limit(placement), f"{self.deadline_ms:g} ms at {level_name(self.p)}"
        steady, saturated = self.saturation(placement)
        ends = f"; it saturates between {number(steady)} and {number(saturated)}/s" if steady and saturated else ""
        if limit.met_hz is None:
            when = " until the search ended" if self.ended and not limit.resolved else ""
            return f"was not shown to meet {what} at any rate{when} (at {rate(limit.failed_hz)} {limit.reason}){ends}"
        if limit.failed_hz is None:
            return f"meets {what} at {number(limit.met_hz)}/s, the highest rate tried: {limit.reason}"
        words_of = {"saturated": "saturated", "undecided": "not shown to keep pace"}
        word = words_of.get(self.latest(placement)[limit.failed_hz].outcome, "not shown to")
        return f"meets {what} up to {number(limit.met_hz)}/s (at {number(limit.failed_hz)}/s {word}){ends}"

    def _knee(self, placement: str) -> str:
        knee = self.knee(placement)
        if knee is None:
            return ""
        ends = (("above", knee.low_hz), ("below", knee.high_hz))
        within = " and ".join(f"{word} {number(end)}/s" for word, end in ends if end is not None)
        return f"; its knee is near {number(knee.rate_hz)}/s{f' ({within})' if within else ''}"

    def doubts(self) -> list[str]:
        """Return every doubt about the limits in words."""
        early = [f"the search ended early: {self.ended}"] if self.ended else []
        fewest, useful = min(probe.requests for probe in self.probes), USEFUL * 0.01 / (1 - self.p)
        text = f"{words.count(fewest)} requests a rate only; a useful {level_name(self.p)} takes"
        few = [f"{text} {words.count(round(useful))}"] if fewest < useful else []
        return [*early, *few, *(doubt for name in self.placements for doubt in self._doubts_of(name))]

    def _doubts_of(self, placement: str) -> Iterator[str]:
        limit, latest = self.limit(placement), self.latest(placement)
        for outcome, label in UNDECIDED.items():
            if probes := [probe for probe in latest.values() if probe.outcome == outcome]:
                rates = ", ".join(number(probe.offered_hz) for probe in probes)
                first = f"at {number(probes[0].offered_hz)}/s: " if len(probes) > 1 else ""
                yield f"{placement} at {rates}/s: {label[0]} ({first}{probes[0].reason}); {label[1]}"
        if limit.met_hz and limit.failed_hz and not limit.resolved:
            yield f"{placement}: met and failed rate are further apart than {100 * self.resolution:g} %"
        failed_hz = limit.failed_hz or float("inf")
        if above := [number(hz) for hz, probe in latest.items() if probe.outcome == "met" and hz > failed_hz]:
            yield f"{placement} failed at {number(failed_hz)}/s but met the deadline at {', '.join(above)}/s"
        if limit.met_hz:
            own = (doubt for doubt in latest[limit.met_hz].measurement.checks() if doubt.placement == placement)
            yield from (f"{doubt} (at {number(limit.met_hz)}/s)" for doubt in own)

    def listing(self) -> pd.DataFrame:
        """Return every probe as people read it, indexed by placement and rate."""
        rows = []
        for probe in sorted(self.probes, key=lambda probe: (self.placements.index(probe.placement), probe.rate_hz)):
            steady = probe.outcome in STEADY
            latencies = [milliseconds(e, None, "") if steady else "–" for e in (probe.p50, probe.tail)]
            rates = [number(hz) for hz in (probe.rate_hz, probe.offered_hz, probe.answered_hz)]
            requests = words.count(probe.requests)
            rows.append([probe.placement, *rates, requests, *latencies, probe.outcome])
        heads = [
            "placement",
            "asked, /s",
            "offered, /s",
            "answered, /s",
            "requests",
            "p50, ms",
            f"{level_name(self.p)}, ms",
        ]
        return pd.DataFrame(rows, columns=[*heads, "outcome"]).set_index(heads[:2])

    def _summary(self) -> pd.DataFrame:
        rows = []
        for name in self.placements:
            limit, knee, (steady, saturated) = self.limit(name), self.knee(name), self.saturation(name)
            lightest = next((probe for probe in self.latest(name).values() if probe.outcome in STEADY), None)
            ends = (knee.low_hz, knee.high_hz) if knee else (None, None)
            rows.append(
                {
                    "placement": name,
                    f"highest rate with {level_name(self.p)} ≤ {self.deadline_ms:g} ms": rate(limit.met_hz),
                    "not shown at": rate(limit.failed_hz),
                    "knee": rate(knee.rate_hz if knee else None) + (f" ({_bracket(*ends)})" if any(ends) else ""),
                    "steady up to": rate(steady),
                    "saturated at": rate(saturated),
                    "p50 at least load, ms": milliseconds(lightest.p50, None, "") if lightest else "–",
                }
            )
        return pd.DataFrame(rows)

    def _headline(self, placement: str) -> Headline:
        limit = self.limit(placement)
        label = f"{placement}, highest rate with {level_name(self.p)} ≤ {self.deadline_ms:g} ms"
        failed = f"not shown at {number(limit.failed_hz)}/s" if limit.failed_hz else "the highest tried"
        if reason := self.undecided(placement):
            return Headline(label, "not decided", detail=reason)
        return Headline(label, "none" if limit.met_hz is None else limit.met_hz, "/s", failed)

    def _estimates(self, placement: str) -> dict[str, Any]:
        limit, knee, (steady, saturated) = self.limit(placement), self.knee(placement), self.saturation(placement)
        highest = {"highest_hz": _bracketed(limit.met_hz, limit.met_hz, limit.failed_hz)}
        at_knee = {"knee_hz": _bracketed(knee.rate_hz, knee.low_hz, knee.high_hz)} if knee else {}
        return {**highest, **at_knee, "steady_hz": _bracketed(steady, steady, saturated)}

    def findings(self) -> Findings:
        """Return what a page shows: the highest rate of every placement."""
        return Findings(
            conclusion=self.conclusion(),
            verdict=self.verdict,
            headline=[self._headline(name) for name in self.placements],
            estimates={name: self._estimates(name) for name in self.placements},
            conditions=shown_conditions(self.measurements[0].conditions),
            files={"load": self},
        )

    def plot(self) -> ReportFigure:
        """Return the figure: latency over the rate offered, and the rate answered."""
        from xedge.studies.load.figures import figure

        canvas = figure(self)
        canvas.alt = f"Latency and answers over the rate offered. {self.conclusion()}"
        return canvas

    def save(self, path: str | Path, format: storage.Format | None = None) -> Path:  # noqa: A002
        """Write a folder with all rows (their column `probe` counts the measurements) and all conditions.

        Raises:
            MeasurementError: `path` is there and holds something else.
        """
        rows = [measurement.rows.assign(probe=place) for place, measurement in enumerate(self.measurements)]
        settings = {name: getattr(self, name) for name in ("deadline_ms", "p", "resolution", "ended")}
        conditions = {"load_curve": settings, "probes": [measurement.conditions for measurement in self.measurements]}
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
            raise MeasurementError(f"{path} is not a load curve: if it is a measurement, use Measurement.load")
        tables = {place: table.drop(columns="probe") for place, table in rows.groupby("probe")}
        measurements = (Measurement(tables[place], own) for place, own in enumerate(conditions["probes"]))
        return cls(tuple(measurements), **conditions["load_curve"])

    def __repr__(self) -> str:
        return str(self._summary().to_string(index=False))

    def _repr_html_(self) -> str:
        summary = self._summary()
        doubts = "".join(f"<li>{escape(doubt)}</li>" for doubt in self.doubts())
        listed = f"Doubts:<ul>{doubts}</ul>" if doubts else "No check raised a doubt."
        return f"<div>{html_table(list(summary.columns), summary.to_numpy().tolist())}{listed}</div>"


def rate(rate_hz: float | None) -> str:
    """Return "410/s", "–" for None."""
    return "–" if rate_hz is None else f"{number(rate_hz)}/s"


def _bracket(low: float | None, high: float | None) -> str:
    return " to ".join("…" if end is None else number(end) for end in (low, high))


def _bracketed(value: float | None, low: float | None, high: float | None) -> dict[str, Any]:
    if value is None:
        return {"value": None, "high": high, "text": "none" + (f" (not {number(high)})" if high else "")}
    return {"value": value, "low": low, "high": high, "text": f"{number(value)} ({_bracket(low, high)})"}
