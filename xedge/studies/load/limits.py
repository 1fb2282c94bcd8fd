"""What rates say of a placement: whether one meets a deadline; the highest that does, the knee, the saturation."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from xedge.core.exceptions import MeasurementError
from xedge.results.measurement import Measurement
from xedge.results.rows import latency_ms
from xedge.results.statistics import Estimate, FloatArray, as_sections, mean_estimate
from xedge.results.words import level_name, milliseconds
from xedge.studies.load.pace import doubt_of_pace
from xedge.studies.load.search import Outcome, Tried, bracket, edge
from xedge.studies.points import with_interval

STEADY = ("met", "missed")  # the outcomes with percentiles: answers were shown to keep pace
UNKNOWN = ("undecided", "invalid")  # those that say neither that a rate is steady nor that it is saturated


@dataclass(frozen=True)
class Probe:
    """One placement at one rate, judged."""

    measurement: Measurement
    placement: str
    rate_hz: float  # asked for
    offered_hz: float  # what of it fell due in the measured part: by chance more or less
    outcome: Outcome  # "undecided": not shown to keep pace with the rate; "invalid" decides nothing
    reason: str
    requests: int  # measured, warm-up apart
    answered_hz: float
    p50: Estimate
    tail: Estimate  # at the level that the deadline is for
    power: FloatArray  # rate answered over mean latency, 1/s², one a replication; 0 where some were not answered
    fastest_ms: float  # warm-up included: the first request of a trial meets an empty queue
    hopeless: bool  # even the fastest was answered after the deadline


def judge(measurement: Measurement, placement: str, deadline_ms: float, p: float) -> Probe:
    """Say of one placement whether it met the deadline: the upper end of the interval of level `p` does not exceed it.

    So "missed" means not shown to meet it. Saturated and invalid trials have no percentile to judge, and neither have
    those too short to show that answers kept pace with the rate ("undecided"): in longer ones the queue may have grown.
    """
    parts = as_sections(measurement.latencies_ms(placement), p)
    p50, tail = measurement.estimate(placement, 0.5), measurement.estimate(placement, p)
    rates_hz = measurement.evidence[placement].rates_hz
    offered_hz, answered_hz = rates_hz["offered_hz"], rates_hz["answered_hz"]
    means_ms = np.array([np.mean(np.asarray(part)) for part in parts if np.size(part)])
    outcome, reason = _outcome(measurement, placement, tail, deadline_ms, p)
    every = latency_ms(measurement.evidence[placement].rows)
    fastest_ms = float(np.min(every[~np.isnan(every)], initial=math.inf))
    hopeless = outcome in ("missed", "undecided") and fastest_ms > deadline_ms
    rate_hz = float(measurement.conditions["scenario"]["workload"]["rate_hz"])
    requests = len(measurement.evidence[placement].measured)
    power = 1e3 * answered_hz / means_ms if means_ms.size else np.zeros(1)
    values = (outcome, reason, requests, answered_hz, p50, tail, power, fastest_ms, hopeless)
    return Probe(measurement, placement, rate_hz, offered_hz, *values)


def _outcome(
    measurement: Measurement, placement: str, tail: Estimate, deadline_ms: float, p: float
) -> tuple[Outcome, str]:
    word = measurement.verdict.placements[placement]
    if word != "VALID":
        reasons = "; ".join(doubt.text for doubt in measurement.verdict.reasons if doubt.placement == placement)
        return ("saturated" if word == "SATURATED" else "invalid"), reasons
    name = level_name(p)
    latency = f"{name} {milliseconds(tail, measurement.conditions.get('timeout_s'))}"
    if tail.value is None or (tail.high is None and tail.value <= deadline_ms):
        return "invalid", f"{latency}, {tail.method}"
    evidence = measurement.evidence[placement]
    if doubt := doubt_of_pace(evidence.steadiness, len(evidence.trials)):
        return "undecided", doubt
    if tail.high is not None and tail.high <= deadline_ms:
        return "met", latency
    return "missed", latency if tail.value > deadline_ms else f"{latency}: the interval reaches over the deadline"


def tried(probes: Sequence[Probe], placement: str) -> dict[float, Tried]:
    """Return what a search goes on from: rate -> the last probe there, and how often it was tried."""
    own = [probe for probe in probes if probe.placement == placement]
    rates = [probe.rate_hz for probe in own]
    return {
        probe.rate_hz: Tried(probe.outcome, float(np.mean(probe.power)), rates.count(probe.rate_hz), probe.hopeless)
        for probe in own
    }


def has_less_power(probe: Probe, other: Probe) -> bool:
    """Whether the power of `probe` is lower than that of `other`, paired by replication."""
    if probe is other or len(probe.power) != len(other.power):
        return False
    estimate = mean_estimate([np.array([gap]) for gap in other.power - probe.power])
    return estimate.low is not None and estimate.low > 0


@dataclass(frozen=True)
class Limit:
    """The highest rate of a placement that was shown to meet the deadline, and the next one tried, which was not."""

    met_hz: float | None
    failed_hz: float | None
    resolved: bool  # the two are as close as asked for, or it is known that no rate meets the deadline
    reason: str


@dataclass(frozen=True)
class Knee:
    """The rate with the greatest power, and the nearest rates on both sides that were shown to have less, if any."""

    rate_hz: float
    low_hz: float | None
    high_hz: float | None


@dataclass(frozen=True, eq=False, repr=False)
class Limits:
    """Placements measured at many rates, and what follows for each of them."""

    measurements: tuple[Measurement, ...]  # one a rate, in the order of measuring
    deadline_ms: float  # what the latency at level `p` may be at most
    p: float  # 0.99 for p99
    resolution: float  # how close met and missed rate were to come, 0.05 is 5 %
    ended: str = ""  # why the search ended early

    def __post_init__(self) -> None:
        if not self.measurements:
            raise MeasurementError("a load curve without a measurement: measure at least one rate")

    @cached_property
    def placements(self) -> list[str]:
        """The placements, in the order of the scenario."""
        return list(self.measurements[0].conditions["scenario"]["placements"])

    @cached_property
    def probes(self) -> tuple[Probe, ...]:
        """Every placement at every rate it was measured at, in the order of measuring."""
        taken = [(measurement, name) for measurement in self.measurements for name in measurement.placements]
        return tuple(judge(measurement, name, self.deadline_ms, self.p) for measurement, name in taken)

    def latest(self, placement: str) -> dict[float, Probe]:
        """Return rate offered -> the last probe there, ascending: a rate tried twice counts as the second time.

        What is said of a placement is said of rates that were offered indeed, not of those asked for.
        """
        probes = {probe.rate_hz: probe for probe in self.probes if probe.placement == placement}
        if not probes:
            names = ", ".join(self.placements)
            raise MeasurementError(f"no placement {placement!r} in this load curve: it has {names}")
        return {probe.offered_hz: probe for probe in sorted(probes.values(), key=lambda probe: probe.offered_hz)}

    def limit(self, placement: str) -> Limit:
        """Return the highest rate that meets the deadline, with the bracket it rests on."""
        probes = self.latest(placement)
        met_hz, failed_hz = bracket({rate: probe.outcome for rate, probe in probes.items()})
        fastest = next((probe for probe in probes.values() if probe.hopeless), None)
        if met_hz is None and fastest is not None:
            return Limit(None, failed_hz, True, f"even the fastest answer took {fastest.fastest_ms:.3g} ms")
        if failed_hz is not None:
            near = (self.resolution + 1) * 1.001
            close = met_hz is not None and probes[failed_hz].rate_hz <= probes[met_hz].rate_hz * near
            return Limit(met_hz, failed_hz, close, probes[failed_hz].reason)
        undecided = "" if met_hz else next(iter(probes.values())).reason
        return Limit(met_hz, None, False, undecided or self.ended or "no rate tried failed")

    def knee(self, placement: str) -> Knee | None:
        """Return the rate with the greatest power; None where no other rate was shown to have less.

        Power is throughput over mean latency (A. Giessler et al., Computer Networks 2, 1978, 191-208). Where it is
        greatest, one percent more load costs one percent more latency; more costs ever more (L. Kleinrock, Power and
        deterministic rules of thumb for probabilistic problems in computer communications, ICC 1979, 43.1). M/M/1 has
        its knee at a utilisation of 0.5, M/D/1 at 2 - sqrt(2) = 0.59. The power is flat there, so the bracket is
        wide: its ends are the nearest rates whose power is lower in a paired comparison of the replications (95 %).
        """
        probes = {rate: probe for rate, probe in self.latest(placement).items() if probe.outcome not in UNKNOWN}
        steady = {rate: probe for rate, probe in probes.items() if probe.outcome in STEADY}
        if not steady:
            return None
        best = max(steady, key=lambda rate: float(np.mean(steady[rate].power)))
        lower = [r for r, p in probes.items() if p.outcome == "saturated" or has_less_power(p, probes[best])]
        below, above = [rate for rate in lower if rate < best], [rate for rate in lower if rate > best]
        return Knee(best, max(below, default=None), min(above, default=None)) if lower else None

    def saturation(self, placement: str) -> tuple[float | None, float | None]:
        """Return the highest rate with a steady state and the lowest saturated one, in Hz."""
        return edge({rate: probe.outcome for rate, probe in self.latest(placement).items()})

    @property
    def verdict(self) -> str:
        """INVALID when no rate of a placement was decided; a saturated rate is a result here."""
        return "INVALID" if any(self.undecided(name) for name in self.placements) else "VALID"

    def undecided(self, placement: str) -> str:
        """Return why none of a placement's rates decided anything; "" if one did."""
        probes = self.latest(placement).values()
        if any(probe.outcome not in UNKNOWN for probe in probes):
            return ""
        return next(iter(probes)).reason

    def table(self) -> pd.DataFrame:
        """Return one row a probe: rates in Hz, p50 and the deadline's level in ms with intervals, outcome, reason.

        Rates are those asked for, offered in the measured part (by chance more or less) and answered.
        Saturated, undecided and invalid probes have no percentiles (NaN).
        """
        rows = []
        for probe in sorted(self.probes, key=lambda probe: (self.placements.index(probe.placement), probe.rate_hz)):
            known = with_interval("p50_ms", probe.p50) | with_interval(f"{level_name(self.p)}_ms", probe.tail)
            if probe.outcome not in STEADY:
                known = dict.fromkeys(known)
            row = {"placement": probe.placement, "rate_hz": probe.rate_hz}
            row |= {"offered_hz": probe.offered_hz, "answered_hz": probe.answered_hz}
            row |= {name: math.nan if value is None else value for name, value in known.items()}
            rows.append(row | {"requests": probe.requests, "outcome": probe.outcome, "reason": probe.reason})
        return pd.DataFrame(rows)
