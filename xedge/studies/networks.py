"""Figures and a table about networks: what was asked of links, what they did, and what each does to a service."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from xedge.core.extras import needed
from xedge.reports.publish import Prose
from xedge.results import figures as plots
from xedge.results import summary, words
from xedge.results.figures import ReportFigure, styled
from xedge.results.measurement import Measurement
from xedge.runs.calibration import Crossing
from xedge.scenario import link as network

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import HTML

LEVEL_MARKS = {"p50_ms": "o", "p95_ms": "s", "p99_ms": "^"}
ASKED, LOST = "#bbbbbb", "#b42318"


def figure(measurement: Measurement) -> ReportFigure:
    """Return the latency behind every network, and the added delay asked for against the one measured by echo."""
    with styled():
        made = ReportFigure(figsize=(9, 3.9))
        left, right = made.subplots(1, 2)
        plots.ecdf(left, measurement)
        left.set_title("Latency behind each network")
        asked_and_measured(right, measurement)
        right.set_title("Added delay, both ways: asked and measured")
        made.alt = f"Latency behind {', '.join(measurement.placements)}, and the delay that their links add."
    return made


def asked_and_measured(ax: Axes, measurement: Measurement) -> list[Artist]:
    """Draw p50, p95 and p99 of the delay that an echo measured against those asked for; on the line they agree."""
    checks = measurement.conditions.get("link_check") or {}
    artists: list[Artist] = []
    drawn = [0.0]
    for name, check in checks.items():
        asked, measured = check.get("requested_ms") or {}, check.get("measured_ms") or {}
        colour = plots.look(measurement, name)["color"]
        for level, marker in LEVEL_MARKS.items():
            if level in asked:
                artists += ax.plot(asked[level], measured[level], marker, color=colour, markersize=5, alpha=0.85)
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


def crossings(links: Mapping[str, Crossing]) -> ReportFigure:
    """Return a panel a link: the delay of every message over time, asked and measured; lost ones at the bottom."""
    with styled():
        made = ReportFigure(figsize=(9, 1.55 * len(links) + 0.5))
        axes = made.subplots(len(links), 1, sharex=True, squeeze=False)[:, 0]
        for ax, (name, crossing), look in zip(axes, links.items(), plots.LOOKS, strict=False):
            over_time(ax, crossing, look["color"])
            ax.set_title(name)
        axes[-1].set_xlabel("sent, s after the start")
        made.supylabel("added delay, both ways, ms", fontsize=9, color="#333333")
        made.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
        told = [f"{name}: {_range(one)}" for name, one in links.items()]
        made.alt = f"Delay of every message over time. {'; '.join(told)}."
    return made


def over_time(ax: Axes, crossing: Crossing, colour: str) -> list[Artist]:
    """Draw the delay of every message against when it was sent: asked as a line, measured as dots, losses as ticks."""
    sent, asked, measured = crossing
    many = len(sent) > plots.MANY_MARKS
    artists: list[Artist] = []
    artists += ax.plot(sent, asked, color=ASKED, linewidth=1.2, label="asked")
    dots: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 2.2, "markeredgewidth": 0}
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
    told = (
        f"{np.median(measured):.3g} ms at the median, {measured.max():.3g} ms at most" if measured.size else "nothing"
    )
    return f"{told}, {lost} of {len(crossing.sent_s)} lost"


def published(names: Iterable[str] | None = None) -> HTML:
    """Return `network.presets_table` in full length, for a notebook."""
    with needed("lab", "tables"):
        import pandas as pd
        from IPython.display import HTML

    with pd.option_context("display.max_colwidth", None):
        return HTML(network.presets_table(names).to_html(border=0))  # type: ignore[no-untyped-call]


def what_dominates(measurement: Measurement) -> pd.DataFrame:
    """Return a row a placement: p50 and p99 of the latency, and what takes how much of its mean."""
    with needed("lab", "tables"):
        import pandas as pd

    rows = {}
    for name in measurement.placements:
        shares = _shares(measurement, name)
        told = {part: words.percent(share) for part, share in shares.items()}
        p50, p99 = _told(measurement, name, "")
        rows[name] = {"p50, ms": p50, "p99, ms": p99, "mostly": max(shares, key=lambda part: shares[part])} | told
    return pd.DataFrame.from_dict(rows, orient="index")


def conclusion(measurement: Measurement) -> Prose:
    """Return a sentence a placement, and the verdict where it is not VALID: how fast, and what dominates."""
    found = [] if measurement.verdict.valid else [f"{measurement.verdict}."]
    for name in measurement.placements:
        (p50, p99), shares = _told(measurement, name, " ms"), _shares(measurement, name)
        most = max(shares, key=lambda part: shares[part])
        of_mean = f"{words.percent(shares[most])} of the mean latency is {most}"
        found.append(f"{name}: p50 {p50}, p99 {p99}; {of_mean}.")
    return Prose("\n\n".join(found))


def _told(measurement: Measurement, name: str, unit: str) -> tuple[str, str]:
    """The p50 and p99 of a placement as people read them; none of one without a steady state."""
    if name in measurement.verdict.saturated:
        return "saturated", "saturated"
    estimates, timeout_s = summary.estimates(measurement.rows, name), measurement.conditions.get("timeout_s")
    return words.milliseconds(estimates[0.5], timeout_s, unit), words.milliseconds(estimates[0.99], timeout_s, unit)


def _shares(measurement: Measurement, name: str) -> dict[str, float]:
    """What share of the mean latency is spent where; without emulated links the first is the broker alone."""
    table = measurement.breakdown()
    share = table[table["placement"] == name].set_index("part")["share"].fillna(0.0)
    crossing = float(share[["uplink", "downlink", "residual"]].sum())
    late = float(share["lateness"])
    inside = {part: float(share[part]) for part in ("queueing", "inference")}
    return {"network and broker": crossing, **inside, "a late sender": late}
