"""Where the cloud begins to win: gains measured at several utilisations, their crossing of zero, and theory's."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from xedge.core.tables import html_table
from xedge.reports.study import Findings, Headline
from xedge.results.measurement import Measurement
from xedge.results.statistics import Estimate, mean_estimate, paired_difference, quantile_estimate
from xedge.results.words import milliseconds
from xedge.studies.points import by_name, reasons
from xedge.studies.queueing import MMc, inversion_utilisation

MEAN = 0.0  # stands where a quantile's level stands, for the mean
STATISTICS = {"mean": MEAN, "p95": 0.95, "p99": 0.99}
PLACEMENTS = ("edge", "cloud")
SATURATED = Estimate(None, None, None, 0, 0, "saturated: no steady state", needed=0)


@dataclass(frozen=True)
class Threshold:
    """The utilisation from which on the cloud wins.

    `measured` is -inf or inf where it lies below or above all `decided` utilisations, those at which there is a gain;
    `theory` is None where the cloud never wins.
    """

    statistic: str
    measured: Estimate
    theory: float | None
    decided: Sequence[float]

    @property
    def value(self) -> str:
        """The measured one in words: "0.41", "below 0.2", "not decided"."""
        return "not decided" if self.measured.value is None else self._words(self.measured.value)

    @property
    def interval(self) -> str:
        """Its interval in words: "0.41 to above 0.8"; empty if it has no length."""
        low, high = self.measured.low, self.measured.high
        return "" if low is None or high is None or low == high else f"{self._words(low)} to {self._words(high)}"

    @property
    def in_theory(self) -> str:
        """The theoretical one in words."""
        return "never" if self.theory is None else f"{self.theory:.2f}"

    def __str__(self) -> str:
        theory = "never by theory" if self.theory is None else f"from utilisation {self.theory:.2f} on by theory"
        interval, value = f" ({self.interval})" if self.interval else "", self.measured.value
        if value is None:
            return f"{self.statistic}: not decided as measured (too few answers, or saturated), {theory}"
        where = f"from {value:.2f} on"
        if math.isinf(value):
            where = f"already below {self.decided[0]:g}" if value < 0 else f"not up to {self.decided[-1]:g}"
        return f"{self.statistic}: the cloud wins {where} as measured{interval}, {theory}"

    def _words(self, utilisation: float) -> str:
        if math.isinf(utilisation):
            return f"below {self.decided[0]:g}" if utilisation < 0 else f"above {self.decided[-1]:g}"
        return f"{utilisation:.2f}"


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
        level, way_ms = STATISTICS[statistic], 0.0 if placement == "edge" else self.extra_rtt_ms
        return way_ms + (queue.mean_ms if level == MEAN else queue.quantile_ms(level))

    def measured_ms(self, placement: str, utilisation: float, statistic: str) -> Estimate:
        """Return the measured latency with its interval; no value of a saturated placement."""
        if placement in self.measurements[utilisation].verdict.saturated:
            return SATURATED
        sections, level = self.measurements[utilisation].latencies_ms(placement), STATISTICS[statistic]
        return mean_estimate(sections) if level == MEAN else quantile_estimate(sections, level)

    def gain_ms(self, utilisation: float, statistic: str) -> Estimate:
        """Return edge − cloud, paired by replication: above 0 the cloud wins; no value where either is saturated."""
        if self.measurements[utilisation].verdict.saturated:
            return SATURATED
        edge, cloud = (self.measurements[utilisation].latencies_ms(name) for name in PLACEMENTS)
        if STATISTICS[statistic] == MEAN:
            means = [(a.mean(), b.mean()) for a, b in zip(edge, cloud, strict=True) if a.size and b.size]
            if any(math.isinf(a) and math.isinf(b) for a, b in means):
                return Estimate(None, None, None, len(means), 0, "both censored")
            return mean_estimate([np.array([a - b]) for a, b in means])
        return paired_difference(cloud, edge, STATISTICS[statistic])

    def expected(self, statistic: str, extra_rtt_ms: float | None = None) -> float | None:
        """Return the utilisation from which on the cloud wins by theory; None if it never does.

        `extra_rtt_ms` is another distance than the one measured.
        """
        extra_ms = self.extra_rtt_ms if extra_rtt_ms is None else extra_rtt_ms
        return inversion_utilisation(self.boxes, self.mean_service_ms, extra_ms, STATISTICS[statistic] or None)

    def threshold(self, statistic: str) -> Threshold:
        """Return the utilisation from which on the cloud wins, as measured and by theory.

        Between the points that are decided (both placements steady, with enough requests answered), the gain times
        1 − ρ is taken to be straight, because waiting times grow as 1/(1 − ρ). The interval is where the ends of the
        gains' intervals cross zero: −inf or inf where they do not, within those points.
        """
        gains = {utilisation: self.gain_ms(utilisation, statistic) for utilisation in sorted(self.measurements)}
        gains = {u: gain for u, gain in gains.items() if gain.value is not None and math.isfinite(gain.value)}
        at, estimates, idle = list(gains), list(gains.values()), [1 - utilisation for utilisation in gains]
        middle = [k * gain.value for k, gain in zip(idle, estimates, strict=True) if gain.value is not None]
        low = [-math.inf if gain.low is None else k * gain.low for k, gain in zip(idle, estimates, strict=True)]
        high = [math.inf if gain.high is None else k * gain.high for k, gain in zip(idle, estimates, strict=True)]
        n, sections = (min((getattr(gain, key) for gain in estimates), default=0) for key in ("n", "sections"))
        method = "zero of the paired differences times 1 − ρ, straight between the utilisations measured"
        measured = Estimate(_zero(at, middle), _zero(at, high), _zero(at, low), n, sections, method)
        return Threshold(statistic, measured, self.expected(statistic), at)

    def table(self) -> pd.DataFrame:
        """Return one row a utilisation and statistic: measured, theory and gain, in ms, with intervals."""
        rows = []
        for utilisation in sorted(self.measurements):
            for statistic in STATISTICS:
                row: dict[str, Any] = {"utilisation": utilisation, "statistic": statistic}
                for placement in PLACEMENTS:
                    row |= _with_interval(f"{placement}_ms", self.measured_ms(placement, utilisation, statistic))
                    row[f"{placement}_theory_ms"] = self.theory_ms(placement, utilisation, statistic)
                rows.append(row | _with_interval("gain_ms", self.gain_ms(utilisation, statistic)))
        return pd.DataFrame(rows)

    def _repr_html_(self) -> str:
        heads = ["utilisation", "", *(f"{name}, {what}, ms" for name in PLACEMENTS for what in ("measured", "theory"))]
        rows = []
        for utilisation in sorted(self.measurements):
            for statistic in STATISTICS:
                row = [f"{utilisation:g}", statistic]
                for name in PLACEMENTS:
                    row.append(_milliseconds(self.measured_ms(name, utilisation, statistic)))
                    row.append(f"{self.theory_ms(name, utilisation, statistic):.1f}")
                rows.append([*row, _milliseconds(self.gain_ms(utilisation, statistic))])
        note = "± is a 95 % interval (Student t over the replications); above 0 in the last column the cloud wins."
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
        setting = (
            f"{self.boxes} edge boxes with a queue each against one cloud with {self.boxes} servers and one queue, "
            f"{self.extra_rtt_ms:g} ms further away, {self.mean_service_ms:g} ms a request on average"
        )
        answers = f"{thresholds}. Below these utilisations the edge answers sooner."
        return f"{setting}: {answers}{reasons(self.measurements)}"

    def findings(self) -> Findings:
        """Return what a page shows: the thresholds, measured and by theory."""
        thresholds = [self.threshold(statistic) for statistic in STATISTICS]
        measured = {threshold.statistic: _recorded(threshold.measured, threshold) for threshold in thresholds}
        theory = {
            threshold.statistic: {"value": threshold.theory, "text": threshold.in_theory} for threshold in thresholds
        }
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


def _recorded(estimate: Estimate, threshold: Threshold) -> dict[str, Any]:
    text = threshold.value + (f" ({threshold.interval})" if threshold.interval else "")
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "text": text}


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


def _with_interval(name: str, estimate: Estimate) -> dict[str, float | None]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
