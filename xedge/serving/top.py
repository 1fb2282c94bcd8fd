"""A live table of the metrics that running services publish."""

from collections.abc import Callable
from time import perf_counter
from typing import TextIO

import msgspec

from xedge.core.plain import printable
from xedge.core.tables import text_table
from xedge.scenario.routes import Topics
from xedge.serving.connection import Connection
from xedge.serving.metrics import Metrics

HEADS = (
    "service",
    "answers/s",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "lost",
    "refused",
    "queued",
    "oldest ms",
    "up s",
    "age s",
)
LONGEST, MOST = 60, 1000  # characters of a name, services shown: whoever reaches the broker can publish metrics
CLEAR = "\x1b[H\x1b[2J"


def watch(
    host: str,
    port: int,
    topic_prefix: str,
    out: TextIO,
    updates: int | None = None,
    timeout_s: float | None = None,
    on_metrics: Callable[[str, Metrics], None] | None = None,
) -> None:
    """Print the metrics of every service behind a broker, at host and port or a URL, as they come, until interrupted.

    An empty `topic_prefix` shows those one level down too. An `out` that is a terminal is redrawn, anything else gets a
    table an update. Ends after so many `updates` or after `timeout_s`, where given. `on_metrics` is called with the
    name of a service, which is its topic prefix and its own, and what it has published.

    Raises:
        BrokerError: no broker there.
    """
    below = Topics(topic_prefix).metrics("+")
    topics = [below] if topic_prefix else [below, f"+/{below}"]
    seen: dict[str, tuple[float, Metrics]] = {}

    def take(topic: str, payload: bytes) -> None:
        if (metrics := metrics_in(payload)) is not None:
            name = printable(topic.rpartition("ml/inference/metrics/")[0] + metrics.service, LONGEST)
            if name not in seen and len(seen) >= MOST:
                return
            seen[name] = perf_counter(), metrics
            if on_metrics is not None:
                on_metrics(name, metrics)

    connection = Connection("xedge-top", host, port, topics, take)
    begun, shown, last = perf_counter(), 0, 0.0
    with connection.connected(10):
        while (updates is None or shown < updates) and (timeout_s is None or perf_counter() - begun < timeout_s):
            connection.turn(0.5)
            newest = max((at for at, _ in seen.values()), default=0.0)
            if newest > last or (out.isatty() and perf_counter() - begun > 1):
                out.write((CLEAR if out.isatty() else "") + table(seen, perf_counter()) + "\n")
                out.flush()
                shown, last = shown + (newest > last), newest


def table(seen: dict[str, tuple[float, Metrics]], now: float) -> str:
    """Return the metrics seen, by topic prefix and service, as aligned text; `now` and the times seen in seconds."""
    rows: list[tuple[str, ...]] = [HEADS]
    for name, (at, metrics) in sorted(seen.items()):
        latency = [f"{ms:.3g}" if ms is not None else "" for ms in (metrics.p50_ms, metrics.p95_ms, metrics.p99_ms)]
        refused = " ".join(f"{reason} {count}" for reason, count in sorted(metrics.refused.items())) or "0"
        counts = f"{metrics.throughput_hz:.4g}", *latency, str(metrics.lost), refused
        oldest = "" if metrics.oldest_ms is None else f"{metrics.oldest_ms:.3g}"
        rows.append((name, *counts, str(metrics.queued), oldest, f"{metrics.uptime_s:.0f}", f"{now - at:.0f}"))
    if len(rows) == 1:
        return "no service has published metrics yet"
    return text_table(rows, right=True)


def metrics_in(payload: bytes) -> Metrics | None:
    """Return the metrics in a message, None in somebody else's message on our topic."""
    try:
        metrics = msgspec.json.decode(payload, type=Metrics)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    metrics.refused = {printable(reason, LONGEST): count for reason, count in list(metrics.refused.items())[:LONGEST]}
    return metrics
