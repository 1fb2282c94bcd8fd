"""Links as arithmetic: the method's example, order, rate, loss, jitter and the published numbers."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from xedge.core.exceptions import ConfigurationError
from xedge.runs.scenario import Scenario
from xedge.scenario.arrivals import Constant
from xedge.scenario.channel import Channel
from xedge.scenario.link import GilbertElliott, Link, QuantileTable, presets
from xedge.scenario.placements import Cloud

MS = 1_000_000
TABLE = [(0.0, 1.0), (0.5, 2.0), (0.9, 10.0), (0.99, 60.0), (1.0, 100.0)]


def releases_ms(link, arrivals_ms, size_bytes=0, seed=0):
    channel = Channel(link, seed)
    out = [channel.release_ns(round(at * MS), size_bytes) for at in arrivals_ms]
    return [t if t is None else t / MS for t in out]


@pytest.mark.parametrize(
    ("link", "arrivals_ms", "size_bytes", "expected_ms"),
    [
        (Link(rate_mbps=1, delay_ms=50), range(1, 11), 125, list(range(52, 62))),
        (Link(), [0, 3, 3], 1 << 20, [0, 3, 3]),
        (Link(delay_ms=50), [0] * 5, 1 << 20, [50] * 5),  # propagation is pipelined
        (Link(rate_mbps=1), [0] * 4, 125, [1, 2, 3, 4]),  # the rate is not
        (Link(rate_mbps=1), [0, 0, 10], 125, [1, 2, 11]),  # the wire is free again
        (Link(rate_mbps=8), [0], 1000, [1]),  # 8 bit a byte, 10**6 bit/s
        (Link(rate_mbps=0.384), [0], 480, [10]),
        (Link(delay_ms=0.25), [5.5], 0, [5.75]),
        (Link(rate_mbps=1, delay_ms=7), [0, 0], 0, [7, 7]),
    ],
)
def test_channel_releases_messages_as_computed_by_hand(link, arrivals_ms, size_bytes, expected_ms):
    assert releases_ms(link, arrivals_ms, size_bytes) == expected_ms


def test_channel_queues_unequal_messages_by_their_bytes():
    channel = Channel(Link(rate_mbps=8, delay_ms=10), 0)  # 1 µs a byte
    sizes = [1000, 500, 2000]
    assert [channel.release_ns(0, size) / MS for size in sizes] == [11, 11.5, 13.5]


def test_channel_keeps_order_under_jitter():
    link = Link(delay_ms=5, jitter_ms=TABLE)
    spread, close = np.arange(3000) * 1000.0, np.arange(3000) * 0.5
    delays = np.array(releases_ms(link, spread, seed=4)) - spread  # alone on the link: the draws themselves
    released = np.array(releases_ms(link, close, seed=4))
    np.testing.assert_allclose(released, np.maximum.accumulate(close + delays), atol=1e-5)
    assert (np.diff(released) >= 0).all()
    assert (released - close).max() > delays.mean() * 3  # somebody waited behind a late one


def test_channel_delays_follow_the_jitter_table():
    n = 20_000
    at = np.arange(n) * 1000.0
    jitter = np.sort(np.array(releases_ms(Link(delay_ms=5, jitter_ms=TABLE), at, seed=9)) - at - 5)
    levels, ms = np.array(TABLE).T
    expected = np.interp(np.log(jitter), np.log(ms), levels)  # the inverse of the log-linear quantile function
    empirical = np.arange(1, n + 1) / n
    assert np.abs(empirical - expected).max() < 1.63 / math.sqrt(n)  # Kolmogorov-Smirnov at 1 %
    assert jitter[0] >= 1
    assert jitter[-1] <= 100


def test_channel_delays_are_independent():
    at = np.arange(10_000) * 1000.0
    delays = np.log(np.array(releases_ms(Link(jitter_ms=TABLE), at, seed=2)) - at)
    for lag in (1, 2, 1024):
        assert abs(np.corrcoef(delays[lag:], delays[:-lag])[0, 1]) < 0.04


@pytest.mark.parametrize(
    ("knots", "p", "expected_ms"),
    [
        ([(0, 0), (1, 100)], 0.25, 25),  # linear from 0
        ([(0, 1), (1, 100)], 0.5, 10),  # log-linear otherwise
        (TABLE, 0.5, 2),
        (TABLE, 0.9, 10),
        (TABLE, 0.25, math.sqrt(2)),
        (TABLE, 0, 1),
        (TABLE, 1, 100),
        ([(0, 5), (1, 5)], 0.3, 5),
        ([(0, 0), (0.5, 0), (1, 10)], 0.25, 0),
        ([(0, 0), (0.5, 0), (1, 10)], 0.75, 5),
        ([(0.5, 7)], 0.2, 7),
    ],
)
def test_quantiles_lie_on_the_table(knots, p, expected_ms):
    assert QuantileTable(knots)(p) == pytest.approx(expected_ms)


@pytest.mark.parametrize(
    ("link", "least_ms"),
    [
        (Link(delay_ms=3), 3),
        (Link(delay_ms=3, jitter_ms=TABLE, base_ms=[(0, 10), (1, 20)], rebase_s=1), 14),
        (Link(trace_ms=[(0, 9), (1, None), (2, 4)]), 4),
    ],
)
def test_least_delay_is_the_least_that_can_be_drawn(link, least_ms):
    assert link.least_ms == least_ms


@pytest.mark.parametrize("loss", [0.01, 0.2, 0.9])
def test_channel_loses_its_share_of_messages(loss):
    n = 20_000
    lost = sum(t is None for t in releases_ms(Link(loss=loss), range(n), seed=6))
    assert abs(lost - n * loss) < 4 * math.sqrt(n * loss * (1 - loss))


def test_channel_spends_wire_time_on_lost_messages():
    released = releases_ms(Link(rate_mbps=1, loss=0.5), [0] * 200, size_bytes=125, seed=1)
    assert 60 < released.count(None) < 140
    assert all(t is None or t == k for k, t in enumerate(released, start=1))


@pytest.mark.parametrize("link", [Link(jitter_ms=TABLE), Link(loss=0.5)], ids=["jitter", "loss"])
def test_channel_draws_from_its_seed_alone(link):
    at = range(0, 100_000, 1000)
    assert releases_ms(link, at, seed=1) == releases_ms(link, at, seed=1)
    assert releases_ms(link, at, seed=1) != releases_ms(link, at, seed=2)


def test_channels_of_one_link_do_not_share_a_wire():
    link = Link(rate_mbps=1)
    assert releases_ms(link, [0, 0], 125) == releases_ms(link, [0, 0], 125) == [1, 2]


@pytest.mark.parametrize(
    ("link", "free"),
    [
        (Link(), True),
        (Link(source="x"), True),
        (Link(delay_ms=0.1), False),
        (Link(jitter_ms=[(0, 0), (1, 1)]), False),
        (Link(rate_mbps=1), False),
        (Link(loss=0.1), False),
        (Link(loss=GilbertElliott(share=0.1, burst=2)), False),
        (Link(segment_loss=0.1), False),
        (Link(base_ms=[(0, 0), (1, 1)], rebase_s=1), False),
        (Link(trace_ms=[(0, 0), (1, 1)]), False),
    ],
)
def test_link_is_free_only_if_nothing_happens_on_it(link, free):
    assert link.is_free is free


@pytest.mark.parametrize(
    "fields",
    [
        {"delay_ms": -1},
        {"delay_ms": math.nan},
        {"delay_ms": math.inf},
        {"delay_ms": "5"},
        {"rate_mbps": 0},
        {"rate_mbps": math.nan},
        {"loss": 1},
        {"loss": -0.1},
        {"loss": math.nan},
        {"jitter_ms": []},
        {"jitter_ms": [(0, 1)]},
        {"jitter_ms": [(0.1, 1), (1, 2)]},
        {"jitter_ms": [(0, 1), (0.9, 2)]},
        {"jitter_ms": [(0, 1), (0.5, 2), (0.5, 3), (1, 4)]},
        {"jitter_ms": [(0, 1), (0.6, 2), (0.5, 3), (1, 4)]},
        {"jitter_ms": [(0, 2), (1, 1)]},
        {"jitter_ms": [(0, -1), (1, 1)]},
        {"jitter_ms": [(0, 1), (1, math.nan)]},
        {"jitter_ms": [(0, 1), (1, math.inf)]},
        {"jitter_ms": [(0, 1), (1,)]},
        {"jitter_ms": 5},
        {"correlation_ms": 10},
        {"correlation_ms": -1, "jitter_ms": TABLE},
        {"correlation_ms": math.inf, "jitter_ms": TABLE},
        {"base_ms": TABLE},
        {"rebase_s": 15},
        {"rebase_s": 0, "base_ms": TABLE},
        {"base_ms": [(0, 1)], "rebase_s": 15},
        {"trace_ms": []},
        {"trace_ms": [(0, 5)]},
        {"trace_ms": [(1, 5), (2, 5)]},
        {"trace_ms": [(0, 5), (2, 5), (2, 6)]},
        {"trace_ms": [(0, 5), (2, 5), (1, 6)]},
        {"trace_ms": [(0, 5), (1, -1)]},
        {"trace_ms": [(0, 5), (1, math.nan)]},
        {"trace_ms": [(0, None), (1, None)]},
        {"trace_start": "random"},
        {"trace_start": "last", "trace_ms": [(0, 5), (1, 6)]},
        {"segment_loss": 1},
        {"segment_loss": "much"},
        {"loss": {"share": 0.1}},
        {"loss": {"share": 0.1, "burst": 5, "length": 3}},
        {"segment_loss": {"share": 0.1, "burst": 1.05}},
    ],
    ids=repr,
)
def test_link_refuses_what_is_no_link(fields):
    with pytest.raises(ConfigurationError, match=next(iter(fields))):
        Link(**fields)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"share": 0.1, "burst": 0.5}, "burst"),
        ({"share": 0, "burst": 5}, "share"),
        ({"share": 0.5, "burst": 5, "bad": 0.4}, "lies between"),
        ({"share": 0.1, "burst": 5, "good": 0.2}, "lies between"),
        ({"share": 0.5, "burst": 1.9}, "independent losses of that share already make 2;"),
    ],
)
def test_bursts_refuse_what_no_chain_can_be(fields, says):
    with pytest.raises(ConfigurationError, match=says):
        GilbertElliott(**fields)


FULL = {
    "delay_ms": 1.5, "jitter_ms": [[0, 1], [1, 2]], "correlation_ms": 40, "base_ms": [[0, 1], [1, 2]], "rebase_s": 15,
    "trace_ms": [[0, 5], [0.5, None], [1, 7]], "trace_start": "random", "rate_mbps": 10,
    "loss": {"share": 0.02, "burst": 4, "bad": 0.8, "good": 0.001}, "segment_loss": 0.01, "source": "nowhere",
}  # fmt: skip


def test_link_survives_yaml():
    scenario = Scenario(
        model="x",
        workload=Constant(rate_hz=1, duration_s=1),
        placements={"cloud": Cloud(uplink=Link(**FULL), downlink=Link(segment_loss={"share": 0.02, "burst": 4}))},
    )
    text = scenario.to_yaml()
    assert Scenario.from_dict(msgspec.yaml.decode(text)) == scenario
    loaded = msgspec.yaml.decode(text)["placements"]["cloud"]["uplink"]
    assert loaded == FULL
    assert isinstance(Link(**loaded).loss, GilbertElliott)


def test_link_that_loses_says_so():
    lossy = Link(loss=0.1), Link(trace_ms=[(0, 5), (1, None)]), Link(loss={"share": 0.1, "burst": 3})
    assert [link.loses for link in lossy] == [True] * 3
    assert not Link(segment_loss=0.1, trace_ms=[(0, 5), (1, 6)]).loses


# The published networks: round trips in ms, rates up and down in Mbit/s, a word of the source.
DANG, NARAYANAN, PROFILES = "10.1145/3487552.3487854, Fig. 4", "SIGCOMM 2021", "WebPageTest"
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
PUBLISHED = [
    ("wifi-campus", (0.5, 0.9, 0.99), (3, 20, 250), None, "10.1145/2906388.2906393"),
    ("starlink-europe", (0, 0.25, 0.5, 0.75), (20, 40, 50, 60), None, "arXiv:2310.09242"),
    ("cloud-europe", LEVELS, (14.4, 25.0, 35.2, 48.9, 69.0, 89.6, 168), None, DANG),
    ("cloud-north-america", LEVELS, (9.3, 23.0, 35.0, 50.7, 76.6, 101.5, 225), None, DANG),
    ("cloud-asia", LEVELS, (8.9, 23.6, 41.3, 77.2, 167, 227, 350), None, DANG),
    ("cloud-africa", LEVELS, (28.1, 210, 233, 274, 328, 345, 388), None, DANG),
    ("home-wifi", (0.25, 0.5, 0.75), (13.0, 21.0, 32.5), None, "Fig. 7b"),
    ("5g-mmwave", (0, *LEVELS[1:]), (6, 7, 7, 8, 8, 8.9, 15.8), None, NARAYANAN),
    ("5g-low-band", (0, *LEVELS[1:]), (13, 13.2, 15, 15.8, 17, 19.2, 29.7), None, NARAYANAN),
    ("4g-nordic", LEVELS, (43.4, 61.7, 84.8, 117.7, 166.2, 200.2, 281.4), (10.6, 27.1), "ERRANT"),
    ("fiber", (0.5,), (4,), (5, 20), PROFILES),
    ("cable", (0.5,), (28,), (1, 5), PROFILES),
    ("dsl", (0.5,), (50,), (0.384, 1.5), PROFILES),
    ("lte", (0.5,), (70,), (12, 12), PROFILES),
    ("3g", (0.5,), (300,), (0.768, 1.6), PROFILES),
]


@pytest.mark.parametrize(("name", "levels", "rtt_ms", "rates", "source"), PUBLISHED, ids=[p[0] for p in PUBLISHED])
def test_preset_has_the_published_numbers_and_names_their_source(name, levels, rtt_ms, rates, source):
    assert {float(p): ms for p, ms in presets()[name]["rtt_ms"].items()} == dict(zip(levels, rtt_ms, strict=True))
    assert source in Link.preset(name).source
    if "within" in presets()[name]["kind"]:
        return
    for client, expected in zip(levels, rtt_ms, strict=True):
        up, down = Link.preset(name, client=client), Link.preset(name, "downlink", client)
        assert up.delay_ms + down.delay_ms == pytest.approx(expected)
        assert (up.rate_mbps, down.rate_mbps) == (rates or (None, None))
    assert source in up.source
    assert name in up.source
    assert ("across" in up.source) == (len(levels) > 1)
    assert up.jitter_ms is None  # a spread across clients is not jitter
    assert up.loss == 0


def test_presets_are_all_compared_with_the_publications():
    assert sorted(presets()) == sorted(row[0] for row in PUBLISHED)


def test_preset_without_a_client_is_the_median_one():
    assert Link.preset("cloud-europe") == Link.preset("cloud-europe", client=0.5)
    assert 25.0 / 2 < Link.preset("cloud-europe", client=0.4).delay_ms < 35.2 / 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("mars",), "cloud-europe, .*3g"),
        (("cloud-europe", "uplink", 0.01), "0.05 to 0.99"),
        (("home-wifi", "uplink", 0.9), "0.25 to 0.75"),
        (("cloud-europe", "uplink", math.nan), "client=nan"),
        (("fiber", "sideways"), "sideways"),
    ],
)
def test_preset_refuses_what_was_not_measured(arguments, says):
    with pytest.raises(ConfigurationError, match=says):
        Link.preset(*arguments)


def round_trips_ms(name, seeds, at_ms):
    up, down = Link.preset(name), Link.preset(name, "downlink")
    drawn = []
    for seed in seeds:
        there, back = Channel(up, seed), Channel(down, seed, "downlink")
        for at in at_ms:
            half = there.release_ns(round(at * MS), 500)
            drawn.append(back.release_ns(half, 500) / MS - at)
    return np.array(drawn)


@pytest.mark.parametrize(
    ("name", "seeds", "at_ms"),
    [("wifi-campus", [1], np.arange(100_000) * 60_000.0), ("starlink-europe", range(3000), [0.0])],
)
def test_preset_within_a_client_draws_the_published_round_trips(name, seeds, at_ms):
    """By their ranks: the share of round trips below a published quantile is its level."""
    drawn = round_trips_ms(name, seeds, at_ms)
    for p, ms in presets()[name]["rtt_ms"].items():
        level = float(p)
        assert abs(np.mean(drawn < ms) - level) < 4 * math.sqrt(level * (1 - level) / len(drawn)) + 0.001


@pytest.mark.parametrize("rate_hz", [20, 200])
def test_preset_wifi_keeps_its_delays_at_any_usual_rate(rate_hz):
    """At 200/s each message waited for the slowest of many others, p50 143 ms, as long as delays were independent."""
    ways, met, drawn = [(way, Link.preset("wifi-campus", way)) for way in ("uplink", "downlink")], [], []
    for seed in range(40):
        there, back = (Channel(link, seed, way) for way, link in ways)
        for at in range(0, 10_000 * MS, 1000 * MS // rate_hz):
            added = back.release_ns(there.release_ns(at, 500), 500) - at
            met.append(added / MS)
            drawn.append((added - there.waited_ns - back.waited_ns) / MS)
    for p in (0.5, 0.9, 0.99):
        assert np.quantile(met, p) == pytest.approx(np.quantile(drawn, p), rel=0.1)
    assert np.quantile(met, 0.5) < 6


def test_only_presets_within_a_clients_time_say_what_is_published_of_it():
    for name, facts in presets().items():
        link = Link.preset(name)
        assert (link.published_ms is not None) == ("within" in facts["kind"])
    assert dict(Link.preset("wifi-campus").published_ms) == {0.5: 3, 0.9: 20, 0.99: 250}
    assert Link.preset("wifi-campus").correlation_ms == 5000
    assert "assumption" in presets()["wifi-campus"]["note"]


def test_preset_starlink_holds_its_base_for_15_s_both_ways():
    drawn = round_trips_ms("starlink-europe", [5], np.arange(0, 300_000, 100.0))
    changes = np.flatnonzero(np.abs(np.diff(drawn)) > 1e-6)
    assert 15 <= len(changes) <= 20
    assert set(np.diff(changes)) <= {149, 150, 151}
    assert drawn.min() >= 20


def test_an_error_about_a_long_trace_can_be_read():
    long = [(t, 5.0) for t in range(5000)]
    with pytest.raises(
        ConfigurationError, match=r"trace_ms=\[\(0, 5\.0\).* … \(\d+ characters\)\): .*at `\[5000\]"
    ) as told:
        Link(trace_ms=[*long, (5000, "x")])
    assert len(str(told.value)) < 400
    with pytest.raises(ConfigurationError, match="never falling") as told:
        Link(jitter_ms=[(p / 5000, 5.0 - p % 2) for p in range(5001)])
    assert len(str(told.value)) < 400
