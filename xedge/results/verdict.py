"""Whether rows make a result: the verdict, its rules, and what a doubt is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

from xedge.results.comparison import could_turn
from xedge.results.evidence import Evidence
from xedge.results.statistics import Estimate
from xedge.results.steadiness import Steadiness
from xedge.results.summary import COMPARED_LEVELS
from xedge.results.words import count, level_name, number, percent

UNSENT_SHARE = 0.01
LATE_SHARE = 0.10  # of a percentile may be due to the sender, or as much as half of its interval

Word = Literal["VALID", "INVALID", "SATURATED"]
Severity = Literal["severe", "warning", "note"]
ORDER: tuple[Word, ...] = ("INVALID", "SATURATED", "VALID")


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


def judge(placements: Sequence[Evidence]) -> Verdict:
    """Judge a measurement's placements as docs/method.md says.

    INVALID: the sender's lateness is too large a share of a percentile or could change which placement is faster, or
    too many requests were not sent (unless the conditions say `strict: false`: then these are doubts), or no request
    was answered. SATURATED: a placement could not keep up with the rate offered, in at least half of its trials; a
    host that was busy for one trial saturates nothing and is a doubt.
    """
    words: dict[str, Word] = {}
    reasons: list[Doubt] = []
    turned = list(turned_comparisons(placements))
    for of in placements:
        sender = [*unsent(of), *late(of), *(doubt for doubt in turned if doubt.placement == of.placement)]
        broken = [*unanswered(of), *(sender if of.conditions.strict else ())]
        stuck = [] if broken else list(saturated(of))
        words[of.placement] = "INVALID" if broken else "SATURATED" if stuck else "VALID"
        reasons += [*broken, *stuck]
    return Verdict(min(words.values(), key=ORDER.index, default="INVALID"), tuple(reasons), words)


def unanswered(of: Evidence) -> Iterator[Doubt]:
    """No request was answered."""
    if not of.counts["ok"]:
        requests = len(of.measured)
        text = f"none of {count(requests)} requests was answered" if requests else "no request after the warm-up"
        yield Doubt(of.placement, "severe", text)


def unsent(of: Evidence) -> Iterator[Doubt]:
    """More requests than `UNSENT_SHARE` were never sent: the service had less to do than was asked for."""
    share = of.counts["not_sent"] / max(len(of.measured), 1)
    if share > UNSENT_SHARE:
        yield Doubt(of.placement, "severe", f"{percent(share, 1)} of the requests were not sent (at most 1 %)")


def late(of: Evidence) -> Iterator[Doubt]:
    """The sender's share of a percentile exceeds `LATE_SHARE` of it and half the interval that sampling gives it."""
    if excessive := [p for p, estimate in of.estimates.items() if _exceeds(estimate, of.conditions.timeout_ms)]:
        worst = max(excessive, key=lambda p: of.estimates[p].late / (of.estimates[p].value or 1.0))
        value, late_ms = of.estimates[worst].value or 0.0, of.estimates[worst].late
        text = f"up to {late_ms:.3g} ms of the {level_name(worst)} of {value:.4g} ms may be the sender's lateness"
        others = ", ".join(level_name(p) for p in excessive if p != worst)
        also = f", and too much of {others}" if others else ""
        yield Doubt(of.placement, "severe", f"{text} (at most 10 % or half its interval){also}")


def _exceeds(estimate: Estimate, timeout_ms: float) -> bool:
    if estimate.value is None:
        return False
    return estimate.late > max(LATE_SHARE * min(estimate.value, timeout_ms), estimate.half_width or 0.0)


def turned_comparisons(placements: Sequence[Evidence]) -> Iterator[Doubt]:
    """A punctual sender could have changed which of two placements is faster."""
    for a, b in combinations([of for of in placements if not any(saturated(of))], 2):
        if not a.latencies.keys() & b.latencies.keys():
            continue
        if levels := [level_name(p) for p in COMPARED_LEVELS if could_turn(a, b, p)]:
            for of, other in ((a, b), (b, a)):
                text = f"the sender's lateness could decide whether {other.placement} is slower at {', '.join(levels)}"
                yield Doubt(of.placement, "severe", text)


def saturated(of: Evidence) -> Iterator[Doubt]:
    """No steady state in at least half of the trials."""
    stuck = [trial for trial in of.steadiness if trial.saturated]
    if of.counts["ok"] and stuck and 2 * len(stuck) >= len(of.steadiness):
        signs = "; ".join(_signs(max(stuck, key=lambda trial: trial.backlog[-1])))
        text = f"could not keep up with {number(of.rates_hz['offered_hz'])} requests/s: {signs}; no steady state"
        yield Doubt(of.placement, "severe", text)


def _signs(trial: Steadiness) -> Iterator[str]:
    if trial.answers_missing:
        yield f"answered {count(sum(trial.answered))} of {count(sum(trial.offered))} requests as they came"
    if trial.backlog_growing:
        yield f"backlog grew from {number(trial.backlog[0])} to {number(trial.backlog[-1])} requests"
    if trial.slowing:
        yield f"p50 of the three windows {', '.join(number(1e-6 * median) for median in trial.medians)} ms"
    if trial.throughput_falling:
        yield f"answers in the three windows {', '.join(map(count, trial.answered))}"
