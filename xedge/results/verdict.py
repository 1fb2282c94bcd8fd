"""Whether rows make a result, and every doubt about it in words: pure rules over rows and conditions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from xedge.results.rows import measured, milliseconds_between, rates_hz, replications, trials
from xedge.results.statistics import Estimate, episodes, quantile
from xedge.results.steadiness import Steadiness, steadiness
from xedge.results.summary import estimates
from xedge.results.words import count, level_name, number, percent

LATE_MS = 1.0
LATE_SHARE = 0.01
LATENESS_OF_P99 = 0.05
CEILING_SHARE = 0.2
FATES = {"lost": "lost", "timeout": "timed out", "error": "answered with an error", "not_sent": "not sent"}
EPISODES = 1.0  # independent ones beyond a percentile, for each section; below, a 95 % interval covers under 90 %
EPISODES_OF_A_BATCH = 1.5  # batches of one replication are less independent than replications are
LINK_TOLERANCE_MS = {"p50": 0.5, "p99": 2.0}

Word = Literal["VALID", "INVALID", "SATURATED"]
Severity = Literal["severe", "warning", "note"]


@dataclass(frozen=True)
class Doubt:
    """One reason to doubt a figure: about a placement, or about all of them (None)."""

    placement: str | None
    severity: Severity
    text: str

    def __str__(self) -> str:
        return f"{self.placement}: {self.text}" if self.placement else self.text


@dataclass(frozen=True)
class Verdict:
    """VALID, INVALID or SATURATED, with the reasons: of the whole, and of each placement in `placements`."""

    word: Word
    reasons: tuple[Doubt, ...] = ()
    placements: Mapping[str, Word] = field(default_factory=dict)

    @property
    def valid(self) -> bool:
        """Whether the figures may be published as they are."""
        return self.word == "VALID"

    @property
    def saturated(self) -> tuple[str, ...]:
        """The placements that have no steady state, and so no percentiles."""
        return tuple(name for name, word in self.placements.items() if word == "SATURATED")

    def __str__(self) -> str:
        return f"{self.word}: {'; '.join(map(str, self.reasons))}" if self.reasons else self.word


def placements_of(rows: pd.DataFrame) -> list[str]:
    """Return the placements in the order in which the rows first name them."""
    return [str(name) for name in rows["placement"].unique()]


def verdict(rows: pd.DataFrame, conditions: Mapping[str, Any]) -> Verdict:
    """Judge `rows` (the schema of `Measurement`) as docs/method.md says.

    INVALID: the sender could not keep the schedule (unless `conditions["strict"]` is False: then it is a
    doubt), or no request was answered. SATURATED: a placement could not keep up with the rate offered, in at
    least half of its trials; a host that was busy for one trial saturates nothing and is a doubt.
    """
    strict = bool(conditions.get("strict", True))
    words: dict[str, Word] = {}
    reasons: list[Doubt] = []
    for placement in placements_of(rows):
        broken = [*_unanswered(rows, placement), *(_late(rows, placement) if strict else ())]
        stuck = [] if broken else list(_saturated(rows, placement, conditions))
        words[placement] = "INVALID" if broken else "SATURATED" if stuck else "VALID"
        reasons += [*broken, *stuck]
    ranked: tuple[Word, ...] = ("INVALID", "SATURATED", "VALID")
    return Verdict(min(words.values(), key=ranked.index, default="INVALID"), tuple(reasons), words)


def doubts(rows: pd.DataFrame, conditions: Mapping[str, Any]) -> list[Doubt]:
    """Return every doubt about `rows` in words, severe ones first; the verdict's reasons are among them."""
    found: list[Doubt] = []
    for placement in placements_of(rows):
        known = estimates(rows, placement)
        found += _unanswered(rows, placement)
        found += _late(rows, placement)
        found += _saturated(rows, placement, conditions)
        found += _failures(rows, placement)
        found += _counts(placement, known, conditions)
        found += _alike(rows, placement, known)
        found += _transient(rows, placement, conditions)
        found += _unsteady(rows, placement, conditions)
        found += _drift(rows, placement)
        found += _floor(rows, placement, known, conditions)
        found += _link(placement, conditions)
    if rows["replication"].nunique() == 1:
        text = "one replication only: the intervals come from its batches and say nothing about a next run"
        found.append(Doubt(None, "note", text))
    found += _busy(conditions)
    order = ("severe", "warning", "note")
    return sorted(found, key=lambda doubt: order.index(doubt.severity))


def _unanswered(rows: pd.DataFrame, placement: str) -> Iterator[Doubt]:
    own = measured(rows, placement)
    if not (own["status"] == "ok").any():
        text = f"none of {count(len(own))} requests was answered" if len(own) else "no request after the warm-up"
        yield Doubt(placement, "severe", text)


def _late(rows: pd.DataFrame, placement: str) -> Iterator[Doubt]:
    """Lateness: over 1 % of the requests over 1 ms late, or p99 lateness over 5 % of the p99 reported."""
    own = measured(rows, placement)
    lateness = milliseconds_between(own, "due_ns", "sent_ns")
    never = (own["status"] == "not_sent").to_numpy(dtype=bool)
    late = np.mean((lateness > LATE_MS) | never) if len(own) else 0.0
    if late > LATE_SHARE:
        yield Doubt(
            placement, "severe", f"{percent(late, 1)} of the requests left over 1 ms late or never (at most 1 %)"
        )
    p99 = estimates(rows, placement)[0.99].value
    sent = lateness[~np.isnan(lateness)]
    if p99 and math.isfinite(p99) and sent.size and quantile(sent, 0.99) > LATENESS_OF_P99 * p99:
        text = f"p99 lateness of the sender {quantile(sent, 0.99):.3g} ms is over 5 % of the p99 of {p99:.4g} ms"
        yield Doubt(placement, "severe", text)


def _steadiness(rows: pd.DataFrame, placement: str, conditions: Mapping[str, Any]) -> list[Steadiness]:
    found = []
    for _, trial in trials(rows, placement):
        if _loses(conditions, placement):  # what the link was told to lose is no sign of a service too slow
            trial = trial[trial["status"] != "lost"]
        unsent = trial["status"].isin(["error", "not_sent"]) & trial["received_ns"].isna()
        trial = trial[~unsent]
        due = trial["due_ns"].to_numpy(dtype=np.float64)
        received = trial["received_ns"].to_numpy(dtype=np.float64, na_value=np.inf)
        one = steadiness(due, received, np.min(due[~trial["warm_up"]], initial=np.inf))
        found += [one] if one else []
    return found


def _loses(conditions: Any, placement: str) -> bool:
    """Whether the scenario asks the placement's link to lose messages."""
    scenario = conditions.get("scenario") or {}
    return _has_loss((scenario.get("placements") or {}).get(placement))


def _has_loss(part: Any) -> bool:
    if isinstance(part, Mapping):
        lossy = bool(part.get("loss")) or any(ms is None for _, ms in part.get("trace_ms") or ())
        return lossy or any(map(_has_loss, part.values()))
    return isinstance(part, Sequence) and not isinstance(part, str) and any(map(_has_loss, part))


def _saturated(rows: pd.DataFrame, placement: str, conditions: Mapping[str, Any]) -> Iterator[Doubt]:
    """Saturation, in at least half of the trials."""
    found = _steadiness(rows, placement, conditions)
    if not (measured(rows, placement)["status"] == "ok").any():
        return
    if (stuck := [one for one in found if one.saturated]) and 2 * len(stuck) >= len(found):
        worst = max(stuck, key=lambda one: one.backlog[-1])
        signs = "; ".join(_signs(worst))
        rates = rates_hz(rows, placement)
        text = f"could not keep up with {number(rates['offered_hz'])} requests/s: {signs}; no steady state"
        yield Doubt(placement, "severe", text)


def _signs(one: Steadiness) -> Iterator[str]:
    if one.answers_missing:
        yield f"answered {count(sum(one.answered))} of {count(sum(one.offered))} requests as they came"
    if one.backlog_growing:
        yield f"backlog grew from {number(one.backlog[0])} to {number(one.backlog[-1])} requests"
    if one.slowing:
        yield f"p50 of the three windows {', '.join(number(1e-6 * median) for median in one.medians)} ms"
    if one.throughput_falling:
        yield f"answers in the three windows {', '.join(map(count, one.answered))}"


def _unsteady(rows: pd.DataFrame, placement: str, conditions: Mapping[str, Any]) -> Iterator[Doubt]:
    found = _steadiness(rows, placement, conditions)
    odd = sum(one.saturated or one.quickening for one in found)
    if odd and not list(_saturated(rows, placement, conditions)):
        text = f"{odd} of {len(found)} trials not steady: p50 moved by over 10 % (a busy host? warm-up?)"
        yield Doubt(placement, "warning", text)


def _failures(rows: pd.DataFrame, placement: str) -> Iterator[Doubt]:
    own = measured(rows, placement)
    counts = own["status"].value_counts()
    failed = {status: int(counts.get(status, 0)) for status in FATES}
    if total := sum(failed.values()):
        parts = ", ".join(f"{count(n)} {FATES[status]}" for status, n in failed.items() if n)
        severity: Severity = "severe" if total > LATE_SHARE * len(own) else "warning"
        yield Doubt(placement, severity, f"of {count(len(own))} requests {parts}")


def _counts(placement: str, known: Mapping[float, Estimate], conditions: Mapping[str, Any]) -> Iterator[Doubt]:
    few = [(p, estimate) for p, estimate in known.items() if estimate.too_few]
    if few:
        floors = ", ".join(f"{level_name(p)} (n < {estimate.needed})" for p, estimate in few)
        yield Doubt(placement, "warning", f"{few[0][1].n} requests are too few for {floors}")
    beyond = [level_name(p) for p, e in known.items() if e.value is not None and math.isinf(e.value)]
    if beyond:
        limit = conditions.get("timeout_s")
        than = f"{1000 * limit:.0f} ms, the time-out" if limit else "the time-out"
        yield Doubt(placement, "severe", f"{', '.join(beyond)} not known, only that it is more than {than}")


def _alike(rows: pd.DataFrame, placement: str, known: Mapping[float, Estimate]) -> Iterator[Doubt]:
    """Neighbouring requests so alike that the interval is too short: under one independent episode a section."""
    arrays = list(replications(rows, placement).values())
    needed = EPISODES if len(arrays) > 1 else EPISODES_OF_A_BATCH
    found = {p: episodes(arrays, p) for p, e in known.items() if e.low is not None}
    if few := [p for p, number_of in found.items() if number_of < needed * known[p].sections]:
        levels = ", ".join(f"{level_name(p)} ({found[p]:.2g})" for p in few)
        text = f"{levels}: fewer than {needed * known[few[0]].sections:g} independent slow episodes; the interval may"
        yield Doubt(placement, "warning", f"{text} miss the truth, make the trials longer")


def _drift(rows: pd.DataFrame, placement: str) -> Iterator[Doubt]:
    """Fit a line through the replications' p50: over 10 % from end to end, and significant at 1 %."""
    medians = [quantile(values, 0.5) for values in replications(rows, placement).values() if values.size >= 30]
    if len(medians) < 4 or not np.isfinite(medians).all():
        return
    at = np.arange(len(medians)) - (len(medians) - 1) / 2
    slope = float(at @ medians) / float(at @ at)
    residual = np.asarray(medians) - np.mean(medians) - slope * at
    error = math.sqrt(float(residual @ residual) / (len(medians) - 2) / float(at @ at))
    change = slope * (len(medians) - 1)
    if abs(change) > 0.1 * np.mean(medians) and abs(slope) > stdtrit(len(medians) - 2, 0.995) * error:
        text = f"p50 drifted over the {len(medians)} replications, {medians[0]:.3g} to {medians[-1]:.3g} ms"
        yield Doubt(placement, "warning", text)


def _floor(
    rows: pd.DataFrame, placement: str, known: Mapping[float, Estimate], conditions: Mapping[str, Any]
) -> Iterator[Doubt]:
    """Noise floor: p50 within twice that of the echo, or offered more than 20 % of the echo's ceiling."""
    floor = conditions.get("noise_floor") or {}
    p50, of_echo, ceiling = known[0.5].value, floor.get("p50_ms"), floor.get("ceiling_hz")
    if p50 is not None and of_echo and p50 < 2 * of_echo:
        text = f"p50 of {p50:.3g} ms is within twice the noise floor of {of_echo:.3g} ms: mostly the broker"
        yield Doubt(placement, "warning", text)
    offered = rates_hz(rows, placement)["offered_hz"]
    if ceiling and offered > CEILING_SHARE * ceiling:
        share = f"{percent(offered / ceiling)} of the ceiling of {number(ceiling)}/s (at most 20 %)"
        text = f"{number(offered)} requests/s are {share}"
        yield Doubt(placement, "warning", text)


def _transient(rows: pd.DataFrame, placement: str, conditions: Mapping[str, Any]) -> Iterator[Doubt]:
    """Warm-up: the transient of the queue is longer than what a short trial could set apart."""
    needed = ((conditions.get("services") or {}).get(placement) or {}).get("transient_requests")
    kept = min((int(trial["warm_up"].sum()) for _, trial in trials(rows, placement)), default=0)
    if needed is not None and kept < needed:
        text = f"began empty: {count(needed)} requests of warm-up were wanted, {count(kept)} could be set apart; "
        yield Doubt(placement, "warning", text + "latencies lean low, make the trials longer")


def _busy(conditions: Mapping[str, Any]) -> Iterator[Doubt]:
    """More runnable programs than cores before the measurement began: what replications minutes apart would show."""
    host = conditions.get("host") or {}
    load, cores = host.get("load_average_before"), host.get("cores")
    if load and cores and load > cores:
        text = f"the machine was busy before this began (load average {load:.3g} on {cores} cores)"
        yield Doubt(None, "warning", f"{text}: another run may differ by more than the intervals say")


def _link(placement: str, conditions: Mapping[str, Any]) -> Iterator[Doubt]:
    """Links: the measured delay off from the requested one, at a level or message by message, or other losses."""
    check = (conditions.get("link_check") or {}).get(placement) or {}
    requested, got = check.get("requested_ms") or {}, check.get("measured_ms") or {}
    off_ms, lost = (check.get("off_ms") or {}).get("p50_ms", 0.0), check.get("lost") or {}
    if off_ms > LINK_TOLERANCE_MS["p50"]:
        yield Doubt(placement, "warning", f"the link was off by {off_ms:.3g} ms, message by message, at the median")
    if lost.get("differing"):
        text = f"{lost['measured']} of the link's messages were lost where {lost['requested']} were asked for"
        yield Doubt(placement, "warning", f"{text}: {lost['differing']} differ")
    for level, tolerance in LINK_TOLERANCE_MS.items():
        asked, delay = (delays.get(f"{level}_ms", delays.get(level)) for delays in (requested, got))
        if asked is not None and delay is not None and abs(delay - asked) > tolerance:
            text = f"the link's {level} was {delay:.4g} ms where {asked:.4g} ms was asked for"
            yield Doubt(placement, "warning", text)
