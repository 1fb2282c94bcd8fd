"""Two placements compared, paired by replication: how much slower one is, with its interval."""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pandas as pd

from xedge.core.exceptions import MeasurementError
from xedge.core.tables import html_table
from xedge.results import accuracy
from xedge.results.evidence import COMPARED_LEVELS, Evidence
from xedge.results.statistics import Estimate, FloatArray, as_sections, batches, paired_difference
from xedge.results.words import level_name, milliseconds, points, senders_share

if TYPE_CHECKING:
    from xedge.results.canvas import ReportFigure


@dataclass(frozen=True)
class Comparison:
    """How much slower `b` is than `a` at p50, p95 and p99: paired differences b − a of the latency in ms.

    `note` says why there are none, where a placement is saturated. `accuracy` is how much more often b was right than a
    on the same inputs, a difference of shares; None where nobody knows what is right.
    """

    a: str
    b: str
    differences: Mapping[float, Estimate]
    note: str = ""
    accuracy: Estimate | None = None

    def table(self) -> pd.DataFrame:
        """Return one row a level with the `difference_ms` b − a, its interval and what it rests on."""
        return pd.DataFrame(
            [(level_name(p), e.value, e.low, e.high, e.n, e.sections, e.method) for p, e in self.differences.items()],
            columns=["level", "difference_ms", "low_ms", "high_ms", "n", "sections", "method"],
        )

    def __str__(self) -> str:
        clauses = self.note or "; ".join(self._clause(p, estimate) for p, estimate in self.differences.items()) + "."
        return f"{clauses} {self.accuracy_sentence()}".rstrip()

    def accuracy_sentence(self) -> str:
        """Return who was right more often by how much; "" where nobody knows."""
        if (gap := self.accuracy) is None or gap.value is None or gap.low is None or gap.high is None:
            return ""
        if gap.low <= 0 <= gap.high:
            return f"No difference in accuracy is shown: {self.b} − {self.a} is {points(gap)}."
        better, worse = (self.b, self.a) if gap.value > 0 else (self.a, self.b)
        text = points(gap if gap.value > 0 else turned_round(gap))
        return f"{better[:1].upper()}{better[1:]} was right more often than {worse}, by {text}."

    def _clause(self, p: float, estimate: Estimate) -> str:
        name, value = level_name(p), estimate.value
        if value is None:
            known = milliseconds(estimate) if estimate.too_few else "both timed out"
            return f"at {name} {self.a} and {self.b} cannot be compared: {known}"
        faster, slower = (self.a, self.b) if value >= 0 else (self.b, self.a)
        if math.isinf(value):
            return f"at {name} {faster} is faster: {slower} timed out"
        if estimate.low is not None and estimate.high is not None and estimate.low <= 0 <= estimate.high:
            because = ", because of the sender's lateness" if is_shown(estimate) else ""
            text = f"{self.b} − {self.a} is {milliseconds(estimate)}{senders_share(estimate)}"
            return f"at {name} no difference is shown{because}: {text}"
        gap = milliseconds(estimate if value >= 0 else turned_round(estimate))
        text = f"{gap} faster than {slower}{senders_share(estimate)}"
        return f"at {name} {faster} is {text}{' (no interval)' * (estimate.half_width is None)}"

    def plot(self) -> "ReportFigure":
        """Return the differences with their intervals as a forest plot."""
        from xedge.results.certainty import comparison_figure

        return comparison_figure(self)

    def _repr_html_(self) -> str:
        table = [(level_name(p), milliseconds(e), e.method) for p, e in self.differences.items()]
        if self.accuracy is not None:
            table.append(("accuracy", points(self.accuracy), self.accuracy.method))
        shown = html_table(["", f"{self.b} − {self.a}", "interval"], table) if table else ""
        return f"<p>{html.escape(str(self))}</p>{shown}"


def compare(a: Evidence, b: Evidence, saturated: Sequence[str] = ()) -> Comparison:
    """Compare placements `a` and `b` over the replications that both have (common random numbers)."""
    names = a.placement, b.placement
    both = " and ".join(names)
    if stuck := [placement for placement in names if placement in saturated]:
        note = f"{' and '.join(stuck)} saturated: no steady state, so no percentiles of {both} to compare."
        return Comparison(*names, {}, note, accuracy.difference(a.judged, b.judged))
    if not a.latencies.keys() & b.latencies.keys():
        raise MeasurementError(f"{both} share no replication: measure them in one scenario to compare them")
    gaps = {p: difference(a, b, p) for p in COMPARED_LEVELS}
    return Comparison(*names, gaps, accuracy=accuracy.difference(a.judged, b.judged))


def difference(a: Evidence, b: Evidence, p: float) -> Estimate:
    """Estimate the quantile of level `p` of b minus that of a, ms, paired by replication.

    A late sender may have made either of them longer: the interval reaches from the least that b, to the least that a
    can have been with a punctual sender, and `late` is the larger of the two changes.
    """
    sampled = _paired(a.latencies, b.latencies, p)
    if sampled.value is None or math.isinf(sampled.value):
        return sampled
    least, most = _paired(a.latencies, b.least_latencies, p), _paired(a.least_latencies, b.latencies, p)
    late = max(sampled.value - (least.value or 0.0), (most.value or 0.0) - sampled.value)
    return sampled.widened(late, least.low, most.high)


def turned_round(difference: Estimate) -> Estimate:
    """Return the difference a − b of the difference b − a."""
    value, low, high = (None if end is None else -end for end in (difference.value, difference.high, difference.low))
    return replace(difference, value=value, low=low, high=high)


def could_turn(a: Evidence, b: Evidence, p: float) -> bool:
    """Whether a difference is shown, and a punctual sender could have changed who is faster."""
    known = [(of.estimates[p].value, of.estimates[p].late) for of in (a, b)]
    (fast, _), (slow, late) = sorted((math.inf if value is None else value, late) for value, late in known)
    return math.isfinite(slow) and slow - late < fast and is_shown(difference(a, b, p))


def is_shown(difference: Estimate) -> bool:
    """Whether sampling alone explains no difference of this size."""
    half = difference.half_width
    return difference.value is not None and half is not None and abs(difference.value) > half


def _paired(a: Mapping[int, FloatArray], b: Mapping[int, FloatArray], p: float) -> Estimate:
    both = sorted(a.keys() & b.keys())
    of_a, of_b = [a[key] for key in both], [b[key] for key in both]
    if len(both) > 1:
        return paired_difference(of_a, of_b, p)
    pairs = min(len(as_sections(of_a, p)), len(as_sections(of_b, p)))  # failures make a run shorter: as many batches
    return paired_difference(batches(of_a[0], pairs), batches(of_b[0], pairs), p)
