"""One placement measured at one rate, and whether it met the deadline there."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xedge.results import rows, summary
from xedge.results.measurement import Measurement
from xedge.results.statistics import Estimate, FloatArray, mean_estimate
from xedge.results.words import level_name, milliseconds
from xedge.studies.load.search import Outcome, Tried

STEADY = ("met", "missed")  # the outcomes with percentiles


@dataclass(frozen=True)
class Probe:
    """One placement at one rate, judged.

    Args:
        measurement: what it is judged from.
        placement: the placement's name.
        rate_hz: the rate asked for.
        outcome: "met" the deadline, "missed" it, "saturated", or "invalid", which decides nothing.
        reason: why, in words.
        requests: how many were measured, warm-up apart.
        answered_hz: the rate answered.
        p50: median latency in ms.
        tail: latency in ms at the level that the deadline is for.
        power: rate answered over mean latency, 1/s², one a replication; 0 where some were not answered.
        fastest_ms: the shortest latency, warm-up included: the first request of a trial meets an empty queue.
        hopeless: whether even that is after the deadline.
    """

    measurement: Measurement
    placement: str
    rate_hz: float
    outcome: Outcome
    reason: str
    requests: int
    answered_hz: float
    p50: Estimate
    tail: Estimate
    power: FloatArray
    fastest_ms: float
    hopeless: bool = False


def judge(measurement: Measurement, placement: str, deadline_ms: float, p: float) -> Probe:
    """Say of one placement whether it met the deadline: the upper end of the interval of level `p` does not exceed it.

    So "missed" means not shown to meet it. Saturated and invalid trials have no percentile to judge.
    """
    parts = summary.sections(measurement.latencies_ms(placement), p)
    p50, tail = measurement.estimate(placement, 0.5), measurement.estimate(placement, p)
    answered_hz = rows.rates_hz(measurement.rows, placement)["answered_hz"]
    means_ms = np.array([np.mean(np.asarray(part)) for part in parts if np.size(part)])
    outcome, reason = _outcome(measurement, placement, tail, deadline_ms, p)
    every = rows.latency_ms(measurement.rows[measurement.rows["placement"] == placement])
    fastest_ms = float(np.min(every[~np.isnan(every)], initial=math.inf))
    hopeless = outcome == "missed" and fastest_ms > deadline_ms
    rate_hz = float(measurement.conditions["scenario"]["workload"]["rate_hz"])
    requests = len(rows.measured(measurement.rows, placement))
    power = 1e3 * answered_hz / means_ms if means_ms.size else np.zeros(1)
    told = (outcome, reason, requests, answered_hz, p50, tail, power, fastest_ms, hopeless)
    return Probe(measurement, placement, rate_hz, *told)


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
