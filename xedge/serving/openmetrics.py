"""The metrics of running services over HTTP, as Prometheus reads them and Grafana shows them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from xedge.core.exceptions import ConfigurationError
from xedge.core.extras import needed
from xedge.serving.metrics import Metrics

HOST = "127.0.0.1"
QUANTILES = {"0.5": "p50_ms", "0.95": "p95_ms", "0.99": "p99_ms"}


class Exporter:
    """Metrics of services by name, as they came last, and their sums since this began.

    Raises:
        MissingExtraError: the package prometheus-client is not installed.
    """

    def __init__(self) -> None:
        with needed("metrics", "--openmetrics"):
            from prometheus_client import CollectorRegistry, Counter, Gauge
        registry = self.registry = CollectorRegistry()
        fates = "requests by how they ended: answered, lost in the link, or refused with the reason"
        self._requests = Counter("xedge_requests", fates, ["service", "fate"], registry=registry)
        rate = "answers per second, in the last interval"
        self._rate = Gauge("xedge_answers_per_second", rate, ["service"], registry=registry)
        latency = "from reading a request off the socket to handing over its result, in the last interval"
        self._latency = Gauge("xedge_latency_seconds", latency, ["service", "quantile"], registry=registry)
        queued = "requests that the service held at the end of the last interval"
        self._queued = Gauge("xedge_queued_requests", queued, ["service"], registry=registry)
        size = "bytes of the requests that the service held at the end of the last interval"
        self._queued_bytes = Gauge("xedge_queued_bytes", size, ["service"], registry=registry)
        self._uptime = Gauge("xedge_uptime_seconds", "since the service began", ["service"], registry=registry)
        heard = "when the service last published, seconds since 1970"
        self._heard = Gauge("xedge_heard_timestamp_seconds", heard, ["service"], registry=registry)

    def take(self, name: str, metrics: Metrics) -> None:
        """Add what a service, with its topic prefix as `name`, has published."""
        fates = {"answered": metrics.answered, "lost": metrics.lost}
        fates |= {f"refused_{reason}": count for reason, count in metrics.refused.items()}
        for fate, count in fates.items():
            self._requests.labels(name, fate).inc(count)
        self._rate.labels(name).set(metrics.throughput_hz)
        self._queued.labels(name).set(metrics.queued)
        self._queued_bytes.labels(name).set(metrics.queued_bytes)
        self._uptime.labels(name).set(metrics.uptime_s)
        self._heard.labels(name).set_to_current_time()
        for quantile, field in QUANTILES.items():
            if (latency_ms := getattr(metrics, field)) is None:  # nothing was answered: no latency, not the one before
                latency_ms = float("nan")
            self._latency.labels(name, quantile).set(latency_ms / 1e3)

    @contextmanager
    def serving(self, port: int) -> Iterator[str]:
        """Answer on `port` of this machine, 0 takes a free one, while the block runs; yields the address.

        Raises:
            ConfigurationError: the port is taken.
        """
        from prometheus_client import start_http_server

        try:
            server, thread = start_http_server(port, HOST, self.registry)
        except OSError as exc:
            raise ConfigurationError(f"--openmetrics {port}: {exc.strerror}; give another port, or 0") from exc
        try:
            yield f"http://{HOST}:{server.server_port}/metrics"
        finally:
            server.shutdown()
            server.server_close()
            thread.join(5)
