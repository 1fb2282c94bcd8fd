"""Figures of a load curve: latency and answers over the rate offered, with the deadline, the limits and the knees."""

import math
import textwrap
from typing import Any, Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from xedge.results.canvas import LOOKS, ReportFigure, styled
from xedge.results.figures import plain_number
from xedge.results.words import level_name, number
from xedge.studies.load.limits import STEADY, Limits

GREY = "#333333"
MARKS = {"saturated": "^", "undecided": "s", "invalid": "x"}  # of the rates without a latency
TOLD = {"saturated": "saturated: no steady latency", "undecided": "undecided: pace not shown", "invalid": "invalid"}

BOXED: dict[str, Any] = {
    "ha": "center",
    "va": "center",
    "zorder": 6,
    "bbox": {"facecolor": "white", "edgecolor": "#bbbbbb"},
}


def latency(ax: Axes, curve: Limits, placement: str, ylim: tuple[float, float]) -> list[Artist]:
    """Draw one placement: p50 solid, the deadline's level dashed, their intervals shaded, over the rate offered.

    Saturated rates are triangles at the upper edge, undecided ones open squares, invalid ones crosses: they have no
    latency. A panel in which nothing was decided says so, and why. The filled circle is the highest rate that met the
    deadline, with a line to the lowest that did not; the diamond is the knee.
    """
    colour = _colour(curve, placement)
    steady = [probe for probe in curve.latest(placement).values() if probe.outcome in STEADY]
    artists: list[Artist] = []
    for estimates, style in (([probe.p50 for probe in steady], "-"), ([probe.tail for probe in steady], "--")):
        known = [(p.offered_hz, e.value, e.low, e.high) for p, e in zip(steady, estimates, strict=True)]
        table = [[math.nan if x is None or math.isinf(x) else x for x in row] for row in known]  # NaN is not drawn
        rates, values, low, high = np.array(table, dtype=float).reshape(-1, 4).T
        artists += ax.plot(rates, values, color=colour, linestyle=style, marker="o", markersize=3)
        artists.append(ax.fill_between(rates, np.maximum(low, ylim[0]), high, color=colour, alpha=0.15, linewidth=0))
    artists += _without_latency(ax, curve, placement, ylim)
    artists.append(ax.axhline(curve.deadline_ms, color=GREY, linewidth=1, linestyle=":"))
    artists += _limit(ax, curve, placement)
    artists += _knee(ax, curve, placement)
    if reason := curve.undecided(placement):
        artists.append(ax.text(0.5, 0.5, _nothing_decided(reason), transform=ax.transAxes, **BOXED))
    ax.set(title=placement, ylim=ylim)
    return artists


def _without_latency(ax: Axes, curve: Limits, placement: str, ylim: tuple[float, float]) -> list[Artist]:
    """Mark the rates without a latency at the upper edge, a row a kind, the first of each with its word."""
    artists: list[Artist] = []
    for row, (outcome, marker) in enumerate(MARKS.items()):
        at = ylim[1] * (ylim[0] / ylim[1]) ** (0.05 + 0.075 * row)
        colour = GREY if outcome == "invalid" else _colour(curve, placement)
        rates = [probe.offered_hz for probe in curve.latest(placement).values() if probe.outcome == outcome]
        if rates:
            artists += ax.plot(
                rates,
                [at] * len(rates),
                color=colour,
                marker=marker,
                fillstyle=_fill(outcome),
                markersize=6,
                linestyle="none",
            )
            artists.append(
                ax.annotate(outcome, (rates[0], at), (-6, 0), textcoords="offset points", ha="right", va="center",
                            fontsize=8, color=GREY)
            )  # fmt: skip
    return artists


def throughput(ax: Axes, curve: Limits) -> list[Artist]:
    """Draw the rate answered over the rate offered; the dotted line is all of it. Marks are those of the panels."""
    artists: list[Artist] = []
    every = [probe.offered_hz for probe in curve.probes]
    ends = [min(every), max(every)]
    artists += ax.plot(ends, ends, color=GREY, linewidth=1, linestyle=":", label="all answered as they come")
    for place, placement in enumerate(curve.placements):
        probes = [probe for probe in curve.latest(placement).values() if probe.outcome != "invalid"]
        look = LOOKS[place % len(LOOKS)]
        offered, answered = np.array([(probe.offered_hz, probe.answered_hz) for probe in probes]).reshape(-1, 2).T
        artists += ax.plot(offered, answered, label=placement, **look)
        for outcome in sorted({probe.outcome for probe in probes}):
            some = np.array([probe.outcome == outcome for probe in probes])
            marker, size = MARKS.get(outcome, "o"), 6 if outcome in MARKS else 4
            marks: dict[str, Any] = {"marker": marker, "markersize": size, "linestyle": "none", "color": look["color"]}
            artists += ax.plot(offered[some], answered[some], fillstyle=_fill(outcome), **marks)
    _log(ax.xaxis)
    _log(ax.yaxis)
    ax.set(xlabel="offered, requests/s", ylabel="answered, requests/s", title="Answered")
    ax.legend(loc="upper left", fontsize=8)
    if all(probe.outcome == "invalid" for probe in curve.probes):
        artists.append(ax.text(0.5, 0.4, "every rate was INVALID", transform=ax.transAxes, **BOXED))
    return artists


def figure(curve: Limits) -> ReportFigure:
    """Return a panel a placement with its latencies, all on the same axes, and one with the rates answered."""
    columns = min(2, len(curve.placements))
    rows = math.ceil(len(curve.placements) / columns)
    with styled():
        canvas = ReportFigure(figsize=(9, 2.9 * rows + 3.3))
        cells: list[Any] = [[f"{row * columns + column}" for column in range(columns)] for row in range(rows)]
        axes = canvas.subplot_mosaic(
            [*cells, ["key"] * columns, ["answered"] * columns], height_ratios=[2.9] * rows + [0.35, 2.9],
            empty_sentinel=".",
        )  # fmt: skip
        ylim, rates = _range(curve), [probe.offered_hz for probe in curve.probes]
        for place in range(rows * columns):
            if place >= len(curve.placements):
                axes[f"{place}"].axis("off")
                continue
            latency(ax := axes[f"{place}"], curve, curve.placements[place], ylim)
            ax.set(xlim=(min(rates) / 1.5, max(rates) * 1.1))
            _log(ax.xaxis)
            _log(ax.yaxis)
            ax.set_ylabel("latency, ms" if place % columns == 0 else "")
            ax.set_xlabel("offered, requests/s" if place >= len(curve.placements) - columns else "")
        axes["key"].axis("off")
        axes["key"].legend(handles=_key(curve), loc="center", ncols=4, handlelength=2.2, columnspacing=1.5)
        throughput(axes["answered"], curve)
        axes["answered"].set_xlim(axes["0"].get_xlim())
    return canvas


def _nothing_decided(reason: str) -> str:
    return "\n".join(["nothing decided", *textwrap.wrap(reason, 48, max_lines=4, placeholder=" …")])


def _fill(outcome: str) -> Literal["none", "full"]:
    return "none" if outcome == "undecided" else "full"


def _colour(curve: Limits, placement: str) -> str:
    return str(LOOKS[curve.placements.index(placement) % len(LOOKS)]["color"])


def _limit(ax: Axes, curve: Limits, placement: str) -> list[Artist]:
    limit = curve.limit(placement)
    if limit.met_hz is None:
        return []
    artists: list[Artist] = []
    if limit.failed_hz is not None:
        ends = [limit.met_hz, limit.failed_hz]
        artists += ax.plot(ends, [curve.deadline_ms] * 2, color=GREY, linewidth=2.5, solid_capstyle="butt")
    text: dict[str, Any] = {"textcoords": "offset points", "ha": "right", "fontsize": 9, "fontweight": "bold"}
    at = (limit.met_hz, curve.deadline_ms)
    artists.append(ax.annotate(f"{number(limit.met_hz)}/s", at, (-7, 4), color=GREY, **text))
    artists += ax.plot(*at, marker="o", markersize=7, color=GREY, linestyle="none", zorder=5)
    return artists


def _knee(ax: Axes, curve: Limits, placement: str) -> list[Artist]:
    knee = curve.knee(placement)
    if knee is None or (value := curve.latest(placement)[knee.rate_hz].p50.value) is None:
        return []
    white: dict[str, Any] = {"markerfacecolor": "white", "markeredgecolor": GREY, "linestyle": "none", "zorder": 5}
    return [*ax.plot([knee.rate_hz], [value], marker="D", markersize=7, **white)]


def _range(curve: Limits) -> tuple[float, float]:
    """All steady latencies and the deadline, with room above for what is saturated."""
    steady = [probe for probe in curve.probes if probe.outcome in STEADY]
    values = [each.value or 0.0 for probe in steady for each in (probe.p50, probe.tail)]
    known = [curve.deadline_ms, *(value for value in values if 0 < value < math.inf)]
    low, high = min(known) / 1.4, max(known) * 1.4
    return low, high * (high / low) ** 0.28


def _log(axis: Any) -> None:
    """Make an axis logarithmic, its ticks plain numbers."""
    limits = axis.get_view_interval()
    axis._set_axes_scale("log")
    axis.axes.set(**{f"{axis.axis_name}lim": limits} if limits[0] > 0 else {})
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(plain_number))
    axis.set_minor_formatter(NullFormatter())


def _key(curve: Limits) -> list[Line2D]:
    line: dict[str, Any] = {"color": "#777777"}
    there = {probe.outcome for name in curve.placements for probe in curve.latest(name).values()}
    return [
        Line2D([], [], **line, label="p50, 95 % interval"),
        Line2D([], [], **line, linestyle="--", label=level_name(curve.p)),
        Line2D([], [], color=GREY, linestyle=":", linewidth=1, label=f"deadline, {curve.deadline_ms:g} ms"),
        Line2D([], [], color=GREY, marker="o", markersize=7, linestyle="none", label="highest rate that meets it"),
        Line2D([], [], color=GREY, linewidth=2.5, label="up to the next, which does not"),
        Line2D([], [], color=GREY, marker="D", markersize=7, markerfacecolor="white", linestyle="none", label="knee"),
        *(
            Line2D(
                [],
                [],
                **line,
                marker=marker,
                fillstyle=_fill(outcome),
                markersize=6,
                linestyle="none",
                label=TOLD[outcome],
            )
            for outcome, marker in MARKS.items()
            if outcome in there
        ),
    ]
