"""A service that the measurement did not start: in a process of its own, on another broker, or not there at all."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from helpers import children_of, unique_prefix

from xedge import Edge, External, Link, Poisson, Scenario
from xedge.core.exceptions import ConfigurationError, ServiceError
from xedge.runs.trial import READINGS, _drop_strange_clocks
from xedge.serving.broker import Broker
from xedge.serving.services import EdgeMLService

pytestmark = pytest.mark.usefixtures("models")


@pytest.fixture
def process(any_broker: Broker) -> Iterator[str]:
    """The topic prefix of an edge service in a process of its own."""
    prefix = unique_prefix()
    command = [
        sys.executable,
        "-m",
        "xedge.cli",
        "serve",
        "edge",
        "--model",
        "anomaly_detector",
        "--topic-prefix",
        prefix,
    ]
    where = {"MQTT_BROKER_HOST": any_broker.host, "MQTT_BROKER_PORT": str(any_broker.port)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | where) as running:
        assert "ready" in running.stdout.readline()
        yield prefix
        running.terminate()


def measure(broker: Broker, **placements):
    workload = Poisson(rate_hz=100, duration_s=0.6)
    scenario = Scenario(model="anomaly_detector", workload=workload, placements=placements)
    return scenario.measure(1, progress=False, broker=broker)


def test_thread_and_process_side_by_side(any_broker: Broker, process: str) -> None:
    found = measure(any_broker, thread=Edge(), process=External(topic_prefix=process))
    thread, other = (found.rows[found.rows["placement"] == name] for name in ("thread", "process"))
    assert set(other["status"]) == {"ok"}
    assert other["prediction"].tolist() == pytest.approx(thread["prediction"].tolist(), abs=1e-6)
    assert other["started_ns"].notna().all()  # one host, one clock
    said = found.conditions["services"]["process"]
    assert said["engine"] == "onnxruntime"
    assert process in said["external"]
    assert said["counts"]["answered"] == len(other)


def test_process_is_started_for_a_trial_and_gone_after_it(any_broker: Broker) -> None:
    before = children_of(os.getpid())
    found = measure(any_broker, process=Edge(run_in="process", compute_scale=3, max_batch=1))
    assert set(found.rows["status"]) == {"ok"}
    said = found.conditions["services"]["process"]
    assert (said["run_in"], said["compute_scale"], said["max_batch"]) == ("process", 3.0, 1)
    assert children_of(os.getpid()) == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"run_in": "process", "link": Link(delay_ms=1)}, "link emulated in threads only"),
        ({"run_in": "container"}, "go together"),
        ({"image": "x"}, "go together"),
        ({"run_in": "process", "cpus": 0.5}, "cpus limits a container"),
        ({"run_in": "fog"}, "give thread, process or container"),
    ],
)
def test_isolation_that_cannot_be_meant(settings, message) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Edge(**settings)


def test_external_service_on_another_broker(any_broker: Broker) -> None:
    prefix = unique_prefix()
    with (
        Broker(kind="embedded", name=prefix) as far,
        EdgeMLService("anomaly_detector", far.host, far.port, topic_prefix=prefix),
    ):
        found = measure(any_broker, far=External(topic_prefix=prefix, broker=far.url))
    assert set(found.rows["status"]) == {"ok"}


def test_external_service_that_is_not_there(any_broker: Broker) -> None:
    with pytest.raises(ServiceError, match="no xedge service answers on nobody/ml/inference/ping"):
        measure(any_broker, far=External(topic_prefix="nobody"))


def test_readings_of_another_clock_are_forgotten() -> None:
    import numpy as np

    names = ("sent_ns", *READINGS, "received_ns")
    good, ahead, unanswered = (1, 2, 3, 4, 5, 6, 7), (1, 900, 901, 902, 903, 904, 7), (1, -1, -1, -1, -1, -1, -1)
    columns = dict(zip(names, np.array([good, ahead, unanswered]).T.copy(), strict=True))
    _drop_strange_clocks(columns)
    assert [tuple(int(columns[name][k]) for name in names) for k in range(3)] == [
        good,
        (1, -1, -1, -1, -1, -1, 7),
        unanswered,
    ]
