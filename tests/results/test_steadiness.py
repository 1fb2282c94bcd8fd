"""Whether a trial was steady: false alarms, growing queues, answers that never came."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xedge.results.steadiness import steadiness, warm_up_requests
from xedge.scenario.arrivals import Bursty

INF = math.inf


def trial(rng, rate, capacity, duration=20, servers_delay=0.0):
    """Poisson arrivals at one server with exponential service: due and received times in seconds."""
    return served(rng, np.cumsum(rng.exponential(1 / rate, int(rate * duration))), capacity, servers_delay)


def served(rng, due, capacity, servers_delay=0.0):
    service = rng.exponential(1 / capacity, due.size)
    idle = np.maximum.accumulate(due - np.r_[0, np.cumsum(service)[:-1]])
    return due, idle + np.cumsum(service) + servers_delay


@pytest.mark.parametrize(("rate", "capacity", "delay"), [(200, 1000, 0), (200, 1000, 0.1), (200, 400, 0), (20, 80, 0)])
def test_steadiness_raises_no_false_alarm(rate, capacity, delay):
    rng = np.random.default_rng(3)
    trials = [trial(rng, rate, capacity, 5, delay) for _ in range(200)]
    alarms = [steadiness(due, received, 0.5).saturated for due, received in trials]
    assert np.mean(alarms) < 0.05


@pytest.mark.parametrize(("rate", "capacity", "duration"), [(200, 400, 20), (200, 1000, 60), (50, 100, 20)])
def test_steadiness_takes_bursts_for_no_growing_queue(rate, capacity, duration):
    arrivals, rng = Bursty(rate_hz=rate, duration_s=duration), np.random.default_rng(6)
    trials = [served(rng, arrivals.due_ns(seed) / 1e9, capacity) for seed in range(100)]
    alarms = [steadiness(due, received, 0.1 * duration).saturated for due, received in trials]
    assert np.mean(alarms) < 0.1


def test_steadiness_sees_a_queue_that_grows_under_bursts():
    arrivals, rng = Bursty(rate_hz=200, duration_s=60, burst_factor=3, burst_share=0.2), np.random.default_rng(7)
    trials = [served(rng, arrivals.due_ns(seed) / 1e9, 120) for seed in range(50)]
    assert np.mean([steadiness(due, received, 5).saturated for due, received in trials]) > 0.95


@pytest.mark.parametrize(("rate", "capacity"), [(200, 180), (200, 100), (50, 40)])
def test_steadiness_sees_a_queue_that_grows(rate, capacity):
    rng = np.random.default_rng(4)
    found = [steadiness(*trial(rng, rate, capacity), 1.0) for _ in range(50)]
    assert np.mean([one.saturated for one in found]) > 0.95
    assert np.mean([one.slowing for one in found]) > 0.9


def test_steadiness_counts_answers_that_never_came():
    due = np.arange(0, 10, 0.01)
    received = due + 0.001
    received[5::10] = INF
    found = steadiness(due, received, 1.0)
    assert sum(found.answered) / sum(found.offered) == pytest.approx(0.9, abs=0.01)
    assert found.answers_missing
    assert not found.backlog_growing  # what never comes back waits in no queue
    assert not steadiness(due, due + 0.1, 1.0).saturated


def test_steadiness_tells_rising_from_falling():
    due = np.arange(0, 10, 0.01)
    rising, falling = 0.001 + 0.001 * (due > 5), 0.002 - 0.001 * (due > 5)
    assert steadiness(due, due + rising, 0).slowing
    found = steadiness(due, due + falling, 0)
    assert (found.slowing, found.quickening, found.saturated) == (False, True, False)


def test_steadiness_says_nothing_about_a_handful():
    due = np.arange(59.0)
    assert steadiness(due, due + 1, 0) is None


@pytest.mark.parametrize(
    ("n", "utilisation", "servers", "expected"),
    [
        (10_000, 0.1, 1, 500),
        (5000, 0.8, 1, 359),
        (5000, 0.8, 4, 1436),
        (100, 0.8, 1, 50),
        (99, 1.2, 1, 49),
        (10, 0, 1, 4),
    ],
)
def test_warm_up_is_a_twentieth_or_the_transient_and_at_most_half(n, utilisation, servers, expected):
    assert warm_up_requests(n, utilisation, servers) == expected
