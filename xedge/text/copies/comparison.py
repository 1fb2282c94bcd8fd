"""What came of copies against a shared service: a figure, a table, and the break-even in words."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from xedge.reports import publish
from xedge.reports.study import Findings, Headline, Table
from xedge.results import comparison, words
from xedge.results import figures as plots
from xedge.results.measurement import Measurement
from xedge.results.verdict import Verdict
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
        order = ("INVALID", "SATURATED", "VALID")
        return min(
            (measurement.verdict for measurement in self.measurements.values()),
            key=lambda verdict: order.index(verdict.word),
        )

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
        rows = []
        for workers, measurement in self.measurements.items():
            for name in measurement.placements:
                own = self.memory[(self.memory["arrangement"] == name) & (self.memory["workers"] == workers)].iloc[0]
                estimates = measurement.evidence[name].estimates
                stuck = name in measurement.verdict.saturated
                latency = {
                    f"{words.level_name(p)}, ms": "saturated" if stuck else words.milliseconds(estimates[p], None, "")
                    for p in LEVELS
                }
                rows.append(
                    {"workers": workers, "arrangement": name, "memory, MB": round(own["total_mb"], 1), **latency}
                )
        return pd.DataFrame(rows).set_index(["workers", "arrangement"])

    def plot(self) -> plots.ReportFigure:
        """Return the figure: memory over workers, and the latency with the most workers."""
        most = max(self.measurements)
        with plots.styled():
            report = plots.ReportFigure(figsize=(9, 3.6))
            left, right = report.subplots(1, 2, width_ratios=(4, 5))
            self.plot_memory(left)
            left.set_title("Memory of all processes together")
            plots.ecdf(right, self.measurements[most])
            right.set_title(f"Latency, {_workers(most)} at {self.rate_hz:g} texts/s each")
            report.alt = f"Memory over workers and latency of {COPY}, {HTTP} and {MQTT}. {self.conclusion()}"
        return report

    def plot_memory(self, ax: Axes) -> list[Artist]:
        """Draw total memory over workers, a point each number measured, and the line through them."""
        artists: list[Artist] = []
        most = int(self.memory["workers"].max())
        for name in (COPY, *SHARED):
            own = self.memory[self.memory["arrangement"] == name]
            look = plots.look(self.measurements[max(self.measurements)], name)
            ends = (0.8, most + 0.2)
            artists += ax.plot(ends, [self.line(name).at(end) for end in ends], label=name, **look)
            artists += ax.plot(
                own["workers"], own["total_mb"], marker="o", markersize=4, color=look["color"], linestyle="none"
            )
        kind = "/".join(sorted(set(self.memory["kind"])))
        ax.set(xlabel="workers", ylabel=f"memory ({kind}), MB", xlim=(0.8, most + 0.2), ylim=(0, None))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        plots.legend(ax, columns=1)
        return artists

    def conclusion(self) -> str:
        """Return in words from which number of workers on a service takes less memory, and what it costs in latency."""
        texts = [] if self.verdict.valid else [f"{self.verdict.word}: {'; '.join(self._reasons())}."]
        texts += ["\n\n".join(self._words(name) for name in SHARED)]
        doubts = self.doubts()
        texts.append(f"Doubts: {'; '.join(doubts)}." if doubts else "No check raised a doubt.")
        return "\n\n".join(texts)

    def doubts(self) -> list[str]:
        """Return the doubts about memory and about latency with the most workers, and how many more there are."""
        texts = []
        if set(self.memory["kind"]) != {"PSS"}:
            texts.append("memory is RSS, which counts shared pages in every process: sharing looks dearer than it is")
        most = max(self.measurements)
        measurement = self.measurements[most]
        texts += [str(doubt) for doubt in measurement.checks() if doubt not in measurement.verdict.reasons]
        fewer = sum(len(measurement.checks()) for count, measurement in self.measurements.items() if count != most)
        return texts + ([f"{fewer} more with fewer workers, in their tables"] if fewer else [])

    def findings(self) -> Findings:
        """Return what a page shows: how much later a shared service answers, and from when on it takes less memory."""
        largest = self.measurements[max(self.measurements)]
        files = {f"workers_{count}": measurement for count, measurement in self.measurements.items()}
        return replace(
            publish.findings(largest),
            conclusion=self.conclusion(),
            verdict=self.verdict.word,
            headline=[*map(self._later, SHARED), *map(self._less_memory, SHARED)],
            files={**files, "memory": Table(self.memory)},
        )

    def _later(self, shared: str) -> Headline:
        most = max(self.measurements)
        difference = self.measurements[most].compare(COPY, shared).differences.get(0.5, "saturated")
        return Headline(f"{shared}, median later by", difference, "ms", _workers(most))

    def _less_memory(self, shared: str) -> Headline:
        return Headline(f"{shared}, less memory from", self.break_even(shared) or "never", "workers on")

    def _reasons(self) -> list[str]:
        named = [
            (count, reason)
            for count, measurement in self.measurements.items()
            for reason in measurement.verdict.reasons
        ]
        return [f"{_workers(count)}, {reason}" for count, reason in named]

    def _words(self, shared: str) -> str:
        return f"{shared[:1].upper()}{shared[1:]}: {self._memory_words(shared)} {self._latency_words(shared)}"

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
