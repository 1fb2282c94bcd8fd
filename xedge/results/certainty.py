"""Figures of how sure a measurement is: paired differences with their intervals, and what each replication added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from xedge.results import words
from xedge.results.canvas import LOOKS, PANEL_INCHES, ReportFigure, styled
from xedge.results.statistics import Estimate

if TYPE_CHECKING:
    from xedge.results.comparison import Comparison
    from xedge.results.measurement import Measurement

MARKS = ("o", "s", "^")
INK, SOFT = "#222222", "#777777"
LEVEL = 0.99  # that convergence is shown at: the median settles long before


def forest(ax: Axes, measurement: Measurement) -> list[Artist]:
    """Draw how much slower every further placement is than the first, at p50, p95 and p99, with 95 % intervals."""
    first, *others = measurement.placements
    return differences(ax, [measurement.compare(first, other) for other in others])


def differences(ax: Axes, comparisons: Sequence[Comparison]) -> list[Artist]:
    """Draw paired differences of the latency: a line a level and comparison, its interval, its number beside it.

    An interval that reaches over the line at 0 shows no difference. Where there is no number, a word says why.
    """
    lines = [(c, p, e) for c in comparisons for p, e in c.differences.items()]
    artists: list[Artist] = [ax.axvline(0, color=SOFT, linewidth=1, zorder=0)]
    names: list[str] = []
    for place, (comparison, p, estimate) in enumerate(lines):
        first = p == next(iter(comparison.differences))
        names.append(f"{comparison.b} − {comparison.a}, {words.level_name(p)}" if first else words.level_name(p))
        artists += _difference(ax, place, estimate, MARKS[place % len(MARKS)])
    if why := [c.note for c in comparisons if c.note] or ["nothing to compare: one placement"] * (not comparisons):
        artists.append(ax.text(0.5, 0.5, "\n".join(why), transform=ax.transAxes, ha="center", wrap=True, color=SOFT))
    ends = [end for _, _, e in lines for end in (0.0, e.low, e.high, e.value) if end is not None and np.isfinite(end)]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    margin = 0.18 * (high - low or 1.0)  # for the numbers above the outermost points
    ax.set(xlim=(low - margin, high + margin), ylim=(len(lines) - 0.4, -0.9), xlabel="difference of the latency, ms")
    ax.set_yticks(range(len(lines)), names)
    ax.grid(visible=False, axis="y")
    return artists


def _difference(ax: Axes, place: int, estimate: Estimate, mark: str) -> list[Artist]:
    value, low, high = estimate.value, estimate.low, estimate.high
    text = words.milliseconds(estimate, None)
    artists: list[Artist] = []
    if value is not None and np.isfinite(value):
        if low is not None and high is not None:
            artists += ax.plot([low, high], [place] * 2, "-", color=INK, linewidth=1.6, solid_capstyle="butt")
            artists += ax.plot([low, high], [place] * 2, "|", color=INK, markersize=7)
        artists += ax.plot([value], [place], mark, color=INK, markersize=5.5)
    at: dict[str, Any] = {"xytext": (0, 7), "textcoords": "offset points", "fontsize": 8, "ha": "center"}
    middle = 0.0 if value is None or not np.isfinite(value) else value
    artists.append(ax.annotate(text, (middle, place), **at))
    return artists


def convergence(ax: Axes, measurement: Measurement) -> list[Artist]:
    """Draw each placement's p99 after 1, 2, … replications as its distance from that of all, with the interval.

    A line that has come to rest within a narrow band would not move with more replications; one that has not asks for
    them. Two replications have an interval too wide to be shown whole.
    """
    artists: list[Artist] = [ax.axhline(0, color=SOFT, linewidth=1, zorder=0)]
    shown = [1.0]
    for name, look in zip(measurement.placements, LOOKS * len(measurement.placements), strict=False):
        steps = after_each(measurement, name)
        final = next(iter(reversed(steps.values())), None)
        if final is None or not final.value or not np.isfinite(final.value):
            artists += ax.plot([], [], label=f"{name}: {words.milliseconds(final) if final else 'not known'}", **look)
            continue
        rows = [
            [np.nan if x is None else 100 * (x / final.value - 1) for x in (e.value, e.low, e.high)]
            for e in steps.values()
        ]
        value, low, high = np.array(rows).T
        artists += ax.plot(
            list(steps), value, marker="o", markersize=3.5, label=f"{name}: {words.milliseconds(final)}", **look
        )
        artists.append(ax.fill_between(list(steps), low, high, color=look["color"], alpha=0.18, linewidth=0))
        for edge in (low, high):
            artists += ax.plot(list(steps), edge, **{**look, "linewidth": 0.7})
        shown += [*np.abs(value[np.isfinite(value)]), *np.abs([*low[2:], *high[2:]])]
    most = 1.3 * float(np.nanmax(shown))
    ax.set(
        xlabel="replications used", ylabel=f"{words.level_name(LEVEL)}, % off that of all", ylim=(-most, 1.45 * most)
    )
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.legend(loc="upper center", ncols=1, borderaxespad=0)
    return artists


def after_each(measurement: Measurement, placement: str, p: float = LEVEL) -> dict[int, Estimate]:
    """Return the latency at level `p`, ms, from the first 1, 2, … replications: how many -> estimate.

    A single one has no interval here: that of its batches is of another kind.
    """
    of = measurement.evidence[placement]
    numbers = sorted(of.trials)
    estimates = {}
    for k in range(1, len(numbers) + 1):
        estimate = replace(of, rows=of.rows[of.rows["replication"].isin(numbers[:k])]).estimate(p)
        if estimate.value is not None:
            estimates[k] = replace(estimate, low=None, high=None) if k == 1 else estimate
    return estimates


def comparison_figure(comparison: Comparison) -> ReportFigure:
    """Return the forest plot of one comparison."""
    with styled():
        report = ReportFigure(figsize=(PANEL_INCHES[0] * 1.3, 0.5 * len(comparison.differences) + 1.2))
        ax = report.subplots()
        differences(ax, [comparison])
        ax.set_title("Paired difference, 95 % intervals")
        report.alt = str(comparison)
    return report


PANELS: dict[Callable[[Axes, Measurement], list[Artist]], str] = {
    forest: "Paired differences, 95 % intervals",
    convergence: "How the p99 settles",
}
