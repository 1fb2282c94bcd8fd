"""The commands that run something in the foreground or look at what runs: broker, serve edge|cloud, health, top."""

import argparse
import gc
import os
import sys
from collections.abc import Callable
from typing import Any

import xedge
from xedge.cli.options import Adder, add_broker, add_logging, broker_address, on_end, wait_for_end
from xedge.core.exceptions import ConfigurationError
from xedge.core.plain import printable
from xedge.scenario.station import MAX_QUEUE, MAX_QUEUE_MIB
from xedge.serving.endpoint import Endpoint


def add(command: Adder, service: Adder) -> None:
    """Add the commands; `service` adds those that `xedge serve` has."""
    sub = command("broker", broker, "xedge broker --port 1884")
    sub.add_argument("--port", type=int, default=1883, help="port on 127.0.0.1 (default 1883)")
    sub.add_argument("--kind", choices=["mosquitto", "embedded"], help="by default mosquitto if it is installed")
    _add_service(service("edge", serve_edge, "xedge serve edge --model models/anomaly_detector.onnx"))
    sub = service("cloud", serve_cloud, "xedge serve cloud --model models/anomaly_detector.pt --topic-prefix cloud")
    _add_service(sub)
    sub.add_argument("--cloud-latency-ms", type=float, default=50.0, metavar="MS", help="delay each way (50)")
    sub.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="where PyTorch computes")
    sub = command("health", health, "xedge health --broker-port 1884 --service edge")
    add_broker(sub)
    sub.add_argument("--service", default="", metavar="NAME", help="edge or cloud; by default whoever answers")
    sub.add_argument("--timeout", type=float, default=5.0, metavar="S", help="how long to wait (5)")
    sub = command("top", top, "xedge top --broker-port 1884")
    add_broker(sub)
    sub.add_argument("--updates", type=int, metavar="N", help="end after N updates")
    sub.add_argument("--timeout", type=float, metavar="S", help="end after S seconds")
    text = "serve them to Prometheus too, on this port of this machine; 0 takes a free one"
    sub.add_argument("--openmetrics", type=int, metavar="PORT", help=text)


def broker(arguments: argparse.Namespace) -> int:
    """Run a broker in the foreground."""
    with xedge.Broker(kind=arguments.kind, port=arguments.port) as running:
        print(f"{running.url} ({running.version}) ready; end with Ctrl-C", flush=True)
        wait_for_end(lambda: running.is_running)
        if not running.is_running:
            print("xedge: the broker ended by itself", file=sys.stderr)
            return 1
    return 0


def serve_edge(arguments: argparse.Namespace) -> int:
    """Run the edge service in the foreground until SIGTERM or Ctrl-C; then print a summary."""
    return _serve(arguments, xedge.EdgeMLService)


def serve_cloud(arguments: argparse.Namespace) -> int:
    """Run the cloud service in the foreground until SIGTERM or Ctrl-C; then print a summary."""
    return _serve(arguments, xedge.CloudMLService, "cloud_latency_ms", "device")


def _serve(arguments: argparse.Namespace, tier: Callable[..., Any], *further: str) -> int:
    if not arguments.model:
        raise ConfigurationError("no model: give --model PATH or set MODEL_PATH")
    names = ["topic_prefix", "compute_scale", "threads", "max_batch", "max_queue", "max_queue_mib", "qos", *further]
    settings = {name: getattr(arguments, name) for name in names}
    service = tier(
        arguments.model, *broker_address(arguments), **settings, metrics_interval_s=arguments.metrics_interval
    )
    on_end(service.stop)
    service.load_model()
    gc.collect()
    gc.freeze()  # what is loaded stays: searching it for garbage would only hold up requests
    service.connect_mqtt(retry_s=arguments.connect_timeout)
    where = Endpoint.at(*service.address).place
    print(f"{service.name} service ready on {service.topics.request} at {where}", flush=True)
    service.run()
    print(service.summary(), flush=True)
    return 0


def health(arguments: argparse.Namespace) -> int:
    """Ask a running service over MQTT whether it serves: status 0 if it answers, 1 if not."""
    from xedge.serving.external import ping

    pong = ping(*_where(arguments), arguments.service, arguments.timeout)
    print(f"{printable(pong.service)} serves, up {pong.uptime_s:.0f} s, {pong.counts.get('answered', 0)} answered")
    return 0


def top(arguments: argparse.Namespace) -> int:
    """Show the metrics of running services, live, until Ctrl-C."""
    from xedge.serving.top import watch

    how = *_where(arguments), sys.stdout, arguments.updates, arguments.timeout
    if arguments.openmetrics is None:
        watch(*how)
        return 0
    from xedge.serving.openmetrics import Exporter

    exporter = Exporter()
    with exporter.serving(arguments.openmetrics) as address:
        print(f"metrics for Prometheus at {address}", file=sys.stderr, flush=True)
        watch(*how, exporter.take)
    return 0


def _where(arguments: argparse.Namespace) -> tuple[str, int, str]:
    return *broker_address(arguments), arguments.topic_prefix


def _add_service(sub: argparse.ArgumentParser) -> None:
    wait_s = os.environ.get("XEDGE_CONNECT_TIMEOUT_S", "10")
    text = "wait for the broker; or XEDGE_CONNECT_TIMEOUT_S"
    add_logging(sub, argparse.SUPPRESS, "info")
    sub.add_argument("--model", default=os.environ.get("MODEL_PATH"), metavar="PATH", help="or MODEL_PATH")
    add_broker(sub)
    sub.add_argument("--compute-scale", type=float, default=1.0, metavar="X", help="inference takes X times as long")
    sub.add_argument("--threads", type=int, default=1, metavar="N", help="the engine's threads (1)")
    sub.add_argument("--max-batch", type=int, default=64, metavar="N", help="most requests in one batch (64)")
    sub.add_argument("--max-queue", type=int, default=MAX_QUEUE, metavar="N", help="most requests held (10000)")
    text_mib = "most MiB of requests held (64); what finds the queue full is refused as overloaded"
    sub.add_argument("--max-queue-mib", type=float, default=MAX_QUEUE_MIB, metavar="M", help=text_mib)
    sub.add_argument("--qos", type=int, default=0, choices=[0, 1], help="MQTT quality of service (0)")
    sub.add_argument("--metrics-interval", type=float, default=10.0, metavar="S", help="log and publish metrics (10)")
    sub.add_argument("--connect-timeout", type=float, default=wait_s, metavar="S", help=text)
