"""The sender: how late requests leave at 5000 requests/s, against time.sleep in a thread of this process."""

from __future__ import annotations

import sys
import time

import numpy as np

from benchmarks.harness import DEVICE, BareEcho, Table, flight
from xedge.runs.sender import Sender
from xedge.scenario.arrivals import Poisson
from xedge.serving.broker import Broker
from xedge.serving.connection import Connection

RATE_HZ = 5000.0


def usual_lateness_ms(broker: Broker, duration_s: float) -> np.ndarray:
    """time.sleep until each slot, in the interpreter that also runs the echo."""
    due_ns = Poisson(rate_hz=RATE_HZ, duration_s=duration_s).due_ns(1)
    connection = Connection("usual", broker.host, broker.port, [], lambda _topic, _payload: None)
    connection.connect()
    connection.wait_subscribed(5)
    payloads, late = flight(broker, due_ns).payloads, np.empty(len(due_ns))
    start_ns = time.perf_counter_ns()
    for k, (due, payload) in enumerate(zip((due_ns + start_ns).tolist(), payloads, strict=True)):
        if (left_ns := due - time.perf_counter_ns()) > 0:
            time.sleep(left_ns / 1e9)
        late[k] = (time.perf_counter_ns() - due) / 1e6
        connection.publish(f"ml/unheard/{DEVICE}", payload, 0)
        connection.flush()
    connection.close()
    return late


def main(rounds: int = 3, duration_s: float = 4.0) -> list[str]:
    table = Table()
    with Broker(name="bench") as broker, Sender() as sender, BareEcho(broker):
        print(f"sender, {RATE_HZ:g} requests/s, Poisson, every one echoed back, {rounds} × {duration_s:g} s")
        late = []
        for seed in range(rounds):
            due_ns = Poisson(rate_hz=RATE_HZ, duration_s=duration_s).due_ns(seed)
            log = sender.fly(flight(broker, due_ns))
            late.append((np.frombuffer(log.sent_ns, np.int64) - due_ns) / 1e6)
            table.row(f"round {seed + 1}: echoes that came back", len(log.replies) / len(due_ns), "of 1")
        found = np.concatenate(late)
        table.row("lateness p50", float(np.quantile(found, 0.5)), "ms")
        table.row("lateness p99", float(np.quantile(found, 0.99)), "ms", 1.0)
        usual = usual_lateness_ms(broker, duration_s)
        table.row("time.sleep in a shared interpreter: lateness p99", float(np.quantile(usual, 0.99)), "ms")
    return table.missed


if __name__ == "__main__":
    sys.exit(bool(main()))
