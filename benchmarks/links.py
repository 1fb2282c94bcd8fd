"""Links: the delay an echo behind them measures against the delay asked for, over several kinds of link."""

from __future__ import annotations

import sys

from benchmarks.harness import Table
from xedge.runs.calibration import check_links
from xedge.runs.scenario import Scenario
from xedge.runs.sender import Sender
from xedge.scenario.arrivals import Constant
from xedge.scenario.link import Link
from xedge.scenario.placements import Edge
from xedge.serving.broker import Broker

JITTER = [(0, 0.5), (0.5, 2), (0.99, 15), (1, 20)]
KINDS = {
    "1 ms each way": Link(delay_ms=1),
    "50 ms each way": Link(delay_ms=50),
    "2 Mbit/s, 10 ms each way": Link(delay_ms=10, rate_mbps=2),
    "jitter 0 to 20 ms, 5 ms each way": Link(delay_ms=5, jitter_ms=JITTER),
    "the same, correlated over 50 ms": Link(delay_ms=5, jitter_ms=JITTER, correlation_ms=50),
    "2 % of segments lost, 15 ms each way": Link(delay_ms=15, segment_loss=0.02),
}


def main() -> list[str]:
    table = Table()
    print("links: |measured - asked| of the added delay, both ways, 400 echoes at 400/s")
    scenario = Scenario(
        model="anomaly_detector",
        workload=Constant(rate_hz=400, duration_s=1),
        placements={name: Edge(link=link) for name, link in KINDS.items()},
    )
    with Broker(name="bench") as broker, Sender() as sender:
        for name, found in check_links(broker, sender, scenario).items():
            for level, limit in (("p50_ms", 0.5), ("p99_ms", 2.0)):
                off = abs(found["measured_ms"][level] - found["requested_ms"][level])
                table.row(f"{name}, {level[:3]}", off, "ms", limit)
    return table.missed


if __name__ == "__main__":
    sys.exit(bool(main()))
