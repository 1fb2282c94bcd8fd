"""The echo behind links: what it was asked to take, by arithmetic, and what it took."""

from __future__ import annotations

import re
import threading

import numpy as np
import pytest
from helpers import Client
from sample_rows import replicated, texts

from xedge.results import conditions
from xedge.results.links import other_delays
from xedge.results.statistics import quantile
from xedge.runs.calibration import (
    DEVICE,
    PAYLOAD_BYTES,
    Crossing,
    _round_trips,
    _summary,
    delays_by_level,
    measure_links,
    requested_ms,
    with_levels,
)
from xedge.runs.scenario import Scenario
from xedge.runs.sender import Sender
from xedge.scenario.arrivals import Constant
from xedge.scenario.channel import Channel
from xedge.scenario.link import Link
from xedge.scenario.placements import Cloud, Edge
from xedge.scenario.scenario import Replication
from xedge.serving.services import EchoService

JITTER = [(0, 1), (0.5, 3), (0.99, 30), (1, 60)]


def every_ms(n, step_ms=10.0):
    return np.round(np.arange(n) * step_ms * 1e6).astype(np.int64)


@pytest.mark.parametrize(
    ("up", "down", "expected_ms"),
    [
        (Link(delay_ms=5), Link(delay_ms=7), [12, 12, 12]),
        (Link(rate_mbps=1), Link(), [4, 8, 12]),  # 500 bytes take 4 ms
        (Link(rate_mbps=1), Link(rate_mbps=1), [8, 12, 16]),
        (Link(rate_mbps=1), Link(rate_mbps=0.5), [12, 20, 28]),
    ],
)
def test_requested_delay_is_that_of_both_links_for_these_very_messages(up, down, expected_ms):
    assert requested_ms(up, down, np.zeros(3, np.int64), seed=0).tolist() == expected_ms


def test_requested_delay_is_of_the_seed_and_lost_messages_have_none():
    up, down = Link(jitter_ms=JITTER, loss=0.2), Link(delay_ms=1, loss=0.1)
    one, again, other = (requested_ms(up, down, every_ms(2000), seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert np.isnan(one).mean() == pytest.approx(1 - 0.8 * 0.9, abs=0.04)
    assert not np.array_equal(one, other, equal_nan=True)


def test_requested_delay_draws_each_direction_as_a_service_does():
    """As `ServiceLoop` does: one seed, the downlink as a downlink."""
    link, at = Link(jitter_ms=JITTER), every_ms(50, 1000.0)
    up, down = Channel(link, 6), Channel(link, 6, "downlink")
    crossed = [down.release_ns(up.release_ns(t, 500), 500) - t for t in at.tolist()]
    np.testing.assert_allclose(requested_ms(link, link, at, seed=6), np.array(crossed) / 1e6)
    up_alone = requested_ms(link, Link(), at, seed=6)
    assert not np.allclose(requested_ms(link, link, at, seed=6), 2 * up_alone)


def test_summary_compares_message_by_message_and_counts_losses():
    nan = np.nan
    asked, measured = np.array([10, 10, nan, nan, 20, 30.0]), np.array([10.2, nan, nan, 9, 21, 30.0])
    found = _summary(Crossing(np.arange(6.0), asked, measured))
    assert found["lost"] == {"requested": 2, "measured": 2, "differing": 2}
    assert found["n"] == 4
    assert found["requested_ms"]["p50_ms"] == 20
    assert found["measured_ms"]["p50_ms"] == 21
    assert (found["off_ms"]["p50_ms"], found["off_ms"]["p99_ms"]) == (0.2, 1.0)


def test_summary_of_a_link_that_lets_nothing_through_has_no_quantiles():
    none = np.full(3, np.nan)
    found = _summary(Crossing(np.arange(3.0), none, none))
    assert found == {"n": 0, "lost": {"requested": 3, "measured": 3, "differing": 0}}


def doubts_of_the_link(check):
    return [text for text in texts(replicated(), link_check={"edge": check}) if "link" in text]


AGREE = {"p50_ms": 100.0, "p99_ms": 120.0}


@pytest.mark.parametrize(
    ("check", "says"),
    [
        ({"requested_ms": AGREE, "measured_ms": AGREE, "off_ms": {"p50_ms": 0.4}}, []),
        (
            {"requested_ms": AGREE, "measured_ms": AGREE, "off_ms": {"p50_ms": 0.6}},
            ["off by 0.6 ms, message by message"],
        ),
        ({"lost": {"requested": 9, "measured": 9, "differing": 0}}, []),
        ({"lost": {"requested": 9, "measured": 9, "differing": 2}}, ["9 of the link's messages .* 9 .*: 2 differ"]),
    ],
)
def test_a_link_that_did_something_else_to_its_messages_is_doubted(check, says):
    """Also where the quantiles happen to agree."""
    found = doubts_of_the_link(check)
    assert len(found) == len(says)
    for text, expected in zip(found, says, strict=True):
        assert re.search(expected, text)


@pytest.mark.parametrize(
    ("link", "loses"),
    [
        (Link(loss=0.1), True),
        (Link(loss={"share": 0.1, "burst": 3}), True),
        (Link(trace_ms=[(0, 1), (1, None)]), True),
        (Link(trace_ms=[(0, 1), (1, 2)], segment_loss=0.1), False),
        (Link(segment_loss={"share": 0.1, "burst": 3}), False),
    ],
)
def test_only_links_that_lose_whole_messages_excuse_lost_requests(link, loses):
    scenario = Scenario(model="x", workload=Constant(rate_hz=1, duration_s=1), placements={"edge": Edge(link=link)})
    assert conditions.typed({"scenario": scenario.as_dict()}).loses("edge") == loses == link.loses


# What messages meet at the rate offered


def trials_of(rate_hz=200, n=3, duration_s=2.0, **pairs):
    scenario = Scenario(model="x", workload=Constant(rate_hz=rate_hz, duration_s=duration_s), placements=pairs, seed=11)
    return scenario, [Replication.of(scenario, number) for number in range(n)]


def test_delays_of_links_that_hold_nothing_up_are_those_drawn():
    scenario, replicated = trials_of(
        none=Edge(), constant=Edge(link=Link(delay_ms=5)), tcp=Edge(link=Link(delay_ms=5, segment_loss=0.1))
    )
    found = delays_by_level(scenario, replicated)
    level = {"published_ms": None, "drawn_ms": 10.0, "effective_ms": 10.0}
    assert found == {"constant": [{"p": p} | level for p in (0.5, 0.9, 0.99)]}
    checks = with_levels({"constant": {"n": 400}, "tcp": {"n": 1}}, scenario, replicated)
    assert checks == {"constant": {"n": 400, "by_level": found["constant"]}, "tcp": {"n": 1}}


def test_independent_jitter_at_a_high_rate_makes_messages_wait_and_slow_jitter_does_not():
    independent, slow = Link(jitter_ms=JITTER), Link(jitter_ms=JITTER, correlation_ms=5000)
    scenario, replicated = trials_of(independent=Edge(link=independent), slow=Edge(link=slow))
    found = delays_by_level(scenario, replicated)
    median, slow_median = found["independent"][0], found["slow"][0]
    assert median["effective_ms"] > 2 * median["drawn_ms"]
    assert slow_median["effective_ms"] == pytest.approx(slow_median["drawn_ms"], rel=0.1)
    seldom, few = trials_of(rate_hz=5, duration_s=60, independent=Edge(link=independent))
    alone = delays_by_level(seldom, few)["independent"]
    assert [level["effective_ms"] for level in alone] == [level["drawn_ms"] for level in alone]


def test_delays_are_those_of_the_trials_links_and_at_the_levels_published():
    ways = {way: Link.preset("wifi-campus", way) for way in ("uplink", "downlink")}
    scenario, replicated = trials_of(wifi=Edge(**ways), half=Edge(uplink=ways["uplink"]))
    found = delays_by_level(scenario, replicated)
    added = [requested_ms(ways["uplink"], ways["downlink"], one.due_ns, one.link_seed) for one in replicated]
    assert {level["p"]: level["published_ms"] for level in found["wifi"]} == {0.5: 3, 0.9: 20, 0.99: 250}
    assert found["wifi"][0]["effective_ms"] == pytest.approx(quantile(np.concatenate(added), 0.5), abs=1e-3)
    assert {level["published_ms"] for level in found["half"]} == {None}  # published is a round trip
    scenario, replicated = trials_of(n=1, duration_s=0.4, wifi=Edge(**ways))
    assert [level["p"] for level in delays_by_level(scenario, replicated)["wifi"]] == [0.5, 0.9]  # 80 messages


@pytest.mark.parametrize(
    ("levels", "says"),
    [
        ([], None),
        ([(0.5, 3.0, 3.0, 3.2)], None),
        ([(0.5, 3.0, 3.1, 143.0)], "have p50 143 ms where 3 ms are published: nothing overtakes"),
        (
            [(0.5, 3.0, 1.0, 1.05), (0.9, 20.0, 21.0, 21.5)],
            "have p50 1.05 ms where 3 ms are published: they change slowly",
        ),
        (
            [(0.5, None, 5.0, 9.0), (0.9, None, 30.0, 36.0)],
            "p50 9 ms, p90 36 ms where 5, 30 ms are drawn: nothing over",
        ),
        ([(0.5, None, 5.0, 5.4)], None),
        ([(0.5, 0.2, 0.2, 0.6)], None),  # a tenth of next to nothing
    ],
)
def test_a_network_that_became_another_one_is_doubted(levels, says):
    names = ("p", "published_ms", "drawn_ms", "effective_ms")
    check = {"by_level": [dict(zip(names, level, strict=True)) for level in levels]}
    found = [text for text in texts(replicated(), link_check={"edge": check}) if "network added" in text]
    assert len(found) == (says is not None)
    if says:
        assert says in found[0]
        _, remedy = other_delays(conditions.typed({"link_check": {"edge": check}}).link_check["edge"].by_level)
        assert ("correlation_ms" in remedy) == ("nothing" in says)


LINKS = {
    "constant": (Link(delay_ms=8), Link(delay_ms=3)),
    "rate": (Link(rate_mbps=2), Link(delay_ms=2, rate_mbps=4)),
    "correlated": (Link(jitter_ms=JITTER, correlation_ms=100), Link(jitter_ms=JITTER)),
    "bursts": (Link(delay_ms=2, loss={"share": 0.1, "burst": 4}), Link(loss=0.05)),
    "tcp": (Link(delay_ms=10, segment_loss={"share": 0.05, "burst": 2}), Link(delay_ms=10)),
    "trace": (Link(trace_ms=[(0, 2), (0.3, 9), (0.5, None), (0.6, 1)]), Link()),
}


@pytest.fixture(scope="module")
def crossings():
    pairs = {name: Cloud(uplink=up, downlink=down) for name, (up, down) in LINKS.items()}
    workload = Constant(rate_hz=200, duration_s=0.8)
    return measure_links(Scenario(model="x", workload=workload, placements={"none": Edge(), **pairs}, seed=5))


@pytest.mark.long
def test_links_are_measured_where_there_are_some(crossings):
    assert list(crossings) == list(LINKS)
    assert all(len(part) == 160 for crossing in crossings.values() for part in crossing[:3])


@pytest.mark.parametrize("name", LINKS)
def test_echo_measures_what_the_arithmetic_says(crossings, name):
    """Message by message: the same ones are lost, none is early, and the late ones are the late ones."""
    sent, asked, measured, bare_ms = crossings[name]
    assert (np.diff(sent) > 0).all()
    depends_on_arrival = name in ("correlated", "tcp", "trace")  # a late message draws a little otherwise
    if name != "trace":  # there a message near an edge of the gap may fall on its other side
        np.testing.assert_array_equal(np.isnan(asked), np.isnan(measured))
    both = ~np.isnan(asked) & ~np.isnan(measured)
    assert both.sum() > 80
    least_ms = sum(link.least_ms for link in LINKS[name]) if depends_on_arrival else asked[both]
    assert (measured[both] + bare_ms - least_ms).min() > 0  # whatever the machine did, nothing was early
    assert np.isnan(asked).any() == any(link.loses for link in LINKS[name])


def test_what_an_echo_measures_varies_as_asked(crossings):
    _, asked, measured, bare_ms = crossings["tcp"]
    again = asked >= 20 + 25  # both delays, and 5/4 round trips until it is sent again
    assert again.any()
    assert (measured[again] + bare_ms > 20 + 18).all()


def test_messages_that_are_no_echo_are_not_taken_for_one(any_broker, prefix):
    """Anybody on a shared broker can publish where the echo does."""
    scenario = Scenario(
        model="m", workload=Constant(rate_hz=50, duration_s=1), placements={"edge": Edge()}, topic_prefix=prefix
    )
    due_ns = scenario.workload.due_ns(1)
    with EchoService(DEVICE, *any_broker.address, topic_prefix=prefix) as echo, Sender() as sender:
        strange = [b"", b"nonsense", b"00000007 but of somebody else", b"99999999" + b"x" * (PAYLOAD_BYTES - 8)]
        with Client(any_broker, echo.topics.request) as stranger:

            def publish() -> None:
                stranger.wait(1)
                for payload in strange:
                    stranger.publish(echo.topics.result(DEVICE), payload)

            disturbing = threading.Thread(target=publish)
            disturbing.start()
            sent_ns, received_ns = _round_trips(echo, sender, scenario, due_ns)
            disturbing.join()
    assert np.isfinite(sent_ns).all()
    assert np.isfinite(received_ns[: -len(strange)]).all()
