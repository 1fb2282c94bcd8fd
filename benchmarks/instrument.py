"""The instrument against theory: stubs behind the real broker must be M/D/1 and M/M/1; errors after the noise floor."""

from __future__ import annotations

import sys

from benchmarks.harness import Table
from xedge.studies import instrument


def main(mean_service_ms: float = 30, boxes: int = 8, duration_s: float = 12, replications: int = 5) -> list[str]:
    table = Table()
    print(
        f"instrument: {boxes} stubs of {mean_service_ms:g} ms side by side, {replications} × {duration_s:g} s a queue"
    )
    found = instrument.measure([0.5, 0.8], mean_service_ms, boxes, duration_s, replications, progress=False)
    for check in found.checks:
        name = f"{check.queue} at {check.utilisation:g}, {check.statistic}"
        table.row(f"{name}: theory", check.theory_ms, "ms")
        measured = check.measured
        table.row("  measured, half of the interval", measured.value or 0.0, f"± {measured.half_width or 0.0:.2f} ms")
        ends = [abs(100 * end) for end in (check.error.low, check.error.high) if end is not None]
        table.row(f"  error of {name}, far end", max(ends, default=100.0), "%", 100 * check.limit)
    print(found.conclusion())
    return table.missed


if __name__ == "__main__":
    sys.exit(bool(main()))
