"""A distribution given by its quantiles: what published tables of delays hold."""

from bisect import bisect_right
from collections.abc import Sequence


class QuantileTable:
    """The inverse of a distribution function, given by knots `[(p, ms), …]` with p ascending.

    Log-linear between knots, linear in a piece that begins at 0.
    """

    def __init__(self, knots: Sequence[tuple[float, float]]) -> None:
        self._levels, self._values = [p for p, _ in knots], [ms for _, ms in knots]

    def __call__(self, p: float) -> float:
        """Return the p-quantile."""
        levels, values = self._levels, self._values
        if len(levels) == 1:
            return values[0]
        k = bisect_right(levels, p, 1, len(levels) - 1)
        low, high = values[k - 1], values[k]
        share = (p - levels[k - 1]) / (levels[k] - levels[k - 1])
        return low * (high / low) ** share if low > 0 else share * high
