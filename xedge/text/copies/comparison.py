"""What came of copies against a shared service: a figure, a table, and the break-even in words."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple, get_args

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from xedge.reports import publish
from xedge.reports.study import Findings, Headline, Table
from xedge.results import canvas, comparison, words
from xedge.results import figures as plots
from xedge.results.measurement import Measurement
from xedge.results.verdict import Verdict, Word
from xedge.text.copies.arrangements import COPY, HTTP, MQTT

SHARED = (HTTP, MQTT)
LEVELS = (0.5, 0.99)
ROUNDING = 1e-9  # of a number; least squares gives parallel lines slopes that differ by about 1e-15


class Line(NamedTuple):
    """A straight line through memory over workers: `fixed_mb` + `each_mb` · workers, by least squares."""

    fixed_mb: float
    each_mb: float

    def at(self, workers: float) -> float:
        """Return the memory in MB."""
        return self.fixed_mb + self.each_mb * workers


@dataclass(frozen=True)
class CopyOrServe:
    """The measurements by number of workers, each with the three arrangements as placements, and their memory.

    `memory` has a row for each arrangement and number of workers: `workers_mb`, `service_mb`, `broker_mb`, `total_mb`
    and the `kind` of memory read.
    """

    measurements: dict[int, Measurement]
    memory: pd.DataFrame
    rate_hz: float

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of the measurements."""
        verdicts = [measurement.verdict for measurement in self.measurements.values()]
        return min(verdicts, key=lambda verdict: get_args(Word).index(verdict.word))

    def line(self, arrangement: str) -> Line:
        """Return the straight line through the memory of an arrangement; level where there is one point only."""
        own = self.memory[self.memory["arrangement"] == arrangement]
        if len(own) < 2:
            return Line(0.0, float(own["total_mb"].iloc[0] / own["workers"].iloc[0]))
        each, fixed = np.polyfit(own["workers"].to_numpy(float), own["total_mb"].to_numpy(float), 1)
        return Line(float(fixed), float(each))

    def break_even(self, shared: str) -> int | None:
        """Return from how many workers on the shared service takes less memory than copies; None if never.

        Slopes that differ by rounding only (1e-9 of the larger) are parallel, and a crossing within 1e-6 of a whole
        number of workers is at that number, where neither takes less.
        """
        copy, service = self.line(COPY), self.line(shared)
        saved_mb, extra_mb = copy.each_mb - service.each_mb, service.fixed_mb - copy.fixed_mb
        if saved_mb <= ROUNDING * max(abs(copy.each_mb), abs(service.each_mb)):
            return 1 if extra_mb < -ROUNDING * abs(copy.at(1)) else None
        return max(1, math.floor(round(extra_mb / saved_mb, 6)) + 1)

    def table(self) -> pd.DataFrame:
        """Return memory and latency, one row a number of workers and arrangement."""
        rows, memory_mb = [], self.memory.set_index(["arrangement", "workers"])["total_mb"]
        for workers, measurement in self.measurements.items():
            for name in measurement.placements:
                estimates = measurement.evidence[name].estimates
                stuck = name in measurement.verdict.saturated
                row = {"workers": workers, "arrangement": name, "memory, MB": round(memory_mb[name, workers], 1)}
                for p in LEVELS:
                    latency = "saturated" if stuck else words.milliseconds(estimates[p], None, "")
                    row[f"{words.level_name(p)}, ms"] = latency
                rows.append(row)
        return pd.DataFrame(rows).set_index(["workers", "arrangement"])

    def plot(self) -> canvas.ReportFigure:
        """Return the figure: memory over workers with the line through it, and the latency with the most workers."""
        most = max(self.measurements)
        with canvas.styled():
            report = canvas.ReportFigure(figsize=(9, 3.6))
            left, right = report.subplots(1, 2, width_ratios=(4, 5))
            ends = (0.8, int(self.memory["workers"].max()) + 0.2)
            for name in (COPY, *SHARED):
                own = self.memory[self.memory["arrangement"] == name]
                look = plots.look(self.measurements[most], name)
                left.plot(ends, [self.line(name).at(end) for end in ends], label=name, **look)
                left.plot(own["workers"], own["total_mb"], "o", markersize=4, color=look["color"])
            kind = "/".join(sorted(set(self.memory["kind"])))
            left.set(xlabel="workers", ylabel=f"memory ({kind}), MB", xlim=ends, ylim=(0, None))
            left.xaxis.set_major_locator(MaxNLocator(integer=True))
            plots.legend(left, columns=1)
            left.set_title("Memory of all processes together")
            plots.ecdf(right, self.measurements[most])
            right.set_title(f"Latency, {_workers(most)} at {self.rate_hz:g} texts/s each")
            report.alt = f"Memory over workers and latency of {COPY}, {HTTP} and {MQTT}. {self.conclusion()}"
        return report

    def conclusion(self) -> str:
        """Return in words from which number of workers on a service takes less memory, and what it costs in latency."""
        reasons = [
            f"{_workers(count)}, {reason}"
            for count, measurement in self.measurements.items()
            for reason in measurement.verdict.reasons
        ]
        texts = [] if self.verdict.valid else [f"{self.verdict.word}: {'; '.join(reasons)}."]
        texts += [f"{of[0].upper()}{of[1:]}: {self._memory_words(of)} {self._latency_words(of)}" for of in SHARED]
        doubts = self.doubts()
        return "\n\n".join([*texts, f"Doubts: {'; '.join(doubts)}." if doubts else "No check raised a doubt."])

    def doubts(self) -> list[str]:
        """Return the doubts about memory and about latency with the most workers, and how many more there are."""
        texts = []
        if set(self.memory["kind"]) != {"PSS"}:
            texts.append("memory is RSS, which counts shared pages in every process: sharing looks dearer than it is")
        most, measurement = max(self.measurements.items())
        texts += [str(doubt) for doubt in measurement.checks() if doubt not in measurement.verdict.reasons]
        fewer = sum(len(measurement.checks()) for count, measurement in self.measurements.items() if count != most)
        return texts + ([f"{fewer} more with fewer workers, in their tables"] if fewer else [])

    def findings(self) -> Findings:
        """Return what a page shows: how much later a shared service answers, and from when on it takes less memory."""
        most, measurement = max(self.measurements.items())
        later = {of: measurement.compare(COPY, of).differences.get(0.5, "saturated") for of in SHARED}
        files = {f"workers_{count}": measurement for count, measurement in self.measurements.items()}
        return replace(
            publish.findings(measurement),
            conclusion=self.conclusion(),
            verdict=self.verdict.word,
            headline=[Headline(f"{of}, median later by", later[of], "ms", _workers(most)) for of in SHARED]
            + [Headline(f"{of}, less memory from", self.break_even(of) or "never", "workers on") for of in SHARED],
            files={**files, "memory": Table(self.memory)},
        )

    def _memory_words(self, shared: str) -> str:
        copy, other, most = self.line(COPY), self.line(shared), int(self.memory["workers"].max())
        facts = (
            f"each further worker takes {other.each_mb:.0f} MB instead of {copy.each_mb:.0f} MB with its own copy, "
            f"and what the workers share takes {other.fixed_mb:.0f} MB."
        )
        number = self.break_even(shared)
        if number is None:
            return f"{facts} A copy each always takes less."
        if number > most:
            return f"{facts} By these lines it takes less memory from {_workers(number)} on; {most} were measured."
        saved = f"at {most}, {other.at(most):.0f} MB instead of {copy.at(most):.0f} MB"
        return f"{facts} It takes less memory from {_workers(number)} on ({saved})."

    def _latency_words(self, shared: str) -> str:
        most = max(self.measurements)
        compared = self.measurements[most].compare(COPY, shared)
        if compared.note:
            return compared.note
        kept = comparison.Comparison(COPY, shared, {p: compared.differences[p] for p in LEVELS})
        return f"With {_workers(most)}, {kept}"


def _workers(count: int) -> str:
    return f"{count} worker{'s' * (count != 1)}"
