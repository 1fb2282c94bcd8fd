"""Which rate to try next: doubling until saturation, then bisection; pure, decided from what is known so far."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeVar

from xedge.core.exceptions import ConfigurationError

Rate = TypeVar("Rate", int, float)
Outcome = Literal["met", "missed", "saturated", "undecided", "invalid"]
FAILING = ("missed", "saturated", "undecided")  # not shown to meet the deadline
OCTAVES_DOWN = 3  # how often the first rate is halved while nothing meets the deadline
MOST_INVALID = 2  # so many rates are tried, downwards, where every one is invalid
KNEE_PARTS = 4  # the knee and the edge of saturation are located to this part of an octave: the power is flat there
MOST_TIMES = 2  # what is invalid, undecided, contradicted or decisive is tried once more


@dataclass(frozen=True)
class Tried:
    """What the last of `times` tries of one rate gave."""

    outcome: Outcome
    power: float = 0.0  # throughput over mean latency; 0 without a steady state
    times: int = 1
    hopeless: bool = False  # even the fastest answer came after the deadline: no lower rate can meet it


@dataclass(frozen=True)
class Search:
    """The rates one search may try, `first_hz · 2^(step/octave)`, and which of them to try next.

    Neighbouring steps are at most `resolution` apart, 0.05 is 5 %; no rate above `top_hz` is tried.

    Raises:
        ConfigurationError: an invalid rate or resolution.
    """

    first_hz: float
    resolution: float
    top_hz: float = math.inf

    def __post_init__(self) -> None:
        if not 0 < self.first_hz < math.inf:
            raise ConfigurationError(f"invalid first_hz={self.first_hz} requests/s: give a positive rate")
        if not 0.005 <= self.resolution <= 1:
            raise ConfigurationError(f"invalid resolution={self.resolution}: give a share, 0.005 to 1, as 0.05 for 5 %")

    @property
    def octave(self) -> int:
        """How many steps double the rate."""
        return math.ceil(math.log(2) / math.log1p(self.resolution) - 1e-9)

    def rate_hz(self, step: int) -> float:
        """Return the rate of a step, to four digits."""
        return float(f"{self.first_hz * 2 ** (step / self.octave):.4g}")

    def step(self, rate_hz: float) -> int:
        """Return the step nearest to a rate."""
        return round(self.octave * math.log2(rate_hz / self.first_hz))

    def next_step(self, tried: Mapping[int, Tried]) -> int | None:
        """Return the step to try next, None when there is nothing left to learn; `tried` is step -> what it gave.

        In this order: the first step; again what was invalid or undecided, or failed below a rate that met the
        deadline; double until saturated, but never beyond a rate that was invalid; halve until met; bisect between the
        highest met and the lowest failed, and try both once more, the failed one first, lest a disturbance of the host
        has decided; half of the first, where the curve is to begin; then refine around the greatest power and around
        the edge of saturation.
        """
        if not tried:
            return 0
        valid = {step: attempt for step, attempt in tried.items() if attempt.outcome != "invalid"}
        steps = (self._again(tried), self._double(tried))
        stages = (self._halve, self._bisect, self._begin, self._knee, self._edge)
        wanted = (*steps, *(stage(tried, valid) for stage in stages))
        return next((step for step in wanted if step is not None), None)

    def _again(self, tried: Mapping[int, Tried]) -> int | None:
        highest_met = max((step for step, attempt in tried.items() if attempt.outcome == "met"), default=-math.inf)
        odd = (
            step
            for step, attempt in tried.items()
            if attempt.outcome in ("invalid", "undecided") or (attempt.outcome in FAILING and step < highest_met)
        )
        return min((step for step in odd if tried[step].times < MOST_TIMES), default=None)

    def _double(self, tried: Mapping[int, Tried]) -> int | None:
        """An octave above the highest rate; halfway to the lowest invalid one: what lies beyond that is no surer."""
        valid = [step for step, attempt in tried.items() if attempt.outcome != "invalid"]
        if not valid or any(attempt.outcome == "saturated" for attempt in tried.values()):
            return None
        top = max(valid)
        bad = min((step for step in tried if step > top), default=None)
        if bad is not None:
            return _middle(tried, top, bad) if bad - top > self._coarse else None
        return None if self.rate_hz(top + self.octave) > self.top_hz else top + self.octave

    def _halve(self, tried: Mapping[int, Tried], valid: Mapping[int, Tried]) -> int | None:
        if not valid:
            return self._down(min(tried)) if len(tried) < MOST_INVALID else None
        if any(attempt.outcome == "met" or attempt.hopeless for attempt in valid.values()):
            return None
        return self._down(min(tried))

    def _down(self, step: int) -> int | None:
        down = step - self.octave
        return down if down >= -OCTAVES_DOWN * self.octave else None

    def _bisect(self, tried: Mapping[int, Tried], valid: Mapping[int, Tried]) -> int | None:
        met, failed = bracket({step: attempt.outcome for step, attempt in valid.items()})
        if met is None or failed is None:
            return None
        if (middle := _middle(tried, met, failed)) is not None:
            return middle
        decisive = [step for step in (failed, met) if valid[step].outcome != "saturated"]
        return next((step for step in decisive if valid[step].times < MOST_TIMES), None)

    def _begin(self, tried: Mapping[int, Tried], valid: Mapping[int, Tried]) -> int | None:
        return self._down(0) if valid and min(tried) > -self.octave else None

    def _knee(self, tried: Mapping[int, Tried], valid: Mapping[int, Tried]) -> int | None:
        steady = [step for step, attempt in valid.items() if attempt.outcome in ("met", "missed")]
        best = max(steady, key=lambda step: valid[step].power, default=None)
        if best is None:
            return None
        below = max((step for step in valid if step < best), default=None)
        above = min((step for step in valid if step > best), default=None)
        if below is None:
            down = self._down(best)
            return None if down in tried else down
        gaps = [(below, best), (best, above)] if above is not None else [(below, best)]
        wide = sorted((gap for gap in gaps if gap[1] - gap[0] > self._coarse), key=lambda gap: gap[0] - gap[1])
        return next((step for gap in wide if (step := _middle(tried, *gap)) is not None), None)

    def _edge(self, tried: Mapping[int, Tried], valid: Mapping[int, Tried]) -> int | None:
        steady, stuck = edge({step: attempt.outcome for step, attempt in valid.items()})
        if steady is None or stuck is None:
            return None
        marks = sorted(step for step in tried if steady <= step <= stuck)  # between them are undecided ones only
        wide = [gap for gap in pairwise(marks) if gap[1] - gap[0] > self._coarse]
        return next((step for gap in wide if (step := _middle(tried, *gap)) is not None), None)

    @property
    def _coarse(self) -> int:
        return max(1, self.octave // KNEE_PARTS)


def bracket(outcomes: Mapping[Rate, Outcome]) -> tuple[Rate | None, Rate | None]:
    """Return the highest rate that met the deadline below the lowest that failed, and that one; None: no such rate."""
    failed = min((rate for rate, outcome in outcomes.items() if outcome in FAILING), default=None)
    met = [rate for rate, outcome in outcomes.items() if outcome == "met" and (failed is None or rate < failed)]
    return max(met, default=None), failed


def edge(outcomes: Mapping[Rate, Outcome]) -> tuple[Rate | None, Rate | None]:
    """Return the highest rate with a steady state below the lowest saturated one, and that one."""
    stuck = min((rate for rate, outcome in outcomes.items() if outcome == "saturated"), default=None)
    steady = [r for r, outcome in outcomes.items() if outcome in ("met", "missed") and (stuck is None or r < stuck)]
    return max(steady, default=None), stuck


def _middle(tried: Mapping[int, Tried], low: int, high: int) -> int | None:
    """Return the untried step between `low` and `high` that is nearest to the middle, the lower of two."""
    between = [step for step in range(low + 1, high) if step not in tried]
    return min(between, key=lambda step: (abs(2 * step - low - high), step), default=None)
