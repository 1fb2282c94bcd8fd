"""What the services of a trial say of themselves while it runs: rate, latency and fates, seen from this process.

Nothing is asked of the sender: a watched service publishes its metrics once a second, as `xedge serve` does, and they
are read here, between two looks at the sender's process.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from xedge.scenario.routes import Topics
from xedge.serving.connection import Connection
from xedge.serving.metrics import Metrics
from xedge.serving.start import Service
from xedge.serving.top import metrics_in

VARIABLE = "XEDGE_WATCH"
INTERVAL_S = 1.0  # between two metrics of a service that is watched


def asked(watch: bool | None) -> bool:
    """Return whether to watch: as `watch` says, or where it says nothing as `VARIABLE` does."""
    return os.environ.get(VARIABLE, "") not in ("", "0", "false") if watch is None else watch


class Live:
    """The metrics of one trial's service, or of its boxes, as they come; `text` tells them in a line."""

    def __init__(self, service: Service) -> None:
        topics = [Topics(prefix).metrics("+") for prefix in service.prefixes]
        self._connection = Connection("xedge-watch", *service.address, topics, self._hear)
        self._latest: dict[str, Metrics] = {}
        self._counts, self._refused = Counter[str](), Counter[str]()

    @contextmanager
    def connected(self) -> Iterator[Self]:
        """Listen while the block runs.

        Raises:
            BrokerError: no broker there.
        """
        with self._connection.connected(10):
            yield self

    def text(self) -> str:
        """Take in what has come, without waiting, and return it in a line; "" before the first metrics."""
        self._connection.turn(0)
        return sentence(list(self._latest.values()), self._counts, self._refused) if self._latest else ""

    def _hear(self, topic: str, payload: bytes) -> None:
        if (metrics := metrics_in(payload)) is not None:
            self._latest[topic] = metrics
            self._counts += Counter(received=metrics.received, answered=metrics.answered, lost=metrics.lost)
            self._refused += Counter(metrics.refused)


def sentence(latest: list[Metrics], counts: Counter[str], refused: Counter[str]) -> str:
    """Return the rate and latency of the latest interval, of several boxes the slowest's, and all fates so far.

    >>> one = Metrics("edge", 1, 1, 200, 199, 199, 0.5, 1.1, 2.25)
    >>> sentence([one], Counter(received=400, answered=398), Counter(wrong_shape=1))
    '199 answers/s, p50 0.5 p99 2.25 ms in the service; 398 answered, 1 in it, 1 refused (wrong_shape)'
    """
    slowest = max(latest, key=lambda metrics: metrics.p99_ms or 0.0)
    parts = [f"{sum(metrics.throughput_hz for metrics in latest):.4g} answers/s"]
    if slowest.p50_ms is not None:
        parts.append(f"p50 {slowest.p50_ms:.3g} p99 {slowest.p99_ms:.3g} ms in the service")
    fates = [f"{counts['answered']} answered"]
    inside = counts["received"] - counts["answered"] - counts["lost"] - refused.total()
    fates += [f"{inside} in it"] * (inside > 0) + [f"{counts['lost']} lost"] * (counts["lost"] > 0)
    fates += [f"{refused.total()} refused ({', '.join(sorted(refused))})"] * (refused.total() > 0)
    return f"{', '.join(parts)}; {', '.join(fates)}"
