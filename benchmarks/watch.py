"""The live view: what a measurement that is watched shows beside one that is not, the sender's lateness first."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from benchmarks.harness import Table
from xedge.results.measurement import Measurement
from xedge.results.rows import milliseconds_between
from xedge.runs.scenario import Scenario
from xedge.scenario.arrivals import Poisson
from xedge.scenario.placements import Edge
from xedge.serving.broker import Broker

LEVELS = (0.5, 0.99)


def seen(measurement: Measurement) -> dict[str, float]:
    """Lateness and latency of all requests in ms, by name and level."""
    rows = measurement.rows[~measurement.rows["warm_up"]]
    late, latency = milliseconds_between(rows, "due_ns", "sent_ns"), milliseconds_between(rows, "due_ns", "received_ns")
    values = {"lateness": late, "latency": latency}
    return {f"{name} p{100 * p:g}": float(np.quantile(of, p)) for name, of in values.items() for p in LEVELS}


def main(rounds: int = 8, duration_s: float = 4.0, rate_hz: float = 200.0) -> list[str]:
    table, ratios = Table(), list[dict[str, float]]()
    scenario = Scenario(
        model="anomaly_detector", workload=Poisson(rate_hz=rate_hz, duration_s=duration_s), placements={"edge": Edge()}
    )
    print(f"live view, {rate_hz:g} requests/s, {rounds} pairs of {duration_s:g} s, watched over not watched")
    with Broker(name="bench") as broker:
        how: dict[str, Any] = {"broker": broker, "progress": False, "strict": False}
        how["calibration"] = scenario.measure(1, **how)
        for number in range(rounds):
            order = (True, False) if number % 2 else (False, True)  # A B, B A: a drift touches both alike
            found = {watch: seen(scenario.measure(1, watch=watch, **how)) for watch in order}
            ratios.append({name: found[True][name] / found[False][name] for name in found[True]})
    for name in ratios[0]:
        of = np.array([each[name] for each in ratios])
        table.row(f"{name}: median ratio", float(np.median(of)), f"(from {of.min():.2f} to {of.max():.2f})")
    return table.missed


if __name__ == "__main__":
    sys.exit(bool(main()))
