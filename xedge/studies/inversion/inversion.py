"""When a pooled cloud beats edge boxes that share the load: measured points beside the exact theory."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from xedge.core.exceptions import ConfigurationError
from xedge.core.progress import Progress, grouped
from xedge.reports import run as report
from xedge.reports.publish import Prose, reasons
from xedge.reports.publish import publish as publish_measurement
from xedge.results.measurement import Measurement
from xedge.results.statistics import Estimate, FloatArray, mean_estimate, paired_difference, quantile_estimate
from xedge.results.words import milliseconds
from xedge.runs.scenario import Scenario
from xedge.scenario.arrivals import Poisson
from xedge.scenario.link import Link
from xedge.scenario.placements import Cloud, Edge
from xedge.scenario.service_times import Exponential
from xedge.serving.broker import Broker
from xedge.studies.queueing import MMc, inversion_utilisation

MEAN = 0.0  # stands where a quantile's level stands, for the mean
STATISTICS = {"mean": MEAN, "p95": 0.95, "p99": 0.99}
PLACEMENTS = ("edge", "cloud")
SATURATED = Estimate(None, None, None, 0, 0, "saturated: no steady state", needed=0)


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

    def expected(self, statistic: str) -> float | None:
        """Return the utilisation from which on the cloud wins by theory; None if it never does."""
        level = STATISTICS[statistic]
        return inversion_utilisation(
            self.boxes, self.mean_service_ms, self.extra_rtt_ms, None if level == MEAN else level
        )

    def decided(self, statistic: str) -> list[float]:
        """Return the utilisations at which there is a gain: both placements steady, with enough requests answered."""
        gains = ((u, self.gain_ms(u, statistic).value) for u in sorted(self.measurements))
        return [u for u, gain in gains if gain is not None and math.isfinite(gain)]

    def found(self, statistic: str) -> Estimate:
        """Return the utilisation from which on the cloud wins as measured.

        Between the points that are `decided`, the gain times 1 − ρ is taken to be straight, because waiting times
        grow as 1/(1 − ρ). The interval is where the ends of the gains' intervals cross zero: −inf or inf where they
        do not, within those points.
        """
        at = self.decided(statistic)
        gains = [self.gain_ms(utilisation, statistic) for utilisation in at]
        idle = [1 - utilisation for utilisation in at]
        middle = [k * gain.value for k, gain in zip(idle, gains, strict=True) if gain.value is not None]
        low = [-math.inf if gain.low is None else k * gain.low for k, gain in zip(idle, gains, strict=True)]
        high = [math.inf if gain.high is None else k * gain.high for k, gain in zip(idle, gains, strict=True)]
        n, sections = (min((getattr(gain, key) for gain in gains), default=0) for key in ("n", "sections"))
        method = "zero of the paired differences times 1 − ρ, straight between the utilisations measured"
        return Estimate(_zero(at, middle), _zero(at, high), _zero(at, low), n, sections, method)

    def table(self) -> pd.DataFrame:
        """Return one row a utilisation and statistic: measured, theory and gain, in ms, with intervals."""
        rows = []
        for utilisation in sorted(self.measurements):
            for statistic in STATISTICS:
                row: dict[str, Any] = {"utilisation": utilisation, "statistic": statistic}
                for placement in PLACEMENTS:
                    estimate = self.measured_ms(placement, utilisation, statistic)
                    row |= _with_interval(f"{placement}_ms", estimate)
                    row[f"{placement}_theory_ms"] = self.theory_ms(placement, utilisation, statistic)
                rows.append(row | _with_interval("gain_ms", self.gain_ms(utilisation, statistic)))
        return pd.DataFrame(rows)

    def _repr_html_(self) -> str:
        heads = ["utilisation", "", *(f"{name}, {what}, ms" for name in PLACEMENTS for what in ("measured", "theory"))]
        rows = [[*heads, "edge − cloud, ms"]]
        for utilisation in sorted(self.measurements):
            for statistic in STATISTICS:
                row = [f"{utilisation:g}", statistic]
                for name in PLACEMENTS:
                    row.append(_told_ms(self.measured_ms(name, utilisation, statistic)))
                    row.append(f"{self.theory_ms(name, utilisation, statistic):.1f}")
                rows.append([*row, _told_ms(self.gain_ms(utilisation, statistic))])
        head, *body = (
            "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)
            for row, tag in zip(rows, ["th"] + ["td"] * len(rows), strict=False)
        )
        lines = "".join(f"<tr>{cells}</tr>" for cells in body)
        return (
            f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
            "<p>± is a 95 % interval (Student t over the replications); above 0 in the last column the cloud wins.</p>"
        )

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
        parts = [self._clause(statistic) for statistic in STATISTICS]
        setting = (
            f"{self.boxes} edge boxes with a queue each against one cloud with {self.boxes} servers and one queue, "
            f"{self.extra_rtt_ms:g} ms further away, {self.mean_service_ms:g} ms a request on average"
        )
        doubt = reasons({f"Utilisation {u:g}": one for u, one in sorted(self.measurements.items())})
        return f"{setting}: {'; '.join(parts)}. Below these utilisations the edge answers sooner.{doubt}"

    def _clause(self, statistic: str) -> str:
        expected, found = self.expected(statistic), self.found(statistic)
        theory = "never by theory" if expected is None else f"from utilisation {expected:.2f} on by theory"
        if found.value is None:
            return f"{statistic}: not decided as measured (too few answers, or saturated), {theory}"
        if math.isinf(found.value):
            at = self.decided(statistic)
            side = f"already below {at[0]:g}" if found.value < 0 else f"not up to {at[-1]:g}"
            return f"{statistic}: the cloud wins {side} as measured{self.between(statistic)}, {theory}"
        between = self.between(statistic)
        return f"{statistic}: the cloud wins from {found.value:.2f} on as measured{between}, {theory}"

    def between(self, statistic: str) -> str:
        """Return the interval of what was `found` in words: " (0.41 to above 0.8)"; nothing if it has no length."""
        at, found = self.decided(statistic), self.found(statistic)
        if found.low is None or found.high is None or found.low == found.high:
            return ""
        return f" ({_place(found.low, at)} to {_place(found.high, at)})"


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


def _place(utilisation: float, measured: Sequence[float]) -> str:
    if math.isinf(utilisation):
        return f"below {measured[0]:g}" if utilisation < 0 else f"above {measured[-1]:g}"
    return f"{utilisation:.2f}"


def _told_ms(estimate: Estimate) -> str:
    return "saturated" if estimate is SATURATED else milliseconds(estimate, None, "").replace("-", "−")


def _with_interval(name: str, estimate: Estimate) -> dict[str, float | None]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def scenario(
    boxes: int,
    mean_service_ms: float,
    extra_rtt_ms: float,
    utilisation: float,
    duration_s: float,
    seed: int,
    model: str = "anomaly_detector",
) -> Scenario:
    """Return edge boxes and a pooled cloud at one utilisation: M/M/1 each against M/M/c behind a longer link."""
    if not 0 < utilisation < 1:
        raise ConfigurationError(f"utilisation {utilisation}: give a share of the capacity between 0 and 1, as 0.7")
    service: dict[str, Any] = {"service_time": Exponential(mean_ms=mean_service_ms), "max_batch": 1}
    placements: dict[str, Any] = {
        "edge": Edge(boxes=boxes, **service),
        "cloud": Cloud(link=Link(delay_ms=extra_rtt_ms / 2), servers=boxes, **service),
    }
    workload = Poisson(rate_hz=1e3 * utilisation * boxes / mean_service_ms, duration_s=duration_s)
    return Scenario(model=model, workload=workload, placements=placements, seed=seed, timeout_s=30.0)


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
    progress: bool = True,
) -> Inversion:
    """Measure edge boxes against a pooled cloud at every utilisation, behind one broker.

    Args:
        boxes: edge boxes, and servers of the cloud; 2 or more.
        mean_service_ms: mean of the exponential service time that the model's answer is held for.
        extra_rtt_ms: how much longer the round trip to the cloud is.
        utilisations: shares of the capacity, each between 0 and 1, at least two.
        duration_s: length of a trial.
        replications: trials a placement and utilisation.
        seed: of schedules, contents and service times.
        model: the model served.
        progress: show progress.

    Raises:
        ConfigurationError: numbers that cannot be meant; nothing was measured.
    """
    levels = sorted(set(utilisations))
    if boxes < 2 or len(levels) < 2:
        raise ConfigurationError(f"boxes={boxes}, utilisations={list(utilisations)}: give at least two of each")
    told = {
        level: scenario(boxes, mean_service_ms, extra_rtt_ms, level, duration_s, seed + place, model)
        for place, level in enumerate(levels)
    }
    taken: dict[float, Measurement] = {}
    first: Measurement | None = None
    with Broker(name="inversion") as broker, Progress(len(levels), "utilisations", "measuring", progress) as bar:
        for done, (level, one) in enumerate(told.items()):
            taken[level] = one.measure(replications, progress=False, broker=broker, calibration=first)
            first = first or taken[level]
            bar.update(done + 1)
        bar.finish(f"{len(levels)} utilisations, {grouped(sum(len(one.rows) for one in taken.values()))} requests")
    return Inversion(boxes, mean_service_ms, extra_rtt_ms, taken)


def publish(inversion: Inversion) -> Prose:
    """Put the crossings on top of the report, save every measurement beside it, and return the conclusion."""
    for utilisation, measurement in inversion.measurements.items():
        publish_measurement(measurement, f"utilisation-{utilisation:g}")
    conclusion = inversion.conclusion()
    report.record("verdict", inversion.verdict)
    report.record("headline", [_headline(inversion, statistic) for statistic in STATISTICS])
    report.record("estimates", _estimates(inversion))
    report.record("conclusion", conclusion)
    return Prose(conclusion)


def _headline(inversion: Inversion, statistic: str) -> dict[str, str]:
    found, expected = inversion.found(statistic).value, inversion.expected(statistic)
    value = "not decided" if found is None else _place(found, inversion.decided(statistic))
    theory = "theory never" if expected is None else f"theory {expected:.2f}"
    between = inversion.between(statistic).strip(" ()")
    detail = f"{between}; {theory}" if between else theory
    return {"label": f"{statistic}: cloud wins from utilisation", "value": value, "detail": detail}


def _estimates(inversion: Inversion) -> dict[str, dict[str, Any]]:
    """The crossings in the form that `report.record` wants, for the summary and the index over several runs."""
    measured: dict[str, Any] = {}
    theory: dict[str, Any] = {}
    for statistic in STATISTICS:
        found, expected = inversion.found(statistic), inversion.expected(statistic)
        told = _headline(inversion, statistic)["value"] + inversion.between(statistic)
        measured[statistic] = {"value": found.value, "low": found.low, "high": found.high, "text": told}
        theory[statistic] = {"value": expected, "text": "never" if expected is None else f"{expected:.2f}"}
    return {"cloud wins from utilisation, measured": measured, "the same by theory": theory}


def curve(inversion: Inversion, placement: str, statistic: str, at: FloatArray) -> FloatArray:
    """Return the theoretical latency in ms at the utilisations `at`, shape (n,)."""
    return np.array([inversion.theory_ms(placement, float(u), statistic) for u in at])
