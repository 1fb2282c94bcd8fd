"""What faults cost each placement: how many requests were answered all the same, and how soon all was as before."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from xedge.core.tables import html_table
from xedge.reports.publish import findings
from xedge.reports.study import Findings, Headline, Table
from xedge.results import words
from xedge.results.answer import percent
from xedge.results.measurement import Measurement
from xedge.results.statistics import Estimate
from xedge.results.tables import PaperTable
from xedge.scenario.faults import FAULTS, Fault, FaultKind
from xedge.studies.points import with_interval

NEVER = "not within the trial"


def in_turn(
    kinds: Iterable[FaultKind], fault_s: float, calm_s: float, only: Mapping[str, str] | None = None
) -> tuple[list[Fault], float]:
    """Return faults one after the other, and how long a trial with them lasts.

    Each lasts `fault_s`, after `calm_s` without one, which come after the last one too. `only` says of a kind to which
    placement alone it happens.

    >>> faults, duration_s = in_turn(["stall", "link_down"], fault_s=1, calm_s=2, only={"link_down": "cloud"})
    >>> [str(fault) for fault in faults], duration_s
    (['stall at 2 s', 'link_down at 5 s (cloud)'], 8)
    """
    chosen, alone = list(kinds), only or {}
    period_s = fault_s + calm_s
    faults = [
        Fault(at_s=calm_s + place * period_s, kind=kind, duration_s=fault_s, placement=alone.get(kind))
        for place, kind in enumerate(chosen)
    ]
    return faults, calm_s + len(chosen) * period_s


@dataclass(frozen=True)
class Resilience:
    """A measurement of a scenario with faults, read for what they cost; an answer after `deadline_ms` is of no use."""

    measurement: Measurement
    deadline_ms: float

    @property
    def kinds(self) -> list[str]:
        """The kinds of faults that happened, in the order of the trial."""
        events = self.measurement.faults()
        return list(dict.fromkeys(events[events["asked"]].sort_values("at_s")["fault"]))

    def available(self, placement: str) -> Estimate:
        """Return the share of requests answered within the deadline, in percent, faults included."""
        return percent(self.measurement.availability(placement, self.deadline_ms))

    def table(self) -> pd.DataFrame:
        """Return one row a placement and fault: how long it lasted, the recovery, and what it cost a trial.

        Of all faults of a kind in all replications the mean; a recovery only where all trials saw it.
        """
        lines = []
        for (placement, kind), alike in self._events().groupby(["placement", "fault"], sort=False):
            seen = int(alike["recovery_s"].map(math.isfinite).sum())
            recovery = self.measurement.recovery(placement, kind)
            if recovery.value is not None and math.isinf(recovery.value):
                recovery = replace(recovery, value=math.nan)
            line: dict[str, Any] = {"placement": placement, "fault": FAULTS[kind]}
            line["lasted_s"] = float((alike["end_s"] - alike["begin_s"]).mean())
            line |= {name: math.nan if x is None else x for name, x in with_interval("recovery_s", recovery).items()}
            line |= {"recovered": f"{seen} of {len(alike)}", "requests met": float(alike["requests"].mean())}
            lines.append(line | {"of these failed": float(alike["failed"].mean())})
        return pd.DataFrame(lines)

    def shares(self) -> pd.DataFrame:
        """Return one row a placement: the share of requests answered, and answered within the deadline, in percent."""
        lines = []
        for name in self.measurement.placements:
            answered = with_interval("answered_percent", percent(self.measurement.availability(name)))
            in_time = with_interval("in_time_percent", self.available(name))
            lines.append({"placement": name, **answered, **in_time})
        return pd.DataFrame(lines).astype({"placement": str}).fillna(math.nan)

    def _repr_html_(self) -> str:
        note = (
            f"In time: within {self.deadline_ms:g} ms. In brackets: the 95 % interval over replications (Student t). "
            "Recovery: from the end of the fault until answers come as fast as before it."
        )
        texts = [PaperTable(table).texts() for table in (self.shares(), self.table())]
        tables = "".join(html_table(list(text), text.itertuples(index=False)) for text in texts)
        return f"{tables}<p><small>{note}</small></p>"

    def conclusion(self) -> str:
        """Return in words how many requests each placement answered in time, how soon it recovered, and the verdict."""
        verdict = self.measurement.verdict
        sentences = [] if verdict.valid else [f"{verdict}."]
        shares = {name: self.available(name) for name in self.measurement.placements}
        each = ", ".join(f"{name} {words.percentage(share)}" for name, share in shares.items())
        sentences.append(
            f"Answered within {self.deadline_ms:g} ms with these faults: {each} of all requests; {self._best()}."
        )
        for kind in self.kinds:
            said = ", ".join(f"{name} {self.recovery_text(name, kind)}" for name in self._hit(kind))
            sentences.append(
                f"After \u201c{FAULTS[kind]}\u201d answers were as fast as before: {said}{self._spared(kind)}."
            )
        return "\n\n".join(sentences)

    def findings(self) -> Findings:
        """Return what a page shows: availability and recovery of each placement."""
        names = self.measurement.placements
        headline = [
            Headline(f"{name}, answered within {self.deadline_ms:g} ms", self.available(name), "%") for name in names
        ]
        estimates: dict[str, dict[str, Any]] = {}
        for name in names:
            share = self.available(name)
            ends = {"value": share.value, "low": share.low, "high": share.high}
            estimates[name] = {"in_time_percent": ends | {"text": words.percentage(share).removesuffix(" %")}}
        for kind in self.kinds:
            for name in self._hit(kind):
                time = self.measurement.recovery(name, kind)
                finite = time.value is not None and math.isfinite(time.value)
                label = f"{name}, recovered from \u201c{FAULTS[kind]}\u201d in"
                headline.append(
                    Headline(
                        label, time if finite else self.recovery_text(name, kind), "s", minor=kind != self.kinds[0]
                    )
                )
                estimates[name][f"{kind}_recovery_s"] = (
                    time if finite else {"value": None, "text": self.recovery_text(name, kind)}
                )
        files = {"measurement": self.measurement, "faults": Table(self.measurement.faults())}
        shown = replace(findings(self.measurement), conclusion=self.conclusion(), answer="", headline=headline)
        return replace(shown, estimates=estimates, files=files)

    def recovery_text(self, placement: str, kind: str) -> str:
        """Return "after 0.4 (0.3–0.5) s", "at once", or that not every trial saw it, or none."""
        time, events = self.measurement.recovery(placement, kind), self._events()
        if time.value is None:
            return "not known"
        if math.isinf(time.value):
            own = events[(events["placement"] == placement) & (events["fault"] == kind)]["recovery_s"]
            seen = int(own.map(math.isfinite).sum())
            return f"within the trial in {seen} of {len(own)} cases only" if seen else NEVER
        return f"after {words.milliseconds(time, None, ' s')}" if time.value else "at once"

    def _events(self) -> pd.DataFrame:
        events = self.measurement.faults()
        return events[events["asked"]]

    def _hit(self, kind: str) -> list[str]:
        events = self._events()
        return list(dict.fromkeys(events[events["fault"] == kind]["placement"]))

    def _spared(self, kind: str) -> str:
        spared = [name for name in self.measurement.placements if name not in self._hit(kind)]
        return f"; {' and '.join(spared)} did not meet it" if spared else ""

    def _best(self) -> str:
        shares = sorted(
            ((self.available(name), name) for name in self.measurement.placements), key=lambda of: -(of[0].value or 0)
        )
        (most, best), *others = shares
        if not others:
            return "there is nothing to compare it with"
        if most.low is None or any(share.high is None for share, _ in others):
            return "without intervals no difference is shown"
        behind = [name for share, name in others if (share.high or 0.0) < most.low]
        return f"{best} answered more than {' and '.join(behind)}" if behind else "the difference is within the noise"
