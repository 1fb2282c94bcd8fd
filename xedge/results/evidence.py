"""What the rows say of one placement, each number computed once: tables, verdict and doubts read it here."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from xedge.results import rows
from xedge.results.conditions import Conditions
from xedge.results.statistics import Estimate, FloatArray, as_sections, quantile_estimate
from xedge.results.steadiness import Steadiness, steadiness
from xedge.results.words import level_name

LEVELS = (0.50, 0.90, 0.95, 0.99)
COMPARED_LEVELS = (0.50, 0.95, 0.99)


@dataclass(frozen=True, eq=False)
class Evidence:
    """One placement's `rows`, warm-up included, under the conditions of their measurement."""

    placement: str
    rows: pd.DataFrame
    conditions: Conditions

    @cached_property
    def measured(self) -> pd.DataFrame:
        """The rows without the warm-up."""
        return rows.measured(self.rows, self.placement)

    @cached_property
    def latencies(self) -> dict[int, FloatArray]:
        """Replication → latencies in ms in the order of the schedule; +inf was not answered in time."""
        return rows.replications(self.rows, self.placement)

    @cached_property
    def least_latencies(self) -> dict[int, FloatArray]:
        """The same with a punctual sender, at the least."""
        return rows.replications(self.rows, self.placement, self._least_latency_ms)

    @cached_property
    def estimates(self) -> dict[float, Estimate]:
        """Level → latency in ms at p50, p90, p95, p99."""
        return {p: self.estimate(p) for p in LEVELS}

    @cached_property
    def rates_hz(self) -> dict[str, float]:
        """`offered_hz`, `sent_hz` and `answered_hz`."""
        return rows.rates_hz(self.rows, self.placement)

    @cached_property
    def counts(self) -> dict[str, int]:
        """Status → number of requests, warm-up apart."""
        counts = self.measured["status"].value_counts()
        return {status: int(counts.get(status, 0)) for status in rows.STATUSES}

    @cached_property
    def steadiness(self) -> list[Steadiness]:
        """Of each trial that is long enough: whether it was in a steady state."""
        judged = (self._steadiness(trial) for _, trial in rows.trials(self.rows, self.placement))
        return [trial for trial in judged if trial is not None]

    def estimate(self, p: float) -> Estimate:
        """Return the latency at level `p`, ms; its interval includes what a late sender may have added.

        `late` is the difference of the quantiles of the latencies and of the least they can have been, at most the
        time-out each; the interval begins where that of the lesser quantile does.
        """
        sampled, bound = (
            quantile_estimate(as_sections(list(of.values()), p), p) for of in (self.latencies, self.least_latencies)
        )
        if sampled.value is None or bound.value is None:
            return sampled
        late = min(sampled.value, self.conditions.timeout_ms) - bound.value
        return sampled.widened(0.0 if math.isnan(late) else late, bound.low)

    def met(self, deadline_ms: float, *, punctual: bool = False) -> list[FloatArray]:
        """Return of every scheduled request whether it was answered in time (0 or 1), an array a replication."""
        measure = self._least_latency_ms if punctual else rows.latency_ms
        trials = (trial for _, trial in rows.trials(self.rows, self.placement))
        return [(measure(trial) <= deadline_ms)[~trial["warm_up"].to_numpy()].astype(np.float64) for trial in trials]

    def summary(self, *, saturated: bool) -> dict[str, Any]:
        """Return the placement's row of `Measurement.summary`."""
        service = self.conditions.service(self.placement)
        busy = rows.utilisation(self.rows, self.placement, service.servers * service.boxes)
        row = {"placement": self.placement, "requests": len(self.measured), **self.rates_hz, "utilisation": busy}
        row |= self.counts
        for p, estimate in self.estimates.items():
            known = not saturated and estimate.value is not None
            ends = {"": estimate.value, "_low": estimate.low, "_high": estimate.high, "_late": estimate.late}
            for suffix, value in ends.items():
                row[f"{level_name(p)}_ms{suffix}"] = value if known and value is not None else math.nan
        return row

    def _least_latency_ms(self, trial: pd.DataFrame) -> FloatArray:
        return rows.least_latency_ms(trial, self.conditions.timeout_ms)

    def _steadiness(self, trial: pd.DataFrame) -> Steadiness | None:
        if self.conditions.loses(self.placement):  # what the link is to lose is no sign of a service too slow
            trial = trial[trial["status"] != "lost"]
        trial = trial[~trial["status"].isin(["error", "not_sent"]) | trial["received_ns"].notna()]
        due, received = rows.nanoseconds(trial, "due_ns"), rows.nanoseconds(trial, "received_ns", np.inf)
        return steadiness(due, received, np.min(due[~trial["warm_up"]], initial=np.inf))
