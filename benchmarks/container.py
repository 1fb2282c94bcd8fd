"""The edge service in a container against a bare process; and a weaker box by --cpus against compute_scale.

Needs an image: `python -m benchmarks container` takes its name from XEDGE_IMAGE (containers/README.md builds one).
"""

from __future__ import annotations

import os
import sys

import numpy as np

from benchmarks.harness import Table
from xedge import Edge, Poisson, Scenario
from xedge.results.measurement import Measurement


def run(rate_hz: float, duration_s: float, replications: int, model: str, **placements: Edge) -> Measurement:
    workload = Poisson(rate_hz=rate_hz, duration_s=duration_s)
    scenario = Scenario(model=model, workload=workload, placements=placements, seed=5)
    return scenario.measure(replications, strict=False, progress=False)


def medians(measurement: Measurement, placement: str, p: float) -> np.ndarray:
    """The p-quantile of every replication, in ms."""
    return np.array([np.quantile(values, p) for values in measurement.latencies_ms(placement)])


def main(replications: int = 9) -> list[str]:
    table = Table()
    image = os.environ.get("XEDGE_IMAGE")
    if not image:
        print("container: no image named by XEDGE_IMAGE; not measured")
        return []
    print(f"container against process and thread, anomaly_detector, 500 requests/s, {replications} × 2 s")
    kinds = {"process": Edge(run_in="process"), "container": Edge(run_in="container", image=image), "thread": Edge()}
    found = run(500, 2, replications, "anomaly_detector", **kinds)
    for name in kinds:
        table.row(f"{name} p50, median", float(np.median(medians(found, name, 0.5))), "ms")
    for name, limit in (("container", 1.15), ("thread", None)):
        shares = medians(found, name, 0.5) / medians(found, "process", 0.5)
        table.row(f"{name} / process p50, median of the replications", float(np.median(shares)), "×", limit)
        table.row("  quartiles", float(np.quantile(shares, 0.25)), f"… {np.quantile(shares, 0.75):.3f} ×")
    for rate_hz in (50, 300):
        print(f"a quarter of this machine, vibration_cnn, {rate_hz} requests/s, 3 × 4 s")
        weak = {
            "whole": Edge(run_in="container", image=image),
            "cpus=0.25": Edge(run_in="container", image=image, cpus=0.25),
            "compute_scale=4": Edge(run_in="container", image=image, compute_scale=4),
        }
        found = run(rate_hz, 4, 3, "vibration_cnn", **weak)
        for name in weak:
            for p in (0.5, 0.95, 0.99):
                table.row(f"{name} p{p * 100:g}", float(np.median(medians(found, name, p))), "ms")
    return table.missed


if __name__ == "__main__":
    sys.exit(bool(main()))
