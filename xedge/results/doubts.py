"""Every doubt about a measurement in words: rules over what its placements' rows and its conditions say."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.special import stdtrit

from xedge.results import rows
from xedge.results.conditions import Conditions
from xedge.results.dependence import episodes
from xedge.results.evidence import Evidence
from xedge.results.statistics import quantile
from xedge.results.verdict import Doubt, Severity, late, saturated, turned_comparisons, unanswered, unsent
from xedge.results.words import count, level_name, number, percent

CEILING_SHARE = 0.2
FAILED_SHARE = 0.01
FATES = {"lost": "lost", "timeout": "timed out", "error": "answered with an error", "not_sent": "not sent"}
EPISODES = 1.0  # independent ones beyond a percentile, for each section; below, a 95 % interval covers under 90 %
EPISODES_OF_A_BATCH = 1.5  # batches of one replication are less independent than replications are
LINK_TOLERANCE_MS = {"p50_ms": 0.5, "p99_ms": 2.0}
SEVERITIES = ("severe", "warning", "note")


def doubts(placements: Sequence[Evidence], conditions: Conditions) -> list[Doubt]:
    """Return every doubt in words, severe ones first; the verdict's reasons are among them."""
    listed = [doubt for of in placements for rule in RULES for doubt in rule(of)]
    listed += turned_comparisons(placements)
    if len({replication for of in placements for replication in of.latencies}) == 1:
        text = "one replication only: the intervals come from its batches and say nothing about a next run"
        listed.append(Doubt(None, "note", text))
    listed += [*busy(conditions), *interrupted(conditions)]
    return sorted(listed, key=lambda doubt: SEVERITIES.index(doubt.severity))


def unsteady(of: Evidence) -> Iterator[Doubt]:
    """Some trials were not steady, too few to say saturated."""
    odd = sum(trial.saturated or trial.quickening for trial in of.steadiness)
    if odd and not list(saturated(of)):
        text = f"{odd} of {len(of.steadiness)} trials not steady: p50 moved by over 10 % (a busy host? warm-up?)"
        yield Doubt(of.placement, "warning", text)


def failures(of: Evidence) -> Iterator[Doubt]:
    """Requests without an answer, by what became of them."""
    failed = {status: of.counts[status] for status in FATES}
    if total := sum(failed.values()):
        parts = ", ".join(f"{count(n)} {FATES[status]}" for status, n in failed.items() if n)
        requests = len(of.measured)
        severity: Severity = "severe" if total > FAILED_SHARE * requests else "warning"
        yield Doubt(of.placement, severity, f"of {count(requests)} requests {parts}")


def levels(of: Evidence) -> Iterator[Doubt]:
    """Percentiles that too few requests or too many time-outs leave without a number."""
    if few := {p: estimate for p, estimate in of.estimates.items() if estimate.too_few}:
        floors = ", ".join(f"{level_name(p)} (n < {estimate.needed})" for p, estimate in few.items())
        requests = next(iter(few.values())).n
        yield Doubt(of.placement, "warning", f"{requests} requests are too few for {floors}")
    if beyond := [level_name(p) for p, e in of.estimates.items() if e.value is not None and math.isinf(e.value)]:
        limit_ms = of.conditions.timeout_ms
        than = f"{limit_ms:.0f} ms, the time-out" if math.isfinite(limit_ms) else "the time-out"
        yield Doubt(of.placement, "severe", f"{', '.join(beyond)} not known, only that it is more than {than}")


def alike(of: Evidence) -> Iterator[Doubt]:
    """Neighbouring requests so alike that the interval is too short: under one independent episode a section."""
    arrays = list(of.latencies.values())
    needed = EPISODES if len(arrays) > 1 else EPISODES_OF_A_BATCH
    worth = {p: episodes(arrays, p) for p, e in of.estimates.items() if e.low is not None}
    if few := [p for p, number_of in worth.items() if number_of < needed * of.estimates[p].sections]:
        named = ", ".join(f"{level_name(p)} ({worth[p]:.2g})" for p in few)
        least = needed * of.estimates[few[0]].sections
        text = f"{named}: fewer than {least:g} independent slow episodes; the interval may"
        yield Doubt(of.placement, "warning", f"{text} miss the truth, make the trials longer")


def drift(of: Evidence) -> Iterator[Doubt]:
    """Fit a line through the replications' p50: over 10 % from end to end, and significant at 1 %."""
    medians = [quantile(values, 0.5) for values in of.latencies.values() if values.size >= 30]
    if len(medians) < 4 or not np.isfinite(medians).all():
        return
    at = np.arange(len(medians)) - (len(medians) - 1) / 2
    slope = float(at @ medians) / float(at @ at)
    residual = np.asarray(medians) - np.mean(medians) - slope * at
    error = math.sqrt(float(residual @ residual) / (len(medians) - 2) / float(at @ at))
    change = slope * (len(medians) - 1)
    if abs(change) > 0.1 * np.mean(medians) and abs(slope) > stdtrit(len(medians) - 2, 0.995) * error:
        text = f"p50 drifted over the {len(medians)} replications, {medians[0]:.3g} to {medians[-1]:.3g} ms"
        yield Doubt(of.placement, "warning", text)


def floor(of: Evidence) -> Iterator[Doubt]:
    """Noise floor: p50 within twice that of the echo, or offered more than 20 % of the echo's ceiling."""
    p50, echo = of.estimates[0.5].value, of.conditions.noise_floor
    if p50 is not None and echo.p50_ms and p50 < 2 * echo.p50_ms:
        text = f"p50 of {p50:.3g} ms is within twice the noise floor of {echo.p50_ms:.3g} ms: mostly the broker"
        yield Doubt(of.placement, "warning", text)
    offered = of.rates_hz["offered_hz"]
    if echo.ceiling_hz and offered > CEILING_SHARE * echo.ceiling_hz:
        share = f"{percent(offered / echo.ceiling_hz)} of the ceiling of {number(echo.ceiling_hz)}/s (at most 20 %)"
        yield Doubt(of.placement, "warning", f"{number(offered)} requests/s are {share}")


def transient(of: Evidence) -> Iterator[Doubt]:
    """Warm-up: the transient of the queue is longer than what a short trial could set apart."""
    needed = of.conditions.service(of.placement).transient_requests
    kept = min((int(trial["warm_up"].sum()) for _, trial in rows.trials(of.rows, of.placement)), default=0)
    if needed is not None and kept < needed:
        text = f"began empty: {count(needed)} requests of warm-up were wanted, {count(kept)} could be set apart; "
        yield Doubt(of.placement, "warning", text + "latencies lean low, make the trials longer")


def busy(conditions: Conditions) -> Iterator[Doubt]:
    """More runnable programs than cores before the measurement began: what replications minutes apart would show."""
    load, cores = conditions.host.load_average_before, conditions.host.cores
    if load and cores and load > cores:
        text = f"the machine was busy before this began (load average {load:.3g} on {cores} cores)"
        yield Doubt(None, "warning", f"{text}: another run may differ by more than the intervals say")


def interrupted(conditions: Conditions) -> Iterator[Doubt]:
    """Trials are missing: the measurement was stopped, or has not ended."""
    if (stop := conditions.interrupted) is not None:
        text = f"interrupted: {stop.planned - stop.ended} of {stop.planned} trials are missing ({stop.reason})"
        yield Doubt(None, "warning", text)


def reconnected(of: Evidence) -> Iterator[Doubt]:
    """The broker went away during a trial: what was not sent or answered then is neither's fault."""
    trials = [trial for trial in of.conditions.trials if trial.placement == of.placement and trial.reconnects]
    if trials:
        named = ", ".join(str(trial.replication) for trial in trials)
        text = f"the connection to the broker was lost and made again in replication {named}"
        yield Doubt(of.placement, "severe", f"{text}; requests that failed then tell of the broker, not of the service")


def link(of: Evidence) -> Iterator[Doubt]:
    """Links: the measured delay off from the requested one, at a level or message by message, or other losses."""
    check = of.conditions.link_check.get(of.placement)
    if check is None:
        return
    if (off_ms := check.off_ms.p50_ms or 0.0) > LINK_TOLERANCE_MS["p50_ms"]:
        yield Doubt(of.placement, "warning", f"the link was off by {off_ms:.3g} ms, message by message, at the median")
    if check.lost.differing:
        text = f"{check.lost.measured} of the link's messages were lost where {check.lost.requested} were asked for"
        yield Doubt(of.placement, "warning", f"{text}: {check.lost.differing} differ")
    for level, tolerance in LINK_TOLERANCE_MS.items():
        asked, delay = getattr(check.requested_ms, level), getattr(check.measured_ms, level)
        if asked is not None and delay is not None and abs(delay - asked) > tolerance:
            text = f"the link's {level.removesuffix('_ms')} was {delay:.4g} ms where {asked:.4g} ms was asked for"
            yield Doubt(of.placement, "warning", text)


# of each placement, in the order in which they are listed
RULES = (
    unanswered,
    unsent,
    late,
    saturated,
    reconnected,
    failures,
    levels,
    alike,
    transient,
    unsteady,
    drift,
    floor,
    link,
)
