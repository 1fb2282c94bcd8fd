"""Where the cloud begins to win: gains measured at several utilisations, their crossing of zero, and theory's."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from xedge.core.exceptions import ConfigurationError
from xedge.core.tables import html_table
from xedge.reports.study import Findings, Headline
from xedge.results.measurement import Measurement
from xedge.results.statistics import Estimate, mean_estimate, paired_difference
from xedge.results.words import milliseconds
from xedge.scenario.link import Link
from xedge.scenario.placements import Cloud, Edge
from xedge.scenario.service_times import Exponential
from xedge.studies.points import by_name, estimate, measure_points, reasons, with_interval
from xedge.studies.queueing import MMc, inversion_utilisation

STATISTICS = {"mean": None, "p95": 0.95, "p99": 0.99}
PLACEMENTS = ("edge", "cloud")
SATURATED = Estimate(None, None, None, 0, 0, "saturated: no steady state", needed=0)


@dataclass(frozen=True)
class Threshold:
    """The utilisation from which on the cloud wins."""

    statistic: str
    measured: Estimate  # -inf or inf where it lies below or above all that are decided
    theory: float | None  # None where the cloud never wins
    decided: Sequence[float]  # the utilisations at which there is a gain

    @property
    def ends(self) -> tuple[float, float] | None:
        """The ends of the interval, −inf and inf beyond the points; None where nothing is decided."""
        low, high = self.measured.low, self.measured.high
        if self.measured.value is None or low is None or high is None or (low, high) == (-math.inf, math.inf):
            return None
        return low, high

    @property
    def value(self) -> str:
        """The measured one in words, never more than its interval says: "0.41", "below 0.23", "not decided"."""
        if self.ends is None:
            return "not decided"
        low, high = self.ends
        if low == -math.inf:
            return f"below {self.decided[0]:g}" if high == -math.inf else f"below {high:.2f}"
        if high == math.inf:
            return f"above {self.decided[-1]:g}" if low == math.inf else f"above {low:.2f}"
        return f"{self.measured.value:.2f}"

    @property
    def interval(self) -> str:
        """Its interval in words: "0.35 to 0.48"; empty where it has one end only, which `value` says."""
        known = self.ends is not None and all(map(math.isfinite, self.ends)) and self.ends[0] < self.ends[1]
        return f"{self.ends[0]:.2f} to {self.ends[1]:.2f}" if self.ends and known else ""

    @property
    def in_theory(self) -> str:
        """The theoretical one in words."""
        return "never" if self.theory is None else f"{self.theory:.2f}"

    def __str__(self) -> str:
        theory = "never by theory" if self.theory is None else f"from utilisation {self.theory:.2f} on by theory"
        if self.measured.value is None:
            return f"{self.statistic}: not decided as measured (too few answers, or saturated), {theory}"
        if self.ends is None:
            points = f"{self.decided[0]:g} to {self.decided[-1]:g}"
            return f"{self.statistic}: not decided as measured (from {points} chance could turn every gain), {theory}"
        low, high = self.ends
        where = f"from {self.value} on"
        if low == -math.inf:
            where = f"already {self.value}" if high == -math.inf else f"from somewhere {self.value} on"
        elif high == math.inf:
            where = (
                f"not up to {self.decided[-1]:g}" if low == math.inf else f"from somewhere {self.value} on, if at all,"
            )
        interval = f" (95 % interval {self.interval})" if self.interval else ""
        return f"{self.statistic}: the cloud wins {where} as measured{interval}, {theory}{self._agreement}"

    @property
    def _agreement(self) -> str:
        """Whether theory is in the interval; beyond the points the interval has no end."""
        if self.ends is None:
            return ""
        theory = math.inf if self.theory is None else self.theory
        inside = min(self.ends[0], self.decided[-1]) <= theory <= max(self.ends[1], self.decided[0])
        return ", which agrees" if inside else ", which is outside the interval"

    def recorded(self) -> dict[str, Any]:
        """Return the measured one as `report.record` takes it."""
        text = self.value + (f" ({self.interval})" if self.interval else "")
        value = None if self.ends is None else self.measured.value
        return {"value": value, "low": self.measured.low, "high": self.measured.high, "text": text}


@dataclass(frozen=True)
class Inversion:
    """Edge boxes and a pooled cloud measured at several utilisations.

    `measurements` maps utilisation → measurement of the placements `edge` and `cloud`.
    """

    boxes: int
    mean_service_ms: float
    extra_rtt_ms: float
    measurements: dict[float, Measurement]

    def theory_ms(self, placement: str, utilisation: float, statistic: str) -> float:
        """Return what queueing theory says of a placement's latency; the noise floor is not in it."""
        servers = 1 if placement == "edge" else self.boxes
        rate_hz = 1e3 * utilisation * servers / self.mean_service_ms
        queue = MMc(rate_hz=rate_hz, mean_service_ms=self.mean_service_ms, servers=servers)
        return (0.0 if placement == "edge" else self.extra_rtt_ms) + queue.level_ms(STATISTICS[statistic])

    def measured_ms(self, placement: str, utilisation: float, statistic: str) -> Estimate:
        """Return the measured latency with its interval; no value of a saturated placement."""
        if placement in self.measurements[utilisation].verdict.saturated:
            return SATURATED
        return estimate(self.measurements[utilisation].latencies_ms(placement), STATISTICS[statistic])

    def gain_ms(self, utilisation: float, statistic: str) -> Estimate:
        """Return edge − cloud, paired by replication: above 0 the cloud wins; no value where either is saturated."""
        if self.measurements[utilisation].verdict.saturated:
            return SATURATED
        edge, cloud = (self.measurements[utilisation].latencies_ms(name) for name in PLACEMENTS)
        if (p := STATISTICS[statistic]) is not None:
            return paired_difference(cloud, edge, p)
        means = [(a.mean(), b.mean()) for a, b in zip(edge, cloud, strict=True) if a.size and b.size]
        if any(math.isinf(a) and math.isinf(b) for a, b in means):
            return Estimate(None, None, None, len(means), 0, "both censored")
        return mean_estimate([np.array([a - b]) for a, b in means])

    def expected(self, statistic: str, extra_rtt_ms: float | None = None) -> float | None:
        """Return the utilisation from which on the cloud wins by theory; None if it never does.

        `extra_rtt_ms` is another distance than the one measured.
        """
        extra_ms = self.extra_rtt_ms if extra_rtt_ms is None else extra_rtt_ms
        return inversion_utilisation(self.boxes, self.mean_service_ms, extra_ms, STATISTICS[statistic])

    def threshold(self, statistic: str) -> Threshold:
        """Return the utilisation from which on the cloud wins, as measured and by theory.

        Between the points that are decided (both placements steady, with enough requests answered), the gain times
        1 − ρ is taken to be straight, because waiting times grow as 1/(1 − ρ). The interval is where the ends of the
        gains' intervals cross zero: −inf or inf where they do not, within those points.
        """
        gains = {u: self.gain_ms(u, statistic) for u in sorted(self.measurements)}
        gains = {u: gain for u, gain in gains.items() if gain.value is not None and math.isfinite(gain.value)}
        at = list(gains)
        middle = [(1 - u) * (gain.value or 0.0) for u, gain in gains.items()]
        low = [-math.inf if gain.low is None else (1 - u) * gain.low for u, gain in gains.items()]
        high = [math.inf if gain.high is None else (1 - u) * gain.high for u, gain in gains.items()]
        n, sections = (min((getattr(gain, key) for gain in gains.values()), default=0) for key in ("n", "sections"))
        method = "zero of the paired differences times 1 − ρ, straight between the utilisations measured"
        measured = Estimate(_zero(at, middle), _zero(at, high), _zero(at, low), n, sections, method)
        return Threshold(statistic, measured, self.expected(statistic), at)

    def table(self) -> pd.DataFrame:
        """Return one row a utilisation and statistic: measured, theory and gain, in ms, with intervals."""
        rows = []
        for level, statistic in product(sorted(self.measurements), STATISTICS):
            row: dict[str, Any] = {"utilisation": level, "statistic": statistic}
            for name in PLACEMENTS:
                row |= with_interval(f"{name}_ms", self.measured_ms(name, level, statistic))
                row[f"{name}_theory_ms"] = self.theory_ms(name, level, statistic)
            rows.append(row | with_interval("gain_ms", self.gain_ms(level, statistic)))
        return pd.DataFrame(rows)

    def _repr_html_(self) -> str:
        heads = ["utilisation", "", *(f"{name}, {what}, ms" for name in PLACEMENTS for what in ("measured", "theory"))]
        rows = []
        for level, statistic in product(sorted(self.measurements), STATISTICS):
            row = [f"{level:g}", statistic]
            for name in PLACEMENTS:
                row.append(_milliseconds(self.measured_ms(name, level, statistic)))
                row.append(f"{self.theory_ms(name, level, statistic):.1f}")
            rows.append([*row, _milliseconds(self.gain_ms(level, statistic))])
        note = "in brackets: the 95 % interval over the replications; above 0 in the last column the cloud wins."
        return f"{html_table([*heads, 'edge − cloud, ms'], rows)}<p>{note}</p>"

    @property
    def verdict(self) -> str:
        """INVALID where a measurement is; SATURATED where that leaves fewer than two utilisations, else VALID.

        A placement that is saturated at one of several utilisations costs that point only.
        """
        verdicts = [measurement.verdict for measurement in self.measurements.values()]
        if any(verdict.word == "INVALID" for verdict in verdicts):
            return "INVALID"
        return "VALID" if sum(not verdict.saturated for verdict in verdicts) >= min(2, len(verdicts)) else "SATURATED"

    def conclusion(self) -> str:
        """Return in words where the cloud begins to win, as measured and by theory."""
        thresholds = "; ".join(str(self.threshold(statistic)) for statistic in STATISTICS)
        return (
            f"{self.boxes} edge boxes with a queue each against one cloud with {self.boxes} servers and one queue, "
            f"{self.extra_rtt_ms:g} ms further away, {self.mean_service_ms:g} ms a request on average: {thresholds}."
            f"{reasons(self.measurements)}"
        )

    def findings(self) -> Findings:
        """Return what a page shows: the thresholds, measured and by theory."""
        thresholds = [self.threshold(statistic) for statistic in STATISTICS]
        measured = {threshold.statistic: threshold.recorded() for threshold in thresholds}
        theory = {each.statistic: {"value": each.theory, "text": each.in_theory} for each in thresholds}
        return Findings(
            conclusion=self.conclusion(),
            verdict=self.verdict,
            headline=[
                Headline(
                    f"{threshold.statistic}: cloud wins from utilisation", threshold.value,
                    detail="; ".join(filter(None, (threshold.interval, f"theory {threshold.in_theory}"))),
                )
                for threshold in thresholds
            ],
            estimates={"cloud wins from utilisation, measured": measured, "the same by theory": theory},
            measurements=by_name(self.measurements),
            files=by_name(self.measurements),
        )  # fmt: skip


def _zero(at: Sequence[float], gains: Sequence[float]) -> float | None:
    """Where the gains first rise above 0 for good: −inf if all are above, inf if the last is not, None if none."""
    if not gains:
        return None
    if gains[-1] <= 0:
        return math.inf
    below = [place for place, gain in enumerate(gains) if gain <= 0]
    if not below:
        return -math.inf
    (x0, y0), (x1, y1) = ((at[place], gains[place]) for place in (below[-1], below[-1] + 1))
    return x1 if math.isinf(y0) else x0 if math.isinf(y1) else x0 + (x1 - x0) * -y0 / (y1 - y0)


def _milliseconds(estimate: Estimate) -> str:
    return "saturated" if estimate is SATURATED else milliseconds(estimate, None, "").replace("-", "−")


def measure(
    boxes: int,
    mean_service_ms: float,
    extra_rtt_ms: float,
    utilisations: Sequence[float],
    duration_s: float,
    replications: int = 5,
    *,
    seed: int = 0,
    model: str = "anomaly_detector",
    source: Any = None,
    progress: bool = True,
) -> Inversion:
    """Measure edge boxes against a pooled cloud at every utilisation: M/M/1 each against M/M/c behind a longer link.

    There are `boxes` edge boxes and as many servers of the cloud, 2 or more, whose round trip is `extra_rtt_ms` longer.
    An answer of the model is held for an exponential service time of `mean_service_ms` on average. `utilisations` are
    shares of the capacity, each between 0 and 1, at least two; a trial lasts `duration_s`. Schedules, contents and
    service times are drawn from `seed`.

    Raises:
        ConfigurationError: an invalid argument; nothing was measured.
    """
    if boxes < 2 or len(set(utilisations)) < 2:
        raise ConfigurationError(f"boxes={boxes}, utilisations={list(utilisations)}: give at least two of each")
    service: dict[str, Any] = {"service_time": Exponential(mean_ms=mean_service_ms), "max_batch": 1}
    cloud = Cloud(link=Link(delay_ms=extra_rtt_ms / 2), servers=boxes, **service)
    placements = {"edge": Edge(boxes=boxes, **service), "cloud": cloud}
    asked: dict[str, Any] = {
        "model": model,
        "source": source,
        "placements": placements,
        "timeout_s": 30.0,
        "seed": seed,
    }
    load = (utilisations, boxes, mean_service_ms, duration_s)
    measurements = measure_points(*load, replications, name="inversion", progress=progress, **asked)
    return Inversion(boxes, mean_service_ms, extra_rtt_ms, measurements)
