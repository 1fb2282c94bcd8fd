"""The cloud service behind real brokers: PyTorch's answers, and links that delay, lose and never serialise."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
import torch
from helpers import Device, request_bytes, unique_prefix, wait_until, xedge_threads

from xedge.core.exceptions import BrokerError, ConfigurationError, ModelNotFoundError
from xedge.models.engines import TorchEngine
from xedge.models.reference import reference_inputs
from xedge.scenario.link import Link
from xedge.serving.broker import Broker, _free_port
from xedge.serving.services import CloudMLService, EdgeMLService

pytestmark = pytest.mark.usefixtures("models")
INPUTS = reference_inputs("anomaly_detector", 20, 12)
DELAY_MS = 50.0


@pytest.fixture(scope="module")
def expected(models: Any) -> list[float]:
    """What PyTorch says of INPUTS without any service."""
    return TorchEngine("anomaly_detector").predict(INPUTS).ravel().tolist()


def cloud(broker: Broker, prefix: str, cloud_latency_ms: float = DELAY_MS, **further: Any) -> CloudMLService:
    return CloudMLService(
        "anomaly_detector", broker.host, broker.port, cloud_latency_ms, topic_prefix=prefix, **further
    )


def test_cloud_service_loads_model() -> None:
    service = CloudMLService("anomaly_detector")
    engine = service.load_model()
    assert isinstance(engine, TorchEngine)
    assert engine.input_shape == (32,)
    assert service.load_model() is engine
    assert service.uplink == service.downlink == Link(delay_ms=50)


def test_cloud_service_mqtt_connection(broker: Broker, prefix: str) -> None:
    service = cloud(broker, prefix)
    connection = service.connect_mqtt()
    try:
        assert connection.subscribed
        assert service.connect_mqtt() is connection
    finally:
        service.stop()
        connection.close()


def test_cloud_inference_request(broker: Broker, prefix: str) -> None:
    with cloud(broker, prefix) as service, Device(broker, prefix) as device:
        assert xedge_threads() == ["xedge-cloud"]
        device.request(INPUTS[0])
        [(topic, _)] = device.wait(1)
        assert topic == f"{prefix}/ml/inference/result/sensor"
        assert service.counts["received"] == service.counts["batches"] == 1
    assert xedge_threads() == []


def test_cloud_inference_result(broker: Broker, prefix: str, expected: list[float]) -> None:
    with cloud(broker, prefix), Device(broker, prefix) as device:
        answer = device.ask(INPUTS[3], "pump", 42)
    assert set(answer) == {
        "device_id", "timestamp_us", "prediction", "inference_time_ms", "cloud_latency_ms", "total_latency_ms",
    }  # fmt: skip
    assert (answer["device_id"], answer["timestamp_us"]) == ("pump", 42)
    assert answer["prediction"] == pytest.approx(expected[3], abs=1e-5)
    assert answer["inference_time_ms"] > 0


def test_cloud_latency_simulation(broker: Broker, prefix: str) -> None:
    with cloud(broker, prefix), Device(broker, prefix) as device:
        answer = device.ask(INPUTS[0], trace=True)
    assert answer["cloud_latency_ms"] >= 2 * DELAY_MS
    assert answer["total_latency_ms"] >= answer["cloud_latency_ms"] + answer["inference_time_ms"] - 1e-6
    clock = answer["trace"]
    assert clock["departed_ns"] - clock["finished_ns"] >= DELAY_MS * 1e6
    assert (clock["finished_ns"] - clock["started_ns"]) / 1e6 == pytest.approx(answer["inference_time_ms"])


def test_edge_vs_cloud_comparison(broker: Broker) -> None:
    near, far = unique_prefix(), unique_prefix()
    with (
        EdgeMLService("anomaly_detector", broker.host, broker.port, topic_prefix=near),
        cloud(broker, far),
        Device(broker, near) as at_edge,
        Device(broker, far) as at_cloud,
    ):
        for number, features in enumerate(INPUTS[:5]):
            fast = at_edge.ask(features, timestamp_us=number, trace=True)
            slow = at_cloud.ask(features, timestamp_us=number, trace=True)
            assert slow["prediction"] == pytest.approx(fast["prediction"], abs=1e-5)
            assert "cloud_latency_ms" not in fast
            # One direction is seen from outside, in the trace; both are in the total.
            slow_ms = (slow["trace"]["departed_ns"] - slow["trace"]["arrived_ns"]) / 1e6
            assert slow_ms >= DELAY_MS
            assert slow["total_latency_ms"] >= 2 * DELAY_MS + slow["inference_time_ms"] - 1e-6
        assert len(at_edge.messages) == len(at_cloud.messages) == 5


def test_twenty_at_once_cross_the_links_together(broker: Broker, prefix: str, expected: list[float]) -> None:
    with cloud(broker, prefix) as service, Device(broker, prefix) as device:
        for number, features in enumerate(INPUTS):
            device.request(features, timestamp_us=number, trace=True)
        answers = device.results(20)
    assert [answer["timestamp_us"] for answer in answers] == list(range(20))
    assert [answer["prediction"] for answer in answers] == pytest.approx(expected, abs=1e-5)
    assert all(answer["cloud_latency_ms"] >= 2 * DELAY_MS for answer in answers)
    # To a service that slept in its message callback, none would arrive before the one before had departed.
    clocks = [answer["trace"] for answer in answers]
    assert any(later["arrived_ns"] < earlier["departed_ns"] for earlier, later in pairwise(clocks))
    assert service.counts["answered"] == 20


def test_one_slow_request_does_not_hold_up_the_reading_of_others(any_broker: Broker, prefix: str) -> None:
    hour_ms = 3.6e6
    with cloud(any_broker, prefix, hour_ms) as service, Device(any_broker, prefix) as device:
        for number in range(5):
            device.request(INPUTS[number], timestamp_us=number)
        wait_until(lambda: service.counts["received"] == 5, "all five are in the service")
        assert service.counts["answered"] == 0


@pytest.mark.parametrize("direction", ["uplink", "downlink"])
def test_links_with_loss_count_what_they_lose(any_broker: Broker, prefix: str, direction: str) -> None:
    n = 200
    links = {"uplink": Link(), "downlink": Link(), direction: Link(loss=0.5)}
    with cloud(any_broker, prefix, seed=3, **links) as service, Device(any_broker, prefix) as device:
        for number in range(n):
            device.request(INPUTS[number % 20], timestamp_us=number)
        wait_until(lambda: service.counts["answered"] + service.counts["lost"] == n, "every request has its fate")
        answered = service.counts["answered"]
        stamps = [answer["timestamp_us"] for answer in device.results(answered)]
    assert n / 4 < service.counts["lost"] < 3 * n / 4
    assert service.counts["received"] == n
    assert len(set(stamps)) == answered
    assert stamps == sorted(stamps)


def test_uplink_and_downlink_take_the_place_of_the_constant_delay(any_broker: Broker, prefix: str) -> None:
    hour_ms = 3.6e6
    with (
        cloud(any_broker, prefix, hour_ms, uplink=Link(delay_ms=80), downlink=Link()) as service,
        Device(any_broker, prefix) as device,
    ):
        answer = device.ask(INPUTS[0], trace=True)
        assert answer["cloud_latency_ms"] >= 80
        assert (service.uplink, service.downlink) == (Link(delay_ms=80), Link())
    assert answer["total_latency_ms"] >= 80


def test_one_direction_given_leaves_the_other_constant() -> None:
    service = CloudMLService("anomaly_detector", cloud_latency_ms=30, uplink=Link(delay_ms=80))
    assert (service.uplink, service.downlink) == (Link(delay_ms=80), Link(delay_ms=30))


def test_rate_makes_messages_wait_for_each_other(any_broker: Broker, prefix: str) -> None:
    payload = request_bytes(INPUTS[0], timestamp_us=1)
    rate_mbps = len(payload) * 8 / 20_000  # 20 ms a request
    links = {"uplink": Link(rate_mbps=rate_mbps), "downlink": Link()}
    with cloud(any_broker, prefix, **links), Device(any_broker, prefix) as device:
        for _ in range(10):
            device.send(payload)
        last = device.results(10)[-1]
    # Ten at once wait on the wire in turn, unless the publishing itself took that long.
    assert last["cloud_latency_ms"] >= 20


def test_stopping_counts_what_was_under_way(any_broker: Broker, prefix: str) -> None:
    with cloud(any_broker, prefix, 3.6e6) as service, Device(any_broker, prefix) as device:
        device.request(INPUTS[0])
        wait_until(lambda: service.counts["received"] == 1, "the request is in the service")
    assert service.counts["unanswered"] == 1
    assert "1 received, 0 answered" in service.summary()
    assert "1 unanswered" in service.summary()


def test_refused_requests_are_answered_at_once(any_broker: Broker, prefix: str) -> None:
    with cloud(any_broker, prefix) as service, Device(any_broker, prefix) as device:
        device.request([0.0] * 3)
        [(topic, payload)] = device.wait(1)
    assert topic == f"{device.base}/error/sensor"
    assert json.loads(payload)["reason"] == "wrong_shape"
    assert dict(service.refused) == {"wrong_shape": 1}


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_where_there_is_none() -> None:
    with pytest.raises(ConfigurationError, match="CUDA"):
        CloudMLService("anomaly_detector", device="cuda").load_model()
    with pytest.raises(ConfigurationError, match="CUDA"):
        CloudMLService("anomaly_detector", "127.0.0.1", _free_port(), device="cuda").start()
    assert xedge_threads() == []


def test_device_that_cannot_be_meant() -> None:
    with pytest.raises(ConfigurationError, match="'tpu'"):
        CloudMLService("anomaly_detector", device="tpu")


def test_delay_that_cannot_be_meant() -> None:
    with pytest.raises(ConfigurationError, match="delay_ms"):
        CloudMLService("anomaly_detector", cloud_latency_ms=-1)


def test_cloud_without_model_or_broker() -> None:
    with pytest.raises(ModelNotFoundError, match="no_such_model"):
        CloudMLService("no_such_model", "127.0.0.1", _free_port()).start()
    with pytest.raises(BrokerError, match=r"127\.0\.0\.1"):
        CloudMLService("anomaly_detector", "127.0.0.1", _free_port()).start()
    assert xedge_threads() == []
