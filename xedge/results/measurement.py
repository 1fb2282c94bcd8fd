"""A measurement: rows, one a scheduled request, with the conditions they were taken under."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from xedge.core.exceptions import MeasurementError
from xedge.results import comparison, rows, showing, storage
from xedge.results import conditions as known
from xedge.results.answer import Answer, Reading
from xedge.results.doubt import Doubt
from xedge.results.doubts import doubts
from xedge.results.evidence import EVENTS, Evidence
from xedge.results.statistics import Estimate, FloatArray, quantile, share_estimate
from xedge.results.unfinished import Unfinished, is_unfinished
from xedge.results.verdict import Verdict, judge

if TYPE_CHECKING:
    from xedge.results.canvas import ReportFigure
    from xedge.results.figures import Panels
    from xedge.results.tables import PaperTable


@dataclass(frozen=True, eq=False, repr=False)
class Measurement:
    """Rows of one or more trials and their conditions, frozen together.

    `rows` is a table with the columns of `xedge.results.rows.COLUMNS`, one row a scheduled request, nothing left out
    (times in ns since the start of the trial, NA where there is no reading); `conditions` is a dictionary that JSON can
    hold, `typed_conditions` what xedge itself reads of it. Both are copied; treat them as read-only and take `.copy()`
    of the rows to change them.

    Raises:
        MeasurementError: the rows are empty or not of the schema, or the conditions are not JSON or malformed.
    """

    rows: pd.DataFrame
    conditions: dict[str, Any]
    typed_conditions: known.Conditions = field(init=False)

    def __post_init__(self) -> None:
        table = rows.typed(self.rows)
        if table.empty:
            raise MeasurementError("no rows: a measurement has one row for every scheduled request")
        try:
            conditions = json.loads(json.dumps(dict(self.conditions), default=_plain))
        except TypeError as error:
            raise MeasurementError(f"the conditions cannot be written as JSON: {error}") from error
        object.__setattr__(self, "rows", table)
        object.__setattr__(self, "conditions", conditions)
        object.__setattr__(self, "typed_conditions", known.typed(conditions))

    @property
    def placements(self) -> list[str]:
        """The placements measured, in the order of the rows."""
        return list(self.evidence)

    @cached_property
    def evidence(self) -> dict[str, Evidence]:
        """Placement → what its rows say, each number computed once."""
        groups = self.rows.groupby("placement", sort=False)
        return {str(name): Evidence(str(name), own, self.typed_conditions) for name, own in groups}

    @cached_property
    def verdict(self) -> Verdict:
        """VALID, INVALID or SATURATED, with reasons."""
        return judge(list(self.evidence.values()))

    @cached_property
    def _doubts(self) -> list[Doubt]:
        return doubts(list(self.evidence.values()))

    @cached_property
    def _compared(self) -> dict[tuple[str, str], comparison.Comparison]:
        return {}

    def checks(self) -> list[Doubt]:
        """Return the doubts about these figures, in words, severe ones first."""
        return self._doubts.copy()

    def latencies_ms(self, placement: str) -> list[FloatArray]:
        """Return the latency received − due in ms, one array a replication, warm-up apart.

        Timed out or lost requests are +inf; requests answered with an error or never sent are left out.
        """
        return list(self._of(placement).latencies.values())

    def estimate(self, placement: str, p: float) -> Estimate:
        """Return the latency of `placement` at level `p` (0.99 for p99) in ms.

        `late` is how much of it a late sender may have added (`xedge.results.rows.possible_shift`); the interval's
        lower end includes it.
        """
        of = self._of(placement)
        return of.estimates[p] if p in of.estimates else of.estimate(p)

    def summary(self) -> pd.DataFrame:
        """Return one row a placement: rates in Hz, utilisation, counts by status, p50 p90 p95 p99 in ms with intervals.

        NaN stands for too few requests or no steady state, inf for "more than the time-out". `_late` is how much of a
        percentile may be due to a late sender. Where the source knows what is right there are `accuracy` (the share of
        answers that were right, 0 to 1) and, for scores, `roc_auc`, with their intervals; where a placement has a
        process of its own that says so, `cpu_ms` of the processor for one inference and `memory_mb`, its peak.
        """
        saturated = self.verdict.saturated
        return pd.DataFrame([of.summary(saturated=name in saturated) for name, of in self.evidence.items()])

    def breakdown(self) -> pd.DataFrame:
        """Return the median and mean of every part of the latency, in ms, one row a placement and part."""
        return pd.concat([of.breakdown() for of in self.evidence.values()], ignore_index=True)

    def compare(self, a: str, b: str) -> comparison.Comparison:
        """Return how much slower `b` is than `a`, paired by replication, with intervals."""
        if (a, b) not in self._compared:
            self._compared[a, b] = comparison.compare(self._of(a), self._of(b), self.verdict.saturated)
        return self._compared[a, b]

    def goodput(self, placement: str, deadline_ms: float) -> Estimate:
        """Return the share of scheduled requests answered within `deadline_ms`, with its interval.

        Requests that failed in any way did not meet the deadline. Wilson's interval for as many independent requests as
        these, which meet the same queues, are worth (`xedge.results.statistics.share_estimate`). With a punctual sender
        the share is up to `late` larger, which the interval's upper end includes.
        """
        of = self._of(placement)
        latencies = np.concatenate(list(of.latencies.values()))
        alike = of.met(min(deadline_ms, quantile(latencies, 0.99)) if latencies.size else deadline_ms)
        share, most = (share_estimate(of.met(deadline_ms, punctual=late), alike) for late in (False, True))
        return share.widened((most.value or 0.0) - (share.value or 0.0), high=most.high)

    def availability(self, placement: str, deadline_ms: float | None = None) -> Estimate:
        """Return the share of all scheduled requests that were answered, within `deadline_ms` if that is given.

        What failed in any way was not. The interval comes from the replications (Student's t), not from requests as in
        `goodput`: faults at the same times make the requests of a trial alike.
        """
        return self._of(placement).availability(deadline_ms)

    def recovery(self, placement: str, kind: str) -> Estimate:
        """Return how long after a fault of this `kind` was mended answers came as fast as before, s, with an interval.

        Defined in `xedge.results.disruptions.recovered_s`; +inf: not within the trial.
        """
        return self._of(placement).recovery(kind)

    def faults(self) -> pd.DataFrame:
        """Return one row a fault that happened, and a time without a broker for another reason ("broker away").

        Columns: placement, replication, fault, whether and when (at_s) it was asked for, begin_s and end_s as it was,
        seconds after the start of the trial, recovery_s, how many requests met it (on their way when it began, or due
        before all was as before), and how many of these failed.
        """
        return pd.DataFrame([row for of in self.evidence.values() for row in of.events()], columns=list(EVENTS))

    def plot(self, panels: Panels | None = None, size: tuple[float, float] | None = None) -> ReportFigure:
        """Return the report's figure: the distribution, the tail, where the time goes, and when; or other `panels`.

        `.save("figure.pdf")` writes it (or `.svg`, `.png`). Panels are named ("ecdf", "tail", "breakdown", "over_time",
        "forest", "convergence", "tradeoff": one or a list) or drawn by functions of your own, with their titles. `size`
        is (width, height) in inches: (3.4, 2.6) is one panel in a column of a paper.

        Raises:
            ConfigurationError: no panel has that name.
        """
        from xedge.results.figures import PANELS, figure

        return figure(self, panels or PANELS, size)

    def tables(self) -> dict[str, PaperTable]:
        """Return the tables for a paper by name, `summary`, `parts` and `differences`: CSV, DataFrame and LaTeX."""
        from xedge.results.tables import tables_of

        return tables_of(self)

    def save(self, path: str | Path, format: storage.Format | None = None) -> Path:  # noqa: A002
        """Write a folder with the rows, `conditions.json` and `verdict.json`, replacing a measurement there.

        The rows are `rows.parquet` where pyarrow is installed, else `rows.csv.gz`; `format` decides otherwise.
        The folder appears complete or not at all.

        Raises:
            MeasurementError: `path` is there and is no measurement.
            MissingExtraError: parquet was asked for without pyarrow.
        """
        verdict = {"verdict": self.verdict.word, "reasons": [str(reason) for reason in self.verdict.reasons]}
        return storage.write(Path(path), self.rows, self.conditions, verdict, format)

    @classmethod
    def load(cls, path: str | Path) -> Measurement:
        """Read the folder that `save` wrote; the rows come back with exactly the dtypes and values they had.

        Also the folder where an interrupted measurement kept the trials that had ended; a doubt says what is missing.

        Raises:
            MeasurementError: the folder is no measurement, or no trial had ended.
        """
        folder = Path(path)
        return cls(*(Unfinished.read(folder).result() if is_unfinished(folder) else storage.read(folder)))

    def merge(self, other: Measurement) -> Measurement:
        """Return one measurement of both, the replications of `other` numbered after those of this one.

        Raises:
            MeasurementError: they were not taken alike (versions, host, broker, time-out, scenario apart from
                seed and replications); the message names what differs.
        """
        known.check_alike(self.conditions, other.conditions)
        if self.rows.equals(other.rows):
            raise MeasurementError("both measurements have the same rows: merging would count every request twice")
        offset = int(self.rows["replication"].max()) + 1
        moved = other.rows.assign(replication=other.rows["replication"] + offset)
        replications = int(moved["replication"].max()) + 1
        conditions = known.merged(self.conditions, other.conditions, offset, replications)
        return Measurement(pd.concat([self.rows, moved], ignore_index=True), conditions)

    def answer(self, deadline_ms: float | None = None) -> Answer:
        """Return the answer: a sentence that names the placement to choose, and the three numbers it rests on.

        With a deadline, by default that of the scenario, a placement meets it if the interval of the share answered in
        time lies above 99 %, and misses it if that lies below. Without one the faster placement is named.

        Raises:
            ConfigurationError: `deadline_ms` is not above 0.
        """
        return Reading(self, deadline_ms).answer()

    def conclusion(self) -> str:
        """Return the answer, how fast and where the time goes, and the doubts, as one paragraph."""
        return showing.conclusion(self)

    __repr__, _repr_html_ = showing.as_text, showing.as_html

    def _of(self, placement: str) -> Evidence:
        if placement not in self.evidence:
            raise MeasurementError(f"no placement {placement!r} in this measurement: it has {', '.join(self.evidence)}")
        return self.evidence[placement]


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{value!r} is of type {type(value).__name__}")
