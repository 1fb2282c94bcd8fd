"""What a service says of itself while it runs: throughput, latency percentiles and refusals of the last interval."""

from collections import Counter
from collections.abc import Mapping

import msgspec
import numpy as np


class Metrics(msgspec.Struct, omit_defaults=True):
    """One interval of one service; latency is from reading a request off the socket to handing over its result.

    At its end `queued` requests of `queued_bytes` are held, and the first of those waiting has waited `oldest_ms`.
    """

    service: str
    interval_s: float
    uptime_s: float
    received: int
    answered: int
    throughput_hz: float
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    lost: int = 0
    refused: dict[str, int] = {}
    queued: int = 0
    queued_bytes: int = 0
    oldest_ms: float | None = None

    def sentence(self) -> str:
        """Return the interval in one line for a log."""
        latency = f", p50 {self.p50_ms:.3g} p95 {self.p95_ms:.3g} p99 {self.p99_ms:.3g} ms" if self.answered else ""
        refused = ", ".join(f"{count} {reason}" for reason, count in sorted(self.refused.items()))
        return f"{self.service}: {self.throughput_hz:.4g} answers/s{latency}{refused and f', refused {refused}'}"


class Meter:
    """Collects between two intervals; `latencies_ns.append` is all that the hot path pays."""

    def __init__(self, service: str, now_ns: int) -> None:
        self._service, self._begun_ns, self._since_ns = service, now_ns, now_ns
        self._counts, self._refused = Counter[str](), Counter[str]()
        self.latencies_ns: list[int] = []

    def take(self, now_ns: int, counts: Mapping[str, int], refused: Mapping[str, int]) -> Metrics:
        """Return the interval that ends at `now_ns` and begin the next.

        `counts` (received, answered, lost) and `refused` (by reason) are the service's since its start.
        """
        interval_s = max((now_ns - self._since_ns) / 1e9, 1e-9)
        new = Counter(counts) - self._counts
        metrics = Metrics(
            service=self._service,
            interval_s=round(interval_s, 3),
            uptime_s=round((now_ns - self._begun_ns) / 1e9, 1),
            received=new["received"],
            answered=new["answered"],
            throughput_hz=round(new["answered"] / interval_s, 3),
            lost=new["lost"],
            refused=dict(Counter(refused) - self._refused),
        )
        if self.latencies_ns:
            quantiles_ns = np.quantile(self.latencies_ns, [0.5, 0.95, 0.99], method="inverted_cdf").tolist()
            metrics.p50_ms, metrics.p95_ms, metrics.p99_ms = (round(at_ns / 1e6, 4) for at_ns in quantiles_ns)
        self._since_ns, self._counts, self._refused = now_ns, Counter(counts), Counter(refused)
        self.latencies_ns.clear()
        return metrics
