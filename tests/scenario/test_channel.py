"""What a link draws: jitter correlated in time, a new base, bursts of loss, TCP's recovery, a trace; and order."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from xedge.core.exceptions import ConfigurationError
from xedge.scenario.channel import Channel, _Recovery
from xedge.scenario.link import GilbertElliott, Link

MS = 1_000_000
TABLE = [(0.0, 1.0), (0.5, 2.0), (0.9, 10.0), (0.99, 60.0), (1.0, 100.0)]


def delays_ms(link, sent_ms, size_bytes=0, seed=0, direction="uplink"):
    channel = Channel(link, seed, direction)
    released = [channel.release_ns(round(at * MS), size_bytes) for at in sent_ms]
    delays = [math.nan if t is None else t / MS - at for t, at in zip(released, sent_ms, strict=True)]
    return np.round(delays, 6)


def levels(delays):
    """The level of every delay in TABLE: uniform, if they follow it."""
    knots, ms = np.array(TABLE).T
    return np.interp(np.log(delays), np.log(ms), knots)


# Jitter


@pytest.mark.parametrize("step_ms", [150.0, 400.0])  # over 100 ms: nothing is held up by what is before it
@pytest.mark.parametrize("correlation_ms", [20.0, 1000.0])
def test_correlated_jitter_follows_its_table_at_any_rate(step_ms, correlation_ms):
    n = 200_000
    delays = delays_ms(Link(jitter_ms=TABLE, correlation_ms=correlation_ms), np.arange(n) * step_ms, seed=3)
    thinned = delays[:: max(1, math.ceil(6 * correlation_ms / step_ms))]  # then as good as independent
    assert stats.kstest(levels(thinned), "uniform").pvalue > 0.01
    assert delays.min() >= 1
    assert delays.max() <= 100


@pytest.mark.parametrize(("step_ms", "correlation_ms"), [(150.0, 300.0), (300.0, 300.0), (150.0, 3000.0)])
def test_correlated_jitter_is_correlated_as_asked(step_ms, correlation_ms):
    delays = delays_ms(Link(jitter_ms=TABLE, correlation_ms=correlation_ms), np.arange(100_000) * step_ms, seed=8)
    z = stats.norm.ppf(np.clip(levels(delays), 1e-9, 1 - 1e-9))
    for lag in (1, 2, 5):
        found = np.mean(z[lag:] * z[:-lag]) - z.mean() ** 2
        assert found == pytest.approx(math.exp(-lag * step_ms / correlation_ms), abs=0.05)


def test_correlation_is_over_time_and_not_over_messages():
    """Of pairs 150 ms apart with 6 s between pairs, only the two of a pair are alike."""
    sent = np.sort(np.concatenate([np.arange(50_000) * 6000.0, np.arange(50_000) * 6000.0 + 150]))
    z = stats.norm.ppf(levels(delays_ms(Link(jitter_ms=TABLE, correlation_ms=300), sent, seed=1)))
    pairs = z.reshape(-1, 2)
    assert np.corrcoef(pairs.T)[0, 1] == pytest.approx(math.exp(-0.5), abs=0.03)
    assert abs(np.corrcoef(pairs[1:, 0], pairs[:-1, 1])[0, 1]) < 0.03


def test_correlated_jitter_of_messages_sent_together_is_one_delay():
    assert len(set(delays_ms(Link(jitter_ms=TABLE, correlation_ms=50), [7.0] * 20))) == 1


@pytest.mark.parametrize("correlation_ms", [0.0, 500.0])
def test_a_channel_tells_how_long_a_message_waited_for_those_before_it(correlation_ms):
    """What is left without the waiting is the delay that the link drew: it follows the table also at a high rate."""
    channel, delays, waits = Channel(Link(jitter_ms=TABLE, correlation_ms=correlation_ms), 4), [], []
    for at in range(0, 200_000, 5):
        delays.append(channel.release_ns(at * MS, 0) / MS - at)
        waits.append(channel.waited_ns / MS)
    drawn = np.round(np.array(delays) - waits, 6)
    assert min(waits) == 0 < max(waits)
    assert drawn.min() >= 1
    assert drawn.max() <= 100
    if not correlation_ms:
        assert stats.kstest(levels(drawn), "uniform").pvalue > 0.01
        assert np.median(delays) > 2 * np.median(drawn)


# A base drawn anew


def test_base_holds_for_its_period_and_follows_its_table():
    link = Link(base_ms=TABLE, rebase_s=2)
    drawn = delays_ms(link, np.arange(0, 4_000_000, 500.0), seed=2)
    changes = np.flatnonzero(np.diff(drawn) != 0)
    assert set(np.diff(changes)) == {4}
    bases = drawn[changes + 1]
    assert len(bases) == pytest.approx(2000, abs=1)
    assert stats.kstest(levels(bases), "uniform").pvalue > 0.01
    assert abs(np.corrcoef(np.log(bases[1:]), np.log(bases[:-1]))[0, 1]) < 0.08


def test_base_does_not_depend_on_when_messages_come():
    link = Link(base_ms=TABLE, rebase_s=2)
    often, seldom = (
        dict(zip(at, delays_ms(link, at, seed=2), strict=True)) for at in (range(0, 60_000, 100), range(0, 60_000, 900))
    )
    assert all(seldom[at] == often[at] for at in seldom)


def test_base_changes_somewhere_in_a_period_and_the_same_way_in_both_directions():
    link, at = Link(base_ms=TABLE, rebase_s=2), range(0, 4000, 10)
    first = [int(np.flatnonzero(np.diff(delays_ms(link, at, seed=seed)))[0]) for seed in range(40)]
    assert min(first) < 40
    assert max(first) > 160
    assert (delays_ms(link, at, seed=4) == delays_ms(link, at, seed=4, direction="downlink")).all()


@pytest.mark.parametrize(
    "link", [Link(jitter_ms=TABLE), Link(jitter_ms=TABLE, correlation_ms=9), Link(segment_loss=0.5)]
)
def test_what_belongs_to_a_message_is_drawn_apart_in_each_direction(link):
    at = range(0, 100_000, 1000)
    assert (delays_ms(link, at) != delays_ms(link, at, direction="downlink")).any()


# Loss


def runs(lost):
    """The lengths of bursts: how many losses in a row."""
    return np.array([len(list(group)) for is_lost, group in itertools.groupby(lost) if is_lost])


@pytest.mark.parametrize("kind", ["loss", "segment_loss"])
@pytest.mark.parametrize(("share", "burst"), [(0.02, 5), (0.3, 2), (0.1, 40)])
def test_bursts_have_the_share_and_the_geometric_lengths_asked_for(kind, share, burst):
    n = 400_000
    delays = delays_ms(Link(**{kind: {"share": share, "burst": burst}}), np.arange(n) * 1e6, seed=11)
    lost = np.isnan(delays) if kind == "loss" else delays > 0
    lengths = runs(lost)
    # The share of a two-state chain has the variance of independent losses times (1 + c) / (1 - c), c = 1 - p - r.
    c = 1 - 1 / burst - share / (1 - share) / burst
    assert abs(lost.mean() - share) < 4 * math.sqrt(share * (1 - share) / n * (1 + c) / (1 - c))
    assert lengths.mean() == pytest.approx(burst, abs=4 * math.sqrt(burst * (burst - 1) / len(lengths)))
    longest = int(3 * burst)
    found = np.bincount(np.minimum(lengths, longest), minlength=longest + 1)[1:]
    expected = len(lengths) * stats.geom.pmf(np.arange(1, longest + 1), 1 / burst)
    expected[-1] = len(lengths) - expected[:-1].sum()
    assert stats.chisquare(found, expected).pvalue > 0.001


def test_elliotts_two_shares_of_loss():
    bursts = GilbertElliott(share=0.1, burst=50, bad=0.6, good=0.02)
    assert bursts.p / (bursts.p + bursts.r) == pytest.approx(0.08 / 0.58)
    lost = np.isnan(delays_ms(Link(loss=bursts), range(400_000), seed=5))
    assert lost.mean() == pytest.approx(0.1, abs=0.006)
    # Two losses in a row: both in one period, or the chain turned between them.
    bad = 0.08 / 0.58
    stay = bad * (1 - bursts.r) * 0.6**2 + (1 - bad) * (1 - bursts.p) * 0.02**2
    turn = (bad * bursts.r + (1 - bad) * bursts.p) * 0.6 * 0.02
    assert np.mean(lost[1:] & lost[:-1]) == pytest.approx(stay + turn, rel=0.06)


def test_independent_losses_are_the_shortest_bursts():
    p, r = (getattr(GilbertElliott(share=0.2, burst=1.25), name) for name in ("p", "r"))
    assert (p, r) == (pytest.approx(0.2), pytest.approx(0.8))


# TCP's recovery. Delay 20 ms: round trip 40 ms, timeout 40 + 200 = 240 ms once the round trip has been measured.


def waits(link, sent_ms, n_seeds=400, **options):
    """How long each message that was late by itself waited to be sent again, over many seeds, in ms."""
    found = []
    for seed in range(n_seeds):
        late = delays_ms(link, sent_ms, seed=seed, **options) - link.delay_ms
        found += [late[k] for k in range(10, len(late)) if late[k] > 0 and not late[k - 10 : k].any()]
    return np.round(found, 3)


@pytest.mark.parametrize(
    ("step_ms", "size_bytes", "first_ms", "second_ms"),
    [
        (1000, 500, 240, 240 + 480),  # nothing behind it in time: timeout, then twice that
        (201, 500, 240, 240 + 480),
        (100, 500, 140, 140 + 240),  # the next message tells: 100 + 40; then the first timeout
        (12, 500, 52, 52 + 240),
        (2, 500, 46, 46 + 240),  # the third duplicate comes before the reordering window of 50 ms has passed
        (1000, 1448, 240, 240 + 480),  # one segment
        (1000, 14480, 40, 40 + 240),  # ten: mostly the third behind it in its own message
    ],
)
def test_lost_segment_waits_as_computed_by_hand(step_ms, size_bytes, first_ms, second_ms):
    link = Link(delay_ms=20, segment_loss=0.02)
    found = waits(link, np.arange(40) * float(step_ms), size_bytes=size_bytes)
    values, counts = np.unique(found, return_counts=True)
    assert values[np.argmax(counts)] == first_ms
    assert second_ms in values


def test_lost_segments_of_a_lone_message_depend_on_what_is_behind_them_in_it():
    """Of five segments two have three behind them, two have one or two, and the last waits for the timeout."""
    found = waits(Link(delay_ms=20, segment_loss=0.005), np.arange(60) * 1000.0, size_bytes=5 * 1448)
    values, counts = np.unique(found, return_counts=True)
    share = dict(zip(values, counts / counts.sum(), strict=True))
    assert set(list(values)[:3]) == {40, 50, 240}
    for wait, of_five in ((40, 2), (50, 2), (240, 1)):
        assert share[wait] == pytest.approx(of_five / 5, abs=0.08)


def test_timeouts_double():
    late = delays_ms(Link(delay_ms=20, segment_loss=0.5), 1e6 + np.arange(5000) * 1e6) - 20
    values, counts = np.unique(late[late > 0][20:], return_counts=True)
    assert list(values[:4]) == [240, 720, 1680, 3600]
    assert counts[0] / counts.sum() == pytest.approx(0.5, abs=0.06)  # sent again, lost again: half of the time


def test_timeout_grows_with_the_variation_of_the_round_trip():
    """RFC 6298: 4 RTTVAR over the floor of 200 ms; here round trips of 2 and 402 ms, each half of the time."""
    link = Link(jitter_ms=[(0, 1), (0.5, 1), (0.500001, 201), (1, 201)], segment_loss=0.02)
    late = np.concatenate([delays_ms(link, np.arange(200) * 1e4, seed=seed) for seed in range(40)])
    waited = late[late > 250]
    assert 600 < np.median(waited) < 1200  # about 202 + 4 × 200, then the delay itself


def test_message_is_lost_as_often_as_any_of_its_segments():
    late = delays_ms(Link(delay_ms=20, segment_loss=0.05), np.arange(50_000) * 1e6, size_bytes=4 * 1448) > 20
    assert late.mean() == pytest.approx(1 - 0.95**4, abs=0.006)


def test_what_is_behind_a_lost_segment_waits_for_it():
    link = Link(delay_ms=20, segment_loss=0.01)
    sent = np.arange(4000) * 5.0
    released = delays_ms(link, sent, seed=1) + sent
    assert (np.diff(released) >= 0).all()
    held = np.flatnonzero(np.diff(released) == 0)
    assert len(held) > 100  # 8 or so behind each of 40 lost ones
    assert not np.isnan(released).any()  # lost segments are no lost messages


def test_retransmission_counts_the_queue_in_its_round_trip():
    """At 1 Mbit/s 1250 bytes take 10 ms: the round trip is 50 ms, the timeout 250 ms."""
    link = Link(delay_ms=20, rate_mbps=1, segment_loss=0.02)
    late = delays_ms(link, np.arange(2000) * 1000.0, size_bytes=1250) - 30
    assert np.unique(late[late > 0])[0] == 250


# Trace replay


TRACE = [(0, 5), (0.1, 20), (0.3, None), (0.4, 8)]  # the last holds for the mean step, 0.4/3 s: period 0.5333 s


@pytest.mark.parametrize(
    ("at_ms", "expected_ms"),
    [
        (0, 5),
        (99, 5),
        (100, 20),
        (299, 20),
        (300, None),
        (399, None),
        (400, 8),
        (533, 8),
        (534, 5),
        (634, 20),
        (5500, 20),
    ],
)
def test_trace_is_held_stepwise_and_begins_again(at_ms, expected_ms):
    found = delays_ms(Link(trace_ms=TRACE), [0, at_ms])[-1]
    np.testing.assert_equal(found, math.nan if expected_ms is None else expected_ms)


def test_trace_begins_with_the_first_message_whatever_the_clock_says():
    at = np.arange(0, 500, 7.0)
    np.testing.assert_allclose(
        delays_ms(Link(trace_ms=TRACE), at), delays_ms(Link(trace_ms=TRACE), at + 1e7), atol=1e-6
    )


def test_trace_from_a_random_place_is_the_same_both_ways_and_different_by_seed():
    link, at = Link(trace_ms=[(t, 1 + t) for t in range(1000)], trace_start="random"), [0.0]
    first = [delays_ms(link, at, seed=seed)[0] for seed in range(30)]
    assert len(set(first)) > 25
    assert first[3] == delays_ms(link, at, seed=3, direction="downlink")[0]
    assert min(first) < 200
    assert max(first) > 800


def test_trace_adds_to_the_other_delays():
    assert delays_ms(Link(delay_ms=2, trace_ms=TRACE), [0])[0] == 7


def write(path, text):
    path.write_text(text)
    return str(path)


def test_trace_is_read_from_a_file(tmp_path):
    path = write(tmp_path / "ping.csv", "t,rtt,host\n1000.5,10,a\n1000.7,,a\n1001,30,b\n")
    link = Link.from_trace(path, "rtt", "t", round_trip=True, rate_mbps=5)
    assert [(round(t, 9), ms) for t, ms in link.trace_ms] == [(0, 5), (0.2, None), (0.5, 15)]
    assert link.rate_mbps == 5
    assert "ping.csv" in link.source
    assert Link.from_trace(path, "rtt", "t").trace_ms[0] == (0, 10)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n", "no column 't_s', 'one_way_ms'; it has a, b"),
        ("t_s,one_way_ms\n0,1\n2,x\n", "one_way_ms.*x"),
        ("t_s,one_way_ms\n0,1\n", "at least two"),
        ("t_s,one_way_ms\n", "at least two"),
        ("t_s,one_way_ms\n0,1\n2,3\n1,4\n", "ascending"),
        ("t_s,one_way_ms\n0,1\n2,-3\n", "trace_ms"),
        ("t_s,one_way_ms\n0,\n2,\n", "every entry is a loss"),
    ],
)
def test_file_that_is_no_trace_is_refused_by_name(tmp_path, text, says):
    with pytest.raises(ConfigurationError, match=says) as found:
        Link.from_trace(write(tmp_path / "ping.csv", text))
    assert "ping.csv" in str(found.value)


def test_missing_trace_file_is_told():
    with pytest.raises(ConfigurationError, match=r"nowhere\.csv"):
        Link.from_trace("nowhere.csv")


# All of it together


def random_link(rng):
    """Any combination of everything a link can have."""
    some = {
        "delay_ms": rng.choice([0, rng.exponential(20)]),
        "jitter_ms": [(0, 0), (0.5, rng.exponential(5)), (1, 200)],
        "base_ms": [(0, 0), (1, rng.exponential(50))],
        "trace_ms": [(0, rng.exponential(20)), (rng.uniform(0.01, 2), None), (2.5, 0)],
        "rate_mbps": rng.exponential(10),
        "loss": [0.1, GilbertElliott(share=0.1, burst=5)][rng.integers(2)],
        "segment_loss": [0.1, GilbertElliott(share=0.1, burst=5)][rng.integers(2)],
    }
    fields = {name: value for name, value in some.items() if rng.random() < 0.5}
    fields |= {"correlation_ms": rng.exponential(100)} if "jitter_ms" in fields and rng.random() < 0.5 else {}
    fields |= {"rebase_s": rng.exponential(0.5)} if "base_ms" in fields else {}
    return Link(**fields)


@given(st.integers(0, 2**32))
@settings(max_examples=60)
def test_no_link_reorders_or_forgets_its_seed_or_is_early(seed):
    rng = np.random.default_rng(seed)
    link, n = random_link(rng), 600
    sent_ns = np.cumsum(rng.exponential(rng.choice([0.1, 3, 100]) * MS, n)).astype(int).tolist()
    sizes = rng.integers(0, 9000, n).tolist()
    one, again = Channel(link, seed), Channel(link, seed)
    released = [one.release_ns(at, size) for at, size in zip(sent_ns, sizes, strict=True)]
    assert released == [again.release_ns(at, size) for at, size in zip(sent_ns, sizes, strict=True)]
    assert all(type(t) is int for t in released if t is not None)
    arrived = [(at, t) for at, t in zip(sent_ns, released, strict=True) if t is not None]
    assert all(t >= at + link.least_ms * MS - 3 for at, t in arrived)
    assert all(later >= earlier for (_, earlier), (_, later) in itertools.pairwise(arrived))
    assert (len(arrived) < n) <= link.loses


def test_round_trip_of_what_was_sent_again_is_no_sample():
    """Karn's rule (RFC 6298, 3): the second round trip of 1000 ms would make the third's timeout longer."""
    recovery = _Recovery(iter([False, True, True]), itertools.repeat(False))
    recovery.wait_ms(0, 500, 40)
    assert recovery.wait_ms(1e4, 500, 1000) == recovery.wait_ms(2e4, 500, 1000) == 240
