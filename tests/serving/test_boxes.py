"""Programmable service times, servers side by side and several boxes, seen through real messages."""

from __future__ import annotations

from itertools import islice, pairwise

import msgspec
import numpy as np
import pytest
from helpers import Client, request_bytes

import xedge
from xedge.core.exceptions import ConfigurationError
from xedge.runs.trial import statuses
from xedge.scenario.routes import Topics, box_prefixes
from xedge.serving.messages import Result
from xedge.serving.start import Setting, service_of

pytestmark = pytest.mark.usefixtures("models")
MS = 1_000_000


def results(broker, prefix, count, **service):
    """Send `count` requests at once to an edge service and return its answers in the order they came."""
    topics = Topics(prefix)
    with (
        xedge.EdgeMLService("anomaly_detector", broker.host, broker.port, topic_prefix=prefix, **service),
        Client(broker, topics.result("tester")) as client,
    ):
        for number in range(count):
            client.publish(topics.request, request_bytes([0.5] * 32, "tester", number, trace=True))
        client.wait(count)
    return [msgspec.json.decode(payload, type=Result) for _, payload in client.messages]


@pytest.mark.parametrize("kind", [xedge.Deterministic, xedge.Exponential])
def test_draws_have_the_mean_asked_for_and_are_repeatable(kind):
    draws = np.array(list(islice(kind(mean_ms=30).draws_ns(5), 20_000)))
    assert abs(draws.mean() / (30 * MS) - 1) < 0.03
    assert draws.tolist() == list(islice(kind(mean_ms=30).draws_ns(5), 20_000))
    assert draws.std() == pytest.approx(0 if kind is xedge.Deterministic else 30 * MS, rel=0.05)


def test_exponential_draws_differ_by_seed():
    first, second = (list(islice(xedge.Exponential(mean_ms=1).draws_ns(seed), 5)) for seed in (1, 2))
    assert first != second


def test_one_server_takes_requests_one_after_the_other(any_broker, prefix):
    answers = results(any_broker, prefix, 8, service_time=xedge.Deterministic(mean_ms=20), max_batch=1)
    clocks = [answer.trace for answer in answers]
    assert [answer.timestamp_us for answer in answers] == list(range(8))
    assert all(clock.finished_ns - clock.started_ns >= 20 * MS for clock in clocks)
    for before, after in pairwise(clocks):  # exactly: a late wake-up does not add up along the queue
        assert after.started_ns == max(after.arrived_ns, before.started_ns + 20 * MS)


def test_servers_work_side_by_side(any_broker, prefix):
    answers = results(any_broker, prefix, 12, service_time=xedge.Deterministic(mean_ms=200), max_batch=1, servers=3)
    clocks = sorted((answer.trace for answer in answers), key=lambda clock: clock.started_ns)
    started = [clock.started_ns for clock in clocks]
    assert all(started[k + 3] >= started[k] + 200 * MS for k in range(9))
    for k in range(3, 12):  # exactly: a request begins when it is there and the server of three before is free
        assert started[k] == max(clocks[k].arrived_ns, started[k - 3] + 200 * MS)


def test_scaled_servers_work_side_by_side(any_broker, prefix):
    answers = results(any_broker, prefix, 8, compute_scale=3000.0, max_batch=1, servers=2)
    spans = sorted((answer.trace.started_ns, answer.trace.finished_ns) for answer in answers)
    assert any(later < end for (_, end), (later, _) in pairwise(spans))


def test_a_batch_takes_one_service_time_and_only_what_had_arrived(any_broker, prefix):
    answers = results(any_broker, prefix, 20, service_time=xedge.Deterministic(mean_ms=30), max_batch=8)
    starts = [answer.trace.started_ns for answer in answers]
    sizes = [starts.count(start) for start in sorted(set(starts))]
    assert len(answers) == 20
    assert max(sizes) <= 8
    assert len(sizes) < 20  # some went together


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"servers": 2}, "emulated"),
        ({"servers": 0}, "servers=0"),
        ({"service_time": xedge.Deterministic(mean_ms=1), "compute_scale": 2.0}, "give one"),
    ],
)
def test_service_refuses_what_nothing_emulates(wrong, words):
    with pytest.raises(ConfigurationError, match=words):
        xedge.EdgeMLService("anomaly_detector", **wrong)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: xedge.Edge(servers=2), "emulated"),
        (lambda: xedge.Cloud(servers=2), "emulated"),
        (lambda: xedge.Edge(compute_scale=2, service_time=xedge.Exponential(mean_ms=1)), "give one"),
        (lambda: xedge.Edge(run_in="process", boxes=2), "boxes emulated in threads only"),
        (lambda: xedge.Edge(run_in="process", service_time=xedge.Exponential(mean_ms=1)), "service_time"),
        (lambda: xedge.Edge(boxes=0), "boxes"),
        (lambda: xedge.Exponential(mean_ms=0), "mean_ms"),
    ],
)
def test_placement_refuses_what_nothing_emulates(make, words):
    with pytest.raises(ConfigurationError, match=words):
        make()


def test_prefixes_of_boxes_are_apart_and_one_box_keeps_its_own():
    assert box_prefixes("p", 2) == ["p/box-0", "p/box-1"]
    assert box_prefixes("", 2) == ["box-0", "box-1"]
    assert box_prefixes("p", 1) == ["p"]


def test_every_box_gets_its_share(any_broker, prefix):
    boxes = service_of(xedge.Edge(boxes=4), Setting("anomaly_detector", any_broker, seed=7, prefix=prefix))
    shares = np.bincount(boxes.routes(40_000), minlength=4) / 40_000
    assert np.abs(shares - 0.25).max() < 0.02
    assert len({service.seed for service in boxes.services}) == 4
    assert boxes.prefixes == box_prefixes(prefix, 4)
    with boxes:
        assert all(service.is_running for service in boxes.services)
    assert not any(service.is_running for service in boxes.services)


def boxes_scenario(**changes):
    placements = {
        "edge": xedge.Edge(service_time=xedge.Exponential(mean_ms=5), max_batch=1, boxes=3),
        "cloud": xedge.Cloud(
            link=xedge.Link(delay_ms=5), service_time=xedge.Exponential(mean_ms=5), max_batch=1, servers=3
        ),
    }
    workload = xedge.Poisson(rate_hz=100, duration_s=1)
    return xedge.Scenario(model="anomaly_detector", workload=workload, placements=placements, seed=2, **changes)


@pytest.mark.long
def test_boxes_answer_all_that_is_sent_to_them():
    measurement = boxes_scenario().measure(replications=1, progress=False)
    rows = measurement.rows
    assert (rows["status"] == "ok").all()
    counts = measurement.conditions["services"]["edge"]["counts"]
    assert counts["answered"] == (rows["placement"] == "edge").sum()
    assert measurement.conditions["services"]["edge"]["boxes"] == 3
    assert measurement.conditions["services"]["cloud"]["servers"] == 3


def test_a_request_lost_at_one_box_is_told_by_that_box_alone():
    due_ns = np.arange(6) * MS
    routes = np.array([1, 1, 0, 0, 0, 0], np.uint8)  # box 1 answers nothing; box 0 answers all but number 2
    received_ns = np.where(np.arange(6) > 2, due_ns + 1, -1)
    status = statuses(due_ns, due_ns.copy(), received_ns, routes, timeout_s=5.0)
    assert status.tolist() == ["timeout", "timeout", "lost", "ok", "ok", "ok"]


def test_scenario_with_boxes_and_servers_survives_yaml(tmp_path):
    scenario = boxes_scenario()
    (tmp_path / "one.yaml").write_text(scenario.to_yaml())
    assert xedge.Scenario.from_yaml(tmp_path / "one.yaml") == scenario
