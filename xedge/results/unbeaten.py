"""Fast or right: the placements that no other beats in both."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xedge.results.measurement import Measurement


def unbeaten(measurement: Measurement) -> list[str]:
    """Return the placements that no other is shown to beat: faster without being less often right, or the reverse.

    Only steady placements whose accuracy is known; the fastest first. Differences are paired, on the same inputs.
    """
    names = [
        name
        for name, of in measurement.evidence.items()
        if of.accuracy is not None and name not in measurement.verdict.saturated
    ]
    names.sort(key=lambda name: _p50_ms(measurement, name))
    return [name for name in names if not any(_beats(measurement, other, name) for other in names if other != name)]


def _beats(measurement: Measurement, a: str, b: str) -> bool:
    """Whether a is better than b in one of latency and accuracy, and not shown to be worse in the other."""
    compared = measurement.compare(a, b)
    slower = next((gap for p in (0.99, 0.5) if (gap := compared.differences[p]).low is not None), None)
    gained = compared.accuracy
    if slower is None or gained is None:
        return False
    faster, as_fast = (slower.low or 0.0) > 0, (slower.high or 0.0) >= 0
    better, as_good = (gained.high or 0.0) < 0, (gained.low or 0.0) <= 0
    return (faster and as_good) or (better and as_fast)


def _p50_ms(measurement: Measurement, name: str) -> float:
    value = measurement.estimate(name, 0.5).value
    return math.inf if value is None else value
