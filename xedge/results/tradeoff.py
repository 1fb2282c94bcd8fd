"""Fast or right: the figure of latency against accuracy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from xedge.results.axes import legend, log_ms
from xedge.results.canvas import LOOKS

if TYPE_CHECKING:
    from xedge.results.measurement import Measurement
    from xedge.results.statistics import Estimate

MARKS = ("o", "s", "^", "D", "v", "P", "X")


def tradeoff(ax: Axes, measurement: Measurement) -> list[Artist]:
    """Draw each placement's accuracy over its latency: a mark at the p50, a line from there to the p99.

    Colour and line say the tier, the mark the model. Upright lines are 95 % intervals of the accuracy, those along the
    latency of the p50 are mostly hidden behind the mark. Better is up and to the left.
    """
    known = [(name, share) for name, of in measurement.evidence.items() if (share := of.accuracy) is not None]
    if not known:
        note = "nobody knows what is right:\nthe source has no labels"
        return [ax.text(0.5, 0.5, note, transform=ax.transAxes, ha="center", color="#777777")]
    artists: list[Artist] = []
    tiers, models, shown = dict[str, int](), dict[str, int](), [math.nan]
    for name, share in known:
        tier, model = _about(measurement, name)
        of_tier = LOOKS[tiers.setdefault(tier, len(tiers)) % len(LOOKS)]
        line, colour = {**of_tier, "linewidth": 1.2}, of_tier["color"]
        mark = MARKS[models.setdefault(model, len(models)) % len(MARKS)]
        own: dict[str, Any] = {"color": colour, "marker": mark, "markersize": 6, "linestyle": "none"}
        levels = (
            []
            if name in measurement.verdict.saturated
            else [_finite(measurement.estimate(name, p)) for p in (0.5, 0.99)]
        )
        if not levels or math.isnan(levels[0]):
            artists += ax.plot([], [], label=f"{name} (no steady latency)", **own)
            continue
        half, most = levels
        right, low, high = (100 * (math.nan if end is None else end) for end in (share.value, share.low, share.high))
        artists += ax.plot([half, most], [right] * 2, **line)
        artists += ax.plot([most], [right], marker="|", linestyle="none", markersize=7, color=colour)
        artists += ax.plot([half] * 2, [low, high], **line)
        artists += ax.plot([half], [right], label=name, markeredgecolor="white", markeredgewidth=0.6, **own)
        shown += [half, most]
    log_ms(ax.xaxis, np.array(shown))
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.set(xlabel="latency from the due time, ms: mark p50, line to p99", ylabel="answers that were right, %")
    ax.yaxis.set_major_locator(MaxNLocator(nbins=6))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    legend(ax, min(3, len(tiers)))
    return artists


def _about(measurement: Measurement, name: str) -> tuple[str, str]:
    scenario = measurement.typed_conditions.scenario
    placement = scenario.placements.get(name)
    tier, model = (placement.tier, placement.model) if placement is not None else ("", None)
    return tier or name, model or scenario.model or ""


def _finite(estimate: Estimate) -> float:
    return math.nan if estimate.value is None or math.isinf(estimate.value) else estimate.value


PANELS = {tradeoff: "Fast or right"}
