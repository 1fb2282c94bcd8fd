"""How a measurement shows itself: a table in words, its text and HTML forms, and its conclusion."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

from xedge.core.tables import html_table
from xedge.results import words
from xedge.results.evidence import LEVELS

if TYPE_CHECKING:
    import pandas as pd

    from xedge.results.conditions import Conditions
    from xedge.results.measurement import Measurement

PACKAGES = ("xedge", "python", "onnxruntime", "torch", "paho-mqtt")  # the versions worth a line; all are in the JSON
BADGES = {"VALID": ("✓", "#1a7f37"), "SATURATED": ("▲", "#9a6700"), "INVALID": ("✗", "#b42318")}


def as_text(measurement: Measurement) -> str:
    """Return verdict, table, what the columns mean, and doubts, for a terminal."""
    lines = _table(measurement)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    doubts = [f"  - {doubt}" for doubt in measurement.checks()] or ["  no check raised a doubt"]
    return "\n".join([f"Measurement: {measurement.verdict.word}", *table, _method(measurement), *doubts])


def as_html(measurement: Measurement) -> str:
    """Return the same for a notebook, with the conditions."""
    word, conditions = measurement.verdict.word, measurement.typed_conditions
    mark, colour = BADGES[word]
    style = f"background:{colour};color:#fff;font-weight:bold;padding:1px 8px;border-radius:3px"
    badge = f'<span style="{style}">{mark} {word}</span>'
    heads, *lines = _table(measurement)
    texts = "".join(f"<li>{doubt.severity}: {escape(str(doubt))}</li>" for doubt in measurement.checks())
    return (
        f"<div><p>{badge} {escape(_headline(conditions))}</p>{html_table(heads, lines)}"
        f"<p><small>{escape(_method(measurement))}</small></p>"
        f"{f'Doubts:<ul>{texts}</ul>' if texts else 'No check raised a doubt.'}"
        f"<p><small>{escape(_surroundings(conditions))}</small></p></div>"
    )


def conclusion(measurement: Measurement) -> str:
    """Return a paragraph in plain words: how fast, who is faster by how much, where the time goes, doubts."""
    verdict, placements = measurement.verdict, measurement.placements
    sentences = [] if verdict.valid else [f"{verdict}."]
    if len(placements) > 1:
        steady = {name: of for name, of in measurement.evidence.items() if name not in verdict.saturated}
        medians = {name: math.inf if (p50 := of.estimates[0.5].value) is None else p50 for name, of in steady.items()}
        first, *others = sorted(placements, key=lambda name: medians.get(name, math.inf))
        sentences += [str(measurement.compare(first, other)) for other in others]
    sentences += [f"{name} {_speed(measurement, name)}." for name in placements]
    sentences += [f"at {name} {_where(of.breakdown())}." for name, of in measurement.evidence.items()]
    sentences = [sentence[:1].upper() + sentence[1:] for sentence in sentences]
    doubts = [str(doubt) for doubt in measurement.checks() if doubt not in verdict.reasons]
    none = "No check raised a doubt." if verdict.valid else "No further doubt."
    return " ".join([*sentences, f"Doubts: {'; '.join(doubts)}." if doubts else none])


def _latency(measurement: Measurement, placement: str, p: float, unit: str = " ms") -> str:
    """Return the percentile as people read it, or why there is none."""
    if placement in measurement.verdict.saturated:
        return "saturated"
    return words.milliseconds(measurement.estimate(placement, p), measurement.typed_conditions.timeout_s, unit)


def _speed(measurement: Measurement, placement: str) -> str:
    rates = measurement.evidence[placement].rates_hz
    answered = f"{words.number(rates['answered_hz'])} of {words.number(rates['offered_hz'])} requests/s"
    if placement in measurement.verdict.saturated:
        return f"was saturated: it answered {answered}"
    half, most = (
        _latency(measurement, placement, p) + words.senders_share(measurement.estimate(placement, p))
        for p in (0.5, 0.99)
    )
    return f"answered {answered}, half of them within {half} and 99 % within {most}"


def _table(measurement: Measurement) -> list[list[str]]:
    """Return the summary in words: the heads, then a row a placement."""
    heads = ["placement", "requests", "offered/s", "sent/s", "answered/s", "failed"]
    table = [[*heads, *(f"{words.level_name(p)}, ms" for p in LEVELS), "late ≤, ms"]]
    for name, of in measurement.evidence.items():
        requests, p99 = len(of.measured), of.estimates[0.99]
        counts = [words.count(requests), *(f"{rate:.4g}" for rate in of.rates_hz.values())]
        counts.append(words.count(requests - of.counts["ok"]))
        known = p99.value is not None and name not in measurement.verdict.saturated
        latencies = [_latency(measurement, name, p, "") for p in LEVELS]
        table.append([name, *counts, *latencies, f"{p99.late:.2g}" if known else ""])
    return table


def _where(parts: pd.DataFrame) -> str:
    """Return "the time goes to inference (62 %), uplink (20 %)"."""
    shares = parts[parts["part"] != "latency"].nlargest(3, "share")
    named = [f"{row.part} ({words.percent(row.share)})" for row in shares.itertuples() if row.share >= 0.05]
    return f"the time goes to {', '.join(named)} of the mean latency" if named else "nothing was answered"


def _method(measurement: Measurement) -> str:
    """Return what the columns mean, and the noise floor to read them against."""
    runs = measurement.rows["replication"].nunique()
    kind = f"{runs} replications" if runs > 1 else "the batches of one replication"
    text = f"Latency from the time a request was due; ± is a 95 % interval (Student t over {kind}). "
    text += "The last column is what a late sender may have added to the p99 at most."
    floor = measurement.typed_conditions.noise_floor
    known = (("p50", floor.p50_ms), ("p95", floor.p95_ms), ("p99", floor.p99_ms))
    levels = [f"{level} {ms:.3g}" for level, ms in known if ms is not None]
    return f"{text} Noise floor (echo): {', '.join(levels)} ms." if levels else text


def _headline(conditions: Conditions) -> str:
    workload, runs = conditions.scenario.workload, conditions.replications
    parts = [conditions.scenario.model, workload.kind]
    parts.append(None if workload.rate_hz is None else f"{workload.rate_hz:g} requests/s")
    parts.append(None if workload.duration_s is None else f"{workload.duration_s:g} s")
    parts.append(f"{runs} replication{'s' * (runs != 1)}" if runs else None)
    return " · ".join(filter(None, parts))


def _surroundings(conditions: Conditions) -> str:
    """Return one line of conditions: broker, host, versions, seed, commit, time."""
    broker, host, seed = conditions.broker, conditions.host, conditions.scenario.seed
    parts = [" ".join(filter(None, (broker.kind, broker.version))), host.cpu]
    parts += [f"{host.cores} cores" if host.cores else None, host.os]
    parts += [f"{name} {conditions.versions[name]}" for name in PACKAGES if name in conditions.versions]
    parts += [None if seed is None else f"seed {seed}"]
    if commit := conditions.git_commit.commit:
        parts.append(f"commit {commit[:10]}{' (changed)' * conditions.git_commit.dirty}")
    return " · ".join(filter(None, [*parts, conditions.started_at]))
