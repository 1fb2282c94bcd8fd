"""What the top of a page needs of a study: its findings, in values; they become texts here and nowhere before."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from xedge.reports.estimates import parts
from xedge.results import words

if TYPE_CHECKING:
    import pandas as pd

    from xedge.results.doubt import Doubt
    from xedge.results.measurement import Measurement
    from xedge.results.statistics import Estimate


class Study(Protocol):
    """A result that `xedge.publish` puts on top of a page."""

    def findings(self) -> Findings:
        """Return what the page shows."""


@dataclass(frozen=True)
class Findings:
    """What a study came to.

    Its `conclusion` in words (an empty line begins a paragraph); the `verdict` VALID, SATURATED or INVALID, empty where
    nothing was measured; the `headline` numbers, of which a page shows four; `estimates`, what of → name with unit →
    number, as `report.record` takes them; `measurements` whose distributions and conditions the page shows, by name, ""
    for one alone; `conditions` that a reader must know besides; `files`, name → what is saved beside the page by its
    method `save(path, format="csv")`; `facts`, a name of your own → anything JSON can hold, for run.json only. Where
    there is an `answer`, one sentence, the page begins with it and leaves the conclusion to the notebook; `doubts`
    about it follow with what to do.
    """

    conclusion: str
    verdict: str = ""
    headline: Sequence[Headline] = ()
    estimates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    measurements: Mapping[str, Measurement] = field(default_factory=dict)
    conditions: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    answer: str = ""
    doubts: Sequence[Doubt] = ()


@dataclass(frozen=True)
class Headline:
    """One of the numbers to begin with: an Estimate or a number with its unit, or a word where there is none.

    `detail` stands below, behind the interval; a `minor` one gives way where there are more than four.
    """

    label: str
    value: Estimate | float | str
    unit: str = ""
    detail: str = ""
    minor: bool = False

    def record(self) -> dict[str, Any]:
        """Return it in the form that `report.record` wants.

        >>> Headline("edge", 410.0, "/s", "not shown at 430/s").record()["value"]
        '410'
        """
        figure, interval = self._parts()
        detail = "; ".join(filter(None, (f"{interval} (95 %)" if interval else "", self.detail)))
        unit = "" if isinstance(self.value, str) else self.unit
        entry = {"label": self.label, "value": figure, "unit": unit, "detail": detail}
        return entry | {"minor": True} if self.minor else entry

    def _parts(self) -> tuple[str, str]:
        if isinstance(self.value, str):
            return self.value, ""
        if isinstance(self.value, int | float):
            return parts(self.value, None, None)
        if self.value.value is None or not math.isfinite(self.value.value):
            return (f"too few (n < {self.value.needed})" if self.value.too_few else "not known"), ""
        if self.unit == "%":
            figure, _, interval = words.percentage(self.value).removesuffix(" %").partition(" ")
            return figure, interval.strip("()")
        return parts(self.value.value, self.value.low, self.value.high)


@dataclass(frozen=True)
class Table:
    """A table to be saved beside the page, as NAME.csv in UTF-8."""

    rows: pd.DataFrame

    def save(self, path: Path, **_: Any) -> Path:
        """Write the table and return its file."""
        file = path.with_name(f"{path.name}.csv")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(self.rows.to_csv(index=False).encode("utf-8", "surrogatepass"))
        return file


def changed(estimate: Estimate, change: Callable[[float], float]) -> Estimate:
    """Return the estimate in another unit, or shifted: `change` is applied to its value and to its ends."""
    value, low, high = (None if end is None else change(end) for end in (estimate.value, estimate.low, estimate.high))
    half = estimate.sampling_half_width
    sampled = None if half is None or estimate.value is None else abs(change(estimate.value + half) - (value or 0.0))
    return replace(estimate, value=value, low=low, high=high, sampling_half_width=sampled)
