"""What came of watching services for long: how much each grew, whether its latency drifted, in words and a figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator
from scipy.stats import theilslopes

from xedge.reports.study import Findings, Headline, Table
from xedge.results import canvas
from xedge.results import figures as plots
from xedge.results.words import number, percent

MEMORY_MB = 20.0  # more growth than this is a leak
DRIFT_SHARE = 0.1  # of the median latency; what is less is of no consequence, however sure
BUSY_LOAD = 1.0  # of others, on average over the minute before
WARM_UP = 0.2  # of the samples: what a service still takes then is not growth


@dataclass(frozen=True)
class Changed:
    """What changed from the first tenth after the warm-up to the last tenth of the samples: their medians.

    `drift_ms` is by how much the p50 rose over all samples but the warm-up, with its 95 % interval (Theil and Sen).
    """

    memory_mb: tuple[float, float]
    descriptors: tuple[float, float]
    threads: tuple[float, float]
    p50_ms: float
    drift_ms: tuple[float, float, float]
    missing: int
    requests: int

    @property
    def growth_mb(self) -> float:
        """By how much the memory grew."""
        return self.memory_mb[1] - self.memory_mb[0]

    @property
    def held_more(self) -> float:
        """By how many the descriptors and threads grew."""
        return sum(after - before for before, after in (self.descriptors, self.threads))

    @property
    def problems(self) -> list[str]:
        """What is not as it should be after hours, in words; empty if nothing is."""
        texts = []
        if self.growth_mb > MEMORY_MB:
            texts.append(f"memory grew by {self.growth_mb:.1f} MB")
        for what, (before, after) in {"descriptors": self.descriptors, "threads": self.threads}.items():
            if after > before:
                texts.append(f"{what} grew from {before:.0f} to {after:.0f}")
        if self.missing:
            texts.append(f"{self.missing} of {self.requests} requests have no result")
        value, low, _ = self.drift_ms
        if low > 0 and value > DRIFT_SHARE * self.p50_ms:
            texts.append(f"the median latency rose by {number(value)} ms")
        return texts


@dataclass(frozen=True)
class Soak:
    """The samples, a row each in the order they were taken, the ceilings in requests/s, and the share that was asked.

    Columns: `service`, `at_s` since it is watched, `requests` and `answered` since the sample before, their `p50_ms`
    and `p99_ms`, and what its processes hold: `rss_mb`, `descriptors`, `threads`.
    """

    samples: pd.DataFrame
    ceilings_hz: Mapping[str, float]
    share: float
    conditions: Mapping[str, Any]

    @property
    def services(self) -> list[str]:
        """The services in the order they were watched."""
        return list(self.ceilings_hz)

    def changed(self, service: str) -> Changed:
        """Return what changed of a service."""
        own = self.samples[self.samples["service"] == service]
        rest = own.iloc[max(1, round(WARM_UP * len(own))) :]
        tenth = max(1, len(own) // 10)
        early, late = rest.iloc[:tenth], rest.iloc[-tenth:]
        rss, descriptors, threads = (
            (float(early[name].median()), float(late[name].median())) for name in ("rss_mb", "descriptors", "threads")
        )
        slope, _, low, high = theilslopes(rest["p50_ms"], rest["at_s"])
        lasted_s = float(rest["at_s"].iloc[-1] - rest["at_s"].iloc[0])
        requests = int(own["requests"].sum())
        drift = float(slope * lasted_s), float(low * lasted_s), float(high * lasted_s)
        missing = requests - int(own["answered"].sum())
        return Changed(rss, descriptors, threads, float(rest["p50_ms"].median()), drift, missing, requests)

    def table(self) -> pd.DataFrame:
        """Return a row a service: what was asked, what it held early and late, and its median with the drift."""
        rows = {}
        for name in self.services:
            changed = self.changed(name)
            rows[name] = {
                "requests/s": round(self.share * self.ceilings_hz[name]),
                "requests": changed.requests,
                "no result": changed.missing,
                "memory, MB": "{:.1f} → {:.1f}".format(*changed.memory_mb),
                "descriptors": "{:.0f} → {:.0f}".format(*changed.descriptors),
                "threads": "{:.0f} → {:.0f}".format(*changed.threads),
                "p50 (drift), ms": f"{number(changed.p50_ms)} ({changed.drift_ms[0]:+.2g})",
            }
        return pd.DataFrame.from_dict(rows, orient="index")

    def conclusion(self) -> str:
        """Return whether every service stayed as it was, and a sentence for each."""
        problems = {name: found for name in self.services if (found := self.changed(name).problems)}
        first = "Every service stayed as it was." if not problems else f"Not as before: {', '.join(problems)}."
        sentences = [first, *(self._sentence(name) for name in self.services)]
        if (load := self.conditions.get("load_average_before") or 0.0) > BUSY_LOAD:
            sentences.append(
                f"Doubt: the machine had other work before (load average {load:.1f}), which moves latencies: close "
                "other programs and repeat it."
            )
        return "\n\n".join(sentences)

    def _sentence(self, name: str) -> str:
        changed = self.changed(name)
        minutes = float(self.samples.loc[self.samples["service"] == name, "at_s"].iloc[-1]) / 60
        rate_hz = self.share * self.ceilings_hz[name]
        asked = f"{rate_hz:.0f} requests/s, {percent(self.share)} of its ceiling, for {minutes:.1f} min"
        if found := changed.problems:
            return f"{name}, {asked}: {'; '.join(found)}."
        return (
            f"{name}, {asked}: all {changed.requests} requests have a result; memory {changed.growth_mb:+.1f} MB, "
            f"descriptors and threads {changed.held_more:+.0f}, median latency {number(changed.p50_ms)} ms "
            f"({changed.drift_ms[0]:+.3f} ms)."
        )

    def plot(self) -> canvas.ReportFigure:
        """Return the figure: growth of the memory, latency, descriptors and threads over time."""
        with canvas.styled():
            report = canvas.ReportFigure(figsize=(9, 6.2))
            (memory, held), (median, tail) = report.subplots(2, 2)
            for name, look in zip(self.services, canvas.LOOKS, strict=False):
                own = self.samples[self.samples["service"] == name]
                minutes = own["at_s"] / 60
                memory.plot(minutes, own["rss_mb"] - own["rss_mb"].iloc[0], label=name, **look)
                held.plot(minutes, own["descriptors"] + own["threads"], label=name, **look)
                median.plot(minutes, own["p50_ms"], label=name, **look)
                tail.plot(minutes, own["p99_ms"], label=name, **look)
            memory.set(title="Memory (RSS) since the first sample", ylabel="growth, MB")
            held.set(title="Descriptors and threads", ylabel="how many", ylim=(0, None))
            held.yaxis.set_major_locator(MaxNLocator(integer=True))
            for ax, column, title in ((median, "p50_ms", "Median latency"), (tail, "p99_ms", "p99 latency")):
                plots.log_ms(ax.yaxis, self.samples[column].to_numpy(np.float64))
                ax.set(title=title, ylabel="ms")
            for ax in (memory, held, median, tail):
                ax.set(xlabel="since it is watched, min", xlim=(0, None))
                plots.legend(ax, columns=4)
            report.alt = f"Memory, descriptors, threads and latency over time. {self.conclusion()}"
        return report

    def findings(self) -> Findings:
        """Return what a page shows: the largest growth of each kind, and of which service."""
        changed = {name: self.changed(name) for name in self.services}
        growth = {name: one.growth_mb for name, one in changed.items()}
        more = {name: one.held_more for name, one in changed.items()}
        drift = {name: 100 * one.drift_ms[0] / one.p50_ms for name, one in changed.items()}
        missing = {name: one.missing for name, one in changed.items()}
        columns: dict[str, Mapping[str, float]] = {
            "memory_growth_mb": growth,
            "held_more": more,
            "p50_drift_percent": drift,
            "without_result": missing,
        }
        estimates = {name: {column: values[name] for column, values in columns.items()} for name in self.services}
        most = {column: max(values.values()) for column, values in columns.items()}
        labels = ("memory grew by at most", "descriptors and threads by", "median latency rose by", "without a result")
        units = ("MB", "", "%", f"of {sum(one.requests for one in changed.values())} requests")
        headline = [
            Headline(
                label, round(most[column], 1), unit, max(values, key=values.__getitem__) if most[column] > 0 else ""
            )
            for label, unit, (column, values) in zip(labels, units, columns.items(), strict=True)
        ]
        if not any(one.drift_ms[1] > 0 for one in changed.values()):  # every interval begins at or below 0
            headline[2] = Headline(labels[2], "not shown")
        return Findings(
            self.conclusion(),
            headline=headline,
            estimates={**estimates, "all": most},
            conditions=self.conditions,
            files={"samples": Table(self.samples)},
        )
