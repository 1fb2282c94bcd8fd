"""Edge service against a bare echo through the same broker: latency at 500 requests/s, and the ceiling."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from benchmarks.harness import BareEcho, PahoEcho, Table, UsualWay, ceiling_hz, in_turn, open_loop_ms, pooled
from xedge.runs.sender import Sender
from xedge.serving.broker import Broker
from xedge.serving.services import EdgeMLService


def ratio(table: Table, latency: dict[str, list[Any]], base: str, p: float, limit: float | None = None) -> None:
    """Print the edge's p-quantile over the base's, round by round: both of a round run within seconds."""
    rounds = [np.quantile(e, p) / np.quantile(b, p) for e, b in zip(latency["edge"], latency[base], strict=True)]
    table.row(f"edge / {base} p{p * 100:g}, median of the rounds", float(np.median(rounds)), "×", limit)
    low, high = np.quantile(rounds, [0.25, 0.75])
    table.row("  quartiles of the rounds", float(low), f"… {high:.3f} ×")
    table.row("  all rounds together", pooled(latency["edge"], p) / pooled(latency[base], p), "×")


def main(rounds: int = 16, duration_s: float = 1.5) -> list[str]:
    table = Table()
    with Broker(name="bench") as broker, Sender() as sender:
        services = {
            "echo": lambda: PahoEcho(broker),
            "echo in our loop": lambda: BareEcho(broker),
            "edge": lambda: EdgeMLService("anomaly_detector", broker.host, broker.port),
            "usual": lambda: UsualWay(broker),
        }
        print(f"edge at 500 requests/s, Poisson, {rounds} × {duration_s:g} s an service in turn, {broker.version}")
        latency = in_turn(services, rounds, lambda k: open_loop_ms(sender, broker, 500, duration_s, k))
        for service, found in latency.items():
            table.row(f"{service} p50", pooled(found, 0.5), "ms")
            table.row(f"{service} p99", pooled(found, 0.99), "ms")
        for p, limit in ((0.5, 1.5), (0.99, 1.5)):  # a guard against getting slower, with its quartiles
            ratio(table, latency, "echo", p, limit)
        ratio(table, latency, "echo in our loop", 0.5)
        print("ceiling, 256 requests always on their way")
        ceilings = in_turn(services, rounds, lambda _: ceiling_hz(sender, broker))
        for service, found in ceilings.items():
            table.row(f"{service} ceiling, median", float(np.median(found)), "1/s")
        for service, base, limit in (
            ("edge", "echo", 0.85),
            ("edge", "echo in our loop", None),
            ("usual", "echo", None),
        ):
            shares = [one / other for one, other in zip(ceilings[service], ceilings[base], strict=True)]
            table.row(f"{service} / {base} ceiling, median", float(np.median(shares)), "×", limit, at_least=True)
    return table.missed


if __name__ == "__main__":
    sys.exit(bool(main()))
