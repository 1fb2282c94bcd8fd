"""The figures of the index: one small distribution a run on common axes, and the numbers over a parameter."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from xedge.reports import estimates
from xedge.reports.conversion import as_text
from xedge.reports.run_table import GOOD, Row, RunTable
from xedge.results import canvas
from xedge.results import figures as plots

SMALL_INCHES = (2.5, 1.75)
MOST_LINES = 6  # in one figure of trends
MOST_FIGURES = 8
MOST_TICKS = 8
WIDE = 20.0


def small_multiples(table: RunTable) -> dict[str, Any]:
    """Return the small figures in the order of the rows, and how many stand in a line; nothing if none has a curve.

    A run without a curve is there with its state, so that no place in the grid is empty.
    """
    names = list(dict.fromkeys(of for row in table.rows for of in row.distributions))
    if not names:
        return {}
    drawn = [curve["latency_ms"] for row in table.rows for curve in row.distributions.values()]
    span = np.array([x for xs in drawn for x in xs if x > 0])
    figures = [{"row": row, "image": _small(row, names, span) if row.distributions else None} for row in table.rows]
    last = {as_text(row.parameters.get(table.varied[-1])) for row in table.rows} if len(table.varied) > 1 else ()
    return {"figures": figures, "columns": len(last) if 2 <= len(last) <= 5 else 0, "key": _key(names)}


def _small(row: Row, names: Sequence[str], span: np.ndarray[Any, Any]) -> dict[str, str]:
    with canvas.styled():
        figure = canvas.ReportFigure(figsize=SMALL_INCHES)
        ax = figure.subplots()
        for of, curve in row.distributions.items():
            ax.plot(curve["latency_ms"], curve["share"], **(_look(names.index(of)) | {"linewidth": 1.5}))
        plots.log_ms(ax.xaxis, span)
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set(ylim=(0, 1.02), yticks=(0, 0.5, 1))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
        ax.set_xlabel("latency, ms", labelpad=1)
        figure.alt = f"Share of requests answered within a latency at {row.title}. {row.state}."
        for of, known in row.estimates.items():
            texts = [f"{estimates.heading(name)} {number['text']}" for name, number in known.items()]
            figure.alt += f" {of}: {', '.join(texts)}."
    return {"svg": figure.svg(), "alt": figure.alt}


def _look(place: int) -> dict[str, Any]:
    return canvas.LOOKS[place % len(canvas.LOOKS)]


def _key(names: Sequence[str]) -> dict[str, str]:
    """Return the legend of the small figures, a figure of its own."""
    with canvas.styled():
        width = min(7.0, 0.3 + sum(0.6 + 0.08 * len(name) for name in names))  # inches: a line and its words
        figure = canvas.ReportFigure(figsize=(width, 0.26 * (1 + (len(names) - 1) // 5)))
        ax = figure.subplots()
        ax.set_axis_off()
        for place, name in enumerate(names):
            ax.plot([], [], label=name, **_look(place))
        ax.legend(loc="center left", ncols=5, borderaxespad=0)
        figure.alt = f"Key: {', '.join(names)}"
    return {"svg": figure.svg(), "alt": figure.alt}


def trends(table: RunTable) -> list[dict[str, str]]:
    """Return figures of the numbers over the parameter with the most values; none where there is nothing to draw.

    One figure if its lines can be told apart, else one for every combination of the other parameters.
    """
    # over a number rather than a word, then over what has the most values
    counts = {n: len({repr(row.parameters.get(n)) for row in table.rows}) for n in table.varied}
    over = max(counts, key=lambda name: (_is_numeric(table, name), counts[name]), default=None)
    every = dict.fromkeys(name for names in table.columns.values() for name in names)
    with_it = {n: sum(any(row.value(of, n) is not None for of in row.estimates) for row in table.rows) for n in every}
    names = [name for name, count in with_it.items() if count > 1]
    if over is None or not names:
        return []
    groups: dict[str, list[Row]] = {}
    for row in table.rows:
        others = (f"{name}={as_text(row.parameters.get(name))}" for name in table.varied if name != over)
        groups.setdefault(", ".join(others), []).append(row)
    together = len(groups) * len(table.columns) <= MOST_LINES
    parts = [groups] if together else [{title: rows} for title, rows in list(groups.items())[:MOST_FIGURES]]
    return [_trend(table, over, names[-4:], part) for part in parts]


def _is_numeric(table: RunTable, name: str) -> bool:
    values = [row.parameters.get(name) for row in table.rows]
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _trend(table: RunTable, over: str, names: Sequence[str], groups: dict[str, list[Row]]) -> dict[str, str]:
    with canvas.styled():
        lines, columns = (len(names) + 1) // 2, min(len(names), 2)
        figure = canvas.ReportFigure(figsize=(4.5 * columns, 2.7 * lines))
        axes = list(figure.subplots(lines, columns, squeeze=False).flat)
        for ax, name in zip(axes, names, strict=False):
            _draw(ax, table, over, name, groups)
        for ax in axes[len(names) :]:
            ax.set_visible(False)
        title = ", ".join(filter(None, groups)) if len(groups) == 1 else ""
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=3, title=title or None, alignment="left")
        headings = ", ".join(estimates.heading(name) for name in names)
        figure.alt = f"{headings} over {over}{f' at {title}' if title else ''}; the numbers are in the table"
    return {"svg": figure.svg(), "alt": figure.alt}


def _draw(ax: Axes, table: RunTable, over: str, name: str, groups: dict[str, list[Row]]) -> None:
    """Draw one number over a parameter, a line for every group of rows and thing measured, with its intervals.

    A run that is not VALID has a hollow mark; one without the number has none.
    """
    numeric, at = _is_numeric(table, over), dict[str, float]()
    for row in table.rows:
        at.setdefault(as_text(row.parameters.get(over)), float(row.parameters[over]) if numeric else len(at))
    lines = [(title, rows, of) for title, rows in groups.items() for of in table.columns]
    for place, (title, rows, of) in enumerate(lines):
        numbers = [(at[as_text(row.parameters.get(over))], row.number(of, name), row.state) for row in rows]
        points = sorted((p for p in numbers if p[1].get("value") is not None), key=lambda point: point[0])
        if not points:
            continue
        look, label = _look(place), ", ".join(filter(None, [of, title if len(groups) > 1 else ""]))
        ax.plot([x for x, _, _ in points], [number["value"] for _, number, _ in points], label=label, **look)
        for x, number, state in points:
            face = look["color"] if state in GOOD else "white"
            ax.plot([x], [number["value"]], "o", color=look["color"], markerfacecolor=face, markersize=4.5)
            if number.get("low") is not None and number.get("high") is not None:
                ax.vlines(x, number["low"], number["high"], color=look["color"], linewidth=1)
    if numeric and min(at.values()) > 0 and max(at.values()) / min(at.values()) > WIDE:
        ax.set_xscale("log")
    if len(at) <= MOST_TICKS:
        ax.set_xticks(sorted(at.values()), sorted(at, key=lambda text: at[text]))
        ax.xaxis.set_minor_locator(NullLocator())
    ax.margins(x=0.08)
    ax.set(xlabel=over, title=estimates.heading(name))
    values = [value for row in table.rows for of in row.estimates if (value := row.value(of, name))]
    if values and min(values) > 0 and max(values) / min(values) > WIDE:
        plots.log_ms(ax.yaxis, np.array(values))
    elif values and min(values) >= 0:
        ax.set_ylim(bottom=0)
