"""Whether rows make a result: VALID, INVALID or SATURATED, by the rules of `xedge.results.doubts`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from xedge.results.broken import brokerless
from xedge.results.doubt import Doubt, said_once
from xedge.results.doubts import late, saturated, turned_comparisons, unanswered, unsent
from xedge.results.evidence import Evidence

Word = Literal["INVALID", "SATURATED", "VALID"]  # the worst first, as in Severity


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
        return f"{self.word}: {'; '.join(map(str, said_once(self.reasons)))}" if self.reasons else self.word


def judge(placements: Sequence[Evidence]) -> Verdict:
    """Judge a measurement's placements as docs/method.md says.

    INVALID: the sender's lateness is too large a share of a percentile or could change which placement is faster, or
    too many requests were not sent (unless the conditions say `strict: false`: then these are doubts), no request was
    answered, a service ended by itself, or too many requests failed while the broker was away. SATURATED: a placement
    could not keep up with the rate offered, in at least half of its trials; a host that was busy for one trial
    saturates nothing and is a doubt. What a fault disrupted that the scenario asked for makes neither of the two, only
    lateness does.
    """
    words: dict[str, Word] = {}
    reasons: list[Doubt] = []
    turned = list(turned_comparisons(placements))
    for of in placements:
        sender = [*unsent(of), *late(of), *(doubt for doubt in turned if doubt.placement == of.placement)]
        broken = [*unanswered(of), *brokerless(of), *(sender if of.conditions.strict else ())]
        stuck = [] if broken else list(saturated(of))
        words[of.placement] = "INVALID" if broken else "SATURATED" if stuck else "VALID"
        reasons += [*broken, *stuck]
    return Verdict(min(words.values(), key=get_args(Word).index), tuple(reasons), words)
