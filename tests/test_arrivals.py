"""Schedules: rates by statistics, exact timers, recorded traces."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from xedge.arrivals import Constant, Poisson, Trace
from xedge.exceptions import ConfigurationError

SECOND = 1_000_000_000
KINDS = [
    Poisson(rate_hz=200, duration_s=20),
    Constant(rate_hz=200, duration_s=20),
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


def test_poisson_seeds_give_different_schedules():
    first, second = (KINDS[0].due_ns(seed)[:100] for seed in (1, 2))
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


@pytest.mark.parametrize("kind", [Poisson, Constant])
@pytest.mark.parametrize("bad", [0, -1, math.nan, math.inf, "5", None, True])
@pytest.mark.parametrize("field", ["rate_hz", "duration_s"])
def test_rate_and_duration_outside_their_range_are_refused(kind, field, bad):
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
