"""What figures and tables need of a measurement, so that they need not know how one is built or saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pandas as pd

    from xedge.results.comparison import Comparison
    from xedge.results.conditions import Conditions
    from xedge.results.statistics import Estimate, FloatArray
    from xedge.results.verdict import Doubt, Verdict


class Showable(Protocol):
    """Rows of some placements with what follows from them; `Measurement` is what has it all."""

    @property
    def rows(self) -> pd.DataFrame:
        """One row a scheduled request, with the columns of `xedge.results.rows.COLUMNS`."""

    @property
    def placements(self) -> list[str]:
        """The placements, in the order in which they are shown."""

    @property
    def verdict(self) -> Verdict:
        """VALID, INVALID or SATURATED, with reasons."""

    @property
    def typed_conditions(self) -> Conditions:
        """What the rows were measured under."""

    def checks(self) -> list[Doubt]:
        """Return the doubts, severe ones first."""

    def latencies_ms(self, placement: str) -> list[FloatArray]:
        """Return the latencies in ms, one array a replication; +inf was not answered in time."""

    def estimate(self, placement: str, p: float) -> Estimate:
        """Return the latency at level `p` in ms."""

    def compare(self, a: str, b: str) -> Comparison:
        """Return how much slower `b` is than `a`."""

    def breakdown(self) -> pd.DataFrame:
        """Return the parts of the latency, one row a placement and part, with `mean_ms` and `share`."""

    def conclusion(self) -> str:
        """Return what came out, in words."""
