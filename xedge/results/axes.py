"""Axes of latency figures: logarithmic milliseconds with plain numbers, and a legend above the data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from xedge.results import words
from xedge.results.canvas import PANEL_INCHES
from xedge.results.statistics import FloatArray


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


def legend(ax: Axes, columns: int = 3) -> None:
    """Put the legend into a band above the data, for which the vertical axis is made longer."""
    entries = len(ax.get_legend_handles_labels()[1])
    spec, whole = ax.get_subplotspec(), ax.get_figure(root=True)
    height = float(whole.get_size_inches()[1]) if whole else PANEL_INCHES[1]
    inches = max(height / (spec.get_gridspec().nrows if spec else 1) - 0.8, 0.5)  # without title and labels
    band = 0.03 + 0.23 / inches * math.ceil(entries / columns)
    low, high = ax.get_ylim()
    ax.set_ylim(low, high * (high / low) ** band if ax.get_yscale() == "log" else high + band * (high - low))
    ax.legend(loc="upper center", ncols=min(columns, entries), columnspacing=1.2, handletextpad=0.5, borderaxespad=0)
