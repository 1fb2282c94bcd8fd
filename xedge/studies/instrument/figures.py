"""Figures of the instrument's check: measured points on theoretical distributions, and errors within their limits."""

from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from xedge.results.canvas import LOOKS, ReportFigure, styled
from xedge.results.statistics import ecdf, paired_difference
from xedge.studies.instrument.result import LIMITS, SERVICE_TIMES, STATISTICS, InstrumentCheck
from xedge.studies.points import known

LEVELS = (0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.9, 0.95, 0.98)
POINTS = 300


def distribution(ax: Axes, result: InstrumentCheck, utilisation: float) -> list[Artist]:
    """Draw theory as thick lines, what was measured as thin ones, and with the draws' luck taken out as points."""
    artists: list[Artist] = []
    queues = {queue: result.theory(queue, utilisation) for queue in SERVICE_TIMES}
    limit_ms = max(theory.quantile_ms(LEVELS[-1]) for theory in queues.values()) * 1.1
    at = np.linspace(0, limit_ms, POINTS)
    for (queue, theory), look, marker in zip(queues.items(), LOOKS, "os", strict=False):
        artists += ax.plot(at, theory.cdf(at), label=f"{queue}, theory", **look)
        measured, exact = result.sections(queue, utilisation)
        as_measured = np.concatenate(measured) - result.floor_ms(utilisation)
        artists += ax.plot(*ecdf(as_measured), color=look["color"], linewidth=0.8, label=f"{queue}, measured")
        levels, off, half = known((p, paired_difference(exact, measured, p)) for p in LEVELS)
        values = np.array([theory.quantile_ms(p) for p in levels]) + off
        artists += ax.errorbar(
            values - result.floor_ms(utilisation), levels, xerr=half, color=look["color"], marker=marker, markersize=4,
            linestyle="none", capsize=2, label="  the draws' luck taken out",
        ).get_children()  # fmt: skip
    ax.set(xlabel="latency less noise floor, ms", ylabel="share answered within", xlim=(0, limit_ms), ylim=(0, 1.02))
    ax.set_title(f"utilisation {utilisation:g}")
    return artists


def errors(ax: Axes, result: InstrumentCheck, utilisation: float) -> list[Artist]:
    """Draw the relative error of every statistic with its interval, on the band it must lie in."""
    artists: list[Artist] = []
    for place, statistic in enumerate(STATISTICS):
        limit = 100 * LIMITS[statistic]
        artists.append(ax.fill_betweenx([-limit, limit], place - 0.4, place + 0.4, color="#dddddd", linewidth=0))
    for side, (queue, look, marker) in enumerate(zip(SERVICE_TIMES, LOOKS, "os", strict=False)):
        own = [check for check in result.checks if (check.queue, check.utilisation) == (queue, utilisation)]
        places, values, half = known((place, check.error_percent) for place, check in enumerate(own))
        looks: dict[str, Any] = {"color": look["color"], "marker": marker, "markersize": 4, "linestyle": "none"}
        artists += ax.errorbar(places + 0.3 * side - 0.15, values, yerr=half, capsize=3, **looks).get_children()
    ax.axhline(0, color="#555555", linewidth=0.8)
    ax.set_xticks(range(len(STATISTICS)), STATISTICS)
    ax.set(ylabel="error, % of theory", ylim=(-20, 20), xlim=(-0.6, len(STATISTICS) - 0.4))
    return artists


def figure(result: InstrumentCheck) -> ReportFigure:
    """Return a column a utilisation: the distributions above, the errors within their limits (grey) below."""
    with styled():
        columns = sorted(result.measurements)
        canvas = ReportFigure(figsize=(9, 6.2))
        axes = canvas.subplots(2, len(columns), squeeze=False, height_ratios=[1.6, 1])
        for place, utilisation in enumerate(columns):
            distribution(axes[0, place], result, utilisation)
            errors(axes[1, place], result, utilisation)
        axes[0, 0].legend(loc="lower right")
        canvas.alt = f"Measured and theoretical distributions of M/D/1 and M/M/1. {result.conclusion()}"
    return canvas
