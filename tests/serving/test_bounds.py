"""What is bounded: a service's queue, what a connection has not sent yet, what a broker keeps for who does not read."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from helpers import Client, Device, counted, request_bytes, wait_until
from paho.mqtt.enums import MQTTErrorCode

import xedge
from xedge.core.exceptions import ConfigurationError
from xedge.models.reference import reference_inputs
from xedge.runs.sender import Flight, Sender
from xedge.scenario.link import Link
from xedge.scenario.placements import Cloud, Edge
from xedge.serving import connection as connections
from xedge.serving.broker import Broker, find_mosquitto
from xedge.serving.connection import Connection
from xedge.serving.messages import encode_request
from xedge.serving.metrics import Metrics
from xedge.serving.services import EdgeMLService
from xedge.serving.start import Setting, service_of

pytestmark = pytest.mark.usefixtures("models")
INPUT = [0.5] * 32


def reasons(messages):
    """Return how often each reason was answered, "" for results."""
    said = [json.loads(payload).get("reason", "") for _, payload in messages]
    return {reason: said.count(reason) for reason in set(said)}


def edge(broker, prefix, **further):
    return EdgeMLService("anomaly_detector", broker.host, broker.port, topic_prefix=prefix, **further)


def test_who_finds_the_queue_full_is_refused_and_room_comes_back(any_broker, prefix):
    """Those crossing the uplink count: the twenty come at once, and the first leave after 500 ms."""
    service = edge(any_broker, prefix, uplink=Link(delay_ms=500), max_queue=5)
    with service, Device(any_broker, prefix) as device:
        for number in range(20):
            device.request(INPUT, timestamp_us=number, request_id=100 + number)
        messages = device.wait(20)
        assert device.ask(INPUT, timestamp_us=20)["prediction"] >= 0
    assert reasons(messages) == {"": 5, "overloaded": 15}
    refusal = next(json.loads(payload) for topic, payload in messages if "/error/" in topic)
    assert refusal["request_id"] == 100 + refusal["timestamp_us"]
    assert "5 requests or 64 MiB" in refusal["error"]
    assert dict(service.refused) == {"overloaded": 15}
    assert (service.counts["received"], service.counts["answered"], service.counts["unanswered"]) == (21, 6, 0)


def test_the_queue_has_a_limit_in_bytes(broker, prefix):
    padding = "x" * 300_000
    service = edge(broker, prefix, uplink=Link(delay_ms=500), max_queue_mib=1)
    with service, Device(broker, prefix) as device:
        for number in range(8):
            device.request(INPUT, timestamp_us=number, padding=padding)
        assert reasons(device.wait(8)) == {"": 3, "overloaded": 5}


@pytest.mark.parametrize(
    "further",
    [
        {"uplink": Link(loss=0.5), "seed": 3},
        {"downlink": Link(loss=0.5, rate_mbps=50), "seed": 3},
        {"compute_scale": 5.0},
        {},
    ],
)
def test_whatever_becomes_of_requests_their_room_comes_back(broker, prefix, further, tmp_path):
    from helpers import write_lookup_model

    model = write_lookup_model(tmp_path / "lookup.onnx")
    service = EdgeMLService(model, broker.host, broker.port, topic_prefix=prefix, **further)
    with service, Device(broker, prefix) as device:
        for number in range(60):
            device.request([99 if number % 7 == 0 else 1], timestamp_us=number)
        device.send(b"no request")
        done = ("answered", "lost")
        wait_until(
            lambda: sum(service.counts[name] for name in done) + sum(service.refused.values()) == 61,
            "all have been answered, lost or refused",
        )
        assert (service._capacity.requests, service._capacity.bytes) == (0, 0)


def test_metrics_say_how_much_waits_and_how_long(broker, prefix):
    topic = f"{prefix}/ml/inference/metrics/edge"
    with (
        Client(broker, topic) as listener,
        edge(broker, prefix, metrics_interval_s=0.05, compute_scale=1e4, max_batch=1) as service,
        Device(broker, prefix) as device,
    ):
        for number in range(30):
            device.request(INPUT, timestamp_us=number)
        size = len(request_bytes(INPUT))

        def waiting():
            told = [json.loads(payload) for _, payload in listener.messages]
            return next((one for one in told if one.get("queued", 0) > 5 and one.get("oldest_ms", 0) > 50), None)

        found = wait_until(waiting, "metrics tell of requests that wait")
        assert found["queued_bytes"] >= size * (found["queued"] - 1)
        assert service.counts["received"] == 30
    assert (Metrics("edge", 1, 1, 0, 0, 0).queued, Metrics("edge", 1, 1, 0, 0, 0).oldest_ms) == (0, None)


def test_limits_that_hold_nothing_are_refused_and_a_placement_carries_them(broker):
    with pytest.raises(ConfigurationError, match="max_queue=0"):
        EdgeMLService("anomaly_detector", max_queue=0)
    with pytest.raises(ConfigurationError, match="max_queue_mib=-1"):
        EdgeMLService("anomaly_detector", max_queue_mib=-1)
    for wrong in ({"max_queue": 0}, {"max_queue_mib": 0}):
        with pytest.raises(ConfigurationError, match="max_queue"):
            Edge(**wrong)
    limits, setting = {"max_queue": 7, "max_queue_mib": 0.5}, Setting("anomaly_detector", broker)
    for placement in (Edge(**limits), Cloud(**limits)):
        service = service_of(placement, setting)
        assert (service.max_queue, service.max_queue_mib) == (7, 0.5)
    assert [box.max_queue for box in service_of(Edge(boxes=2, **limits), setting).services] == [7, 7]
    isolated = service_of(Edge(run_in="process", **limits), setting)
    assert "--max-queue 7 --max-queue-mib 0.5" in " ".join(isolated._command())


def test_limits_in_a_scenario_bound_its_services_and_stand_in_its_conditions(any_broker, tmp_path):
    """A batch of one takes 20 ms, 50 are answered a second and 400 asked: most find ten before them."""
    (tmp_path / "scenario.yaml").write_text(
        "model: anomaly_detector\nworkload: {kind: constant, rate_hz: 400, duration_s: 1}\nplacements:\n"
        "  edge: {tier: edge, max_batch: 1, max_queue: 10, service_time: {kind: deterministic, mean_ms: 20}}\n"
    )
    scenario = xedge.Scenario.from_yaml(tmp_path / "scenario.yaml")
    measurement = scenario.measure(1, progress=False, broker=any_broker)
    refused = measurement.rows[measurement.rows["status"] == "overloaded"]
    assert len(refused) > 200
    assert refused["error"].str.startswith("overloaded: the queue is full (10 requests or 64 MiB").all()
    conditions = measurement.conditions
    assert conditions["scenario"]["placements"]["edge"]["max_queue"] == 10
    assert conditions["services"]["edge"]["max_queue"] == 10


def megabytes(pid, which):
    """Return VmRSS (now) or VmHWM (the most so far) of a process in MiB."""
    found = re.search(rf"{which}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024


@contextmanager
def served(broker, prefix, *options):
    """A service in a process of its own, ready; yields its pid."""
    where = ["--broker-host", broker.host, "--broker-port", str(broker.port), "--topic-prefix", prefix]
    command = [sys.executable, "-m", "xedge.cli", "serve", "edge", *where, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert "ready" in process.stdout.readline()
            yield process.pid
        finally:
            process.terminate()
            process.communicate(timeout=60)


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc")
def test_far_beyond_its_ceiling_memory_stays_flat_and_every_request_is_answered_or_refused(any_broker, prefix, models):
    """80 MiB of requests in four seconds, for a service that answers about a hundred a second: most are refused."""
    n, options = 4000, ["--model", str(models / "vibration_cnn.onnx"), "--compute-scale", "8"]
    windows = reference_inputs("vibration_cnn", 20, 5)
    payloads = [encode_request("sensor", k, windows[k % 20], request_id=k) for k in range(n)]
    volume = sum(map(len, payloads)) / 2**20
    due_ns = np.arange(n) * 1_000_000
    with served(any_broker, prefix, *options, "--max-queue-mib", "4") as pid, Sender() as sender:
        where = (any_broker.host, any_broker.port, [prefix], "sensor")
        warm = sender.fly(Flight(*where, np.zeros(200, np.int64).tobytes(), payloads[:200], 120.0))
        assert len(warm.replies) == 200  # 4 MiB are about 200 of them
        before = megabytes(pid, "VmRSS")
        log = sender.fly(Flight(*where, due_ns.tobytes(), payloads, 120.0))
        grown = megabytes(pid, "VmHWM") - before
    answers = [(is_error, json.loads(payload)) for _, is_error, payload in log.replies]
    sent = np.flatnonzero(np.frombuffer(log.sent_ns, np.int64) >= 0)
    assert sorted(answer["request_id"] for _, answer in answers) == sent.tolist()
    refused = [answer["reason"] for is_error, answer in answers if is_error]
    assert set(refused) == {"overloaded"}
    assert n / 2 < len(refused) < n
    assert volume > 60
    assert grown < volume / 3


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc")
@pytest.mark.parametrize("times", [2, 8])
def test_a_minute_beyond_its_ceiling_loses_no_request_and_takes_no_memory(any_broker, prefix, models, times):
    options = ["--model", str(models / "anomaly_detector.onnx"), "--compute-scale", "20"]
    options += ["--max-batch", "1", "--max-queue", "500"]  # which even a busy machine has answered in two minutes
    features = np.array(INPUT, np.float32)
    with served(any_broker, prefix, *options) as pid, Sender() as sender:
        where = (any_broker.host, any_broker.port, [prefix], "sensor")
        payloads = [encode_request("sensor", k, features, request_id=k) for k in range(1000)]
        flood = sender.fly(Flight(*where, np.zeros(1000, np.int64).tobytes(), payloads, 120.0, window=64))
        ceiling_hz = 1000 / (flood.replies[-1][0] - flood.start_ns) * 1e9
        before, n = megabytes(pid, "VmRSS"), round(times * ceiling_hz * counted(60))
        payloads = [encode_request("sensor", k, features, request_id=k) for k in range(n)]
        due_ns = np.round(np.arange(n) / (times * ceiling_hz) * 1e9).astype(np.int64)
        log = sender.fly(Flight(*where, due_ns.tobytes(), payloads, 120.0))
        grown = megabytes(pid, "VmHWM") - before
    answers = [(is_error, json.loads(payload)) for _, is_error, payload in log.replies]
    refused = sum(is_error for is_error, _ in answers)
    sys.stderr.write(
        f"{times} x {ceiling_hz:.0f}/s: {n} asked, {n - refused} answered, {refused} refused, {grown:+.1f} MiB\n"
    )
    assert np.frombuffer(log.sent_ns, np.int64).min() >= 0
    assert sorted(answer["request_id"] for _, answer in answers) == list(range(n))
    assert {answer["reason"] for is_error, answer in answers if is_error} == {"overloaded"}
    assert grown < 50


class Hoarder:
    """A broker that accepts, and then neither reads nor acknowledges anything."""

    def __enter__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self.connection = Connection("test", *self._listener.getsockname(), [], lambda *_: None)
        self.connection.connect()
        self.connection.flush()
        self._peer, _ = self._listener.accept()
        self._peer.recv(100)
        self._peer.sendall(b"\x20\x02\x00\x00")
        self.connection.wait_subscribed(10)
        return self.connection

    def __exit__(self, *_exc):
        self._peer.close()
        self.connection.close()
        self._listener.close()


@pytest.mark.parametrize("qos", [0, 1])
def test_what_a_broker_does_not_take_is_kept_up_to_a_limit(monkeypatch, qos):
    monkeypatch.setattr(connections, "MAX_PENDING_BYTES", 1 << 20)
    monkeypatch.setattr(connections, "WEIGH_NS", 0)
    with Hoarder() as connection:
        taken = 0
        for _ in range(20_000):  # sockets take some MiB
            taken += connection.publish("t", b"x" * 1000, qos).rc == 0
            connection.flush()
        assert 500 < taken < 20_000
        assert connection.pending_bytes < 1.1 * 2**20


def test_with_nobody_there_quality_of_service_1_keeps_up_to_a_limit(monkeypatch):
    monkeypatch.setattr(connections, "MAX_PENDING_BYTES", 1 << 20)
    monkeypatch.setattr(connections, "WEIGH_NS", 0)
    with Hoarder() as connection:
        connection._client._sock_close()
        answers = {connection.publish("t", b"x" * 1000, 1).rc for _ in range(3000) if connection.flush() is None}
        assert answers == {connections.NO_CONNECTION, MQTTErrorCode.MQTT_ERR_QUEUE_SIZE}
        assert 2**20 < connection.pending_bytes < 1.1 * 2**20


def test_what_a_broker_has_taken_is_no_longer_pending_and_more_is_taken(any_broker, prefix, monkeypatch):
    monkeypatch.setattr(connections, "MAX_PENDING_BYTES", 50_000)
    monkeypatch.setattr(connections, "WEIGH_NS", 0)
    connection = Connection("test", any_broker.host, any_broker.port, [], lambda *_: None)
    with connection.connected(30):
        for number in range(100):
            assert connection.publish(f"{prefix}/t", b"x" * 5000, number % 2).rc == 0
        connection.flush()
        assert connection.publish(f"{prefix}/t", b"x", 1).rc != 0
        connection.turn_until(lambda: not connection.pending_bytes, 60)
        connection.flush()
        assert connection.publish(f"{prefix}/t", b"x", 1).rc == 0


@pytest.mark.skipif(not find_mosquitto(), reason="mosquitto is not installed")
def test_mosquitto_keeps_no_more_than_allowed_for_a_client_that_does_not_read(prefix):
    """80 MiB for a client that reads nothing, then all of it: it has missed some, who reads has not."""
    n, size = 5000, 16_000
    with Broker(kind="mosquitto", name=prefix) as broker:
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        slow.connect((broker.host, broker.port))
        slow.sendall(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x00\x00\x04slow" + b"\x82\x06\x00\x01\x00\x01t\x01")
        heard = []
        reader = Connection("reader", broker.host, broker.port, ["t"], lambda _topic, payload: heard.append(payload), 1)
        with reader.connected(30):
            for number in range(n):
                reader.publish("t", b"%06d" % number + b"x" * size, 1)
                reader.turn_until(lambda number=number: len(heard) >= number - 20, 60)
            reader.turn_until(lambda: len(heard) >= n, 60)
            assert [int(payload[:6]) for payload in heard] == list(range(n))
            reader.publish("t", b"the end", 1)
            reader.turn_until(lambda: len(heard) > n, 60)
        slow.settimeout(2)
        received = 0
        try:
            while part := slow.recv(1 << 20):
                received += len(part)
        except TimeoutError:
            pass
        slow.close()
    assert received < 0.9 * n * size


def test_shipped_and_generated_configurations_of_mosquitto_have_the_same_limits():
    from xedge.serving.broker import MOSQUITTO_CONFIG

    shipped = (Path(__file__).resolve().parents[2] / "containers" / "mosquitto.conf").read_text()
    limits = [line for line in MOSQUITTO_CONFIG.splitlines() if line.startswith(("max_", "memory_"))]
    assert len(limits) == 6
    assert [line for line in shipped.splitlines() if line.startswith(("max_", "memory_"))] == limits
