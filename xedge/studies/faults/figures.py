"""Figures about faults: when they happened, how many requests were answered all the same, and how soon all was well."""

import math
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes

from xedge.results import figures as plots
from xedge.results import words
from xedge.results.canvas import ReportFigure, styled
from xedge.results.statistics import Estimate
from xedge.scenario.faults import FAULTS
from xedge.studies.faults.result import Resilience

MARKS = "osD^v"


def figure(resilience: Resilience) -> ReportFigure:
    """Return every latency over time with the faults marked, the shares answered in time, and the recovery times."""
    with styled():
        canvas = ReportFigure(figsize=(9, 7.2))
        time, shares, recovery = canvas.subplot_mosaic(
            [["time", "time"], ["shares", "recovery"]], height_ratios=[1.25, 1]
        ).values()
        plots.over_time(time, resilience.measurement)
        time.axhline(resilience.deadline_ms, color="#333333", linewidth=1, linestyle=(0, (1, 1)))
        time.annotate(
            "deadline",
            (1, resilience.deadline_ms),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            fontsize=8,
        )
        time.set_title("Over time, faults shaded")
        available(shares, resilience)
        shares.set_title("Answered all the same")
        recoveries(recovery, resilience)
        recovery.set_title("Time to recover")
        shown = "Latency over time with the faults marked, shares answered in time, times to recover."
        canvas.alt = f"{shown} {resilience.conclusion()}"
    return canvas


def available(ax: Axes, resilience: Resilience) -> list[Artist]:
    """Draw each placement's share of requests answered at all (hollow) and within the deadline, with intervals."""
    artists: list[Artist] = []
    names = resilience.measurement.placements
    table = resilience.shares()
    for place, row in enumerate(table.itertuples()):
        own = plots.look(resilience.measurement, names[place])
        for column, face, shift in (("answered_percent", "white", -0.16), ("in_time_percent", own["color"], 0.16)):
            value, low, high = (getattr(row, f"{column}{end}") for end in ("", "_low", "_high"))
            known = math.isfinite(low) and math.isfinite(high)
            reach = [[value - low], [high - value]] if known else None
            bar = ax.errorbar(
                [value], [place + shift], xerr=reach, color=own["color"], marker=MARKS[place % len(MARKS)],
                markerfacecolor=face, markersize=6, capsize=3, linestyle="none",
            )  # fmt: skip
            artists += bar.get_children()
            artists.append(
                ax.annotate(
                    f"{words.share(value / 100)} %",
                    (value, place + shift),
                    xytext=(0, 6),
                    textcoords="offset points",
                    ha="center",
                    fontsize=8,
                )
            )
    for label, face in (("answered", "white"), (f"within {resilience.deadline_ms:g} ms", "#555555")):
        ax.plot([], [], "o", color="#555555", markerfacecolor=face, label=label)
    ax.set_yticks(range(len(names)), names)
    ax.set(ylim=(len(names) - 0.4, -1.0), xlabel="share of all requests, %")
    ax.margins(x=0.15)
    ax.grid(visible=False, axis="y")
    ax.legend(loc="upper center", ncols=2, borderaxespad=0)
    return artists


def recoveries(ax: Axes, resilience: Resilience) -> list[Artist]:
    """Draw how long after each fault answers came as fast as before, a mark a placement, with intervals over trials."""
    artists: list[Artist] = []
    kinds, names = resilience.kinds, resilience.measurement.placements
    for place, name in enumerate(names):
        color = plots.look(resilience.measurement, name)["color"]
        shift = (place - (len(names) - 1) / 2) * 0.28
        for line, kind in enumerate(kinds):
            estimate = resilience.measurement.recovery(name, kind)
            if estimate.value is not None and math.isinf(estimate.value):
                text = resilience.recovery_text(name, kind)
                at: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "color": color, "fontsize": 8}
                artists.append(ax.text(0.02, line + shift, text, va="center", **at))
            elif estimate.value is not None:
                artists += _mark(ax, estimate, estimate.value, line + shift, color, MARKS[place % len(MARKS)])
        ax.plot([], [], MARKS[place % len(MARKS)], color=color, label=name)
    ax.set_yticks(range(len(kinds)), [FAULTS[kind] for kind in kinds])
    ax.set(ylim=(len(kinds) - 0.4, -1.0), xlabel="s after the fault was mended")
    ax.set_xlim(left=0)
    ax.margins(x=0.12)
    ax.grid(visible=False, axis="y")
    ax.legend(loc="upper center", ncols=3, borderaxespad=0)
    return artists


def _mark(ax: Axes, estimate: Estimate, value: float, height: float, color: str, mark: str) -> list[Artist]:
    low, high = estimate.low, estimate.high
    reach = None if low is None or high is None else [[value - low], [high - value]]
    bar = ax.errorbar(
        [value], [height], xerr=reach, color=color, marker=mark, markersize=5.5, capsize=3, linestyle="none"
    )
    return list(bar.get_children())
