"""Whether intervals cover the truth as often as they say: repeated measurements of queues whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import queues

from xedge.results import statistics
from xedge.results.steadiness import warm_up_requests
from xedge.studies.queueing import MMc

REPLICATIONS = 5  # what Scenario.measure does by default


def truth(rho, p):
    queue = MMc(rate_hz=rho, mean_service_ms=1000)
    return (queue.mean_ms if p is None else queue.quantile_ms(p)) / 1000


def estimated(sections, p):
    return statistics.mean_estimate(sections) if p is None else statistics.quantile_estimate(sections, p)


def measured(rng, rho, n, replications=REPLICATIONS):
    """One measurement's latencies: replications from an empty queue, the warm-up set apart."""
    return queues.mm1(rng, rho, (replications, n))[:, warm_up_requests(n, rho) :]


def coverage(rng, rho, n, levels, repetitions):
    """Share of repetitions in which the interval covers the truth, one a level (None is the mean)."""
    truths, covered = [truth(rho, p) for p in levels], np.zeros(len(levels))
    for _ in range(repetitions):
        sections = measured(rng, rho, n)
        found = [estimated(sections, p) for p in levels]
        covered += [e.low <= t <= e.high for e, t in zip(found, truths, strict=True)]
    return covered / repetitions


@pytest.mark.parametrize(
    ("rho", "n", "levels", "repetitions"),
    [
        (0.5, 2000, (None, 0.5, 0.9, 0.95, 0.99), 300),
        pytest.param(0.5, 2000, (None, 0.5, 0.9, 0.95, 0.99), 4000, marks=pytest.mark.long),
        pytest.param(0.8, 5000, (None, 0.5, 0.9, 0.95), 4000, marks=pytest.mark.long),
        pytest.param(0.8, 20_000, (0.99,), 2000, marks=pytest.mark.long),
    ],
)
def test_the_default_interval_covers_the_truth_behind_a_queue(rho, n, levels, repetitions):
    found = coverage(np.random.default_rng(1), rho, n, levels, repetitions)
    assert (found >= 0.90).all(), found
    assert (found <= 0.99).all(), found


def test_an_interval_that_takes_requests_for_independent_would_lie():
    """Why replications: with s/√n the mean is covered in a fifth of the cases."""
    times = queues.mm1(np.random.default_rng(8), 0.8, (200, 5000))[:, 360:]
    half = 1.96 * times.std(axis=1) / math.sqrt(times.shape[1])
    assert np.mean(np.abs(times.mean(axis=1) - truth(0.8, None)) < half) < 0.35


@pytest.mark.parametrize("p", [0.5, 0.95])
def test_a_paired_difference_covers_the_truth(p):
    """Two placements on the same schedules, one of them at utilisation 0.5, the other at 0.8."""
    rng, covered, repetitions, n = np.random.default_rng(3), 0, 300, 5000
    warm_up = warm_up_requests(n, 0.8)
    expected = math.log(1 / (1 - p)) * (0.8 / 0.2 - 0.5 / 0.5)
    for _ in range(repetitions):
        gaps, placements = rng.exponential(size=(REPLICATIONS, n)), []
        for mean_service in (0.5, 0.8):
            services = rng.exponential(mean_service, size=gaps.shape)
            placements.append((queues.waits(gaps, services) + services)[:, warm_up:])
        found = statistics.paired_difference(*placements, p)
        covered += found.low <= expected <= found.high
    assert 0.90 <= covered / repetitions <= 0.99


@pytest.mark.parametrize(("rho", "p", "n"), [(0.5, 0.95, 5000), (0.5, 0.99, 20_000), (0.8, 0.5, 5000)])
def test_batches_of_one_long_run_cover_the_truth(rho, p, n):
    rng, covered, repetitions = np.random.default_rng(4), 0, 300
    for _ in range(repetitions):
        (run,) = measured(rng, rho, n, replications=1)
        found = statistics.quantile_estimate(statistics.batches(run, shortest=statistics.shortest_section(p)), p)
        covered += found.low <= truth(rho, p) <= found.high
    assert 0.90 <= covered / repetitions <= 0.99


@pytest.mark.parametrize(("rho", "share"), [(0.5, 0.95), (0.8, 0.5), (0.8, 0.95)])
def test_goodput_covers_the_truth_where_wilson_alone_would_lie(rho, share):
    rng, covered, alone, repetitions = np.random.default_rng(5), 0, 0, 300
    deadline = truth(rho, share)
    for _ in range(repetitions):
        met = measured(rng, rho, 5000) <= deadline
        found, independent = statistics.share_estimate(met), statistics.binomial_interval(int(met.sum()), met.size)
        covered += found.low <= share <= found.high
        alone += independent.low <= share <= independent.high
    assert 0.90 <= covered / repetitions <= 0.99
    assert alone / repetitions < 0.75


@pytest.mark.parametrize(
    ("rho", "n", "p", "replications", "needed"),
    [(0.8, 1000, 0.99, 5, 5), (0.9, 1000, 0.95, 5, 5), (0.8, 5000, 0.99, 1, 15)],
)
def test_episodes_are_few_where_the_interval_would_be_too_short(rho, n, p, replications, needed):
    rng, covered, doubted, repetitions = np.random.default_rng(6), 0, 0, 150
    for _ in range(repetitions):
        sections = measured(rng, rho, n, replications)
        doubted += statistics.episodes(sections, p) < needed
        batched = sections if replications > 1 else statistics.batches(sections[0], shortest=100)
        found = statistics.quantile_estimate(batched, p)
        covered += found.low <= truth(rho, p) <= found.high
    assert covered / repetitions < 0.85
    assert doubted / repetitions > 0.9


@pytest.mark.parametrize(
    ("rho", "n", "p", "replications", "needed"),
    [(0.5, 5000, 0.99, 5, 5), (0.8, 5000, 0.95, 5, 5), (0.5, 20_000, 0.99, 1, 15), (0.8, 5000, 0.5, 1, 15)],
)
def test_episodes_suffice_where_the_interval_is_true(rho, n, p, replications, needed):
    rng = np.random.default_rng(7)
    found = [statistics.episodes(measured(rng, rho, n, replications), p) for _ in range(100)]
    assert np.mean(np.array(found) < needed) < 0.12


def test_effective_size_of_an_autoregression_is_that_of_the_closed_form():
    """For x_t = φ·x_(t−1) + noise, τ = (1 + φ)/(1 − φ)."""
    rng, phi, n = np.random.default_rng(9), 0.8, 50_000
    noise = rng.normal(size=(4, n)).tolist()
    sections = np.empty((4, n))
    for section, own in zip(sections, noise, strict=True):
        x = 0.0
        for t, e in enumerate(own):
            section[t] = x = phi * x + e
    assert statistics.effective_size(sections) == pytest.approx(4 * n * (1 - phi) / (1 + phi), rel=0.1)
    assert statistics.effective_size(sections[:1]) == pytest.approx(n * (1 - phi) / (1 + phi), rel=0.15)


def test_effective_size_counts_sections_that_differ_from_each_other():
    rng = np.random.default_rng(10)
    same = rng.normal(size=(5, 1000))
    apart = same + 3 * np.arange(5)[:, None]
    assert statistics.effective_size(same) > 3000
    assert statistics.effective_size(apart) < 50


def test_effective_size_of_what_is_always_the_same_is_its_number():
    assert statistics.effective_size([np.full(100, 0.1), np.full(50, 0.1)]) == 150
    assert statistics.effective_size([]) == 0
    assert statistics.effective_size([[1.0]]) == 1
    assert statistics.episodes([], 0.9) == 0
    assert statistics.episodes([np.full(100, math.inf)] * 2, 0.9) == pytest.approx(20)


@pytest.mark.parametrize("share", [0.95, 0.99])
def test_goodput_covers_the_truth_where_replications_differ(share):
    """Each replication has its machine: its requests are alike, as independent ones are, around a share of its own."""
    rng, covered, repetitions = np.random.default_rng(8), 0, 400
    for _ in range(repetitions):
        own = share + (1 - share) * rng.uniform(-0.8, 0.8, size=(REPLICATIONS, 1))
        found = statistics.share_estimate(rng.random((REPLICATIONS, 1000)) < own)
        covered += found.low <= share <= found.high
    assert 0.90 <= covered / repetitions <= 0.99


def test_a_share_of_all_is_worth_no_more_than_what_is_alike_lets_it():
    met, clumped = np.ones((5, 1000)), np.ones((5, 1000))
    clumped[:, 500:510] = 0
    assert statistics.share_estimate(met).low > 0.999
    assert statistics.share_estimate(met, clumped).low < 0.995


def test_share_of_sections_pools_them_and_says_what_they_are_worth():
    met = np.random.default_rng(11).random((4, 500)) < 0.9
    found = statistics.share_estimate(met)
    assert (found.value, found.n, found.sections) == (met.mean(), 2000, 4)
    assert "independent requests' worth" in found.method
    same = statistics.binomial_interval(int(met.sum()), 2000)
    assert same.half_width <= found.half_width < 2 * same.half_width
    clumped = np.sort(met, axis=1)
    assert statistics.share_estimate(clumped).half_width > 3 * same.half_width
