"""How a measurement shows itself: the answer, its numbers and the doubts; a table in words; as text and as HTML."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from xedge.core.tables import html_table, text_table
from xedge.results import words
from xedge.results.doubt import said_once
from xedge.results.evidence import LEVELS
from xedge.results.unbeaten import unbeaten

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from xedge.results.conditions import Conditions
    from xedge.results.doubt import Doubt
    from xedge.results.measurement import Measurement
    from xedge.results.statistics import Estimate

PACKAGES = ("xedge", "python", "onnxruntime", "torch", "paho-mqtt")  # the versions worth a line; all are in the JSON
BADGES = {"VALID": ("✓", "#1a7f37"), "SATURATED": ("▲", "#9a6700"), "INVALID": ("✗", "#b42318")}
DOUBTED = ("!", "#9a6700")  # VALID by its word, with a severe doubt: not strict, or requests that failed
MOST_EXPLAINED = 5  # placements compared and taken apart in words; of more the table and the figures tell
ON_TOP = "on-top"  # the class of what a page shows at its top, and so not once more


def as_text(measurement: Measurement) -> str:
    """Return answer, numbers, doubts, table and what its columns mean, for a terminal."""
    answer, table = measurement.answer(), text_table(_table(measurement), right=True)
    numbers = [f"  {number.label}: {number}" for number in answer.numbers]
    listed = [f"  - {line}" for line in doubt_lines(measurement.checks())] or ["  no check raised a doubt"]
    verdict = f"Measurement: {standing(measurement)}"
    return "\n".join([str(answer), *numbers, verdict, *listed, table, _method(measurement)])


def as_html(measurement: Measurement) -> str:
    """Return the same for a notebook, with the conditions."""
    answer, conditions = measurement.answer(), measurement.typed_conditions
    mark, colour = DOUBTED if is_doubted(measurement) else BADGES[measurement.verdict.word]
    style = f"background:{colour};color:#fff;font-weight:bold;padding:1px 8px;border-radius:3px"
    badge = f'<span style="{style}">{mark} {standing(measurement)}</span>'
    numbers = "".join(f"<li>{escape(number.label)}: <b>{escape(str(number))}</b></li>" for number in answer.numbers)
    heads, *lines = _table(measurement)
    lines = [[cell.replace("–", "\u2060–\u2060") for cell in line] for line in lines]  # an interval stays in one line
    return (
        f'<div><div class="{ON_TOP}"><p><b>{escape(str(answer))}</b></p><ul>{numbers}</ul></div>'
        f"<p>{badge} {escape(_headline(conditions))}</p>"
        f'<div class="{ON_TOP}">{doubts_html(measurement)}</div>{html_table(heads, lines)}'
        f"<p><small>{escape(_method(measurement))}</small></p>"
        f"<p><small>{escape(_surroundings(conditions))}</small></p></div>"
    )


def doubts_html(measurement: Measurement) -> str:
    """Return what would make it wrong, each doubt once and with what to do, as a list."""
    lines = "".join(f"<li>{escape(line)}</li>" for line in doubt_lines(measurement.checks()))
    return f"What would make it wrong:<ul>{lines}</ul>" if lines else "No check raised a doubt."


def doubt_lines(doubts: Sequence[Doubt]) -> list[str]:
    """Return a line a remedy: "severe: edge: 3 % of the requests were not sent. To do: lower the rate"."""
    return [
        f"{doubt.severity}: {doubt}{f'. To do: {doubt.remedy}' if doubt.remedy else ''}" for doubt in said_once(doubts)
    ]


def is_doubted(measurement: Measurement) -> bool:
    """Whether a VALID measurement has a severe doubt all the same: nothing to show in green."""
    return measurement.verdict.valid and any(doubt.severity == "severe" for doubt in measurement.checks())


def standing(measurement: Measurement) -> str:
    """Return the verdict's word, and that there are severe doubts where the word does not say it."""
    return f"{measurement.verdict.word}{', but severe doubts' * is_doubted(measurement)}"


def explanation(measurement: Measurement) -> str:
    """Return a paragraph in plain words: who is faster by how much, how fast each is, where the time goes."""
    placements = measurement.placements
    first, *others = sorted(placements, key=lambda name: name in measurement.verdict.saturated)
    few = len(placements) <= MOST_EXPLAINED
    sentences = [str(measurement.compare(first, other)) for other in others] if few else []
    sentences += [f"{name} {_speed(measurement, name)}." for name in placements]
    if few:
        sentences += [f"at {name} {_where(of.breakdown())}." for name, of in measurement.evidence.items()]
    known = {name: of.accuracy for name, of in measurement.evidence.items() if of.accuracy is not None}
    if known:
        each = ", ".join(f"{name} {words.accuracy(share)}" for name, share in known.items())
        sentences += [f"of the answers were right: {each}.", *_choice(measurement, len(known))]
    return " ".join(f"{sentence[:1].upper()}{sentence[1:]}" for sentence in sentences)


def conclusion(measurement: Measurement) -> str:
    """Return the answer, the explanation and the doubts as one paragraph."""
    doubts = " ".join(f"{line[:1].upper()}{line[1:]}." for line in doubt_lines(measurement.checks()))
    verdict = "" if measurement.verdict.valid else f"{measurement.verdict.word}. "
    return f"{measurement.answer()} {verdict}{explanation(measurement)} {doubts or 'No check raised a doubt.'}"


def conclusion_html(measurement: Measurement) -> str:
    """Return the conclusion for a notebook; what a page has at its top is marked for it to leave out."""
    return (
        f'<div class="{ON_TOP}"><p><b>{escape(str(measurement.answer()))}</b></p></div>'
        f"<p>{escape(explanation(measurement))}</p>"
        f'<div class="{ON_TOP}">{doubts_html(measurement)}</div>'
    )


def _choice(measurement: Measurement, of: int) -> list[str]:
    """Return between which placements to choose, where several are judged by speed and accuracy."""
    left = unbeaten(measurement)
    if of < 2 or not left:
        return []
    if len(left) == of:
        return ["no placement is shown to beat another in both speed and accuracy."]
    why = "each of the others is slower than one of these and not right more often, or right less often and not faster"
    return [f"worth choosing from {'is' if len(left) == 1 else 'are'} {', '.join(left)}: {why}."]


def _latency(measurement: Measurement, placement: str, p: float, unit: str = " ms") -> str:
    """Return the percentile as people read it, or why there is none."""
    if placement in measurement.verdict.saturated:
        return "saturated"
    return words.milliseconds(measurement.estimate(placement, p), measurement.typed_conditions.timeout_s, unit)


def _speed(measurement: Measurement, placement: str) -> str:
    rates = measurement.evidence[placement].rates_hz
    offered, answered = (words.number(rates[rate]) for rate in ("offered_hz", "answered_hz"))
    if placement in measurement.verdict.saturated:
        return f"was saturated: offered were {offered} requests/s, answered {answered}/s"
    half, most = (
        _latency(measurement, placement, p) + words.senders_share(measurement.estimate(placement, p))
        for p in (0.5, 0.99)
    )
    return f"was offered {offered} requests/s and answered half of them within {half}, 99 % within {most}"


def _table(measurement: Measurement) -> list[list[str]]:
    """Return the summary in words: the heads, then a row a placement."""
    heads = ["placement", "requests", "offered/s", "sent/s", "answered/s", "failed"]
    judged = {"accuracy, %": "accuracy", "ROC-AUC": "roc_auc"}
    known = {head: of for head, of in judged.items() if any(getattr(e, of) for e in measurement.evidence.values())}
    table = [[*heads, *known, *(f"{words.level_name(p)}, ms" for p in LEVELS), "late ≤, ms"]]
    for name, of in measurement.evidence.items():
        requests, p99 = len(of.measured), of.estimates[0.99]
        counts = [words.count(requests), *(f"{rate:.4g}" for rate in of.rates_hz.values())]
        counts.append(words.count(requests - of.counts["ok"]))
        steady = p99.value is not None and name not in measurement.verdict.saturated
        latencies = [_latency(measurement, name, p, "") for p in LEVELS]
        right = [_share(getattr(of, each), head.endswith("%")) for head, each in known.items()]
        table.append([name, *counts, *right, *latencies, words.number(p99.late, 2) if steady else ""])
    return table


def _share(share: Estimate | None, in_percent: bool) -> str:
    """Return an accuracy in percent or an area under the curve as people read it; "" where there is none."""
    if share is None or share.value is None:
        return ""
    if in_percent:
        return words.accuracy(share).removesuffix(" %")
    ends = f" ({share.low:.3f}–{share.high:.3f})" if share.low is not None and share.high is not None else ""
    return f"{share.value:.3f}{ends}"


def _where(parts: pd.DataFrame) -> str:
    """Return "the time goes to inference (62 %), uplink (20 %)"."""
    shares = parts[parts["part"] != "latency"].nlargest(3, "share")
    named = [f"{row.part} ({words.percent(row.share)})" for row in shares.itertuples() if row.share >= 0.05]
    return f"the time goes to {', '.join(named)} of the mean latency" if named else "nothing was answered"


def _method(measurement: Measurement) -> str:
    """Return what the columns mean, and the noise floor to read them against."""
    runs = measurement.rows["replication"].nunique()
    kind = f"{runs} replications" if runs > 1 else "the batches of one replication"
    text = f"Latency from the time a request was due; in brackets: the 95 % interval (Student t over {kind}). "
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
    kind = None if broker.version and (broker.kind or "") in broker.version else broker.kind
    parts = [" ".join(filter(None, (kind, broker.version, broker.tls))), host.cpu]
    parts += [f"{host.cores} cores" if host.cores else None, host.os]
    parts += [f"{name} {conditions.versions[name]}" for name in PACKAGES if name in conditions.versions]
    parts += [None if seed is None else f"seed {seed}"]
    if commit := conditions.git_commit.commit:
        parts.append(f"commit {commit[:10]}{' (changed)' * conditions.git_commit.dirty}")
    return " · ".join(filter(None, [*parts, conditions.started_at]))
