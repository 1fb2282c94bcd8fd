"""Faults as data: refused with a sentence where they cannot be, kept through YAML; and the arithmetic of a cut link."""

from __future__ import annotations

import pytest

from xedge import Cloud, Constant, Edge, External, Fault, Link
from xedge.core.exceptions import ConfigurationError
from xedge.scenario.channel import Channel
from xedge.scenario.faults import Cut, of_placement, sent_again_ns
from xedge.scenario.scenario import Scenario

MS = 1_000_000


def scenario(*faults, **changes):
    placements = {"edge": Edge(), "cloud": Cloud(link=Link(delay_ms=20))} | changes
    workload = Constant(rate_hz=10, duration_s=5)
    return Scenario(model="m", workload=workload, placements=placements, faults=list(faults))


FAULTS = [
    Fault(at_s=3, kind="service_kill", duration_s=0.5),
    Fault(at_s=1, kind="link_down", duration_s=0.5, placement="cloud"),
    Fault(at_s=1.2, kind="stall", placement="edge"),
]


def test_faults_are_kept_through_yaml(tmp_path):
    file = tmp_path / "scenario.yaml"
    asked = scenario(*FAULTS)
    file.write_text(asked.to_yaml())
    assert Scenario.from_yaml(file) == asked
    assert Scenario.from_dict(asked.as_dict()) == asked
    assert "faults" not in Scenario(model="m", workload=asked.workload, placements={"edge": Edge()}).to_yaml()


def test_a_placement_has_the_faults_of_its_own_and_of_all_in_the_order_of_time():
    asked = scenario(*FAULTS)
    assert [fault.kind for fault in of_placement(asked.faults, "edge")] == ["stall", "service_kill"]
    assert [fault.kind for fault in of_placement(asked.faults, "cloud")] == ["link_down", "service_kill"]
    assert of_placement(None, "edge") == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "link_dwon"}, "give broker_restart, link_down, service_kill or stall; did you mean link_down"),
        ({"at_s": -1}, r"at_s=-1"),
        ({"at_s": "soon"}, "seconds after the start of the trial"),
        ({"duration_s": 0}, r"duration_s=0"),
        ({"during_s": 1}, "there is no during_s; it takes at_s="),
    ],
)
def test_a_fault_that_is_none_is_refused(fields, message):
    with pytest.raises(ConfigurationError, match=message):
        Fault(**{"at_s": 1, "kind": "stall"} | fields)


@pytest.mark.parametrize(
    ("fault", "placements", "message"),
    [
        ({"at_s": 5, "kind": "stall"}, {}, "would end at 6 s, and the trial's last request is due by 5 s"),
        ({"at_s": 4, "kind": "stall"}, {}, "would end at 5 s"),
        ({"kind": "stall", "placement": "clod"}, {}, "no placement 'clod'; there are edge, cloud"),
        ({"kind": "service_kill"}, {"far": External()}, "'far': an external service is not ours to break; say with"),
        ({"kind": "link_down", "placement": "far"}, {"far": External()}, "an external service is not ours"),
        (
            {"kind": "broker_restart"},
            {"far": External(broker="mqtt://far:1883")},
            "behind its own broker is not ours",
        ),
        ({"kind": "link_down"}, {"edge": Edge(run_in="process")}, "'edge': links are emulated in threads only"),
        ({"kind": "stall"}, {"edge": Edge(run_in="container", image="i")}, "use run_in='process'"),
    ],
)
def test_a_fault_that_cannot_happen_is_refused(fault, placements, message):
    with pytest.raises(ConfigurationError, match=message):
        scenario(Fault(**{"at_s": 1} | fault), **placements)


def test_an_external_service_behind_our_broker_can_lose_it():
    assert scenario(Fault(at_s=1, kind="broker_restart"), far=External()).faults


def test_two_faults_of_a_placement_at_once_are_refused():
    with pytest.raises(
        ConfigurationError, match=r"faults of edge: stall at 1.5 s begins before link_down at 1 s is over"
    ):
        scenario(Fault(at_s=1.5, kind="stall", duration_s=1), Fault(at_s=1, kind="link_down", duration_s=1))


def test_the_place_of_a_mistake_in_yaml_is_named(tmp_path):
    file = tmp_path / "scenario.yaml"
    file.write_text(scenario(*FAULTS).to_yaml().replace("link_down", "link_off"))
    with pytest.raises(ConfigurationError, match=r"give broker_restart, link_down.*at `faults\[1\].kind`"):
        Scenario.from_yaml(file)


def test_what_is_sent_while_a_link_is_down_waits_for_tcp_and_stays_in_order():
    """Down from 0 to 1 s, stopped at 100 ms: again after 240, 480 and 960 ms, that is at 1.78 s; then 20 ms of way."""
    cut = Cut(Channel(Link(delay_ms=20), 1), 1000 * MS, rtt_ms=40.0)
    released = [cut.release_ns(ms * MS, 100) // MS for ms in (100, 300, 1200, 1779, 1800)]
    assert released == [1800, 1800, 1800, 1800, 1820]


def test_a_link_that_nobody_used_while_it_was_down_costs_nothing():
    cut = Cut(Channel(Link(delay_ms=20), 1), 1000 * MS, rtt_ms=40.0)
    assert cut.release_ns(1000 * MS, 100) == 1020 * MS
    assert cut.release_ns(1001 * MS, 100) == 1021 * MS


def test_a_link_that_is_cut_twice_waits_twice():
    cut = Cut(Cut(Channel(Link(), 1), 100 * MS, rtt_ms=0.0), 2000 * MS, rtt_ms=0.0)
    assert cut.release_ns(1900 * MS, 100) == 2100 * MS
    assert cut.release_ns(2300 * MS, 100) == 2300 * MS


def test_time_outs_double_up_to_two_minutes():
    hours_ns = 3600 * 1000 * MS
    first = sent_again_ns(0, hours_ns, rtt_ms=0.0)
    assert hours_ns <= first <= hours_ns + 120_000 * MS
