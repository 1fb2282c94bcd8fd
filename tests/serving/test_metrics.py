"""Metrics of a running service, the ping, `xedge health` and `xedge top`."""

from __future__ import annotations

import io
import json
import logging
import urllib.request

import numpy as np
import pytest
from helpers import Client, Device, wait_until
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from xedge.cli.main import main
from xedge.core.exceptions import ConfigurationError, ServiceError
from xedge.serving.broker import Broker
from xedge.serving.external import ping
from xedge.serving.metrics import Meter, Metrics
from xedge.serving.openmetrics import Exporter
from xedge.serving.services import EdgeMLService
from xedge.serving.top import table, watch

SECOND_NS = 10**9
REFUSED = "refused_wrong_shape"
pytestmark = pytest.mark.usefixtures("models")


@pytest.mark.parametrize(
    ("latencies_ms", "expected"),
    [
        ([], (None, None, None)),
        ([5], (5, 5, 5)),
        (range(1, 101), (50, 95, 99)),
        (range(1, 1001), (500, 950, 990)),
        ([3, 1, 2], (2, 3, 3)),
    ],
)
def test_meter_percentiles(latencies_ms, expected):
    meter = Meter("edge", 0)
    meter.latencies_ns.extend(round(ms * 1e6) for ms in latencies_ms)
    found = meter.take(2 * SECOND_NS, {"answered": len(latencies_ms)}, {})
    assert (found.p50_ms, found.p95_ms, found.p99_ms) == expected
    assert found.throughput_hz == len(latencies_ms) / 2


def test_meter_counts_the_interval_not_the_whole():
    meter = Meter("edge", 0)
    meter.take(SECOND_NS, {"received": 10, "answered": 8, "lost": 1}, {"wrong_type": 2})
    found = meter.take(3 * SECOND_NS, {"received": 14, "answered": 12, "lost": 1}, {"wrong_type": 2, "too_large": 1})
    assert (found.received, found.answered, found.lost, found.refused) == (4, 4, 0, {"too_large": 1})
    assert (found.interval_s, found.uptime_s, found.throughput_hz) == (2.0, 3.0, 2.0)


def heard(listener: Client) -> list[dict]:
    return [json.loads(payload) for _, payload in listener.messages]


def test_service_publishes_and_logs_metrics(any_broker: Broker, prefix: str, caplog) -> None:
    caplog.set_level(logging.INFO, logger="xedge.serving.loop")
    topic = f"{prefix}/ml/inference/metrics/edge"
    edge = EdgeMLService(
        "anomaly_detector", any_broker.host, any_broker.port, topic_prefix=prefix, metrics_interval_s=0.2
    )
    with Client(any_broker, topic) as listener, edge, Device(any_broker, prefix) as device:
        for stamp in range(5):
            device.ask([0.0] * 32, timestamp_us=stamp)
        device.ask([0.0] * 3)
        wait_until(lambda: sum(one["answered"] for one in heard(listener)) == 5, "metrics of five answers")
        wait_until(lambda: any(one.get("refused") for one in heard(listener)), "metrics of a refusal")
    busy = next(one for one in heard(listener) if one["answered"])
    assert busy["service"] == "edge"
    assert 0 < busy["p50_ms"] <= busy["p95_ms"] <= busy["p99_ms"]
    assert sum(one.get("refused", {}).get("wrong_shape", 0) for one in heard(listener)) == 1
    assert any(getattr(record, "metrics", {}).get("answered") for record in caplog.records)


def test_ping_tells_what_the_service_is(any_broker: Broker, prefix: str) -> None:
    with EdgeMLService("anomaly_detector", any_broker.host, any_broker.port, topic_prefix=prefix):
        pong = ping(any_broker.host, any_broker.port, prefix, "edge")
        assert pong.service == "edge"
        assert pong.description["engine"] == "onnxruntime"
        assert pong.description["input_shape"] == [32]
        with pytest.raises(ServiceError, match="no cloud service answers"):
            ping(any_broker.host, any_broker.port, prefix, "cloud", timeout_s=0.3)


def test_bad_pings_do_not_stop_a_service(any_broker: Broker, prefix: str) -> None:
    with (
        EdgeMLService("anomaly_detector", any_broker.host, any_broker.port, topic_prefix=prefix) as edge,
        Client(any_broker) as client,
    ):
        for payload in (b"", b"\xff", b"[]", b'{"device_id": "a/b"}', b'{"device_id": 3}'):
            client.publish(f"{prefix}/ml/inference/ping", payload)
        assert ping(any_broker.host, any_broker.port, prefix).service == "edge"
        assert edge.counts["received"] == 0


def test_health_command(any_broker: Broker, prefix: str, capsys) -> None:
    where = ["--broker-host", any_broker.host, "--broker-port", str(any_broker.port), "--topic-prefix", prefix]
    with EdgeMLService("anomaly_detector", any_broker.host, any_broker.port, topic_prefix=prefix):
        assert main(["health", *where]) == 0
        assert "edge serves" in capsys.readouterr().out
    assert main(["health", *where, "--timeout", "0.3"]) == 1
    assert "no xedge service answers" in capsys.readouterr().err


def test_top_shows_every_service(any_broker: Broker, prefix: str) -> None:
    out = io.StringIO()
    where = (any_broker.host, any_broker.port)
    with EdgeMLService("anomaly_detector", *where, topic_prefix=prefix, metrics_interval_s=0.1):
        watch(*where, prefix, out, updates=2, timeout_s=120)
    assert f"{prefix}/edge" in out.getvalue()
    assert out.getvalue().count("answers/s") == 2


def test_top_table_of_nothing_and_of_something():
    assert "no service" in table({}, 0.0)
    counts = {"received": 2, "answered": 2, "queued": 5, "oldest_ms": 31.4}
    one = Metrics(service="edge", interval_s=1, uptime_s=60, throughput_hz=2, p50_ms=0.25, **counts)
    heads, row = table({"a/edge": (10.0, one)}, 13.0).splitlines()
    assert heads.split()[:2] == ["service", "answers/s"]
    assert row.split() == ["a/edge", "2", "0.25", "0", "0", "5", "31.4", "60", "3"]


def scraped(address: str) -> dict[tuple[str, ...], float]:
    """What a Prometheus would read there, by name and labels, taken apart by its own parser."""
    request = urllib.request.Request(address, headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=60) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        families = text_string_to_metric_families(answer.read().decode())
        samples = [one for family in families for one in family.samples]
        return {(one.name, *(value for _, value in sorted(one.labels.items()))): one.value for one in samples}


def test_openmetrics_are_those_of_the_service(any_broker: Broker, prefix: str) -> None:
    where, name = (any_broker.host, any_broker.port), f"{prefix}/edge"
    exporter, read = Exporter(), dict[tuple[str, ...], float]()

    def take(service: str, metrics: Metrics) -> None:
        if not read:  # the first time somebody hears it, so that nothing is missed
            for stamp in range(5):
                device.request([0.0] * 32, timestamp_us=stamp)
            device.request([0.0] * 3)
        exporter.take(service, metrics)
        read.update(scraped(address))
        if read["xedge_requests_total", "answered", name] == 5 and ("xedge_requests_total", REFUSED, name) in read:
            raise KeyboardInterrupt

    options = {"topic_prefix": prefix, "metrics_interval_s": 0.2}
    with (
        exporter.serving(0) as address,
        EdgeMLService("anomaly_detector", *where, **options),
        Device(any_broker, prefix) as device,
    ):
        with pytest.raises(KeyboardInterrupt):
            watch(*where, prefix, io.StringIO(), timeout_s=120, on_metrics=take)
        assert read["xedge_requests_total", "answered", name] == 5
        assert read["xedge_requests_total", REFUSED, name] == 1
        assert ("xedge_latency_seconds", "0.99", name) in read
        assert read["xedge_heard_timestamp_seconds", name] > 1.7e9
        with pytest.raises(ConfigurationError, match="give another port"), exporter.serving(int(address[17:-8])):
            pass


def test_openmetrics_of_an_idle_service_have_no_latency() -> None:
    exporter = Exporter()
    exporter.take("edge", Metrics("edge", 1, 1, 1, 1, 1, 0.5, 0.5, 0.5))
    exporter.take("edge", Metrics("edge", 1, 2, 0, 0, 0))
    value = exporter.registry.get_sample_value("xedge_latency_seconds", {"service": "edge", "quantile": "0.5"})
    assert np.isnan(value)


def test_top_serves_openmetrics_and_says_where(any_broker: Broker, prefix: str, capsys) -> None:
    where = ["--broker-host", any_broker.host, "--broker-port", str(any_broker.port), "--topic-prefix", prefix]
    assert main(["top", *where, "--openmetrics", "0", "--timeout", "0.1"]) == 0
    assert "metrics for Prometheus at http://127.0.0.1:" in capsys.readouterr().err


def test_metrics_do_not_change_answers(any_broker: Broker, prefix: str) -> None:
    with (
        EdgeMLService(
            "anomaly_detector", any_broker.host, any_broker.port, topic_prefix=prefix, metrics_interval_s=0.05
        ) as edge,
        Device(any_broker, prefix) as device,
    ):
        features = np.linspace(-1, 1, 32)
        expected = edge.run_inference(features).prediction
        assert device.ask(features.tolist())["prediction"] == pytest.approx(expected, abs=1e-6)
