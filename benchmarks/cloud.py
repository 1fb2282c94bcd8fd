"""Cloud service, 50 ms each way: 2000 requests/s, twenty requests at once, and the usual sleep in the callback."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import paho.mqtt.client as mqtt

from benchmarks.harness import Table, UsualWay, flight, open_loop_ms
from xedge.runs.sender import Sender
from xedge.serving.broker import Broker
from xedge.serving.services import CloudMLService


class SleepInCallback(UsualWay):
    """The usual way to stand for a cloud: sleep, compute, sleep, all in the callback."""

    def _on_message(self, client: mqtt.Client, data: Any, message: mqtt.MQTTMessage) -> None:
        time.sleep(0.05)
        super()._on_message(client, data, message)
        time.sleep(0.05)


def burst_ms(sender: Sender, broker: Broker, n: int = 20) -> float:
    """The last answer's latency when n requests are due at once."""
    log = sender.fly(flight(broker, np.zeros(n, np.int64)))
    return (log.replies[-1][0] - log.start_ns) / 1e6 if len(log.replies) == n else float("inf")


def main(rounds: int = 3, duration_s: float = 5.0) -> list[str]:
    table = Table()
    with Broker(name="bench") as broker, Sender() as sender:
        print(f"cloud at 2000 requests/s, Poisson, {rounds} × {duration_s:g} s, 50 ms each way, {broker.version}")
        with CloudMLService("anomaly_detector", broker.host, broker.port, 50.0):
            runs = [open_loop_ms(sender, broker, 2000, duration_s, k) for k in range(rounds)]
            bursts = [burst_ms(sender, broker) for _ in range(10)]
        found = np.concatenate(runs)
        table.row("p50", float(np.quantile(found, 0.5, method="inverted_cdf")), "ms", 101.5)
        table.row("p99", float(np.quantile(found, 0.99, method="inverted_cdf")), "ms", 105)
        table.row("lost", float(np.isinf(found).sum()), "requests", 0)
        table.row("20 at once, last answer, median of 10", float(np.median(bursts)), "ms", 104)
        table.row("20 at once, last answer, worst of 10", max(bursts), "ms")
        with SleepInCallback(broker):
            table.row("sleep in the callback: 20 at once, last answer", burst_ms(sender, broker), "ms")
    return table.missed


if __name__ == "__main__":
    sys.exit(bool(main()))
