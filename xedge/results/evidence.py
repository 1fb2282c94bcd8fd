"""What the rows say of one placement, each number computed once: tables, verdict and doubts read it here."""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from xedge.results import accuracy, rows
from xedge.results.conditions import Conditions
from xedge.results.disruptions import Disruption, Mask, disruptions_of, without
from xedge.results.statistics import Estimate, FloatArray, as_sections, mean_estimate, quantile_estimate
from xedge.results.steadiness import Steadiness, steadiness
from xedge.results.words import level_name

LEVELS = (0.50, 0.90, 0.95, 0.99)
COMPARED_LEVELS = (0.50, 0.95, 0.99)
EVENTS = ("placement", "replication", "fault", "asked", "at_s", "begin_s", "end_s", "recovery_s", "requests", "failed")


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
    def disruptions(self) -> dict[int, list[Disruption]]:
        """Replication → what went wrong in it, in the order of time, only where anything did."""
        return {replication: known for replication, (known, _) in self._disrupted.items() if known}

    @cached_property
    def quiet(self) -> pd.DataFrame:
        """The measured rows of which none was disrupted by a fault or by a broker that was away."""
        if not self.disruptions:
            return self.measured
        hit = [self.trials[number].index[mask] for number, (_, mask) in self._disrupted.items()]
        return self.measured.drop(index=self.measured.index.intersection(np.concatenate(hit)))

    @cached_property
    def _disrupted(self) -> dict[int, tuple[list[Disruption], Mask]]:
        facts = {trial.replication: trial for trial in self.conditions.trials if trial.placement == self.placement}
        known = {number: facts[number] for number in self.trials if number in facts}
        eventful = {number: trial for number, trial in known.items() if trial.faults or trial.outages}
        return {number: disruptions_of(self.trials[number], trial) for number, trial in eventful.items()}

    @cached_property
    def steadiness(self) -> list[Steadiness]:
        """Of each trial that is long enough: whether it was in a steady state, but for what was disrupted in it."""
        judged = []
        for number, trial in self.trials.items():
            kept = trial["received_ns"].notna() | ~trial["status"].isin(["error", "not_sent"])
            if self.conditions.loses(self.placement):  # what the link is to lose is no sign of a service too slow
                kept &= trial["status"] != "lost"
            due, received = rows.nanoseconds(trial[kept], "due_ns", "received_ns", missing=math.inf)
            received[(trial["status"][kept] == "overloaded").to_numpy(bool)] = math.inf  # a refusal is no service
            measured = ~trial["warm_up"][kept].to_numpy(bool)
            if number in self.disruptions:
                hit = self._disrupted[number][1][kept.to_numpy(bool)]
                (due, received), measured = without(due, received, hit), measured[~hit]
            judged.append(steadiness(due, received, np.min(due[measured], initial=np.inf)))
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

    def availability(self, deadline_ms: float | None = None) -> Estimate:
        """Return the share of all scheduled requests answered within the deadline, or without one at all.

        The mean of the replications' shares with Student's t over them: faults at the same times make requests of one
        trial so alike that they count once.
        """
        met = self.met(sys.float_info.max if deadline_ms is None else deadline_ms)
        return _within(mean_estimate([[np.mean(answered)] for answered in met if answered.size]), 0.0, 1.0)

    def recovery(self, kind: str) -> Estimate:
        """Return how long after a fault of this kind was mended answers came as fast as before, s.

        The mean over the replications, each with the mean of its faults of this kind, with Student's t; +inf where one
        did not recover, no value where that is known of none.
        """
        values = [[d.recovery_s for d in known if d.kind == kind] for known in self.disruptions.values()]
        known = [np.array(times)[~np.isnan(times)] for times in values if times]
        return _within(mean_estimate([[np.mean(times)] for times in known if times.size]), 0.0, math.inf)

    def events(self) -> list[dict[str, Any]]:
        """Return each fault or outage: replication, what, when (s), and what it cost; see `Measurement.faults`."""
        listed = []
        for replication, known in self.disruptions.items():
            trial = self.trials[replication]
            due_s, ok = trial["due_ns"].to_numpy(dtype=float) / 1e9, (trial["status"] == "ok").to_numpy(bool)
            for it in known:
                hit = it.hits(due_s)
                facts = {"placement": self.placement, "replication": replication, "fault": it.kind, "asked": it.asked}
                facts |= {"at_s": it.at_s, "begin_s": it.begin_s, "end_s": it.end_s, "recovery_s": it.recovery_s}
                listed.append(facts | {"requests": int(hit.sum()), "failed": int((hit & ~ok).sum())})
        return listed

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


def _within(estimate: Estimate, least: float, most: float) -> Estimate:
    """The estimate with an interval that does not leave what can be."""
    if estimate.low is None or estimate.high is None:
        return estimate
    low, high = max(estimate.low, least), min(estimate.high, most)
    return replace(estimate, low=low, high=high, sampling_half_width=estimate.half_width)
