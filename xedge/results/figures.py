"""Figures of a measurement: functions take an axis and return artists; the numbers come from `statistics`."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib import style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from xedge.results import statistics, words
from xedge.results.rows import PARTS, latency_ms
from xedge.results.statistics import FloatArray

if TYPE_CHECKING:
    from xedge.results.measurement import Measurement

STYLE = Path(__file__).with_name("xedge.mplstyle")
MANY_MARKS = 500  # above, marks become one image: as SVG each takes 150 bytes
WARM_UP = "#bbbbbb"
POINTS = 200  # of a curve
Curve = tuple[FloatArray, FloatArray]
PART_COLOURS = dict(
    zip(PARTS, ("#717581", "#c3c6cc", "#92dadd", "#ffa90e", "#a96b59", "#4fa3ad", "#e2e4e7"), strict=True)
)
LOOKS: list[dict[str, Any]] = list(mpl.rc_params_from_file(STYLE, use_default_template=False)["axes.prop_cycle"])


def styled() -> AbstractContextManager[None]:
    """Apply xedge's style inside the block only; nothing global changes."""
    return style.context(STYLE)


def look(measurement: Measurement, placement: str) -> dict[str, Any]:
    """Return the colour and line style of a placement, as `plot` takes them."""
    return LOOKS[measurement.placements.index(placement) % len(LOOKS)]


def plain_number(value: float, _: Any = None) -> str:
    """Return a tick's number without an exponent: "1 000", "0.25"."""
    return words.count(round(value)) if value >= 1 else f"{value:.6f}".rstrip("0").rstrip(".")


def log_ms(axis: Any, values: FloatArray) -> None:
    """Make a latency axis logarithmic, over the values with a margin, its ticks plain numbers (1, 10, 100)."""
    finite = values[np.isfinite(values) & (values > 0)]
    axis._set_axes_scale("log")
    low, high = (finite.min() / 1.25, finite.max() * 1.25) if finite.size else (0.1, 1000.0)
    axis.axes.set(**{f"{axis.axis_name}lim": (low, high)})
    axis.set_major_locator(LogLocator(subs=(1.0,) if high / low > 50 else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(plain_number))
    axis.set_minor_formatter(NullFormatter())


def _curve(ax: Axes, measurement: Measurement, placement: str, curve: Curve, band: Curve) -> list[Artist]:
    """Draw `curve`, and shade between the fastest and the slowest replication at the levels and heights of `band`.

    Steps where every value is a point of the curve, else straight lines between the points chosen.
    """
    (levels, heights), own = band, look(measurement, placement)
    drawstyle = "steps-post" if curve[0].size < POINTS / 2 else "default"
    artists: list[Artist] = [*ax.plot(*curve, drawstyle=drawstyle, label=placement, **own)]
    sections = [section for section in measurement.latencies_ms(placement) if section.size]
    if len(sections) > 1 and levels.size:
        curves = np.array([[statistics.quantile(section, p) for p in levels] for section in sections])
        known = np.isfinite(curves).all(axis=0)
        low, high = curves.min(axis=0)[known], curves.max(axis=0)[known]
        artists.append(ax.fill_betweenx(heights[known], low, high, color=own["color"], alpha=0.25, linewidth=0))
    return artists


def legend(ax: Axes, columns: int = 3) -> None:
    """Put the legend into a band above the data, for which the vertical axis is made longer."""
    entries = len(ax.get_legend_handles_labels()[1])
    band = 0.03 + 0.09 * math.ceil(entries / columns)
    low, high = ax.get_ylim()
    ax.set_ylim(low, high * (high / low) ** band if ax.get_yscale() == "log" else high + band * (high - low))
    ax.legend(loc="upper center", ncols=min(columns, entries), columnspacing=1.2, handletextpad=0.5, borderaxespad=0)


def ecdf(ax: Axes, measurement: Measurement) -> list[Artist]:
    """Draw the share of requests answered within x ms, a line a placement, shaded from replication to replication.

    A line that ends below 1 has requests that timed out or were lost.
    """
    artists: list[Artist] = []
    pooled = {name: np.concatenate(measurement.latencies_ms(name)) for name in measurement.placements}
    levels = np.linspace(0.005, 0.995, 100)
    for name, values in pooled.items():
        artists += _curve(ax, measurement, name, statistics.ecdf(values, POINTS), (levels, levels))
    log_ms(ax.xaxis, np.concatenate(list(pooled.values())))
    ax.set(xlabel="latency from the due time, ms", ylabel="share answered within", ylim=(0, 1.02))
    ax.set_yticks(np.linspace(0, 1, 6))
    ax.yaxis.set_major_formatter(FuncFormatter(_share))
    legend(ax)
    return artists


def tail(ax: Axes, measurement: Measurement) -> list[Artist]:
    """Draw the share of requests slower than x ms, both axes logarithmic, as far as 10 requests reach.

    Shaded from replication to replication, as far as each of them has a request beyond.
    """
    artists: list[Artist] = []
    drawn, floor = [np.empty(0)], 1.0
    for name in measurement.placements:
        sections = measurement.latencies_ms(name)
        x, share = statistics.survival(np.concatenate(sections), POINTS)
        least = max(share.min(initial=1.0), 1 / max(min(map(len, sections)), 2))
        heights = np.geomspace(least, 0.995, 100 if share.size else 0)
        artists += _curve(ax, measurement, name, (x, share), (1 - heights, heights))
        if share.size:
            drawn, floor = [*drawn, x], min(floor, *share)
            artists += ax.plot(x[-1:], share[-1:], marker="o", markersize=3.5, color=look(measurement, name)["color"])
    log_ms(ax.xaxis, np.concatenate(drawn))
    ax.set(xlabel="latency from the due time, ms", ylabel="share slower than", yscale="log")
    decades = max(1, math.ceil(-math.log10(floor)))
    ax.set_ylim(10.0**-decades, 1.2)
    ax.set_yticks([10.0**-k for k in range(decades + 1)])
    ax.yaxis.set_major_formatter(FuncFormatter(_share))
    ax.yaxis.set_minor_locator(NullLocator())
    legend(ax)
    return artists


def _share(value: float, _: Any = None) -> str:
    return f"{100 * value:.6f}".rstrip("0").rstrip(".") + " %"


def breakdown(ax: Axes, measurement: Measurement) -> list[Artist]:
    """Draw a bar a placement: what share of its mean latency each part took; the mean stands beside its name.

    Means, because they add up and medians do not; shares, because 1 ms beside 100 ms would be a line.
    """
    artists: list[Artist] = []
    names = measurement.placements
    means = measurement.breakdown().pivot(index="placement", columns="part", values="mean_ms").reindex(names)
    left = np.zeros(len(names))
    for part in PARTS:
        share = (means[part] / means["latency"]).fillna(0).to_numpy(dtype=float)
        if share.max() < 0.005:
            continue
        bars = ax.barh(range(len(names)), share, left=left, height=0.55, color=PART_COLOURS[part], label=part)
        texts = [words.percent(value) if value >= 0.08 else "" for value in share]
        colour = "white" if part in ("inference", "lateness") else "#111111"
        ax.bar_label(bars, texts, label_type="center", fontsize=8, color=colour)
        artists += list(bars)
        left += share
    known = [f"mean {ms:.{words.decimals(ms, None)}f} ms" if ms > 0 else "none answered" for ms in means["latency"]]
    ax.set_yticks(range(len(names)), [f"{name}\n{mean}" for name, mean in zip(names, known, strict=True)])
    ax.set(xlim=(0, 1), ylim=(len(names) - 0.4, -1.1), xlabel="share of the mean latency")
    ax.xaxis.set_major_formatter(FuncFormatter(_share))
    ax.grid(visible=False, axis="y")
    ax.legend(loc="upper center", ncols=3, columnspacing=1, handlelength=1, handletextpad=0.4, borderaxespad=0)
    return artists


def over_time(ax: Axes, measurement: Measurement) -> list[Artist]:
    """Draw every latency against its due time, replications on top of each other, the warm-up too, in grey.

    Above `MANY_MARKS` marks they become one image inside the figure, so that it stays small.
    """
    rows = measurement.rows
    due, latency = rows["due_ns"].to_numpy(dtype=float) / 1e9, latency_ms(rows)
    placement, warm_up = rows["placement"].to_numpy(dtype=object), rows["warm_up"].to_numpy()
    log_ms(ax.yaxis, latency)
    unanswered, lane = np.isinf(latency), math.nan
    if unanswered.any():  # in a lane above the data
        low, high = ax.get_ylim()
        ax.set_ylim(low, high * (high / low) ** 0.1)
        lane = high * (high / low) ** 0.04
    many = len(rows) > MANY_MARKS
    looks: dict[str, Any] = {"linestyle": "none", "markeredgewidth": 0, "rasterized": many}
    looks |= {"marker": "," if many else "o", "markersize": 2.5}  # pixels pack tightly
    artists: list[Artist] = []
    artists += ax.plot(due[warm_up], latency[warm_up], color=WARM_UP, **looks)
    for name in measurement.placements:
        own, colour = (placement == name) & ~warm_up, look(measurement, name)["color"]
        artists += ax.plot(due[own], latency[own], color=colour, alpha=0.8, **looks)
        failed = due[own & unanswered]
        if failed.size:
            marks = {**looks, "marker": "|", "markersize": 6, "markeredgewidth": 0.8}
            artists += ax.plot(failed, np.full(failed.size, lane), color=colour, **marks)
    entries = [(look(measurement, name)["color"], "o", name) for name in measurement.placements]
    entries += [(WARM_UP, "o", "warm-up")] * bool(warm_up.any())
    entries += [("#555555", "|", "no answer in time")] * bool(unanswered.any())
    for colour, marker, label in entries:  # marks that can be seen, for the legend alone
        ax.plot([], [], color=colour, marker=marker, linestyle="none", markersize=4, markeredgewidth=1, label=label)
    legend(ax)
    ax.set(xlabel="due, s after the start of the trial", ylabel="latency, ms", xlim=(0, max(due.max(), 1e-3)))
    return artists


Draw = Callable[[Axes, "Measurement"], list[Artist]]
PANELS: dict[Draw, str] = {
    ecdf: "Latency distribution",
    tail: "The tail: how many are slower",
    breakdown: "Where the time goes",
    over_time: "Over time",
}


class ReportFigure(Figure):
    """A figure that shows itself in a notebook as one small SVG with an alternative text, the same every time."""

    alt: str = ""

    def svg(self) -> str:
        """Return the figure as SVG: text as text, no date, identifiers that depend on the content only."""
        buffer = io.StringIO()
        with styled():
            metadata = {"Date": None, "Creator": None, "Title": self.alt}
            self.savefig(buffer, format="svg", dpi=72, metadata=metadata)
        return buffer.getvalue()

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
        return {"image/svg+xml": self.svg(), "text/plain": self.alt}, {"image/svg+xml": {"alt": self.alt}}


def figure(measurement: Measurement, panels: Mapping[Draw, str] = PANELS) -> ReportFigure:
    """Return the report's figure: `panels` with their titles, two beside each other; the verdict below unless VALID."""
    columns = min(2, len(panels))
    lines = math.ceil(len(panels) / columns)
    with styled():
        report = ReportFigure(figsize=(4.5 * columns, 3.3 * lines))
        axes = report.subplots(lines, columns, squeeze=False).flat
        for ax, (draw, title) in zip(axes, panels.items(), strict=False):
            draw(ax, measurement)
            ax.set_title(title)
        for ax in list(axes)[len(panels) :]:
            ax.set_axis_off()
        about = f"Latency of {', '.join(measurement.placements)}. {measurement.verdict.word}."
        report.alt = f"{about} {measurement.conclusion()}"
        if not measurement.verdict.valid:
            text = textwrap.fill(textwrap.shorten(str(measurement.verdict), 420, placeholder=" …"), 150)
            report.supxlabel(text, fontsize=8, color="#b42318", ha="left", x=0.01)
    return report
