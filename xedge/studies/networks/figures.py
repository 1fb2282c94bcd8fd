"""Figures about networks: what was asked of links, what they did, and the latency behind each."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from xedge.results import figures as plots
from xedge.results.canvas import LOOKS, ReportFigure, styled
from xedge.results.conditions import typed
from xedge.results.measurement import Measurement
from xedge.results.statistics import ecdf
from xedge.runs.calibration import Crossing
from xedge.studies.networks.result import Networks

LEVEL_MARKS = {"p50_ms": "o", "p95_ms": "s", "p99_ms": "^"}
ASKED, LOST = "#bbbbbb", "#b42318"


def figure(measurement: Measurement) -> ReportFigure:
    """Return the latency behind every network, and its delay: asked against echo, and met against published."""
    with styled():
        canvas = ReportFigure(figsize=(9, 7.4))
        axes = canvas.subplot_mosaic([["latency", "echo"], ["delays", "delays"]])
        left, right = axes["latency"], axes["echo"]
        plots.ecdf(left, measurement)
        left.set_title("Latency behind each network")
        asked_and_measured(right, measurement)
        right.set_title("Added delay, both ways: asked and measured")
        published(axes["delays"], Networks(measurement))
        axes["delays"].set_title("The networks alone, both ways: published, met and measured")
        canvas.alt = (
            f"Latency behind {', '.join(measurement.placements)}; the delay that their links add, as asked and as an "
            "echo measured it; and the delay that requests met, beside published quantiles."
        )
    return canvas


def asked_and_measured(ax: Axes, measurement: Measurement) -> list[Artist]:
    """Draw p50, p95 and p99 of the delay that an echo measured against those asked for; on the line they agree."""
    checks = measurement.conditions.get("link_check") or {}
    artists: list[Artist] = []
    drawn = [0.0]
    for name, check in checks.items():
        asked, measured = check.get("requested_ms") or {}, check.get("measured_ms") or {}
        colour = plots.look(measurement, name)["color"]
        for level in LEVEL_MARKS.keys() & asked:
            marks: dict[str, Any] = {"color": colour, "markersize": 5, "alpha": 0.85}
            artists += ax.plot(asked[level], measured[level], LEVEL_MARKS[level], **marks)
            drawn += [asked[level], measured[level]]
    values = np.array([value for value in drawn if value > 0] or [1.0, 10.0])
    for axis in (ax.xaxis, ax.yaxis):
        plots.log_ms(axis, values)
    artists += ax.plot(ax.get_xlim(), ax.get_xlim(), color="#777777", linewidth=0.8, zorder=0)
    for level, marker in LEVEL_MARKS.items():
        ax.plot([], [], marker, color="#555555", markersize=5, label=level.removesuffix("_ms"))
    ax.set(xlabel="asked for, ms", ylabel="measured by echo, ms")
    ax.legend(loc="lower right")
    return artists


def published(ax: Axes, networks: Networks) -> list[Artist]:
    """Draw the share of requests over the way there and back that they took.

    Where quantiles are published they are circles, and a line leads from each to a square: the same quantile of what
    the links added in these trials, by arithmetic.
    """
    measurement, drawn = networks.measurement, [1.0]
    artists: list[Artist] = []
    for name, check in typed(measurement.conditions).link_check.items():
        crossed_ms, look = networks.crossed_ms(name), plots.look(measurement, name)
        latency_ms, share = ecdf(crossed_ms, plots.MANY_MARKS)
        artists += ax.plot(latency_ms, share, drawstyle="steps-post", label=f"{name}, measured", **look)
        for level in check.by_level:
            if (ms := level.published_ms) is None:
                continue
            mark: dict[str, Any] = {"color": look["color"], "zorder": 5}
            artists += ax.plot([ms, level.effective_ms], [level.p] * 2, linewidth=0.8, color=look["color"])
            artists += ax.plot(ms, level.p, "o", markersize=8, markerfacecolor="white", **mark)
            artists += ax.plot(level.effective_ms, level.p, "s", markersize=5, **mark)
            drawn += [ms, level.effective_ms]
        drawn += latency_ms.tolist()
    plots.log_ms(ax.xaxis, np.array(drawn))
    ax.plot([], [], "s", markersize=5, color="#555555", label="met, by arithmetic")
    ax.plot([], [], "o", markersize=8, markerfacecolor="white", color="#555555", label="published")
    ax.set(ylabel="share within", ylim=(0, 1.03), xlabel="way there and back, ms")
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    ax.legend(loc="lower right")
    return artists


def crossings(links: Mapping[str, Crossing]) -> ReportFigure:
    """Return a panel a link: the delay of every message over time, asked and measured; lost ones at the bottom."""
    with styled():
        canvas = ReportFigure(figsize=(9, 1.55 * len(links) + 0.5))
        axes = canvas.subplots(len(links), 1, sharex=True, squeeze=False)[:, 0]
        for ax, (name, crossing), look in zip(axes, links.items(), LOOKS, strict=False):
            over_time(ax, crossing, look["color"])
            ax.set_title(name)
        axes[-1].set_xlabel("sent, s after the start")
        canvas.supylabel("added delay, both ways, ms", fontsize=9, color="#333333")
        canvas.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
        listed = "; ".join(f"{name}: {_range(crossing)}" for name, crossing in links.items())
        canvas.alt = f"Delay of every message over time. {listed}."
    return canvas


def over_time(ax: Axes, crossing: Crossing, colour: str) -> list[Artist]:
    """Draw the delay of every message against when it was sent: asked as a line, measured as dots, losses as ticks."""
    sent, asked, measured = crossing[:3]
    many = len(sent) > plots.MANY_MARKS
    dots: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 2.2, "markeredgewidth": 0}
    artists: list[Artist] = [*ax.plot(sent, asked, color=ASKED, linewidth=1.2, label="asked")]
    artists += ax.plot(sent, measured, color=colour, rasterized=many, label="measured", **dots)
    top = max(float(np.nanmax([*asked, *measured, 1.0])), 1.0)
    ax.set(ylim=(-0.12 * top, 1.12 * top), xlim=(0, float(np.nanmax(sent))))
    lost = sent[np.isnan(measured)]
    ticks: dict[str, Any] = {"linestyle": "none", "marker": "|", "markersize": 8, "markeredgewidth": 1.2}
    artists += ax.plot(lost, np.full(lost.size, -0.05 * top), color=LOST, label="lost", **ticks)
    return artists


def _range(crossing: Crossing) -> str:
    measured = crossing.measured_ms[~np.isnan(crossing.measured_ms)]
    lost = len(crossing.sent_s) - len(measured)
    delays = "nothing"
    if measured.size:
        delays = f"{np.median(measured):.3g} ms at the median, {measured.max():.3g} ms at most"
    return f"{delays}, {lost} of {len(crossing.sent_s)} lost"
