"""The search for the highest rate against theory: a service that takes 4 ms one by one is M/D/1, capacity 250/s."""

from __future__ import annotations

import sys

from scipy.optimize import brentq

from benchmarks.harness import Table
from xedge.runs.scenario import Scenario
from xedge.scenario.arrivals import Poisson
from xedge.scenario.placements import Edge
from xedge.scenario.service_times import Deterministic
from xedge.studies.load import measure
from xedge.studies.queueing import MD1

SERVICE_MS, DEADLINE_MS, P = 4.0, 60.0, 0.99


def main(replications: int = 5, requests: int = 500, resolution: float = 0.05) -> list[str]:
    """Search behind a real broker and print what was found beside what theory has."""
    table = Table()
    placement = Edge(service_time=Deterministic(mean_ms=SERVICE_MS), max_batch=1)
    scenario = Scenario(
        model="anomaly_detector", workload=Poisson(rate_hz=1, duration_s=1), placements={"edge": placement}, seed=7
    )
    curve = measure(
        scenario, DEADLINE_MS, p=P, resolution=resolution, replications=replications, requests=requests, budget_s=600.0
    )
    limit, knee = curve.limit("edge"), curve.knee("edge")
    stuck = [one.answered_hz for one in curve.latest("edge").values() if one.outcome == "saturated"]
    theory_hz = brentq(lambda rate: MD1(rate_hz=rate, mean_service_ms=SERVICE_MS).quantile_ms(P) - DEADLINE_MS, 1, 249)
    print(
        f"highest rate with p99 ≤ {DEADLINE_MS:g} ms, {SERVICE_MS:g} ms a request, {replications} × {requests} requests"
    )
    table.row("shown to meet the deadline", limit.met_hz or 0.0, "1/s")
    table.row("not shown to", limit.failed_hz or 0.0, "1/s")
    table.row("theory (M/D/1)", theory_hz, "1/s")
    table.row("met / theory: not above it", (limit.met_hz or 0.0) / theory_hz, "×", 1.05)
    table.row("met / theory: not far below", (limit.met_hz or 0.0) / theory_hz, "×", 0.8, at_least=True)
    table.row("knee", knee.rate_hz if knee else 0.0, "1/s")
    table.row("knee by theory, (2 − √2) of the capacity", (2 - 2**0.5) * 1e3 / SERVICE_MS, "1/s")
    table.row("answered when saturated / capacity", max(stuck, default=0.0) * SERVICE_MS / 1e3, "×", 1.02)
    table.row("probes", len(curve.probes), "")
    print(curve.conclusion())
    return table.missed


if __name__ == "__main__":
    sys.exit(bool(main()))
