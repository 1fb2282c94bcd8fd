"""Figures of a performance inversion: measured points with intervals on the theoretical curves."""

import math

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from xedge.results.canvas import LOOKS, ReportFigure, styled
from xedge.studies.inversion.result import PLACEMENTS, STATISTICS, Inversion
from xedge.studies.points import known

POINTS = 120
CROSSING = "#333333"
APART = 0.03  # of the extra round trip: how far side by side points of one distance stand, to be told apart


def panel(ax: Axes, inversion: Inversion, statistic: str) -> list[Artist]:
    """Draw one statistic over utilisation: theory as lines, measured points with 95 % intervals, and the crossing."""
    measured = sorted(inversion.measurements)
    at = np.linspace(max(0.02, measured[0] - 0.1), min(0.97, measured[-1] + 0.05), POINTS)
    artists: list[Artist] = []
    top = inversion.theory_ms("edge", measured[-1], statistic)
    for placement, look, marker in zip(PLACEMENTS, LOOKS, "os", strict=False):
        label = "edge boxes" if placement == "edge" else "pooled cloud"
        theory = [inversion.theory_ms(placement, float(level), statistic) for level in at]
        artists += ax.plot(at, theory, label=f"{label}, theory", **look)
        levels, values, half = known((level, inversion.measured_ms(placement, level, statistic)) for level in measured)
        artists += ax.errorbar(
            levels, values, yerr=[np.minimum(half, values), half],  # no latency is below 0
            color=look["color"], marker=marker, markersize=5, linestyle="none", capsize=3, label=f"{label}, measured",
        ).get_children()  # fmt: skip
        top = max([top, *values])
    threshold, wins = inversion.threshold(statistic), "cloud begins to win"
    if (expected := threshold.theory) is not None:
        artists.append(ax.axvline(expected, color=CROSSING, linestyle=":", linewidth=1.2, label=f"{wins}, theory"))
    crossing = threshold.measured
    low, high = (max(at[0], crossing.low or at[0]), min(at[-1], crossing.high or at[-1]))
    if low < high and crossing.low != crossing.high:
        artists.append(ax.axvspan(low, high, color=CROSSING, alpha=0.12, linewidth=0, label=f"{wins}, measured"))
    ax.set(xlabel="utilisation", ylabel="latency, ms", title=statistic, xlim=(at[0], at[-1]), ylim=(0, 1.15 * top))
    return artists


def over_distance(ax: Axes, inversion: Inversion) -> list[Artist]:
    """Draw the utilisation from which on the cloud wins over its extra round trip; measured crossings as points."""
    distances = np.linspace(0, 2.5 * inversion.extra_rtt_ms, POINTS)[1:]
    artists: list[Artist] = []
    for place, (statistic, look, marker) in enumerate(zip(STATISTICS, LOOKS, "osD", strict=False)):
        crossings = [inversion.expected(statistic, float(extra_ms)) for extra_ms in distances]
        artists += ax.plot(distances, np.array(crossings, dtype=float), label=f"{statistic}, theory", **look)
        measured = inversion.threshold(statistic).measured
        value = measured.value
        if value is not None and math.isfinite(value) and measured.low is not None and measured.high is not None:
            ends = np.clip([measured.low, measured.high], 0, 1)
            artists += ax.errorbar(
                [inversion.extra_rtt_ms * (1 + APART * (place - 1))], [value], yerr=np.abs(ends - value)[:, None],
                color=look["color"], marker=marker, markersize=5, capsize=3, linestyle="none",
                label=f"{statistic}, measured",
            ).get_children()  # fmt: skip
    ax.set(xlabel="extra round trip to the cloud, ms", ylabel="utilisation", xlim=(0, distances[-1]), ylim=(0, 1))
    ax.legend(loc="lower right", ncols=2)
    return artists


def figure(inversion: Inversion) -> ReportFigure:
    """Return a panel a statistic, and below what the crossing does as the cloud moves away."""
    with styled():
        canvas = ReportFigure(figsize=(9, 7))
        axes = canvas.subplot_mosaic([[*STATISTICS], ["key"] * len(STATISTICS), ["distance"] * len(STATISTICS)],
                                   height_ratios=[3.2, 0.35, 2.6])  # fmt: skip
        for statistic in STATISTICS:
            panel(axes[statistic], inversion, statistic)
        axes["key"].axis("off")
        axes["key"].legend(*axes["mean"].get_legend_handles_labels(), loc="center", ncols=3)
        over_distance(axes["distance"], inversion)
        axes["distance"].set_title("From which utilisation on the cloud wins")
        canvas.alt = inversion.conclusion()
    return canvas
