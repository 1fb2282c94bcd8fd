"""What went wrong in a trial and when, and how soon answers came as fast as before: pure, no clock and no I/O."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xedge.results import rows
from xedge.results.conditions import Trial
from xedge.results.statistics import FloatArray, quantile
from xedge.scenario.faults import FAULTS

AS_FAST, WINDOW, SHARE = 0.99, 20, 0.9  # how recovery is defined: see `recovered_s`
AWAY = "broker away"
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Disruption:
    """Something that went wrong in a trial, in seconds after its start; `asked` for by the scenario at `at_s`, or not.

    `last_s` is when the last request was due that was answered before it began; `recovered_s` from when on answers come
    as fast as before (the due time of a request): +inf not within the trial, NaN not known; `until_s` from when on
    nothing of it is seen, or something else goes wrong. `failure` says why a fault could not be done or mended.
    """

    kind: str
    begin_s: float
    end_s: float
    at_s: float
    asked: bool = True
    failure: str = ""
    last_s: float = -math.inf
    recovered_s: float = math.nan
    until_s: float = math.inf

    @property
    def name(self) -> str:
        """What happened, as people read it."""
        return FAULTS.get(self.kind, self.kind)

    @property
    def recovery_s(self) -> float:
        """From its end until answers came as fast as before, s; +inf not within the trial, NaN not known."""
        return self.recovered_s - self.end_s

    def hits(self, due_s: FloatArray) -> Mask:
        """Return which requests it disrupted, by when they were due: those on their way when it began, and later."""
        hit: Mask = (due_s > min(self.last_s, self.begin_s)) & (due_s < self.until_s)
        return hit

    def span(self) -> str:
        """Return "from 1.00 to 2.13 s"."""
        return f"from {self.begin_s:.2f} to {self.end_s:.2f} s"


def recovered_s(
    due_s: FloatArray, latency_ms: FloatArray, quiet: Mask, begin_s: float, end_s: float, until_s: float = math.inf
) -> tuple[float, float]:
    """Return when the last request was due that was answered before a disruption, and from when on all is as before.

    As before means: of `WINDOW` requests that are due one after the other, the first is answered within the p99
    (`AS_FAST`) of the latencies before it began, and so is a share of them at least `SHARE` times the share before. The
    first such window whose requests are due between `end_s` and `until_s` counts, and its first request's due time is
    returned; `end_s`, if it is the first window there is. So the resolution is the time between two requests; and a
    normal window, of which each request is within the p99 with probability 0.99, is missed in 1 of 1000 cases
    (binomial).

    Args:
        due_s: when the requests of a trial were due, ascending, shape (n,).
        latency_ms: their latencies, +inf where there was no answer of use, shape (n,).
        quiet: which requests tell what was before: no warm-up, no earlier disruption; of these, the ones due no later
            than the last that was answered before `begin_s`, because what was on its way then was disrupted too.
        begin_s: when it began.
        end_s: when it was mended.
        until_s: when something else goes wrong.

    Returns:
        (last_s, recovered_s): recovered_s is +inf if there is no such window, NaN if fewer than `WINDOW` of the quiet
        requests were answered before.
    """
    last_s = float(np.max(due_s[due_s + latency_ms / 1e3 <= begin_s], initial=-math.inf))
    before = latency_ms[quiet & (due_s <= last_s)]
    if np.isfinite(before).sum() < WINDOW:
        return last_s, math.nan
    limit_ms = quantile(before[np.isfinite(before)], AS_FAST)
    needed = SHARE * WINDOW * float(np.mean(before <= limit_ms))
    after = (due_s >= end_s) & (due_s < until_s)
    good = latency_ms[after] <= limit_ms
    if good.size < WINDOW:
        return last_s, math.inf
    starts = np.flatnonzero(good[: good.size - WINDOW + 1] & (np.convolve(good, np.ones(WINDOW), "valid") >= needed))
    if not starts.size:
        return last_s, math.inf
    return last_s, end_s if starts[0] == 0 else float(due_s[after][starts[0]])


def disruptions_of(trial: pd.DataFrame, facts: Trial) -> tuple[list[Disruption], Mask]:
    """Return what went wrong in a trial, in the order of time, and which of its rows were disrupted, shape (n,).

    The faults asked for, and the times at which the sender or the service had no broker for another reason. A row is
    disrupted if it was on its way when something began, or due before all was as before.
    """
    happened = [Disruption(f.kind, f.begin_s, f.end_s, f.at_s, failure=f.failure) for f in facts.faults]
    restarts = [(d.begin_s - 0.5, d.end_s + 0.5) for d in happened if d.kind == "broker_restart"]
    for begin, end in _joined(facts.outages):
        if not any(begin < until and end > since for since, until in restarts):
            happened.append(Disruption(AWAY, begin, end, begin, asked=False))
    happened.sort(key=lambda disruption: disruption.begin_s)
    due_s = rows.nanoseconds(trial, "due_ns")[0] / 1e9
    latency_ms = rows.latency_ms(trial)
    latency_ms[np.isnan(latency_ms)] = math.inf
    warm_up = trial["warm_up"].to_numpy(bool)
    known, hit = [], np.zeros(len(due_s), bool)
    for place, it in enumerate(happened):
        next_s = happened[place + 1].begin_s if place + 1 < len(happened) else math.inf
        last_s, again_s = recovered_s(due_s, latency_ms, ~warm_up & ~hit, it.begin_s, it.end_s, next_s)
        until_s = it.end_s if math.isnan(again_s) else min(again_s, next_s)
        known.append(replace(it, last_s=last_s, recovered_s=again_s, until_s=until_s))
        hit |= known[-1].hits(due_s)
    return known, hit


def without(due: FloatArray, received: FloatArray, hit: Mask) -> tuple[FloatArray, FloatArray]:
    """Return the times of the requests that were not `hit`, moved together where others were left out.

    All in the order of the schedule, shape (n,), one unit. So a trial's rest is a shorter trial.
    """
    steps = np.diff(due, append=due[-1:])
    missing = np.cumsum(np.where(hit, steps, 0.0)) - np.where(hit, steps, 0.0)
    return (due - missing)[~hit], (received - missing)[~hit]


def _joined(outages: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """The times without a broker, those that overlap as one."""
    begin, end = math.inf, -math.inf
    for since, until in sorted(outages):
        if since > end and end > -math.inf:
            yield begin, end
            begin, end = math.inf, -math.inf
        begin, end = min(begin, since), max(end, until)
    if end > -math.inf:
        yield begin, end
