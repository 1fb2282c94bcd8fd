"""Figures of a measurement: functions take an axis and return artists; the numbers come from `statistics`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from xedge.core.exceptions import ConfigurationError
from xedge.results import certainty, statistics, tradeoff, words
from xedge.results.axes import legend as legend
from xedge.results.axes import log_ms as log_ms
from xedge.results.axes import plain_number as plain_number
from xedge.results.canvas import LOOKS, PANEL_INCHES, ReportFigure, styled
from xedge.results.rows import PARTS, latency_ms
from xedge.results.statistics import FloatArray
from xedge.scenario.faults import FAULTS

if TYPE_CHECKING:
    from xedge.results.measurement import Measurement

MANY_MARKS = 500  # above, marks become one image: as SVG each takes 150 bytes
WARM_UP = "#bbbbbb"
POINTS = 200  # of a curve
MEDIANS = 24  # along a trial
HATCHES = {"uplink": "//", "inference": "xx", "downlink": "\\\\", "residual": "-"}  # few lines: each adds to an SVG
Curve = tuple[FloatArray, FloatArray]
PART_COLOURS = dict(
    zip(PARTS, ("#717581", "#c3c6cc", "#92dadd", "#ffa90e", "#a96b59", "#4fa3ad", "#e2e4e7"), strict=True)
)


def look(measurement: Measurement, placement: str) -> dict[str, Any]:
    """Return the colour and line style of a placement, as `plot` takes them."""
    return LOOKS[measurement.placements.index(placement) % len(LOOKS)]


def _curve(ax: Axes, measurement: Measurement, placement: str, curve: Curve, band: Curve) -> list[Artist]:
    """Draw `curve`, and shade between the fastest and the slowest replication at the levels and heights of `band`.

    Steps where every value is a point of the curve, else straight lines between the points chosen.
    """
    (levels, heights), own = band, look(measurement, placement)
    drawstyle = "steps-post" if curve[0].size < POINTS / 2 else "default"
    artists: list[Artist] = [*ax.plot(*curve, drawstyle=drawstyle, label=placement, **own)]
    sections = [section for section in measurement.latencies_ms(placement) if section.size]
    if len(sections) > 1 and levels.size:
        curves = np.array([[statistics.quantile(section, p) for p in levels] for section in sections])
        known = np.isfinite(curves).all(axis=0)
        low, high = curves.min(axis=0)[known], curves.max(axis=0)[known]
        artists.append(ax.fill_betweenx(heights[known], low, high, color=own["color"], alpha=0.25, linewidth=0))
    return artists


def ecdf(ax: Axes, measurement: Measurement) -> list[Artist]:
    """Draw the share of requests answered within x ms, a line a placement, shaded from replication to replication.

    A line that ends below 1 has requests that timed out or were lost.
    """
    artists: list[Artist] = []
    pooled = {name: np.concatenate(measurement.latencies_ms(name)) for name in measurement.placements}
    levels = np.linspace(0.005, 0.995, 100)
    for name, values in pooled.items():
        artists += _curve(ax, measurement, name, statistics.ecdf(values, POINTS), (levels, levels))
    log_ms(ax.xaxis, np.concatenate(list(pooled.values())))
    artists += deadline(ax, measurement)
    ax.set(xlabel="latency from the due time, ms", ylabel="share answered within", ylim=(0, 1.02))
    ax.set_yticks(np.linspace(0, 1, 6))
    ax.yaxis.set_major_formatter(FuncFormatter(_share))
    legend(ax)
    return artists


def deadline(ax: Axes, measurement: Measurement) -> list[Artist]:
    """Draw the scenario's deadline as an upright line with a name for the legend, if it has one within the axis."""
    ms = measurement.typed_conditions.scenario.deadline_ms
    if ms is None or not ax.get_xlim()[0] < ms < ax.get_xlim()[1]:
        return []
    return [ax.axvline(ms, color="#444444", linestyle=":", linewidth=1.2, label=f"deadline {ms:g} ms", zorder=1)]


def tail(ax: Axes, measurement: Measurement) -> list[Artist]:
    """Draw the share of requests slower than x ms, both axes logarithmic, as far as 10 requests reach.

    Shaded from replication to replication, as far as each of them has a request beyond.
    """
    artists: list[Artist] = []
    drawn, floor = [np.empty(0)], 1.0
    for name in measurement.placements:
        sections = measurement.latencies_ms(name)
        x, share = statistics.survival(np.concatenate(sections), POINTS)
        least = max(share.min(initial=1.0), 1 / max(min(map(len, sections)), 2))
        heights = np.geomspace(least, 0.995, 100 if share.size else 0)
        artists += _curve(ax, measurement, name, (x, share), (1 - heights, heights))
        if share.size:
            drawn, floor = [*drawn, x], min(floor, *share)
            artists += ax.plot(x[-1:], share[-1:], marker="o", markersize=3.5, color=look(measurement, name)["color"])
    log_ms(ax.xaxis, np.concatenate(drawn))
    artists += deadline(ax, measurement)
    ax.set(xlabel="latency from the due time, ms", ylabel="share slower than", yscale="log")
    decades = max(1, math.ceil(-math.log10(floor)))
    ax.set_ylim(10.0**-decades, 1.2)
    ax.set_yticks([10.0**-k for k in range(decades + 1)])
    ax.yaxis.set_major_formatter(FuncFormatter(_share))
    ax.yaxis.set_minor_locator(NullLocator())
    legend(ax)
    return artists


def _share(value: float, _: Any = None) -> str:
    return f"{100 * value:.6f}".rstrip("0").rstrip(".") + " %"


def breakdown(ax: Axes, measurement: Measurement) -> list[Artist]:
    """Draw a bar a placement: what share of its mean latency each part took; the mean stands beside its name.

    Means, because they add up and medians do not; shares, because 1 ms beside 100 ms would be a line.
    """
    artists: list[Artist] = []
    names = measurement.placements
    means = measurement.breakdown().pivot(index="placement", columns="part", values="mean_ms").reindex(names)
    left = np.zeros(len(names))
    for part in PARTS:
        share = (means[part] / means["latency"]).fillna(0).to_numpy(dtype=float)
        if share.max() < 0.005:
            continue
        own: dict[str, Any] = {"color": PART_COLOURS[part], "hatch": HATCHES.get(part, ""), "edgecolor": "white"}
        bars = ax.barh(range(len(names)), share, left=left, height=0.55, label=part, **own)
        texts = [words.percent(value) if value >= 0.08 else "" for value in share]
        colour = "white" if part in ("inference", "lateness") else "#111111"
        below = {"facecolor": PART_COLOURS[part], "edgecolor": "none", "pad": 1.0}
        ax.bar_label(bars, texts, label_type="center", fontsize=8, color=colour, bbox=below)
        artists += list(bars)
        left += share
    known = [f"mean {ms:.{words.decimals(ms, None)}f} ms" if ms > 0 else "none answered" for ms in means["latency"]]
    ax.set_yticks(range(len(names)), [f"{name}\n{mean}" for name, mean in zip(names, known, strict=True)])
    ax.set(xlim=(0, 1), ylim=(len(names) - 0.4, -1.1), xlabel="share of the mean latency")
    ax.xaxis.set_major_formatter(FuncFormatter(_share))
    ax.grid(visible=False, axis="y")
    ax.legend(loc="upper center", ncols=3, columnspacing=1, handlelength=1, handletextpad=0.4, borderaxespad=0)
    return artists


def over_time(ax: Axes, measurement: Measurement) -> list[Artist]:
    """Draw every latency against its due time, replications on top of each other, the warm-up too, in grey.

    Spans of time in which something went wrong are shaded and named.

    The line is the median of all replications around that time: it shows a drift, and who is who in grey print.
    Above `MANY_MARKS` marks they become one image inside the figure, so that it stays small.
    """
    rows = measurement.rows
    due, latency = rows["due_ns"].to_numpy(dtype=float) / 1e9, latency_ms(rows)
    latency[(rows["status"] == "not_sent").to_numpy(bool)] = math.inf
    placement, warm_up = rows["placement"].to_numpy(dtype=object), rows["warm_up"].to_numpy()
    log_ms(ax.yaxis, latency)
    unanswered, lanes = np.isinf(latency), dict.fromkeys(measurement.placements, math.nan)
    if unanswered.any():  # in lanes above the data, one a placement
        low, high = ax.get_ylim()
        share = 0.05 * (1 + len(lanes)) / len(lanes)  # of the height, for each
        ax.set_ylim(low, high * (high / low) ** (share * len(lanes)))
        lanes = {name: high * (high / low) ** (share * (place + 0.4)) for place, name in enumerate(lanes)}
    many = len(rows) > MANY_MARKS
    looks: dict[str, Any] = {"linestyle": "none", "markeredgewidth": 0, "rasterized": many}
    looks |= {"marker": "s", "markersize": 1, "antialiased": False} if many else {"marker": "o", "markersize": 2.5}
    artists: list[Artist] = [*happened(ax, measurement)]
    artists += ax.plot(due[warm_up], latency[warm_up], color=WARM_UP, **looks)
    for name in measurement.placements:
        own, colour = (placement == name) & ~warm_up, look(measurement, name)["color"]
        artists += ax.plot(due[own], latency[own], color=colour, alpha=0.8, **looks)
        failed = due[own & unanswered]
        if failed.size:
            marks = {**looks, "marker": "|", "markersize": 6, "markeredgewidth": 0.8}
            artists += ax.plot(failed, np.full(failed.size, lanes[name]), color=colour, **marks)
        artists += _median(ax, due[own & ~unanswered], latency[own & ~unanswered], look(measurement, name), name)
    entries = [(WARM_UP, "o", "warm-up")] * bool(warm_up.any())
    entries += [("#555555", "|", "no answer in time")] * bool(unanswered.any())
    for colour, marker, label in entries:  # marks that can be seen, for the legend alone
        ax.plot([], [], color=colour, marker=marker, linestyle="none", markersize=4, markeredgewidth=1, label=label)
    legend(ax)
    ax.set(xlabel="due, s after the start of the trial", ylabel="latency, ms", xlim=(0, max(due.max(), 1e-3)))
    return artists


def happened(ax: Axes, measurement: Measurement) -> list[Artist]:
    """Shade from when to when each fault lasted, from the earliest begin to the latest end of all replications.

    What happened to one placement only says to which.
    """
    events = measurement.faults()
    if events.empty:
        return []
    artists: list[Artist] = []
    for (kind, _), alike in events.groupby(["fault", "at_s"]):
        begin, end, hit = alike["begin_s"].min(), alike["end_s"].max(), sorted(set(alike["placement"]))
        where = "" if len(hit) == len(measurement.placements) else f" ({', '.join(hit)})"
        artists.append(ax.axvspan(begin, end, facecolor="#e4e4e4", edgecolor="#8a8a8a", linewidth=0.6, zorder=0))
        at: dict[str, Any] = {"rotation": 90, "ha": "center", "va": "bottom", "fontsize": 7.5, "color": "#333333"}
        at |= {"bbox": {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8}, "zorder": 6}
        text = f"{FAULTS.get(str(kind), kind)}{where}"
        artists.append(ax.text((begin + end) / 2, 0.02, text, transform=ax.get_xaxis_transform(), **at))
    return artists


def _median(ax: Axes, due: FloatArray, latency: FloatArray, own: dict[str, Any], label: str) -> list[Artist]:
    """Draw the median latency over `due`, as many requests to a point as are left of all in `MEDIANS` points."""
    known = np.isfinite(latency)
    order = np.argsort(due[known], kind="stable")
    parts = np.array_split(order, max(1, min(MEDIANS, order.size // 10)))
    points = [(np.median(due[known][part]), np.median(latency[known][part])) for part in parts if part.size]
    x, y = np.array(points, dtype=float).reshape(-1, 2).T
    below = ax.plot(x, y, color="white", linewidth=3.2)
    return [*below, *ax.plot(x, y, label=label, **own)]


Draw = Callable[[Axes, "Measurement"], list[Artist]]
Panels = Mapping[Draw, str] | Sequence[str]
PANELS: dict[Draw, str] = {
    ecdf: "Latency distribution",
    tail: "The tail: how many are slower",
    breakdown: "Where the time goes",
    over_time: "Over time",
}


def chosen(panels: Panels) -> dict[Draw, str]:
    """Return the panels meant by their names, one or several; those given with titles as they are.

    Raises:
        ConfigurationError: no panel has that name.
    """
    if isinstance(panels, Mapping):
        return dict(panels)
    titles = PANELS | certainty.PANELS | tradeoff.PANELS
    known = {draw.__name__: draw for draw in titles}
    names = [panels] if isinstance(panels, str) else list(panels)
    if unknown := [name for name in names if name not in known]:
        raise ConfigurationError(f"no panel {unknown[0]!r}: there are {', '.join(known)}, or give a function its title")
    return {known[name]: titles[known[name]] for name in names}


def figure(measurement: Measurement, panels: Panels = PANELS, size: tuple[float, float] | None = None) -> ReportFigure:
    """Return the report's figure: `panels`, two beside each other; the verdict below unless VALID.

    `size` is (width, height) in inches; by default each panel has 4.5 by 3.3.
    """
    drawn = chosen(panels)
    columns = 1 if size and size[0] < PANEL_INCHES[0] else min(2, len(drawn))
    lines = math.ceil(len(drawn) / columns)
    with styled():
        report = ReportFigure(figsize=size or (PANEL_INCHES[0] * columns, PANEL_INCHES[1] * lines))
        axes = report.subplots(lines, columns, squeeze=False).flat
        for ax, (draw, title) in zip(axes, drawn.items(), strict=False):
            draw(ax, measurement)
            ax.set_title(title)
        for ax in list(axes)[len(drawn) :]:
            ax.set_axis_off()
        about = f"Latency of {' and '.join(measurement.placements)}, {measurement.verdict.word}"
        answer = measurement.answer()
        numbers = "; ".join(f"{number.label}: {number}" for number in answer.numbers)
        report.alt = f"{about}: {'; '.join(drawn.values())}. {answer} {numbers}."
        if not measurement.verdict.valid:
            report.note(str(measurement.verdict))
    return report
