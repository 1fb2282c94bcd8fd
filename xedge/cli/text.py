"""The commands around the text models: registry list|promote|rollback, serve http|kafka."""

import argparse
import os

from xedge.cli.options import Adder, add_logging, log_settings, wait_for_end
from xedge.core import logs
from xedge.core.exceptions import ConfigurationError
from xedge.core.tables import text_table
from xedge.text.labels import TASKS
from xedge.text.registry.versions import ModelVersion


def add(service: Adder, registry: Adder) -> None:
    """Add the commands; `service` adds those that `xedge serve` has, `registry` those of `xedge registry`."""
    _add_serve_http(service("http", serve_http, "xedge serve http --port 8000 --workers 2"))
    _add_serve_kafka(service("kafka", serve_kafka, "xedge serve kafka --topic tickets --out tickets-with-topics"))
    for name, function in (("list", registry_list), ("promote", registry_promote), ("rollback", registry_rollback)):
        sub = registry(name, function, f"xedge registry {name} topic{' 2' if name == 'promote' else ''}")
        nargs, words = ("?", "topic or sentiment; by default both") if name == "list" else (None, "topic or sentiment")
        sub.add_argument("task", nargs=nargs, choices=TASKS, metavar="TASK", help=words)
        if name == "promote":
            number = "its number, as `xedge registry list` shows it"
            sub.add_argument("version", type=int, metavar="VERSION", help=number)
        place = "a folder or MLflow's URI; or MLFLOW_TRACKING_URI (models/registry)"
        sub.add_argument("--registry", metavar="URI", help=place)


def registry_list(arguments: argparse.Namespace) -> int:
    """List the versions of the text models, with their aliases and held-out accuracy."""
    from xedge.text.registry.registry import Registry

    registry = Registry(arguments.registry)
    registry.check_exists()
    print(f"model registry {registry.where}")
    rows = [("model", "version", "alias", "accuracy", "created (UTC)")]
    for task in [arguments.task] if arguments.task else TASKS:
        for version in registry.versions(task):
            accuracy = "" if version.accuracy is None else f"{version.accuracy:.3f}"
            created = f"{version.created:%Y-%m-%d %H:%M:%S}"
            rows.append((version.name, version.version, ",".join(version.aliases), accuracy, created))
    if len(rows) == 1:
        print("no versions: train and register one with `make text` or `xedge report 09_train_text`")
        return 0
    print(text_table(rows))
    return 0


def registry_promote(arguments: argparse.Namespace) -> int:
    """Put a version in production, after checking its files again."""
    from xedge.text.registry.registry import Registry

    return _show(Registry(arguments.registry).promote(arguments.task, arguments.version))


def registry_rollback(arguments: argparse.Namespace) -> int:
    """Put the version in production that was so before the present one."""
    from xedge.text.registry.registry import Registry

    return _show(Registry(arguments.registry).rollback(arguments.task))


def _show(version: ModelVersion) -> int:
    print(f"{version.name}/{version.version} is in production")
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
        keys=http.find_keys(arguments.key_file),
        rate_hz=arguments.rate,
        connections=arguments.connections,
        access_log=arguments.access_log,
        log_config=logs.config(*log_settings(arguments)) if arguments.workers > 1 else None,
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
        wait_for_end(lambda: consumer.is_running)
    print(consumer.summary(), flush=True)
    return 0


def _add_serve_http(sub: argparse.ArgumentParser) -> None:
    add_logging(sub, argparse.SUPPRESS, "info")
    sub.add_argument("--host", default="127.0.0.1", metavar="H", help="address to listen on (127.0.0.1)")
    sub.add_argument("--port", type=int, default=8000, metavar="P", help="port to listen on; 0 takes a free one (8000)")
    sub.add_argument("--workers", type=int, default=1, metavar="N", help="processes, each with its models (1)")
    sub.add_argument("--task", default="both", choices=["topic", "sentiment", "both"], help="what to predict (both)")
    sub.add_argument("--key-file", metavar="FILE", help="API keys, one a line; or in XEDGE_HTTP_KEYS")
    sub.add_argument(
        "--rate", type=float, default=0.0, metavar="HZ", help="most requests/s a key and worker (no limit)"
    )
    sub.add_argument("--connections", type=int, default=512, metavar="N", help="most connections of a worker (512)")
    sub.add_argument("--access-log", action="store_true", help="log every request")


def _add_serve_kafka(sub: argparse.ArgumentParser) -> None:
    servers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
    add_logging(sub, argparse.SUPPRESS, "info")
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
