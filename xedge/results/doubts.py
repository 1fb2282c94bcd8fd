"""Every doubt about figures in words, each with what to do about it: rules over what the rows and conditions say."""

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import get_args

import numpy as np
from scipy.special import stdtrit

from xedge.results.broken import disrupted, reconnected
from xedge.results.comparison import could_turn
from xedge.results.doubt import LESS, LONGER, MORE, PATIENCE, QUIETER, SETTLE, Doubt, Severity
from xedge.results.evidence import COMPARED_LEVELS, Evidence
from xedge.results.links import link, one_client
from xedge.results.statistics import LEAST_IN_TAIL, episodes, quantile
from xedge.results.steadiness import Steadiness
from xedge.results.words import count, level_name, number, percent

LATE_SHARE = 0.10  # of a percentile may be due to the sender, or as much as half of its interval
FATES = {"lost": "lost", "timeout": "timed out", "overloaded": "refused because the service's queue was full"}
FATES |= {"error": "answered with an error", "not_sent": "not sent"}


def doubts(placements: Sequence[Evidence]) -> list[Doubt]:
    """Return every doubt in words, severe ones first; the verdict's reasons are among them."""
    listed = [doubt for of in placements for rule in RULES for doubt in rule(of)]
    listed += [*turned_comparisons(placements), *replicated(placements), *surroundings(placements[0])]
    return sorted(listed, key=lambda doubt: get_args(Severity).index(doubt.severity))


def unanswered(of: Evidence) -> Iterator[Doubt]:
    """No request was answered, or the service ended by itself: what was not answered then tells of no place."""
    for trial in of.conditions.trials:
        if trial.placement == of.placement and trial.failure:
            text = f"the service ended in replication {trial.replication}: {trial.failure}"
            yield Doubt(of.placement, "severe", text, "mend what ended it, then measure again")
    if not of.counts["ok"]:
        requests = len(of.measured)
        text = f"none of {count(requests)} requests was answered" if requests else "no request after the warm-up"
        yield Doubt(of.placement, "severe", text, "see that the service runs and takes these inputs (xedge health)")


def unsent(of: Evidence) -> Iterator[Doubt]:
    """Over 1 % of the requests were not sent, though there was a broker: the service had less to do than was asked."""
    share = int((of.quiet["status"] == "not_sent").sum()) / max(len(of.measured), 1)
    if share > 0.01:
        yield Doubt(of.placement, "severe", f"{percent(share, 1)} of the requests were not sent (at most 1 %)", QUIETER)


def late(of: Evidence) -> Iterator[Doubt]:
    """The sender's share of a percentile exceeds `LATE_SHARE` of it and half the interval that sampling gives it."""
    known = {p: (e.value, e.late, e.half_width or 0.0) for p, e in of.estimates.items() if e.value is not None}
    limit_ms = of.conditions.timeout_ms
    if excessive := [p for p, (ms, of_it, half) in known.items() if of_it > max(LATE_SHARE * min(ms, limit_ms), half)]:
        worst = max(excessive, key=lambda p: known[p][1] / (known[p][0] or 1.0))
        value, late_ms, _ = known[worst]
        text = f"up to {late_ms:.3g} ms of the {level_name(worst)} of {value:.4g} ms may be the sender's lateness"
        others = ", ".join(level_name(p) for p in excessive if p != worst)
        also = f", and too much of {others}" if others else ""
        yield Doubt(of.placement, "severe", f"{text} (at most 10 % or half its interval){also}", QUIETER)


def turned_comparisons(placements: Sequence[Evidence]) -> Iterator[Doubt]:
    """A punctual sender could have changed which of two placements is faster."""
    for a, b in combinations([of for of in placements if not any(saturated(of))], 2):
        if not a.latencies.keys() & b.latencies.keys():
            continue
        if levels := [level_name(p) for p in COMPARED_LEVELS if could_turn(a, b, p)]:
            text = "the sender's lateness could decide which of {} and {} is faster at {}"
            for of in (a, b):
                yield Doubt(of.placement, "severe", text.format(a.placement, b.placement, ", ".join(levels)), QUIETER)


def saturated(of: Evidence) -> Iterator[Doubt]:
    """No steady state in at least half of the trials."""
    stuck = [trial for trial in of.steadiness if trial.saturated]
    if of.counts["ok"] and stuck and 2 * len(stuck) >= len(of.steadiness):
        signs = "; ".join(_signs(max(stuck, key=lambda trial: trial.backlog[-1])))
        text = f"could not keep up with {number(of.rates_hz['offered_hz'])} requests/s: {signs}; no steady state"
        yield Doubt(of.placement, "severe", text, LESS)


def _signs(trial: Steadiness) -> Iterator[str]:
    if trial.answers_missing:
        yield f"answered {count(sum(trial.answered))} of {count(sum(trial.offered))} requests as they came"
    if trial.backlog_growing:
        yield f"backlog grew from {number(trial.backlog[0])} to {number(trial.backlog[-1])} requests"
    if trial.slowing:
        yield f"p50 of the three windows {', '.join(number(1e-6 * median) for median in trial.medians)} ms"
    if trial.throughput_falling:
        yield f"answers in the three windows {', '.join(map(count, trial.answered))}"


def unsteady(of: Evidence) -> Iterator[Doubt]:
    """Some trials were not steady, too few to say saturated."""
    odd = sum(trial.saturated or trial.quickening for trial in of.steadiness)
    if odd and not list(saturated(of)):
        were = "was" if odd == 1 else "were"
        text = f"{odd} of {len(of.steadiness)} trials {were} not steady: p50 rose or fell by over 10 % within it"
        yield Doubt(of.placement, "warning", text, f"{SETTLE}; if it stays, {LONGER}")


def failures(of: Evidence) -> Iterator[Doubt]:
    """Requests without an answer, by what became of them; what was disrupted is told apart."""
    counts = of.quiet["status"].value_counts()
    failed = {status: int(counts.get(status, 0)) for status in FATES}
    if total := sum(failed.values()):
        parts = ", ".join(f"{count(n)} {FATES[status]}" for status, n in failed.items() if n)
        requests = len(of.quiet)
        severity: Severity = "severe" if total > 0.01 * requests else "warning"
        remedy = "the column `error` of the rows says why" if failed["error"] else PATIENCE
        yield Doubt(of.placement, severity, f"of {count(requests)} requests {parts}", remedy)


def levels(of: Evidence) -> Iterator[Doubt]:
    """Percentiles that too few requests or too many time-outs leave without a number."""
    if few := {p: estimate for p, estimate in of.estimates.items() if estimate.too_few}:
        floors = ", ".join(f"{level_name(p)} (n < {estimate.needed})" for p, estimate in few.items())
        yield Doubt(of.placement, "warning", f"{few[max(few)].n} requests are too few for {floors}", LONGER)
    beyond = [level_name(p) for p, e in of.estimates.items() if e.value is not None and math.isinf(e.value)]
    if beyond and not any(saturated(of)) and not of.disruptions:
        limit_ms = of.conditions.timeout_ms
        than = f"{limit_ms:.0f} ms, the time-out" if math.isfinite(limit_ms) else "the time-out"
        text = f"{', '.join(beyond)} not known, only that it is more than {than}"
        yield Doubt(of.placement, "severe", text, PATIENCE)


def _episodes(of: Evidence) -> tuple[dict[float, float], float]:
    """How many independent slow episodes each level with an interval rests on, and how many a section are wanted."""
    arrays = list(of.latencies.values())
    needed = 1.0 if len(arrays) > 1 else 1.5  # batches are less independent than replications are
    return {p: episodes(arrays, p) for p, e in of.estimates.items() if e.low is not None}, needed


def alike_levels(of: Evidence) -> list[float]:
    """Return the levels whose intervals rest on too few independent slow episodes."""
    worth, needed = _episodes(of)
    return [p for p, number_of in worth.items() if number_of < needed * of.estimates[p].sections]


def alike(of: Evidence) -> Iterator[Doubt]:
    """Neighbouring requests so alike, under one independent episode a section, that the 95 % covers less than 90 %."""
    worth, needed = _episodes(of)
    if few := alike_levels(of):
        named = ", ".join(f"{level_name(p)}{' rests' * (p == few[0])} on about {worth[p]:.2g}" for p in few)
        least = needed * of.estimates[few[0]].sections
        text = f"{named} independent slow episodes where {least:g} are wanted, so the interval may miss the truth"
        yield Doubt(of.placement, "warning", text, LONGER)


def drift(of: Evidence) -> Iterator[Doubt]:
    """Fit a line through the replications' p50: over 10 % from end to end, and significant at 1 %."""
    medians = [quantile(values, 0.5) for values in of.latencies.values() if values.size >= 30]
    if len(medians) < 4 or not np.isfinite(medians).all():
        return
    n = len(medians)
    (slope, _), covariance = np.polyfit(np.arange(n), medians, 1, cov=True)
    significant = abs(slope) > stdtrit(n - 2, 0.995) * math.sqrt(covariance[0, 0])
    if significant and abs(slope) * (n - 1) > 0.1 * np.mean(medians):
        text = f"p50 drifted over the {n} replications, {medians[0]:.3g} to {medians[-1]:.3g} ms"
        yield Doubt(of.placement, "warning", text, SETTLE)


def floor(of: Evidence) -> Iterator[Doubt]:
    """Noise floor: p50 within twice that of the echo, or offered more than 20 % of the echo's ceiling."""
    p50, echo = of.estimates[0.5].value, of.conditions.noise_floor
    if not of.conditions.sends(of.placement):
        return
    if p50 is not None and echo.p50_ms and p50 < 2 * echo.p50_ms:
        text = f"p50 of {p50:.3g} ms is within twice the noise floor of {echo.p50_ms:.3g} ms: mostly the broker"
        yield Doubt(of.placement, "warning", text, "take it for at most this: what is faster cannot be told apart here")
    offered = of.rates_hz["offered_hz"]
    if echo.ceiling_hz and offered > 0.2 * echo.ceiling_hz:
        share = f"{percent(offered / echo.ceiling_hz)} of the ceiling of {number(echo.ceiling_hz)}/s (at most 20 %)"
        yield Doubt(of.placement, "warning", f"{number(offered)} requests/s are {share}", "lower the rate (rate_hz)")


def transient(of: Evidence) -> Iterator[Doubt]:
    """Warm-up: the transient of the queue is longer than what a short trial could set apart."""
    needed = of.conditions.service(of.placement).transient_requests
    kept = min((int(trial["warm_up"].sum()) for trial in of.trials.values()), default=0)
    if needed is not None and kept < needed:
        text = f"began empty: {count(needed)} requests of warm-up were wanted, {count(kept)} could be set apart; "
        yield Doubt(of.placement, "warning", text + "latencies lean low", LONGER)


def foreign(of: Evidence) -> Iterator[Doubt]:
    """Messages from elsewhere on the trial's result topics, or answers that cannot be told from such."""
    trials = [trial for trial in of.conditions.trials if trial.placement == of.placement]
    if any(trial.known_by == "timestamp_us" for trial in trials):
        text = "answers carry no request_id: one from elsewhere with a request's time stamp would be taken for its own"
        yield Doubt(of.placement, "warning", text, "serve with a newer xedge, or on a broker that others cannot reach")
    if messages := sum(trial.foreign for trial in trials):
        text = f"{count(messages)} messages on its result topics answered none of the requests and were left out"
        yield Doubt(of.placement, "note", text, "see who else publishes there; an ACL (containers/README.md) stops it")


def replicated(placements: Sequence[Evidence]) -> Iterator[Doubt]:
    """Too few replications: no interval, or one that knows of no other run."""
    runs = len({replication for of in placements for replication in of.latencies})
    if runs == 1:
        text = "one replication only: the intervals come from its batches and say nothing about a next run"
        yield Doubt(None, "note", text, MORE)
    elif runs < LEAST_IN_TAIL:
        text = f"{runs} replications are not enough for an interval of a p90, p95 or p99: these have none"
        yield Doubt(None, "warning", text, MORE)


def surroundings(of: Evidence) -> Iterator[Doubt]:
    """The machine was busy before it began, or the measurement did not end."""
    load, cores = of.conditions.host.load_average_before, of.conditions.host.cores
    if load and cores and load > cores:
        text = f"the machine was busy before this began (load average {load:.3g} on {cores} cores)"
        yield Doubt(None, "warning", f"{text}: another run may differ by more than the intervals say", SETTLE)
    if (of.conditions.broker.url or "").startswith("ws"):
        text = "the broker was reached by websockets, where each kilobyte costs the sender 0.14 ms of computing"
        yield Doubt(None, "warning", text, "measure over mqtt:// or mqtts://")
    if (stop := of.conditions.interrupted) is not None:
        text = f"interrupted: {stop.planned - stop.ended} of {stop.planned} trials are missing ({stop.reason})"
        yield Doubt(None, "warning", text, "take the rest: measure(resume=FOLDER), or xedge measure --resume FOLDER")


RULES = (  # of each placement, in the order in which they are listed
    *(unanswered, unsent, late, saturated, reconnected, disrupted, foreign, failures, levels),
    *(alike, transient, unsteady, drift, floor, link, one_client),
)
