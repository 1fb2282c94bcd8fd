"""Schedules: rates by statistics, exact timers, recorded traces."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from xedge.core.exceptions import ConfigurationError
from xedge.runs.scenario import Scenario
from xedge.scenario.arrivals import Bursty, Constant, Poisson, Trace
from xedge.scenario.placements import Edge

SECOND = 1_000_000_000
KINDS = [
    Poisson(rate_hz=200, duration_s=20),
    Constant(rate_hz=200, duration_s=20),
    Bursty(rate_hz=200, duration_s=20),
    Trace(due_s=[0, 0.25, 0.25, 3, 20 - 1e-9]),
]
by_kind = pytest.mark.parametrize("arrivals", KINDS, ids=lambda a: type(a).__name__)


@by_kind
def test_due_times_are_whole_nanoseconds_ascending_within_the_duration(arrivals):
    due = arrivals.due_ns(3)
    assert due.dtype == np.int64
    assert due.ndim == 1
    assert due[0] >= 0
    assert due[-1] <= 20 * SECOND
    assert (np.diff(due) >= 0).all()


@by_kind
def test_due_times_are_the_same_for_the_same_seed(arrivals):
    np.testing.assert_array_equal(arrivals.due_ns(11), arrivals.due_ns(11))


@pytest.mark.parametrize("arrivals", [KINDS[0], KINDS[2]], ids=["Poisson", "Bursty"])
def test_seeds_give_different_schedules(arrivals):
    first, second = (arrivals.due_ns(seed)[:100] for seed in (1, 2))
    assert not np.isin(first, second).any()


def test_poisson_count_has_the_mean_and_the_variance_of_its_rate():
    arrivals = Poisson(rate_hz=50, duration_s=8)
    counts = np.array([len(arrivals.due_ns(seed)) for seed in range(400)])
    mean = 400
    assert abs(counts.mean() - mean) < 4 * math.sqrt(mean / len(counts))
    assert 0.75 < counts.var(ddof=1) / mean < 1.25  # 1 ± 3.5 standard errors


@pytest.mark.parametrize("rate_hz", [0.5, 20, 4000])
def test_poisson_gaps_are_exponential_and_independent(rate_hz):
    due = Poisson(rate_hz=rate_hz, duration_s=5000 / rate_hz).due_ns(5)
    gaps = np.diff(due, prepend=0) / SECOND
    assert stats.kstest(gaps, "expon", args=(0, 1 / rate_hz)).pvalue > 0.01
    assert abs(np.corrcoef(gaps[1:], gaps[:-1])[0, 1]) < 4 / math.sqrt(len(gaps))


def test_poisson_reaches_the_end_of_its_duration_for_every_seed():
    arrivals = Poisson(rate_hz=10, duration_s=10)
    last = [arrivals.due_ns(seed)[-1] for seed in range(300)]
    assert max(last) < 10 * SECOND
    assert abs(10 - np.mean(last) / SECOND - 0.1) < 4 * 0.1 / math.sqrt(300)


def test_poisson_of_almost_nothing_is_empty():
    assert Poisson(rate_hz=1e-6, duration_s=1).due_ns(0).shape == (0,)


@pytest.mark.parametrize(
    ("rate_hz", "duration_s", "due_s"),
    [
        (1, 3, [0, 1, 2]),
        (4, 1, [0, 0.25, 0.5, 0.75]),
        (10, 0.3, [0, 0.1, 0.2]),
        (0.5, 6, [0, 2, 4]),
        (1, 0.1, [0]),
        (1, 1.6, [0, 1]),
        (1, 1.4, [0, 1]),
        (1, 2.5, [0, 1, 2]),
    ],
)
def test_constant_is_due_every_period_before_the_end(rate_hz, duration_s, due_s):
    due = Constant(rate_hz=rate_hz, duration_s=duration_s).due_ns(0)
    np.testing.assert_array_equal(due, np.array(due_s) * SECOND)


def test_constant_does_not_drift_where_a_period_is_no_whole_nanosecond():
    due = Constant(rate_hz=3, duration_s=3600).due_ns(0)
    assert len(due) == 10_800
    assert due[-3:].tolist() == [3599 * SECOND, 3599 * SECOND + 333_333_333, 3599 * SECOND + 666_666_667]


def test_constant_ignores_the_seed():
    np.testing.assert_array_equal(KINDS[1].due_ns(1), KINDS[1].due_ns(2))


def counts(arrivals, window_s, seeds=20):
    """Requests in every window of every seed's schedule."""
    edges = np.arange(0, arrivals.duration_s + window_s / 2, window_s) * SECOND
    return np.concatenate([np.histogram(arrivals.due_ns(seed), edges)[0] for seed in range(seeds)])


def dispersion(arrivals, window_s=math.inf):
    """The variance over the mean of the number of requests in a window; 1 is Poisson.

    W. Fischer, K. Meier-Hellstern, The Markov-modulated Poisson process cookbook, Performance Evaluation 18, 1993,
    149-171: rates l1, l2, and s1, s2 at which the states are left.
    """
    share, burst_s = arrivals.burst_share, arrivals.burst_s
    (l2, l1), s1, s2 = arrivals.rates_hz, 1 / burst_s, share / (burst_s * (1 - share))
    spread = 2 * s1 * s2 * (l1 - l2) ** 2 / ((s1 + s2) ** 2 * (l1 * s2 + l2 * s1))
    return 1 + spread * (1 + math.expm1(-(s1 + s2) * window_s) / ((s1 + s2) * window_s))


def test_bursty_has_the_rates_and_the_share_it_is_given():
    arrivals = Bursty(rate_hz=90, duration_s=400, burst_factor=4, burst_share=0.2, burst_s=2)
    assert arrivals.rates_hz == pytest.approx((22.5, 360))
    found = counts(arrivals, 0.2)
    error = math.sqrt(90 * dispersion(arrivals) / (400 * 20))
    assert abs(found.mean() / 0.2 - 90) < 4 * error
    busy = found > 0.2 * 150  # far from both rates
    assert busy.mean() == pytest.approx(0.2, abs=0.02)
    assert found[busy].mean() / 0.2 == pytest.approx(360, rel=0.06)
    assert found[~busy].mean() / 0.2 == pytest.approx(22.5, rel=0.1)
    begins = np.sum(busy[1:] & ~busy[:-1])
    assert 8000 / begins == pytest.approx(10, rel=0.12)  # one burst every 2 s of burst and 8 s of calm


@pytest.mark.parametrize("window_s", [0.1, 1, 10])
@pytest.mark.parametrize(("factor", "share", "burst_s"), [(4, 0.1, 0.5), (10, 0.1, 0.5), (1.5, 0.5, 2), (3, 0.3, 0.05)])
def test_bursty_counts_are_dispersed_as_the_formula_says(window_s, factor, share, burst_s):
    arrivals = Bursty(rate_hz=50, duration_s=2000, burst_factor=factor, burst_share=share, burst_s=burst_s)
    found = counts(arrivals, window_s)
    assert found.var() / found.mean() == pytest.approx(dispersion(arrivals, window_s), rel=0.15)


def test_bursty_may_be_silent_between_bursts():
    arrivals = Bursty(rate_hz=100, duration_s=200, burst_factor=5, burst_share=0.2, burst_s=1)
    assert arrivals.rates_hz == (0, 500)
    gaps = np.diff(arrivals.due_ns(1)) / SECOND
    within = gaps[gaps < 0.05]
    assert within.mean() == pytest.approx(1 / 500, rel=0.05)
    assert np.sum(gaps > 0.05) > 20


def test_bursty_begins_in_its_steady_state():
    arrivals = Bursty(rate_hz=100, duration_s=1, burst_factor=9, burst_share=0.1, burst_s=5)
    first = np.array([len(arrivals.due_ns(seed)) for seed in range(2000)])
    assert abs(first.mean() - 100) < 4 * first.std() / math.sqrt(len(first))
    assert 0.06 < np.mean(first > 500) < 0.14


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"burst_factor": 6, "burst_share": 0.2}, "burst_factor may be 5 at most"),
        ({"burst_factor": 1}, "burst_factor"),
        ({"burst_share": 1}, "burst_share"),
        ({"burst_s": 0}, "burst_s"),
    ],
)
def test_bursts_that_cannot_be_are_refused(changed, says):
    with pytest.raises(ConfigurationError, match=says):
        Bursty(rate_hz=100, duration_s=1, **changed)


def test_bursty_is_read_back_from_yaml(tmp_path):
    arrivals = Bursty(rate_hz=100, duration_s=1, burst_factor=3)
    scenario = Scenario(model="anomaly_detector", workload=arrivals, placements={"edge": Edge()})
    assert "kind: bursty" in scenario.to_yaml()
    (tmp_path / "s.yaml").write_text(scenario.to_yaml())
    assert Scenario.from_yaml(tmp_path / "s.yaml").workload == arrivals


def test_trace_is_due_when_it_was_recorded():
    trace = Trace(due_s=[0, 0.001, 0.001, 2.5])
    assert trace.due_ns(0).tolist() == [0, 1_000_000, 1_000_000, 2_500_000_000]
    assert trace.duration_s == 2.5
    assert trace.rate_hz == 4 / 2.5


def test_trace_of_one_moment_still_has_a_rate():
    assert Trace(due_s=[0, 0]).rate_hz == 2


@pytest.mark.parametrize(
    ("due_s", "says"),
    [
        ([], "at least one"),
        ([1, 0.5], r"due_s\[1\] = 0\.5 is before due_s\[0\] = 1\.0"),
        ([0, 1, 2, 1.9, 0], r"due_s\[3\]"),
        ([-1], ">= 0"),
        ([math.nan], ">= 0"),
        ([0, math.nan, 1], ">= 0"),
        ([0, "1"], "str"),
        ([0, math.inf], "due_s"),
    ],
)
def test_trace_refuses_what_is_no_schedule(due_s, says):
    with pytest.raises(ConfigurationError, match=says):
        Trace(due_s=due_s)


@pytest.mark.parametrize("kind", [Poisson, Constant, Bursty])
@pytest.mark.parametrize("field", ["rate_hz", "duration_s"])
def test_rate_and_duration_outside_their_range_are_refused(kind, field):
    for bad in (0, -1, math.nan, math.inf, "5", None, True):
        with pytest.raises(ConfigurationError, match=field):
            kind(**({"rate_hz": 1, "duration_s": 1} | {field: bad}))


def csv(tmp_path, text):
    path = tmp_path / "trace.csv"
    path.write_text(text)
    return str(path)


def test_trace_reads_a_column_of_a_csv_file(tmp_path):
    path = csv(tmp_path, "due_s,t\n0,1\n0.5,1\n2,7\n")
    assert Trace.from_csv(path) == Trace(due_s=[0, 0.5, 2])
    assert Trace.from_csv(path, "t") == Trace(due_s=[1, 1, 7])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("time\n1\n", "no column 'due_s'; it has time"),
        ("due_s\n2\n1\n", "is before"),
        ("due_s\n", "at least one"),
        ("due_s,x\n1,a\n,b\n", "due_s"),
        ("due_s\n0\nsoon\n", "soon"),
        ("", "trace.csv"),
        (None, "trace.csv"),
    ],
    ids=["no column", "backwards", "no rows", "a gap", "a word", "an empty file", "no file"],
)
def test_trace_from_csv_refuses_what_is_no_schedule(tmp_path, text, says):
    path = csv(tmp_path, text) if text is not None else str(tmp_path / "trace.csv")
    with pytest.raises(ConfigurationError, match=says):
        Trace.from_csv(path)
