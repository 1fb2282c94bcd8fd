"""Figures of a performance inversion: measured points with intervals on the theoretical curves."""

import math

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from xedge.results.figures import LOOKS, ReportFigure, styled
from xedge.results.statistics import Estimate, FloatArray
from xedge.studies.inversion.result import PLACEMENTS, STATISTICS, Inversion

POINTS = 120
CROSSING = "#333333"
APART = 0.03  # of the extra round trip: how far side by side points of one distance stand, to be told apart


def panel(ax: Axes, inversion: Inversion, statistic: str) -> list[Artist]:
    """Draw one statistic over utilisation: theory as lines, measured points with 95 % intervals, and the crossing."""
    measured = sorted(inversion.measurements)
    at = np.linspace(max(0.02, measured[0] - 0.1), min(0.97, measured[-1] + 0.05), POINTS)
    artists: list[Artist] = []
    for placement, look, marker in zip(PLACEMENTS, LOOKS, "os", strict=False):
        label = "edge boxes" if placement == "edge" else "pooled cloud"
        artists += ax.plot(at, _theory(inversion, placement, statistic, at), label=f"{label}, theory", **look)
        points = [inversion.measured_ms(placement, level, statistic) for level in measured]
        known = [(level, point) for level, point in zip(measured, points, strict=True) if _is_known(point)]
        values = np.array([point.value for _, point in known], dtype=float)
        half = np.array([_length(point) for _, point in known])
        errors = [np.minimum(half, values), half]  # no latency is below 0
        artists += ax.errorbar(
            [level for level, _ in known], values, yerr=errors, color=look["color"], marker=marker, markersize=5,
            linestyle="none", capsize=3, label=f"{label}, measured",
        ).get_children()  # fmt: skip
    threshold = inversion.threshold(statistic)
    if (expected := threshold.theory) is not None:
        artists.append(
            ax.axvline(expected, color=CROSSING, linestyle=":", linewidth=1.2, label="cloud begins to win, theory")
        )
    crossing = threshold.measured
    low, high = (max(at[0], crossing.low or at[0]), min(at[-1], crossing.high or at[-1]))
    if low < high and crossing.low != crossing.high:
        artists.append(
            ax.axvspan(low, high, color=CROSSING, alpha=0.12, linewidth=0, label="cloud begins to win, measured")
        )
    ax.set(xlabel="utilisation", ylabel="latency, ms", xlim=(at[0], at[-1]), title=statistic)
    ax.set_ylim(
        0, 1.15 * max(_theory(inversion, "edge", statistic, np.array([measured[-1]]))[0], _top(inversion, statistic))
    )
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


def _theory(inversion: Inversion, placement: str, statistic: str, at: FloatArray) -> FloatArray:
    """Return the theoretical latency in ms at the utilisations `at`, shape (n,)."""
    return np.array([inversion.theory_ms(placement, float(u), statistic) for u in at])


def _is_known(estimate: Estimate) -> bool:
    return estimate.value is not None and math.isfinite(estimate.value)


def _length(estimate: Estimate) -> float:
    return estimate.half_width or 0.0


def _top(inversion: Inversion, statistic: str) -> float:
    points = [inversion.measured_ms(name, level, statistic) for name in PLACEMENTS for level in inversion.measurements]
    values = [point.value for point in points if point.value is not None and math.isfinite(point.value)]
    return max(values, default=0.0)
