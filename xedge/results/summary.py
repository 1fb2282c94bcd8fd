"""Percentiles of a placement with their intervals, and the table of all placements."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt
import pandas as pd

from xedge.results.rows import STATUSES, measured, rates_hz, replications, utilisation
from xedge.results.statistics import Estimate, batches, quantile_estimate, shortest_section
from xedge.results.words import level_name

LEVELS = (0.50, 0.90, 0.95, 0.99)


COMPARED_LEVELS = (0.50, 0.95, 0.99)


def sections(arrays: Sequence[npt.ArrayLike], p: float) -> Sequence[npt.ArrayLike]:
    """Return the replications as they are, or contiguous batches of a single one, to estimate level `p`."""
    return arrays if len(arrays) != 1 else batches(arrays[0], shortest=shortest_section(p))


def estimates(rows: pd.DataFrame, placement: str) -> dict[float, Estimate]:
    """Return level → estimate of the latency in ms at p50, p90, p95, p99."""
    arrays = list(replications(rows, placement).values())
    return {p: quantile_estimate(sections(arrays, p), p) for p in LEVELS}


def summary(
    rows: pd.DataFrame, placements: Sequence[str], saturated: Sequence[str], servers: Mapping[str, int] | None = None
) -> pd.DataFrame:
    """Return one row a placement: rates in Hz, utilisation, counts by status, percentiles in ms with `_low`, `_high`.

    NaN where there are too few requests or the placement is saturated (no steady state has percentiles); inf
    where too many requests timed out. `servers` says how many batches a placement can have in inference at once,
    where that is not one.
    """
    table = []
    for placement in placements:
        own = measured(rows, placement)
        counts = own["status"].value_counts()
        row: dict[str, Any] = {"placement": placement, "requests": len(own), **rates_hz(rows, placement)}
        row["utilisation"] = utilisation(rows, placement, (servers or {}).get(placement, 1))
        row |= {status: int(counts.get(status, 0)) for status in STATUSES}
        for p, estimate in estimates(rows, placement).items():
            for suffix, value in (("", estimate.value), ("_low", estimate.low), ("_high", estimate.high)):
                none = value is None or placement in saturated
                row[f"{level_name(p)}_ms{suffix}"] = math.nan if none or value is None else max(value, 0.0)
        table.append(row)
    return pd.DataFrame(table)
