"""Percentiles of a placement's latency, with intervals that include what a late sender may have added."""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd

from xedge.results.rows import least_latency_ms, replications
from xedge.results.statistics import Estimate, FloatArray, batches, quantile_estimate, shortest_section

LEVELS = (0.50, 0.90, 0.95, 0.99)
COMPARED_LEVELS = (0.50, 0.95, 0.99)


def sections(arrays: Sequence[npt.ArrayLike], p: float) -> Sequence[npt.ArrayLike]:
    """Return the replications as they are, or contiguous batches of a single one, to estimate level `p`."""
    return arrays if len(arrays) != 1 else batches(arrays[0], shortest=shortest_section(p))


def estimate(
    latencies: Sequence[FloatArray], least: Sequence[FloatArray], p: float, timeout_ms: float = math.inf
) -> Estimate:
    """Estimate the quantile of level `p` of `latencies`, ms, an array a replication.

    `least` are the same with a punctual sender, at the least (`xedge.results.rows.least_latency_ms`). `late` is the
    difference of the quantiles, at most `timeout_ms` each; the interval begins where that of the lesser quantile does.
    """
    sampled = quantile_estimate(sections(latencies, p), p)
    if sampled.value is None:
        return sampled
    bound = quantile_estimate(sections(least, p), p)
    late = min(sampled.value, timeout_ms) - np.float64(bound.value)
    return sampled.widened(0.0 if math.isnan(late) else float(late), bound.low)


def estimates(rows: pd.DataFrame, placement: str, timeout_ms: float = math.inf) -> dict[float, Estimate]:
    """Return level → estimate of the latency in ms at p50, p90, p95, p99."""
    latencies = list(replications(rows, placement).values())
    least = list(replications(rows, placement, partial(least_latency_ms, timeout_ms=timeout_ms)).values())
    return {p: estimate(latencies, least, p, timeout_ms) for p in LEVELS}
