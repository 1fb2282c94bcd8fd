"""Faults that a scenario asks for, carried out with real brokers and services: what happened is in rows and record."""

from __future__ import annotations

import socket
import threading

import msgspec
import numpy as np
import pytest
from helpers import children_of, sound, wait_until

from xedge import Cloud, Constant, Edge, Fault, Link, Scenario
from xedge.core.config import kind_of
from xedge.core.exceptions import ConfigurationError, ServiceError
from xedge.runs.measured import service
from xedge.runs.sender import Sender
from xedge.runs.trial import fly
from xedge.scenario.placements import Placement, Served
from xedge.scenario.scenario import Replication
from xedge.serving.broker import Broker, find_mosquitto
from xedge.serving.start import service_of

pytestmark = pytest.mark.usefixtures("nothing_is_left")
AT_S, FOR_S, LONG_S, RATE_HZ = 0.6, 0.3, 2.0, 100


def scenario(prefix, *faults, timeout_s=8.0, **placements):
    return Scenario(
        model="anomaly_detector",
        workload=Constant(rate_hz=RATE_HZ, duration_s=LONG_S),
        placements=placements or {"edge": Edge()},
        faults=list(faults),
        timeout_s=timeout_s,
        topic_prefix=prefix,
    )


@pytest.fixture(scope="module")
def calibration(any_broker, models):
    """An echo and a check of the links that all tests here share: what is looked at are faults."""
    once = scenario("once", edge=Edge(), cloud=Cloud(link=Link(delay_ms=10)))
    return msgspec.structs.replace(once, workload=Constant(rate_hz=100, duration_s=0.2)).measure(
        1, progress=False, broker=any_broker
    )


def measured(asked, broker, calibration=None):
    return asked.measure(1, progress=False, broker=broker, calibration=calibration)


def fault(kind, **changes):
    return Fault(**{"at_s": AT_S, "kind": kind, "duration_s": FOR_S} | changes)


def happened(measurement, trial=0):
    """Return the one fault of a trial, done and mended, not before and not shorter than asked."""
    (it,) = measurement.conditions["trials"][trial]["faults"]
    assert it["failure"] == ""
    assert it["begin_s"] >= it["at_s"]
    assert it["end_s"] - it["begin_s"] >= it["duration_s"] - 0.001
    return it


def due_in(measurement, it):
    """Return the rows due while it lasted, without those at its very ends."""
    due_s = measurement.rows["due_ns"] / 1e9
    return measurement.rows[(due_s > it["begin_s"] + 0.05) & (due_s < it["begin_s"] + it["duration_s"] - 0.05)]


@pytest.mark.parametrize("kind", ["mosquitto", pytest.param("embedded", marks=pytest.mark.long)])
def test_a_broker_is_restarted_on_its_port_and_goes_on(prefix, kind, calibration):
    if kind == "mosquitto" and not find_mosquitto():
        pytest.skip("mosquitto is not installed")
    with Broker(kind=kind, name=prefix) as broker:
        port, before = broker.port, children_of(broker._guard.pid)
        measurement = measured(
            scenario(prefix, fault("broker_restart"), timeout_s=0.5),
            broker,
            calibration if calibration.conditions["broker"]["kind"] == kind else None,
        )
        assert broker.is_running
        assert broker.port == port
        assert children_of(broker._guard.pid).isdisjoint(before)
    failed, it = sound(measurement, round(RATE_HZ * LONG_S)), happened(measurement)
    assert set(due_in(measurement, it)["status"]) <= {"not_sent", "timeout", "lost"}
    assert len(due_in(measurement, it))
    assert failed["error"].str.contains("broker restarted from|connection to the broker was away").all()
    assert failed["error"].str.contains("broker restarted from").any()
    assert "made again" not in str(measurement.checks())
    assert "not sent" not in str(measurement.verdict)
    assert measurement.faults()["fault"].tolist() == ["broker_restart"]


@pytest.mark.parametrize(
    "link", [pytest.param(Link(), marks=pytest.mark.long), Link(delay_ms=10)], ids=["no link", "a link"]
)
def test_a_link_that_is_down_delays_in_order_and_loses_nothing(any_broker, prefix, link, calibration):
    measurement = measured(
        scenario(prefix, fault("link_down"), cloud=Cloud(link=link)), any_broker, calibration if link.delay_ms else None
    )
    assert len(sound(measurement, round(RATE_HZ * LONG_S))) == 0
    it = happened(measurement)
    hit = due_in(measurement, it)
    assert (hit["received_ns"] / 1e9 >= it["begin_s"] + FOR_S + 2 * link.delay_ms / 1e3).all()
    arrived_ns = measurement.rows["arrived_ns"].to_numpy(float)
    assert (np.diff(arrived_ns) >= 0).all()
    assert measurement.conditions["trials"][0]["sender_reconnects"] == 0


def test_a_service_that_stalls_answers_all_later(any_broker, prefix, calibration):
    measurement = measured(scenario(prefix, fault("stall")), any_broker, calibration)
    assert len(sound(measurement, round(RATE_HZ * LONG_S))) == 0
    it = happened(measurement)
    assert (due_in(measurement, it)["received_ns"] / 1e9 >= it["begin_s"] + FOR_S - 0.001).all()


def test_a_service_that_is_killed_loses_what_waits_and_begins_anew_in_every_trial(any_broker, prefix, calibration):
    asked = scenario(prefix, fault("service_kill"), timeout_s=1.0, edge=Edge(), cloud=Cloud(link=Link(delay_ms=10)))
    measurement = measured(asked, any_broker, calibration)
    failed = sound(measurement, 2 * round(RATE_HZ * LONG_S))
    assert set(failed["placement"]) == {"edge", "cloud"}
    for trial, name in enumerate(["edge", "cloud"]):
        hit = due_in(measurement, happened(measurement, trial))
        assert (hit.loc[hit["placement"] == name, "status"] != "ok").all()
        last = measurement.rows[measurement.rows["placement"] == name].iloc[-1]
        assert last["status"] == "ok"  # answered by the service that was started again
    assert failed["error"].str.contains("service killed from").any()
    assert measurement.conditions["trials"][0]["failure"] == ""


@pytest.mark.long
def test_the_process_of_an_isolated_service_is_stopped_and_killed(any_broker, prefix):
    asked = scenario(
        prefix, fault("stall"), fault("service_kill", at_s=1.1), timeout_s=1.0, edge=Edge(run_in="process")
    )
    measurement = measured(asked, any_broker)
    failed = sound(measurement, round(RATE_HZ * LONG_S))
    stalled, killed = measurement.conditions["trials"][0]["faults"]
    assert (stalled["failure"], killed["failure"]) == ("", "")
    assert (due_in(measurement, killed)["status"] != "ok").all()
    stamps = due_in(measurement, stalled)["received_ns"].dropna() / 1e9
    assert (stamps >= stalled["begin_s"] + FOR_S - 0.001).all()
    assert failed["error"].str.contains("service killed from").any()
    assert measurement.conditions["trials"][0]["failure"] == ""


@pytest.mark.long
def test_of_several_boxes_the_first_one_is_killed(any_broker, prefix):
    measurement = measured(scenario(prefix, fault("service_kill"), timeout_s=1.0, edge=Edge(boxes=2)), any_broker)
    sound(measurement, round(RATE_HZ * LONG_S))
    hit = due_in(measurement, happened(measurement))
    assert 0 < (hit["status"] == "ok").sum() < len(hit)


@pytest.mark.long
def test_a_broker_that_cannot_be_started_again_is_said_and_the_rows_are_kept(prefix):
    with Broker(name=prefix) as broker:
        taken = []

        def take():
            wait_until(lambda: not broker.is_running, "the broker is ended")
            taken.append(wait_until(lambda: listening(broker.port), "its port is taken"))

        taking = threading.Thread(target=take)
        taking.start()
        measurement = measured(scenario(prefix, fault("broker_restart"), timeout_s=0.3), broker)
        taking.join()
        taken[0].close()
    sound(measurement, round(RATE_HZ * LONG_S))
    (it,) = measurement.conditions["trials"][0]["faults"]
    assert "did not start on port" in it["failure"]
    assert "not done or not mended: broker restarted in replication 0 (BrokerError" in str(measurement.checks())


def listening(port):
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError:
        return None


def test_a_broker_that_is_not_ours_is_not_restarted(any_broker, prefix):
    with Broker(any_broker.url, name=prefix) as foreign, pytest.raises(ConfigurationError, match="not xedge's to rest"):
        measured(scenario(prefix, fault("broker_restart")), foreign)
    assert any_broker.is_running


@kind_of(Placement)
class Plain(Served, frozen=True, kw_only=True, tag_field="tier", tag="plain"):
    """A tier whose service offers nothing for faults."""


class PlainService:
    """What cannot be broken."""


@service_of.register
def _plain(placement: Plain, setting):
    return PlainService()


def test_a_service_that_offers_nothing_for_faults_is_said_before_anything_is_measured(any_broker, prefix):
    with pytest.raises(ConfigurationError, match=r"stall at 0.6 s: PlainService, which serves 'plain', offers nothing"):
        measured(scenario(prefix, fault("stall"), plain=Plain()), any_broker)


def test_orders_to_a_service_that_does_not_run_are_refused(any_broker, prefix):
    asked = scenario(prefix)
    edge = service(asked, Replication.of(asked, 0), "edge", any_broker)
    with pytest.raises(ServiceError, match="not running"):
        edge.stall(lambda: None)


@pytest.mark.long
def test_an_interrupted_trial_leaves_a_broker_that_runs(prefix):
    def interrupt(_elapsed_s):
        if not broker.is_running:
            raise KeyboardInterrupt

    with Broker(name=prefix) as broker:
        asked = scenario(prefix, fault("broker_restart", duration_s=1.2))
        replication = Replication.of(asked, 0)
        edge = service(asked, replication, "edge", broker)
        with pytest.raises(KeyboardInterrupt), Sender() as sender:
            fly(asked, replication, edge, "edge", broker, sender, interrupt)
        assert broker.is_running
