"""The `xedge` command: a face over the library, with no logic of its own."""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import xedge
from xedge.cli.text import add_registry
from xedge.core import logs as logs
from xedge.core.exceptions import ConfigurationError, ModelError, XedgeError
from xedge.core.extras import needed

EXIT_FAILED, EXIT_USAGE, EXIT_INVALID = 1, 2, 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    0 done; 1 it failed; 2 what was asked cannot be done as asked; 3 done, but a measurement is not VALID.
    """
    arguments = _parser().parse_args(argv)
    try:
        logs.begin(arguments)
        with needed("lab", "this command"):
            status: int = arguments.command(arguments)
    except (ConfigurationError, ModelError) as exc:
        print(f"xedge: {exc}", file=sys.stderr)
        return EXIT_USAGE
    except XedgeError as exc:
        print(f"xedge: {exc}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("xedge: interrupted", file=sys.stderr)
        return 130
    return status


def build(arguments: argparse.Namespace) -> int:
    """Train, export and check the reference models."""
    print(xedge.build(arguments.models or None, force=arguments.force, quick=arguments.quick))
    return 0


def broker(arguments: argparse.Namespace) -> int:
    """Run a broker in the foreground."""
    with xedge.Broker(kind=arguments.kind, port=arguments.port) as running:
        print(f"{running.url} ({running.version}) ready; end with Ctrl-C", flush=True)
        _wait_for_signal(lambda: running.is_running)
        if not running.is_running:
            print("xedge: the broker ended by itself", file=sys.stderr)
            return EXIT_FAILED
    return 0


def serve(arguments: argparse.Namespace) -> int:
    """Run a service in the foreground until SIGTERM or Ctrl-C; then print a summary."""
    if not arguments.model:
        raise ConfigurationError("no model: give --model PATH or set MODEL_PATH")
    where: dict[str, Any] = {"broker_host": arguments.broker_host, "broker_port": arguments.broker_port}
    where |= {"topic_prefix": arguments.topic_prefix, "compute_scale": arguments.compute_scale}
    where |= {"metrics_interval_s": arguments.metrics_interval, "threads": arguments.threads}
    where |= {"max_batch": arguments.max_batch, "qos": arguments.qos}
    if arguments.tier == "cloud":
        where |= {"cloud_latency_ms": arguments.cloud_latency_ms, "device": arguments.device}
        service: Any = xedge.CloudMLService(arguments.model, **where)
    else:
        service = xedge.EdgeMLService(arguments.model, **where)
    _on_end(service.stop)
    service.load_model()
    gc.collect()
    gc.freeze()  # what is loaded stays: searching it for garbage would only hold up requests
    service.connect_mqtt(retry_s=arguments.connect_timeout)
    print(
        f"{service.name} service ready on {service.topics.request} at {service.broker_host}:{service.broker_port}",
        flush=True,
    )
    service.run()
    print(service.summary(), flush=True)
    return 0


def serve_http(arguments: argparse.Namespace) -> int:
    """Answer texts over HTTP with the models of the registry until SIGTERM or Ctrl-C; /docs describes the paths."""
    from xedge.text.callers import http

    if arguments.workers < 1:
        raise ConfigurationError(f"--workers {arguments.workers}: at least one is needed")
    tasks = ("topic", "sentiment") if arguments.task == "both" else (arguments.task,)
    http.serve(
        arguments.host,
        arguments.port,
        arguments.workers,
        tasks,
        access_log=arguments.access_log,
        log_config=logs.config(arguments) if arguments.workers > 1 else None,
        ready=lambda sentence: print(sentence, flush=True),
    )
    print("http service ended", flush=True)
    return 0


def serve_kafka(arguments: argparse.Namespace) -> int:
    """Answer the texts of a Kafka topic on another until SIGTERM or Ctrl-C; then print a summary."""
    from xedge.text.callers.kafka import TextConsumer, settings_of

    consumer = TextConsumer(
        arguments.bootstrap_servers,
        arguments.topic,
        arguments.out,
        arguments.group,
        arguments.task,
        errors=arguments.errors,
        max_batch=arguments.max_batch,
        connect_timeout_s=arguments.connect_timeout,
        metrics_interval_s=arguments.metrics_interval,
        settings=settings_of(arguments.config) if arguments.config else {},
    )
    with consumer:
        print(f"kafka consumer ready: {arguments.topic} to {arguments.out}, group {arguments.group}", flush=True)
        _wait_for_signal(lambda: consumer.is_running)
    print(consumer.summary(), flush=True)
    return 0


def health(arguments: argparse.Namespace) -> int:
    """Ask a running service over MQTT whether it serves: status 0 if it answers, 1 if not."""
    from xedge.serving.external import ping

    pong = ping(
        arguments.broker_host, arguments.broker_port, arguments.topic_prefix, arguments.service, arguments.timeout
    )
    print(f"{pong.service} serves, up {pong.uptime_s:.0f} s, {pong.counts.get('answered', 0)} answered")
    return 0


def top(arguments: argparse.Namespace) -> int:
    """Show the metrics of running services, live, until Ctrl-C."""
    from xedge.serving.top import watch

    where = (arguments.broker_host, arguments.broker_port, arguments.topic_prefix)
    watch(*where, sys.stdout, arguments.updates, arguments.timeout)
    return 0


def measure(arguments: argparse.Namespace) -> int:
    """Measure a scenario from a YAML file and save the measurement."""
    from xedge.runs.scenario import Scenario

    scenario = Scenario.from_yaml(arguments.scenario)
    if arguments.out and Path(arguments.out).exists() and not (Path(arguments.out) / "conditions.json").is_file():
        raise ConfigurationError(f"--out {arguments.out} is there and is not a measurement: give another folder")
    measurement = scenario.measure(arguments.replications, strict=not arguments.no_strict)
    print(measurement)
    if arguments.out:
        print(f"saved in {measurement.save(arguments.out)}")
    return 0 if measurement.verdict.valid else EXIT_INVALID


def report(arguments: argparse.Namespace) -> int:
    """Run notebooks with parameters and export each as one HTML page; several files, or a list in one, compare runs."""
    from xedge.reports import parameters as given
    from xedge.reports import run as reports

    sets = [one for file in arguments.file for one in given.load_sets(file)] or [{}]
    sets = [one | dict(arguments.parameter) for one in sets]
    if len(sets) > 1:
        return _compare(arguments, sets)
    runs = reports.run_many(arguments.notebook or None, sets[0], arguments.out, timeout_s=arguments.timeout)
    for run in runs:
        print(f"{run.html}: {run.sentence}" if not sys.stderr.isatty() else run.html)
    return _status(runs)


def _compare(arguments: argparse.Namespace, sets: list[dict[str, Any]]) -> int:
    from xedge.reports import run as reports
    from xedge.reports import sweeps

    notebooks = arguments.notebook or reports.DEFAULT_NOTEBOOKS
    if len(notebooks) > 1:
        raise ConfigurationError("several notebooks with several sets of parameters: run them one notebook at a time")
    return _swept(sweeps.run_sets(notebooks[0], sets, arguments.out, timeout_s=arguments.timeout))


def sweep(arguments: argparse.Namespace) -> int:
    """Run a notebook with every combination of values and compare the runs on one page; what is there is kept."""
    from xedge.reports import parameters as given
    from xedge.reports import sweeps

    grid = (given.load_file(arguments.file) if arguments.file else {}) | dict(arguments.parameter)
    options = {"again": arguments.again, "timeout_s": arguments.timeout}
    return _swept(sweeps.sweep(arguments.notebook, grid, arguments.out, **options))


def _swept(swept: Any) -> int:
    print(f"{swept.index}: {swept.sentence}" if not sys.stderr.isatty() else swept.index)
    return EXIT_FAILED if swept.missing else _status(swept.runs)


def _status(runs: Sequence[Any]) -> int:
    if not all(run.ok for run in runs):
        return EXIT_FAILED
    return EXIT_INVALID if any(run.verdict not in (None, "VALID") for run in runs) else 0


def index(arguments: argparse.Namespace) -> int:
    """Write the page that compares the runs in a folder, from their run.json."""
    from xedge.core import paths
    from xedge.reports import index

    print(index.build(Path(arguments.folder or paths.reports_dir())))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="xedge", description=xedge.__doc__)
    parser.add_argument("--version", action="version", version=f"xedge {xedge.__version__}")
    logs.add_options(parser, None)
    parser.set_defaults(usual_level="warning")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = _adder(commands)
    sub = command("build", build)
    sub.add_argument("models", nargs="*", metavar="MODEL", help="which reference models; by default all")
    sub.add_argument("--force", action="store_true", help="train again even if the files are good")
    sub.add_argument("--quick", action="store_true", help="less data and fewer epochs, for a trial")
    sub = command("broker", broker)
    sub.add_argument("--port", type=int, default=1883, help="port on 127.0.0.1 (default 1883)")
    sub.add_argument("--kind", choices=["mosquitto", "embedded"], help="by default mosquitto if it is installed")
    text = "Run a service in the foreground until SIGTERM or Ctrl-C."
    serving = _adder(
        commands.add_parser("serve", help=text, description=text).add_subparsers(required=True, metavar="SERVICE")
    )
    for tier in ("edge", "cloud"):
        _add_serve(serving(tier, serve), tier)
    _add_serve_http(serving("http", serve_http))
    _add_serve_kafka(serving("kafka", serve_kafka))
    sub = command("health", health)
    _add_broker(sub)
    sub.add_argument("--service", default="", metavar="NAME", help="edge or cloud; by default whoever answers")
    sub.add_argument("--timeout", type=float, default=5.0, metavar="S", help="how long to wait (5)")
    sub = command("top", top)
    _add_broker(sub)
    sub.add_argument("--updates", type=int, metavar="N", help="end after N updates")
    sub.add_argument("--timeout", type=float, metavar="S", help="end after S seconds")
    sub = command("measure", measure)
    sub.add_argument("scenario", metavar="FILE.yaml", help="the scenario")
    sub.add_argument("--replications", type=int, default=5, help="trials a placement (default 5)")
    sub.add_argument("--no-strict", action="store_true", help="a late sender is a doubt, not INVALID")
    sub.add_argument("--out", metavar="DIR", help="folder to save the measurement in")
    sub = command("report", report)
    sub.add_argument("notebook", nargs="*", metavar="NOTEBOOK", help="by default 02_edge_vs_cloud")
    _add_values(sub, "VALUE", "set a parameter")
    text = "parameters from a file; -p goes before it; several compare runs, as does a list of sets in one file"
    sub.add_argument("-f", "--file", action="append", default=[], metavar="FILE.yaml", help=text)
    _add_run(sub, "the project's reports folder")
    sub = command("sweep", sweep)
    sub.set_defaults(usual_level="info", again="failed")
    sub.add_argument("notebook", metavar="NOTEBOOK", help="path, stem or name")
    _add_values(sub, "VALUES", "values between commas; lists between semicolons")
    text = "values from a file, several as a list, of lists as a list of lists; -p goes before it"
    sub.add_argument("-f", "--file", metavar="FILE.yaml", help=text)
    _add_run(sub, "NAME_sweep in the project's reports folder")
    which = sub.add_mutually_exclusive_group()
    text = "run again what is INVALID or SATURATED, not only what failed"
    which.add_argument("--again-invalid", action="store_const", const="invalid", dest="again", help=text)
    which.add_argument("--again", action="store_const", const="all", dest="again", help="run everything again")
    sub = command("index", index)
    sub.add_argument("folder", nargs="?", metavar="DIR", help="by default the project's reports folder")
    group = commands.add_parser("registry", help="List, promote or roll back versions of the text models.")
    add_registry(_adder(group.add_subparsers(required=True, metavar="COMMAND")))
    return parser


def _add_values(sub: argparse.ArgumentParser, value: str, about: str) -> None:
    pair = {"nargs": 2, "action": "append", "default": [], "metavar": ("NAME", value)}
    sub.add_argument("-p", "--parameter", **pair, help=about)  # type: ignore[arg-type]


def _add_run(sub: argparse.ArgumentParser, default: str) -> None:
    sub.add_argument("--out", metavar="DIR", help=f"by default {default}")
    sub.add_argument("--timeout", type=float, default=1800.0, metavar="S", help="longest a cell may take (1800)")


def _add_serve(sub: argparse.ArgumentParser, tier: str) -> None:
    wait_s = os.environ.get("XEDGE_CONNECT_TIMEOUT_S", "10")
    logs.add_options(sub, argparse.SUPPRESS)
    sub.set_defaults(usual_level="info", tier=tier)
    sub.add_argument("--model", default=os.environ.get("MODEL_PATH"), metavar="PATH", help="or MODEL_PATH")
    _add_broker(sub)
    sub.add_argument("--cloud-latency-ms", type=float, default=50.0, metavar="MS", help="cloud: delay each way (50)")
    sub.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="cloud: where PyTorch computes")
    sub.add_argument("--compute-scale", type=float, default=1.0, metavar="X", help="inference takes X times as long")
    sub.add_argument("--threads", type=int, default=1, metavar="N", help="the engine's threads (1)")
    sub.add_argument("--max-batch", type=int, default=64, metavar="N", help="most requests in one batch (64)")
    sub.add_argument("--qos", type=int, default=0, choices=[0, 1], help="MQTT quality of service (0)")
    sub.add_argument("--metrics-interval", type=float, default=10.0, metavar="S", help="log and publish metrics (10)")
    sub.add_argument(
        "--connect-timeout",
        type=float,
        default=wait_s,
        metavar="S",
        help="wait for the broker; or XEDGE_CONNECT_TIMEOUT_S",
    )


def _add_serve_http(sub: argparse.ArgumentParser) -> None:
    logs.add_options(sub, argparse.SUPPRESS)
    sub.set_defaults(usual_level="info")
    sub.add_argument("--host", default="127.0.0.1", metavar="H", help="address to listen on (127.0.0.1)")
    sub.add_argument("--port", type=int, default=8000, metavar="P", help="port to listen on; 0 takes a free one (8000)")
    sub.add_argument("--workers", type=int, default=1, metavar="N", help="processes, each with its models (1)")
    sub.add_argument("--task", default="both", choices=["topic", "sentiment", "both"], help="what to predict (both)")
    sub.add_argument("--access-log", action="store_true", help="log every request")


def _add_serve_kafka(sub: argparse.ArgumentParser) -> None:
    servers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
    logs.add_options(sub, argparse.SUPPRESS)
    sub.set_defaults(usual_level="info")
    sub.add_argument("--bootstrap-servers", default=servers, metavar="H:P", help="or KAFKA_BOOTSTRAP_SERVERS")
    sub.add_argument("--topic", required=True, metavar="IN", help="the Kafka topic to read")
    sub.add_argument("--out", required=True, metavar="OUT", help="the Kafka topic for results")
    sub.add_argument("--errors", metavar="E", help="the Kafka topic for refused messages (OUT-errors)")
    sub.add_argument("--group", default="xedge", metavar="G", help="the consumer group (xedge)")
    sub.add_argument("--task", default="both", choices=["topic", "sentiment", "both"], help="what to predict (both)")
    sub.add_argument("--max-batch", type=int, default=500, metavar="N", help="most messages in one batch (500)")
    sub.add_argument("--config", metavar="FILE", help="settings of librdkafka, a line each: NAME=VALUE")
    sub.add_argument("--metrics-interval", type=float, default=10.0, metavar="S", help="log metrics (10)")
    sub.add_argument("--connect-timeout", type=float, default=10.0, metavar="S", help="wait for a broker (10)")


def _add_broker(sub: argparse.ArgumentParser) -> None:
    host, port = os.environ.get("MQTT_BROKER_HOST", "localhost"), os.environ.get("MQTT_BROKER_PORT", "1883")
    prefix = os.environ.get("XEDGE_TOPIC_PREFIX", "")
    sub.add_argument("--broker-host", default=host, metavar="H", help="or MQTT_BROKER_HOST (localhost)")
    sub.add_argument("--broker-port", type=int, default=port, metavar="P", help="or MQTT_BROKER_PORT (1883)")
    sub.add_argument("--topic-prefix", default=prefix, metavar="T", help="before every topic; or XEDGE_TOPIC_PREFIX")


def _adder(commands: Any) -> Callable[[str, Callable[[argparse.Namespace], int]], argparse.ArgumentParser]:
    def add(name: str, function: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        sub: argparse.ArgumentParser = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
        sub.set_defaults(command=function)
        return sub

    return add


def _on_end(action: Callable[[], None]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: action())


def _wait_for_signal(is_alive: Callable[[], bool]) -> None:
    import threading

    ended = threading.Event()
    _on_end(ended.set)
    while is_alive() and not ended.wait(0.5):
        pass
