"""What the rows say of one placement, each number computed once: tables, verdict and doubts read it here."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from xedge.results import accuracy, rows
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
        return self.rows[~self.rows["warm_up"]]

    @cached_property
    def trials(self) -> dict[int, pd.DataFrame]:
        """Replication → its rows in the order of the schedule, warm-up included."""
        groups = self.rows.sort_values("request", kind="stable").groupby("replication", sort=True)
        return {int(replication): trial for replication, trial in groups}

    @cached_property
    def latencies(self) -> dict[int, FloatArray]:
        """Replication → latencies in ms in the order of the schedule; +inf was not answered in time."""
        return {replication: values[~np.isnan(values)] for replication, values in self._each()}

    @cached_property
    def least_latencies(self) -> dict[int, FloatArray]:
        """The same with a punctual sender, at the least."""
        return {replication: values[~np.isnan(values)] for replication, values in self._each(punctual=True)}

    @cached_property
    def estimates(self) -> dict[float, Estimate]:
        """Level → latency in ms at p50, p90, p95, p99."""
        return {p: self.estimate(p) for p in LEVELS}

    @cached_property
    def rates_hz(self) -> dict[str, float]:
        """`offered_hz`, `sent_hz`, `answered_hz`: events in the trials' measured part over its length.

        Answers are counted in the window shifted by the trial's shortest latency: a long way is no deficit.
        """
        counts, length = np.zeros(3), 0.0
        for trial, begin, end in self._windows():
            length += (end - begin) / 1e9
            due, sent, received = rows.nanoseconds(trial, "due_ns", "sent_ns", "received_ns", missing=math.inf)
            answered = trial["status"].isin(["ok", "error"]) & trial["received_ns"].notna()
            shift = np.min((received - due)[answered]) if answered.any() else 0.0
            counts += [np.sum((at >= begin) & (at < end)) for at in (due, sent, received[answered] - shift)]
        values = counts / length if length else np.full(3, np.nan)
        return dict(zip(("offered_hz", "sent_hz", "answered_hz"), map(float, values), strict=True))

    @property
    def utilisation(self) -> float:
        """The share of the trials' measured part in which one of the servers was busy; NaN without readings.

        Requests of one batch have the same readings `started` and `finished` and count once.
        """
        busy = length = 0.0
        for trial, begin, end in self._windows():
            spans = trial[["started_ns", "finished_ns"]].dropna().drop_duplicates().to_numpy(dtype=np.float64)
            if len(spans):
                length += end - begin
                busy += float(np.diff(np.clip(spans, begin, end), axis=1).sum())
        service = self.conditions.service(self.placement)
        return busy / (length * service.servers * service.boxes) if length else math.nan

    @cached_property
    def counts(self) -> dict[str, int]:
        """Status → number of requests, warm-up apart."""
        counts = self.measured["status"].value_counts()
        return {status: int(counts.get(status, 0)) for status in rows.STATUSES}

    @cached_property
    def judged(self) -> pd.DataFrame:
        """The answered requests whose truth is known, warm-up apart, and whether each answer was `right`."""
        return accuracy.judged(self.measured)

    @cached_property
    def accuracy(self) -> Estimate | None:
        """The share of answers that were right; None where nobody knows."""
        return accuracy.accuracy(self.judged)

    @cached_property
    def roc_auc(self) -> Estimate | None:
        """How often a positive outscores a negative; None where answers are no scores or nobody knows the truth."""
        return accuracy.roc_auc(self.judged, self.conditions.service(self.placement).positive)

    @cached_property
    def steadiness(self) -> list[Steadiness]:
        """Of each trial that is long enough: whether it was in a steady state."""
        judged = []
        for trial in self.trials.values():
            kept = trial["received_ns"].notna() | ~trial["status"].isin(["error", "not_sent"])
            if self.conditions.loses(self.placement):  # what the link is to lose is no sign of a service too slow
                kept &= trial["status"] != "lost"
            due, received = rows.nanoseconds(trial[kept], "due_ns", "received_ns", missing=math.inf)
            received[(trial["status"][kept] == "overloaded").to_numpy(bool)] = math.inf  # a refusal is no service
            judged.append(steadiness(due, received, np.min(due[~trial["warm_up"][kept]], initial=np.inf)))
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
        return [(values <= deadline_ms).astype(np.float64) for _, values in self._each(punctual=punctual)]

    def breakdown(self) -> pd.DataFrame:
        """Return one row a part of the latency, with `median_ms`, `mean_ms` and `share` of the mean.

        The means add up to the row `latency`; medians do not.
        """
        parts = rows.parts_ns(self.measured).astype("float64") / 1e6
        parts = parts.assign(latency=parts.sum(axis=1))
        means = {part: parts[part].mean() for part in parts}
        whole = means["latency"] or math.nan
        table = [(self.placement, part, parts[part].median(), mean, mean / whole) for part, mean in means.items()]
        return pd.DataFrame(table, columns=["placement", "part", "median_ms", "mean_ms", "share"])

    def summary(self, *, saturated: bool) -> dict[str, Any]:
        """Return the placement's row of `Measurement.summary`."""
        row = {"placement": self.placement, "requests": len(self.measured), **self.rates_hz}
        row |= {"utilisation": self.utilisation, **self.counts}
        for p, estimate in self.estimates.items():
            known = not saturated and estimate.value is not None
            ends = {"": estimate.value, "_low": estimate.low, "_high": estimate.high, "_late": estimate.late}
            for suffix, value in ends.items():
                row[f"{level_name(p)}_ms{suffix}"] = value if known and value is not None else math.nan
        for name, share in {"accuracy": self.accuracy, "roc_auc": self.roc_auc}.items():
            if share is not None:
                ends = {"": share.value, "_low": share.low, "_high": share.high}
                row |= {f"{name}{suffix}": math.nan if value is None else value for suffix, value in ends.items()}
        service = self.conditions.service(self.placement)
        used = {"cpu_ms": service.cpu_ms, "memory_mb": service.memory_mb}
        return row | {name: value for name, value in used.items() if value is not None}

    def _each(self, *, punctual: bool = False) -> Iterator[tuple[int, FloatArray]]:
        """Yield (replication, latencies in ms, or the least with a punctual sender), warm-up apart."""
        timeout_ms = self.conditions.timeout_ms
        for replication, trial in self.trials.items():
            values = rows.least_latency_ms(trial, timeout_ms) if punctual else rows.latency_ms(trial)
            yield replication, values[~trial["warm_up"].to_numpy()]

    def _windows(self) -> Iterator[tuple[pd.DataFrame, float, float]]:
        """Yield each trial with begin and end of its measured part, ns, where that has a length."""
        for trial in self.trials.values():
            (due,) = rows.nanoseconds(trial, "due_ns")
            begin, end = due[~trial["warm_up"]].min(initial=np.inf), due.max(initial=-np.inf)
            if end > begin:
                yield trial, begin, end
