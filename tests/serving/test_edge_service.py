"""The edge service behind real brokers: what it answers, what it refuses, and how it starts, ends and recovers."""

from __future__ import annotations

import json
import socket
import statistics
import threading
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from helpers import Client, Device, request_bytes, unique_prefix, wait_until, write_lookup_model, xedge_threads
from onnx import TensorProto, helper

from xedge.core.exceptions import (
    BrokerError,
    ConfigurationError,
    ModelError,
    ModelNotFoundError,
    RequestError,
)
from xedge.models.reference import reference_inputs
from xedge.scenario.link import Link
from xedge.serving.broker import Broker, _free_port
from xedge.serving.messages import encode_request
from xedge.serving.services import EdgeMLService

pytestmark = pytest.mark.usefixtures("models")
INPUTS = reference_inputs("anomaly_detector", 40, 11)


@pytest.fixture(scope="module")
def expected(models: Path) -> list[float]:
    """What ONNX Runtime itself says of INPUTS."""
    session = onnxruntime.InferenceSession(models / "anomaly_detector.onnx", providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: INPUTS})[0].ravel().tolist()


def edge(broker: Broker, prefix: str, **further: Any) -> EdgeMLService:
    return EdgeMLService("anomaly_detector", broker.host, broker.port, topic_prefix=prefix, **further)


def test_model_loads() -> None:
    service = EdgeMLService("anomaly_detector")
    engine = service.load_model()
    assert engine.input_shape == (32,)
    assert engine.input_dtype == np.float32
    assert service.first_call_ms > 0
    assert service.load_model() is engine


def test_run_inference_without_a_broker(expected: list[float]) -> None:
    service = EdgeMLService("anomaly_detector")
    answer = service.run_inference(INPUTS[3].tolist())
    assert answer.prediction == pytest.approx(expected[3], abs=1e-5)
    assert answer.inference_time_ms > 0


@pytest.mark.parametrize(
    ("features", "reason"),
    [([1.0] * 31, "wrong_shape"), (["x"] * 32, "wrong_type"), ([float("nan")] * 32, "not_finite")],
)
def test_run_inference_refuses_what_the_model_does_not_take(features: list[Any], reason: str) -> None:
    with pytest.raises(RequestError) as caught:
        EdgeMLService("anomaly_detector").run_inference(features)
    assert caught.value.reason == reason


def test_inference_request(broker: Broker, prefix: str) -> None:
    with edge(broker, prefix) as service, Device(broker, prefix) as device:
        assert service.topics.request == f"{prefix}/ml/inference/request"
        device.request(INPUTS[0])
        [(topic, _)] = device.wait(1)
        assert topic == f"{prefix}/ml/inference/result/sensor"
        assert service.counts["received"] == 1


def test_inference_result(broker: Broker, prefix: str, expected: list[float]) -> None:
    with edge(broker, prefix), Device(broker, prefix) as device:
        answer = device.ask(INPUTS[1], "pump-7", 1_700_000_000_000_123)
    assert set(answer) == {"device_id", "timestamp_us", "prediction", "inference_time_ms"}
    assert answer["device_id"] == "pump-7"
    assert answer["timestamp_us"] == 1_700_000_000_000_123
    assert answer["prediction"] == pytest.approx(expected[1], abs=1e-5)
    assert 0 <= answer["prediction"] <= 1
    assert answer["inference_time_ms"] > 0


def test_inference_latency(broker: Broker, prefix: str) -> None:
    with edge(broker, prefix), Device(broker, prefix) as device:
        for number in range(30):
            begun = perf_counter()
            took_ms = device.ask(INPUTS[number], timestamp_us=number)["inference_time_ms"]
            assert 0 < took_ms < (perf_counter() - begun) * 1e3


def test_end_to_end(broker: Broker, prefix: str, expected: list[float]) -> None:
    devices = ["press", "pump", "fan"]
    with edge(broker, prefix) as service, Device(broker, prefix) as device:
        for number, features in enumerate(INPUTS):
            device.request(features, devices[number % 3], number)
        answers = device.results(len(INPUTS))
    assert sorted(answer["timestamp_us"] for answer in answers) == list(range(len(INPUTS)))
    for answer in answers:
        number = answer["timestamp_us"]
        assert answer["device_id"] == devices[number % 3]
        assert answer["prediction"] == pytest.approx(expected[number], abs=1e-5)
    assert service.counts["received"] == service.counts["answered"] == len(INPUTS)
    assert service.counts["unanswered"] == 0
    assert not service.refused


GOOD = INPUTS[0].tolist()
BAD = {
    "not_json": (b"hello", "not_decodable", False),
    "empty": (b"", "not_decodable", False),
    "broken_messagepack": (b"\x83\xa9device", "not_decodable", False),
    "not_utf8": (b'{"device_id": "\xff\xfe"}', "not_decodable", False),
    "a_list": (b"[1, 2, 3]", "wrong_type", False),
    "no_features": (b'{"device_id": "sensor", "timestamp_us": 7}', "wrong_type", True),
    "text_features": (request_bytes(["x"] * 32, timestamp_us=7), "wrong_type", True),
    "flags_as_features": (request_bytes([True] * 32, timestamp_us=7), "wrong_type", True),
    "nested_features": (request_bytes([[0.0] * 32], timestamp_us=7), "wrong_type", True),
    "text_timestamp": (request_bytes(GOOD, timestamp_us="noon"), "wrong_type", True),
    "too_few": (request_bytes([0.0] * 31, timestamp_us=7), "wrong_shape", True),
    "too_many": (request_bytes([0.0] * 33, timestamp_us=7), "wrong_shape", True),
    "nan": (request_bytes([float("nan")] * 32, timestamp_us=7), "not_finite", True),
    "infinity": (request_bytes([float("-inf")] * 32, timestamp_us=7), "not_finite", True),
    "beyond_float32": (request_bytes([1e39] * 32, timestamp_us=7), "not_finite", True),
    "too_large": (b" " * 20_001, "too_large", False),
    "slash": (request_bytes(GOOD, "a/b"), "device_id", False),
    "plus": (request_bytes(GOOD, "a+b"), "device_id", False),
    "hash": (request_bytes(GOOD, "#"), "device_id", False),
    "nul": (request_bytes(GOOD, "a\0b"), "device_id", False),
    "empty_device": (request_bytes(GOOD, ""), "device_id", False),
    "device_too_long": (request_bytes(GOOD, "d" * 257), "device_id", False),
    "device_a_number": (request_bytes(GOOD, 5), "wrong_type", False),
}


def test_bad_requests_are_counted_and_answered_and_stop_nothing(
    broker: Broker, prefix: str, expected: list[float]
) -> None:
    counted: dict[str, int] = {}
    with edge(broker, prefix, max_payload_bytes=20_000) as service, Device(broker, prefix) as device:
        for name, (payload, reason, is_answered) in BAD.items():
            counted[reason] = counted.get(reason, 0) + 1
            before = len(device.messages)
            device.send(payload)
            device.request(INPUTS[2], "after", 99)
            *errors, (topic, result) = device.wait(before + 1 + is_answered)[before:]
            assert topic == f"{device.base}/result/after", name
            assert json.loads(result)["prediction"] == pytest.approx(expected[2], abs=1e-5)
            assert len(errors) == is_answered, name
            assert dict(service.refused) == counted, name
            for topic, error in errors:
                assert topic == f"{device.base}/error/sensor", name
                answer = json.loads(error)
                stamp = None if name == "text_timestamp" else 7
                assert (answer["reason"], answer["device_id"], answer["timestamp_us"]) == (reason, "sensor", stamp)
                assert answer["error"], name
        assert service.counts["received"] == 2 * len(BAD)
    assert service.counts["answered"] == len(BAD)
    assert service.counts["unanswered"] == 0


def test_binary_requests(broker: Broker, prefix: str, expected: list[float]) -> None:
    by_hand = {
        "device_id": "sensor",
        "timestamp_us": 2,
        "features": {"dtype": "float64", "shape": [32], "data": INPUTS[5].astype("<f8").tobytes()},
    }
    with edge(broker, prefix), Device(broker, prefix) as device:
        device.send(encode_request("sensor", 1, INPUTS[4], binary=True))
        device.send(msgspec.msgpack.encode(by_hand))
        answers = device.results(2)
    assert [answer["timestamp_us"] for answer in answers] == [1, 2]
    assert [answer["prediction"] for answer in answers] == pytest.approx(expected[4:6], abs=1e-5)


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        ({"dtype": "float32", "shape": [32], "data": b"\0" * 12}, "wrong_shape"),
        ({"dtype": "float32", "shape": [16], "data": b"\0" * 64}, "wrong_shape"),
        ({"dtype": "float32", "shape": [-1], "data": b"\0" * 64}, "wrong_shape"),
        ({"dtype": "object", "shape": [32], "data": b"\0" * 256}, "wrong_type"),
        ({"dtype": "no such", "shape": [32], "data": b"\0" * 256}, "wrong_type"),
        ({"dtype": "float32", "shape": [32], "data": np.full(32, np.nan, "<f4").tobytes()}, "not_finite"),
    ],
)
def test_bad_binary_requests(any_broker: Broker, prefix: str, tensor: dict[str, Any], reason: str) -> None:
    with edge(any_broker, prefix) as service, Device(any_broker, prefix) as device:
        device.send(msgspec.msgpack.encode({"device_id": "sensor", "timestamp_us": 7, "features": tensor}))
        [(topic, payload)] = device.wait(1)
        assert topic == f"{device.base}/error/sensor"
        assert json.loads(payload)["reason"] == reason
        device.messages.clear()
        assert device.ask(INPUTS[0])["timestamp_us"] == 1
    assert dict(service.refused) == {reason: 1}


def test_trace_gives_clock_readings_in_order(broker: Broker, prefix: str) -> None:
    with edge(broker, prefix), Device(broker, prefix) as device:
        clock = device.ask(INPUTS[0], trace=True)["trace"]
        assert "trace" not in device.ask(INPUTS[0], trace=False)
    readings = [clock[name] for name in ("arrived_ns", "started_ns", "finished_ns", "departed_ns")]
    assert readings == sorted(readings)
    assert readings[1] < readings[2]


def test_unknown_fields_are_ignored(any_broker: Broker, prefix: str, expected: list[float]) -> None:
    with edge(any_broker, prefix) as service, Device(any_broker, prefix) as device:
        answer = device.ask(INPUTS[6], firmware="1.2", nested={"a": [1, None]})
    assert answer["prediction"] == pytest.approx(expected[6], abs=1e-5)
    assert not service.refused


def test_two_services_are_kept_apart_by_their_prefix(broker: Broker) -> None:
    one, other = unique_prefix(), unique_prefix()
    with (
        edge(broker, one) as first, edge(broker, other) as second,
        Device(broker, one) as here, Device(broker, other) as there,
    ):  # fmt: skip
        assert here.ask(INPUTS[0], "mine")["device_id"] == "mine"
        assert there.ask(INPUTS[0], "yours")["device_id"] == "yours"
        assert first.counts["received"] == second.counts["received"] == 1
        assert len(here.messages) == len(there.messages) == 1


def test_many_at_once_share_batches(broker: Broker, prefix: str, expected: list[float]) -> None:
    n = 200
    with edge(broker, prefix, compute_scale=500.0) as service, Device(broker, prefix) as device:
        for number in range(n):
            device.request(INPUTS[number % 40], f"device-{number}", number)
        answers = device.results(n)
    assert sorted(answer["timestamp_us"] for answer in answers) == list(range(n))
    for answer in answers:
        number = answer["timestamp_us"]
        assert answer["device_id"] == f"device-{number}"
        assert answer["prediction"] == pytest.approx(expected[number % 40], abs=1e-5)
    assert -(-n // 64) <= service.counts["batches"] < n
    assert service.counts["answered"] == n


def test_max_batch_of_one_turns_batching_off(any_broker: Broker, prefix: str) -> None:
    with edge(any_broker, prefix, max_batch=1) as service, Device(any_broker, prefix) as device:
        for number in range(30):
            device.request(INPUTS[number], timestamp_us=number)
        answers = device.results(30)
    assert [answer["timestamp_us"] for answer in answers] == list(range(30))
    assert service.counts["batches"] == 30


@pytest.mark.parametrize("compute_scale", [1.0, 50.0])
def test_engine_failure_is_answered_and_spares_the_rest(
    any_broker: Broker, prefix: str, tmp_path: Path, compute_scale: float
) -> None:
    model = write_lookup_model(tmp_path / "lookup.onnx")
    # The same uplink for all lets the whole lot arrive together: the failure is then one of a batch.
    service = EdgeMLService(
        model, any_broker.host, any_broker.port, topic_prefix=prefix, uplink=Link(delay_ms=50),
        compute_scale=compute_scale,
    )  # fmt: skip
    with service, Device(any_broker, prefix) as device:
        for number in range(10):
            device.request([99 if number == 4 else number % 4], timestamp_us=number)
        messages = device.wait(10)
        assert device.ask([2], timestamp_us=10)["prediction"] == 2.5
    errors = [json.loads(payload) for topic, payload in messages if topic == f"{device.base}/error/sensor"]
    results = [json.loads(payload) for topic, payload in messages if topic == f"{device.base}/result/sensor"]
    assert [(error["reason"], error["timestamp_us"]) for error in errors] == [("engine", 4)]
    assert {answer["timestamp_us"]: answer["prediction"] for answer in results} == {
        number: number % 4 + 0.5 for number in range(10) if number != 4
    }
    assert dict(service.refused) == {"engine": 1}


def test_start_and_stop_twice(any_broker: Broker, prefix: str) -> None:
    service = edge(any_broker, prefix)
    service.stop()
    assert not service.is_running
    try:
        assert service.start() is service
        thread = service._thread
        assert service.start() is service
        assert service._thread is thread
        assert service.is_running
        with Device(any_broker, prefix) as device:
            device.ask(INPUTS[0])
            assert service.counts["answered"] == 1
    finally:
        service.stop()
    service.stop()
    assert not service.is_running
    with service, Device(any_broker, prefix) as device:
        assert device.ask(INPUTS[0])["timestamp_us"] == 1


def test_thread_is_named_and_joined_also_after_an_error(any_broker: Broker, prefix: str) -> None:
    with pytest.raises(ZeroDivisionError), edge(any_broker, prefix):
        _ = 1 / 0
    assert xedge_threads() == []
    with edge(any_broker, prefix):
        assert xedge_threads() == ["xedge-edge"]
    assert xedge_threads() == []


def test_running_a_cell_again_replaces_the_service(any_broker: Broker, prefix: str) -> None:
    first = edge(any_broker, prefix).start()
    second = edge(any_broker, prefix).start()
    try:
        assert not first.is_running
        assert second.is_running
        assert xedge_threads() == ["xedge-edge"]
        with Device(any_broker, prefix) as device:
            assert device.ask(INPUTS[0])["timestamp_us"] == 1
        assert (first.counts["received"], second.counts["received"]) == (0, 1)
        first.stop()
        assert second.is_running
    finally:
        second.stop()
    assert xedge_threads() == []


def test_missing_model_is_an_error_before_any_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0)
        service = EdgeMLService("no_such_model", "127.0.0.1", listening.getsockname()[1])
        with pytest.raises(ModelNotFoundError, match="xedge build"):
            service.start()
        with pytest.raises(BlockingIOError):
            listening.accept()
    assert not service.is_running
    assert xedge_threads() == []


def test_no_broker_is_an_error_that_names_the_address() -> None:
    port = _free_port()
    service = EdgeMLService("anomaly_detector", "127.0.0.1", port)
    with pytest.raises(BrokerError, match=f"127.0.0.1:{port}"):
        service.start()
    assert not service.is_running
    assert xedge_threads() == []


def test_port_that_cannot_be_is_a_broker_error() -> None:
    with pytest.raises(BrokerError, match="70000"):
        EdgeMLService("anomaly_detector", "127.0.0.1", 70000).start()


def test_connecting_by_hand_leaves_nothing_open(any_broker: Broker, prefix: str) -> None:
    service = edge(any_broker, prefix)
    connection = service.connect_mqtt()
    assert connection.subscribed
    assert service.connect_mqtt() is connection
    service.stop()
    still_open = connection._client.socket() is not None or connection._wake_r.fileno() != -1
    connection.close()
    assert not still_open


def test_run_serves_in_this_thread_until_stopped(any_broker: Broker, prefix: str) -> None:
    service = edge(any_broker, prefix)
    answers: list[dict[str, Any]] = []

    def ask_and_stop() -> None:
        try:
            with Device(any_broker, prefix) as device:
                wait_until(lambda: service.is_running, "the service is ready")
                answers.append(device.ask(INPUTS[0]))
        finally:
            service.stop()

    other = threading.Thread(target=ask_and_stop)
    other.start()
    service.run()
    other.join()
    assert answers[0]["timestamp_us"] == 1
    assert service.summary().startswith("edge service ended: 1 received, 1 answered, refused: none")


def test_reconnects_after_the_broker_restarts(broker: Broker, prefix: str) -> None:
    own = Broker(kind=broker.kind, port=_free_port(), name=prefix)
    with own, edge(own, prefix) as service:
        with Device(own, prefix) as device:
            device.ask(INPUTS[0])
        own.stop()
        own.start()
        with Device(own, prefix) as device:

            def is_answered() -> bool:
                device.request(INPUTS[0], timestamp_us=2)
                return bool(device.messages)

            wait_until(is_answered, "an answer after the restart")
    assert service.counts["reconnects"] >= 1
    assert not own.is_running


def test_a_result_that_could_not_be_sent_is_not_counted_as_answered(any_broker: Broker, prefix: str) -> None:
    own = Broker(kind=any_broker.kind, port=_free_port(), name=prefix)
    with own, edge(own, prefix, downlink=Link(delay_ms=1500)) as service:
        with Client(own) as device:
            device.publish(service.topics.request, request_bytes(INPUTS[0]))
            wait_until(lambda: service.counts["batches"] == 1, "the inference")
        own.stop()
        wait_until(lambda: not service._crossing_down, "the result is due to leave")
    assert service.counts["answered"] == 0
    assert service.counts["unanswered"] == 1


def test_compute_scale_makes_inference_take_longer(any_broker: Broker, prefix: str) -> None:
    with edge(any_broker, prefix, compute_scale=100.0) as service, Device(any_broker, prefix) as device:
        took_ms = [device.ask(INPUTS[n], timestamp_us=n)["inference_time_ms"] for n in range(20)]
        assert statistics.median(took_ms) > 10 * service.inference_ms


def test_compute_scale_multiplies_no_pause_of_this_machine(
    any_broker: Broker, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with edge(any_broker, prefix, compute_scale=100.0) as service, Device(any_broker, prefix) as device:
        infer = service.infer
        monkeypatch.setattr(service, "infer", lambda batch: [threading.Event().wait(0.2), infer(batch)][1])
        took_ms = device.ask(INPUTS[0], timestamp_us=1)["inference_time_ms"]
    assert 200 <= took_ms < 10_000  # a hundred pauses are 20 s


@pytest.mark.parametrize("wrong", [{"compute_scale": 0.5}, {"max_batch": 0}])
def test_settings_that_cannot_be_meant(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        EdgeMLService("anomaly_detector", **wrong)


def test_a_service_that_breaks_says_so_and_no_longer_runs(any_broker: Broker, prefix: str, caplog) -> None:
    edge = EdgeMLService("anomaly_detector", any_broker.host, any_broker.port, topic_prefix=prefix)
    with edge, Device(any_broker, prefix) as device:
        edge.answer = None  # a fault of our own, not of a message
        device.request([0.0] * 32)
        wait_until(lambda: "broke and answers no more" in caplog.text, "the log of it")
        assert not edge.is_running


@pytest.mark.parametrize(
    "ping",
    [
        b'{"device_id":"a","x":' + b"[" * 990 + b"]" * 990 + b"}",
        b"[" * 100_000,
        b"\xff\xfe",
        b"",
        b'{"device_id":"\\u0001"}',
        b'{"device_id":"a/b"}',
    ],
    ids=["deep", "deeper", "bytes", "empty", "control", "slash"],
)
def test_no_ping_ends_a_service(broker: Broker, prefix: str, ping: bytes) -> None:
    with edge(broker, prefix) as service, Device(broker, prefix) as device:
        for topic in (service.topics.ping, service.topics.request):
            device.publish(topic, ping)
        assert device.ask(INPUTS[0].tolist(), "well")["device_id"] == "well"
        assert service.is_running


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("device_id", ["\u0001", "a\x1f", "\x7f", "\x9f", "\ufffe", "\U0010ffff"])
def test_a_name_that_brokers_disconnect_for_is_refused(
    any_broker: Broker, prefix: str, device_id: str, qos: int
) -> None:
    with edge(any_broker, prefix, qos=qos) as service, Device(any_broker, prefix) as device:
        device.request(INPUTS[0].tolist(), device_id)
        assert device.ask(INPUTS[0].tolist(), "well")["device_id"] == "well"
        assert service.refused == {"device_id": 1}
        assert service._connection is not None
        assert service._connection.reconnects == 0


def test_an_answer_carries_the_id_of_its_request(any_broker: Broker, prefix: str) -> None:
    with edge(any_broker, prefix), Device(any_broker, prefix) as device:
        assert device.ask(INPUTS[0].tolist(), request_id=2**40 + 7)["request_id"] == 2**40 + 7
        assert "request_id" not in device.ask(INPUTS[0].tolist())
        refusal = device.ask([1.0], request_id=9)
        assert (refusal["reason"], refusal["request_id"]) == ("wrong_shape", 9)


def write_summing_model(path: Path) -> Path:
    """An ONNX model whose output has one row however many inputs it gets: the sum over the batch."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])
    node = helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=1)
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [0])
    graph = helper.make_graph([node], "sum", [x], [y], [axes])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_a_model_whose_output_rows_differ_from_its_batch_is_found_when_it_is_loaded(tmp_path: Path) -> None:
    service = EdgeMLService(write_summing_model(tmp_path / "sum.onnx"))
    with pytest.raises(ModelError, match="batch of 2"):
        service.load_model()
