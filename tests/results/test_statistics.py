"""Quantiles, intervals and steadiness against tables, closed forms and simulated queues."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import stdtrit

from xedge.core.exceptions import ConfigurationError, MeasurementError
from xedge.results import statistics

INF = math.inf


@pytest.mark.parametrize(
    ("values", "p", "expected"),
    [
        ([4, 1, 3, 2], 0.50, 2),
        ([4, 1, 3, 2], 0.51, 3),
        ([4, 1, 3, 2], 0.01, 1),
        ([4, 1, 3, 2], 0.99, 4),
        ([7], 0.5, 7),
        ([1, 2, INF, INF], 0.50, 2),
        ([1, 2, INF, INF], 0.75, INF),
        (range(1, 101), 0.07, 7),
        (range(1, 101), 0.99, 99),
        (range(1, 21), 0.95, 19),
        (range(1, 1001), 0.999, 999),
    ],
)
def test_quantile_is_the_inverse_of_the_empirical_distribution(values, p, expected):
    values = np.array(list(values), dtype=float)
    assert statistics.quantile(values, p) == expected
    assert np.mean(values <= expected) >= p
    assert np.mean(values < expected) < p


def test_quantile_refuses_nothing_nan_and_a_level_in_per_cent():
    with pytest.raises(MeasurementError, match="no values"):
        statistics.quantile([], 0.5)
    with pytest.raises(MeasurementError, match="NaN"):
        statistics.quantile([1.0, math.nan], 0.5)
    with pytest.raises(ConfigurationError, match=r"0\.99 for p99"):
        statistics.quantile([1.0], 99)


def test_minimum_samples_are_those_of_the_method():
    assert [statistics.minimum_samples(p) for p in (0.5, 0.9, 0.95, 0.99, 0.999)] == [5, 29, 59, 299, 2995]


def test_estimate_is_centred_on_the_pooled_quantile():
    sections = [np.arange(1, 101.0), np.arange(1, 101.0) + 10, np.arange(1, 101.0) + 50]
    estimate = statistics.quantile_estimate(sections, 0.5)
    pooled = statistics.quantile(np.concatenate(sections), 0.5)
    spread = math.sqrt(sum((q - pooled) ** 2 for q in (50, 60, 100)) / 2)
    assert estimate.value == pooled
    assert estimate.half_width == pytest.approx(stdtrit(2, 0.975) * spread / math.sqrt(3))
    assert (estimate.low + estimate.high) / 2 == pytest.approx(pooled)
    assert (estimate.n, estimate.sections, estimate.too_few) == (300, 3, False)


def test_estimate_has_no_value_below_the_floor_and_no_interval_without_sections():
    few = statistics.quantile_estimate([np.ones(149), np.ones(149)], 0.99)
    assert (few.value, few.low, few.needed, few.too_few) == (None, None, 299, True)
    enough = statistics.quantile_estimate([np.ones(149), np.ones(150), np.ones(150)], 0.99)
    assert (enough.value, enough.low, enough.high) == (1, 1, 1)
    assert statistics.quantile_estimate([np.ones(299)], 0.99).low is None
    short = statistics.quantile_estimate([np.ones(99), np.ones(300)], 0.99)
    assert (short.value, short.low) == (1, None)
    assert "long enough" in short.method


def test_two_replications_give_the_median_an_interval_and_no_percentile_above_it():
    sections = [np.arange(1000.0), np.arange(1000.0) + 3]
    assert statistics.quantile_estimate(sections, 0.5).low is not None
    p99 = statistics.quantile_estimate(sections, 0.99)
    assert (p99.low, p99.high, p99.method) == (
        None,
        None,
        "no interval: a quantile in the tail needs 3 sections or more, here are 2",
    )
    assert statistics.paired_difference(sections, sections, 0.99).low is None
    assert statistics.quantile_estimate([*sections, np.arange(1000.0) + 1], 0.99).low is not None


def test_no_interval_begins_below_the_smallest_value():
    sections = [np.full(100, 1.0), np.full(100, 4.0), np.full(100, 40.0)]
    estimate = statistics.quantile_estimate(sections, 0.5)
    assert (estimate.value, estimate.low) == (4, 1)
    assert estimate.high - estimate.value == pytest.approx(estimate.half_width)
    assert estimate.half_width > 4
    wider = estimate.widened(1.0, 0.0)
    assert (wider.low, wider.high, wider.half_width) == (0, estimate.high, estimate.half_width)
    shifted = statistics.quantile_estimate([section - 4 for section in sections], 0.5)
    assert (shifted.low, shifted.half_width) == (-3, pytest.approx(estimate.half_width))
    difference = statistics.paired_difference(sections, [2 * section for section in sections], 0.5)
    assert difference.low < 0 < difference.value


def test_estimate_is_censored_when_more_than_the_rest_timed_out():
    section = np.r_[np.ones(940), np.full(60, INF)]
    p90 = statistics.quantile_estimate([section] * 3, 0.9)
    p95 = statistics.quantile_estimate([section] * 3, 0.95)
    assert (p90.value, p90.low) == (1, 1)
    assert (p95.value, p95.low, p95.high) == (INF, None, None)
    assert "censored" in p95.method


def test_mean_estimate_of_few_sections():
    estimate = statistics.mean_estimate([[1.0, 3.0], [2.0, 4.0]])
    assert estimate.value == 2.5
    assert estimate.half_width == pytest.approx(stdtrit(1, 0.975) * math.sqrt(0.5) / math.sqrt(2))
    assert statistics.mean_estimate([]).value is None
    assert statistics.mean_estimate([[1.0]]).low is None


def test_difference_cancels_what_the_arms_share():
    rng = np.random.default_rng(1)
    a = [rng.exponential(size=400) + shared for shared in (0, 5, 20, 3)]
    b = [section + 2 for section in a]
    estimate = statistics.paired_difference(a, b, 0.95)
    assert estimate.value == pytest.approx(2)
    assert estimate.half_width == pytest.approx(0, abs=1e-9)
    assert statistics.quantile_estimate(a, 0.95).half_width > 5
    assert statistics.paired_difference(b, a, 0.95).value == pytest.approx(-2)


def test_difference_with_time_outs_and_with_unlike_numbers_of_sections():
    good, bad = [np.ones(100)] * 2, [np.full(100, INF)] * 2
    assert statistics.paired_difference(good, bad, 0.5).value == INF
    assert statistics.paired_difference(bad, good, 0.5).value == -INF
    assert statistics.paired_difference(bad, bad, 0.5).value is None
    assert statistics.paired_difference([np.ones(20)], [np.ones(20)], 0.99).too_few
    with pytest.raises(MeasurementError, match="do not pair"):
        statistics.paired_difference(good, good[:1], 0.5)


def test_batches_are_contiguous_and_never_shorter_than_asked():
    parts = statistics.batches(np.arange(1003.0))
    assert [part.size for part in parts] == [101] * 3 + [100] * 7
    assert np.array_equal(np.concatenate(parts), np.arange(1003.0))
    assert len(statistics.batches(np.arange(450.0), shortest=100)) == 4
    assert len(statistics.batches(np.arange(50.0), shortest=100)) == 1


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 20, 0.0, 0.1611), (20, 20, 0.8389, 1.0), (950, 1000, 0.9347, 0.9619)],
)
def test_binomial_interval_is_wilsons(successes, n, low, high):
    estimate = statistics.binomial_interval(successes, n)
    assert estimate.value == successes / n
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=5e-5)


def test_binomial_interval_refuses_no_requests():
    with pytest.raises(MeasurementError, match="at least one"):
        statistics.binomial_interval(0, 0)


def test_curves_are_thinned_but_keep_the_tail():
    values = np.random.default_rng(2).lognormal(size=20_000)
    x, share = statistics.ecdf(values)
    assert 300 < x.size <= 500
    assert (x[0], x[-1], share[-1]) == (values.min(), values.max(), 1)
    assert share == pytest.approx([np.mean(values <= at) for at in x])
    x, share = statistics.survival(values)
    assert share == pytest.approx([np.mean(values > at) for at in x])
    assert share[-1] == pytest.approx(10 / values.size, rel=0.2)
    assert share.min() >= 10 / values.size - 1e-12
    assert np.sum(share < 0.01) > 30


def test_curves_end_where_the_time_outs_begin():
    values = np.r_[np.arange(1, 91.0), np.full(10, INF)]
    x, share = statistics.ecdf(values)
    assert (x[-1], share[-1]) == (90, 0.9)
    _, left = statistics.survival(values, cut=5)
    assert left[-1] == pytest.approx(0.1)
    assert statistics.ecdf([])[0].size == statistics.survival([])[0].size == 0
