"""Two placements compared, paired by replication: how much slower one is, with its interval."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from xedge.core.exceptions import MeasurementError
from xedge.results.rows import replications
from xedge.results.statistics import Estimate, FloatArray, batches, paired_difference
from xedge.results.summary import COMPARED_LEVELS, sections
from xedge.results.words import level_name, milliseconds


@dataclass(frozen=True)
class Comparison:
    """How much slower `b` is than `a` at p50, p95 and p99: paired differences b − a of the latency in ms.

    `note` says why there are none, where a placement is saturated.
    """

    a: str
    b: str
    differences: Mapping[float, Estimate]
    note: str = ""

    def table(self) -> pd.DataFrame:
        """Return one row a level with the `difference_ms` b − a, its interval and what it rests on."""
        return pd.DataFrame(
            [(level_name(p), e.value, e.low, e.high, e.n, e.sections, e.method) for p, e in self.differences.items()],
            columns=["level", "difference_ms", "low_ms", "high_ms", "n", "sections", "method"],
        )

    def __str__(self) -> str:
        if self.note:
            return self.note
        return "; ".join(self._clause(p, estimate) for p, estimate in self.differences.items()) + "."

    def _clause(self, p: float, estimate: Estimate) -> str:
        name, value = level_name(p), estimate.value
        if value is None:
            known = milliseconds(estimate) if estimate.too_few else "both timed out"
            return f"at {name} {self.a} and {self.b} cannot be compared: {known}"
        faster, slower = (self.a, self.b) if value >= 0 else (self.b, self.a)
        if math.isinf(value):
            return f"at {name} {faster} is faster: {slower} timed out"
        positive = Estimate(abs(value), None, None, estimate.n, estimate.sections, estimate.method)
        if estimate.low is None or estimate.high is None:
            return f"at {name} {faster} is {milliseconds(positive)} faster than {slower} (no interval)"
        if estimate.low <= 0 <= estimate.high:
            return f"at {name} no difference is shown: {self.b} − {self.a} is {milliseconds(estimate)}"
        low, high = sorted((abs(estimate.low), abs(estimate.high)))
        positive = Estimate(abs(value), low, high, estimate.n, estimate.sections, estimate.method)
        return f"at {name} {faster} is {milliseconds(positive)} faster than {slower}"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{level_name(p)}</th><td>{html.escape(milliseconds(e))}</td><td>{html.escape(e.method)}</td></tr>"
            for p, e in self.differences.items()
        )
        head = f"<tr><th></th><th>{html.escape(self.b)} − {html.escape(self.a)}</th><th>interval</th></tr>"
        return f"<p>{html.escape(str(self))}</p>" + (f"<table>{head}{rows}</table>" if rows else "")


def compare(rows: pd.DataFrame, a: str, b: str, saturated: Sequence[str] = ()) -> Comparison:
    """Compare placements `a` and `b` over the replications that both have (common random numbers)."""
    if stuck := [placement for placement in (a, b) if placement in saturated]:
        note = f"{' and '.join(stuck)} saturated: no steady state, so no percentiles of {a} and {b} to compare."
        return Comparison(a, b, {}, note)
    of_a, of_b = replications(rows, a), replications(rows, b)
    both = sorted(of_a.keys() & of_b.keys())
    if not both:
        raise MeasurementError(f"{a} and {b} share no replication: measure them in one scenario to compare them")
    arms = [of_a[key] for key in both], [of_b[key] for key in both]
    return Comparison(a, b, {p: _difference(*arms, p) for p in COMPARED_LEVELS})


def _difference(a: Sequence[FloatArray], b: Sequence[FloatArray], p: float) -> Estimate:
    if len(a) > 1:
        return paired_difference(a, b, p)
    pairs = min(len(sections(a, p)), len(sections(b, p)))  # an arm with failures is shorter: as many batches
    return paired_difference(batches(a[0], pairs), batches(b[0], pairs), p)
