"""By how much a late sender can have moved an answer: tables of numbers, and queues with a sender that stalls."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import queues
from sample_rows import MS, trial

from xedge.results.rows import least_latency_ms, possible_shift, typed
from xedge.results.statistics import quantile

NEVER = np.nan


@pytest.mark.parametrize(
    ("due", "sent", "received", "shift"),
    [
        ([0, 5, 10], [0, 5, 10], [1, 6, 11], [0, 0, 0]),  # punctual
        ([0, 5, 10], [2, 5, 10], [3, 6, 11], [2, 0, 0]),  # late, but nobody waited
        ([0, 5, 10, 20], [4, 6, 10, 20], [7, 12, 13, 21], [4, 4, 4, 0]),  # a busy period after it, then a break
        ([0, 1, 2], [0, 3, 3], [4, 5, 6], [0, 2, 2]),  # those before a late one are not moved by it
        ([0, 1, 2], [1, 1, 2], [9, 3, 4], [1, 1, 1]),  # the first is on its way longest
        ([0, 1, 5], [1, 1, 5], [NEVER, 4, 6], [1, 1, 0]),  # one lost is on its way until the next answer
        ([0, 1, 5], [1, 1, 5], [NEVER, NEVER, 6], [1, 1, 1]),
        ([0, 1, 5], [NEVER, 1, 5], [NEVER, 4, 6], [0, 0, 0]),  # one not sent is not on its way
        ([0, 1], [1, 1.5], [NEVER, NEVER], [1, 1]),
        ([0], [-0.001], [1], [0]),  # clocks that differ in the last digit
        ([], [], [], []),
    ],
)
def test_possible_shift_is_the_largest_lateness_since_the_chain_broke(due, sent, received, shift):
    arrays = [np.array(values, float) for values in (due, sent, received)]
    assert possible_shift(*arrays).tolist() == shift


def test_a_latency_is_never_below_nothing_and_stays_infinite():
    rows = trial(n=3).assign(status=["ok", "ok", "lost"])
    stamps = {"due_ns": [0, 1, 9], "sent_ns": [5, 1, 9], "received_ns": [6, 4, pd.NA]}
    for stamp, values in stamps.items():
        rows[stamp] = pd.array(values, dtype="Int64") * MS
    assert least_latency_ms(typed(rows)).tolist() == [1, 0, np.inf]


@pytest.mark.parametrize(("rho", "stall", "share"), [(0.3, 20.0, 0.001), (0.8, 5.0, 0.01), (0.8, 0.3, 0.2)])
def test_truth_lies_between_the_quantiles_behind_a_queue(rho, stall, share):
    """M/D/1 with service time 1: a sender that stalls sends what fell due meanwhile when it goes on."""
    rng, n = np.random.default_rng(1), 20_000
    due = np.cumsum(rng.exponential(1 / rho, n))
    sent = np.maximum.accumulate(due + np.where(rng.random(n) < share, stall, 0.0))
    received, of_punctual = (served(at) for at in (sent, due))
    shift = possible_shift(due, sent, received)
    latency, truth = received - due, of_punctual - due
    least = np.maximum(latency - shift, 0.0)
    assert (least <= truth + 1e-6).all()
    assert (truth <= latency + 1e-6).all()
    for p in (0.5, 0.9, 0.95, 0.99):
        assert quantile(least, p) - 1e-6 <= quantile(truth, p) <= quantile(latency, p) + 1e-6
    assert quantile(least, 0.99) < quantile(latency, 0.99)


def served(arrivals):
    services = np.ones((1, arrivals.size))
    gaps = np.diff(arrivals, prepend=0.0)[None, :]
    return arrivals + (queues.waits(gaps, services) + services)[0]


def test_least_latency_of_rows_goes_by_their_fate():
    rows = trial(n=6, rate_hz=1)
    for stamp, values in {
        "due_ns": [0, 10, 20, 30, 40, 50],
        "sent_ns": [1, 10, 22, 30, pd.NA, 53],
        "received_ns": [4, 18, pd.NA, 37, pd.NA, pd.NA],
    }.items():
        rows[stamp] = pd.array(values, dtype="Int64") * MS
    rows["status"] = ["ok", "timeout", "lost", "error", "not_sent", "timeout"]
    known, unknown = least_latency_ms(typed(rows), 5.0), least_latency_ms(typed(rows))
    assert known[[0, 1, 2, 5]].tolist() == [3, 5, 3, 2]
    assert unknown[[0, 1, 2, 5]].tolist() == [3, np.inf, np.inf, np.inf]
    assert np.isnan(known[[3, 4]]).all()
    assert np.isnan(unknown[[3, 4]]).all()
