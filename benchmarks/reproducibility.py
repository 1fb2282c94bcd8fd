"""Reproducibility: the 95 % intervals of two independent runs of one scenario overlap at least 9 times in 10."""

from __future__ import annotations

import math
import sys
from itertools import combinations

import numpy as np

from benchmarks.harness import Table
from xedge.results.statistics import Estimate
from xedge.results.words import level_name
from xedge.runs.scenario import Scenario
from xedge.scenario.arrivals import Poisson
from xedge.scenario.placements import Edge

LEVELS = (0.5, 0.95, 0.99)


def overlap(one: Estimate, other: Estimate) -> bool:
    """Whether the intervals have a point in common; runs without an interval do not agree."""
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return False
    return max(one.low, other.low) <= min(one.high, other.high)


def close(one: Estimate, other: Estimate) -> bool:
    """Whether the two differ by no more than the 95 % interval of their difference: stricter than `overlap`."""
    if one.value is None or other.value is None or one.half_width is None or other.half_width is None:
        return False
    return abs(one.value - other.value) <= math.hypot(one.half_width, other.half_width)


def run(seed: int, rate_hz: float, duration_s: float, replications: int) -> tuple[str, dict[float, Estimate]]:
    """Return verdict and percentiles of a run with a broker, service, sender and seed of its own."""
    workload = Poisson(rate_hz=rate_hz, duration_s=duration_s)
    scenario = Scenario(model="anomaly_detector", workload=workload, placements={"edge": Edge()}, seed=seed)
    measurement = scenario.measure(replications, progress=False)
    return measurement.verdict.word, measurement.evidence["edge"].estimates


def main(pairs: int = 10, rate_hz: float = 250, duration_s: float = 1.2, replications: int = 5) -> list[str]:
    """Run until there are enough runs, first half against second: the two of a pair are minutes apart.

    A run that is INVALID has no figures to agree with; up to as many again are made in place of such.
    """
    table = Table()
    print(
        f"reproducibility: {pairs} pairs of runs, edge, {rate_hz:g} requests/s, {replications} × {duration_s:g} s each"
    )
    made = [run(seed, rate_hz, duration_s, replications) for seed in range(2 * pairs)]
    while sum(word == "VALID" for word, _ in made) < 2 * pairs and len(made) < 4 * pairs:
        made.append(run(len(made), rate_hz, duration_s, replications))
    valid = [found for word, found in made if word == "VALID"][: 2 * pairs]
    table.row("runs that were VALID", len(valid), f"of {len(made)}", pairs, at_least=True)
    half = len(valid) // 2
    for p in LEVELS if half else ():
        name, found = level_name(p), [one[p] for one in valid]
        table.row(f"{name}, median of the runs", float(np.median([one.value or np.nan for one in found])), "ms")
        widths = [100 * (one.half_width or np.nan) / (one.value or np.nan) for one in found]
        table.row("  half of its interval, median", float(np.median(widths)), "% of it")
        agree = [overlap(one, other) for one, other in zip(found[:half], found[-half:], strict=True)]
        table.row(f"  {name}: pairs whose intervals overlap", float(np.mean(agree)), f"of {half}", 0.9, at_least=True)
        every = [overlap(one, other) for one, other in combinations(found, 2)]
        table.row(f"  of all {len(every)} pairs", float(np.mean(every)), "of 1")
        strict = [close(one, other) for one, other in combinations(found, 2)]
        table.row("    that differ by less than the interval of their difference", float(np.mean(strict)), "of 1")
        everyone = [overlap(one[p], other[p]) for (_, one), (_, other) in combinations(made, 2)]
        table.row("  of all pairs, INVALID runs too", float(np.mean(everyone)), "of 1")
    return table.missed


if __name__ == "__main__":
    sys.exit(bool(main()))
