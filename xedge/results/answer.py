"""The answer: one sentence that can be repeated, and the three numbers it rests on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from xedge.core.exceptions import ConfigurationError
from xedge.results import words
from xedge.results.broken import brokerless
from xedge.results.comparison import is_shown
from xedge.results.doubts import alike_levels
from xedge.results.statistics import Estimate

if TYPE_CHECKING:
    from xedge.results.measurement import Measurement

WANTED = 0.99  # of the requests must be answered within the deadline
FAR = 5.0  # times the reach of its interval: a gap so large is beyond what the doubts here can explain
PLACES = {"edge": "run it at the edge", "cloud": "run it in the cloud", "device": "run it on the device"}


@dataclass(frozen=True)
class Number:
    """One of the numbers an answer rests on: an estimate with its unit, or the word why there is none.

    A `minor` one gives way where several measurements share a page.
    """

    label: str
    value: Estimate | str
    unit: str = ""
    minor: bool = False

    def __str__(self) -> str:
        if isinstance(self.value, str):
            return self.value
        return words.percentage(self.value) if self.unit == "%" else words.milliseconds(self.value)


@dataclass(frozen=True)
class Answer:
    """What a measurement comes to: a `sentence`, as which it prints, and the `numbers` it rests on."""

    sentence: str
    numbers: tuple[Number, ...] = ()

    def __str__(self) -> str:
        return self.sentence


def meets(share: Estimate) -> bool | None:
    """Whether 99 % are answered in time: by the whole interval, None where that holds 99 %."""
    low, high = share.low or 0.0, 1.0 if share.high is None else share.high
    return True if low >= WANTED else False if high < WANTED else None


@dataclass(frozen=True)
class Reading:
    """A measurement, as an answer is made of it; a deadline of None takes that of the scenario, if it has one.

    Raises:
        ConfigurationError: the deadline is not above 0.
    """

    measurement: Measurement
    deadline_ms: float | None = None

    def __post_init__(self) -> None:
        if self.deadline_ms is None:
            object.__setattr__(self, "deadline_ms", self.measurement.typed_conditions.scenario.deadline_ms)
        if self.deadline_ms is not None and not self.deadline_ms > 0:
            text = "give the milliseconds after which an answer is of no use, above 0"
            raise ConfigurationError(f"deadline_ms={self.deadline_ms}: {text}")

    @cached_property
    def steady(self) -> list[str]:
        """The placements with percentiles, the fastest first: by p99, then by p50."""
        steady = [name for name in self.measurement.placements if name not in self.measurement.verdict.saturated]
        return sorted(steady, key=lambda name: [self._ms(name, p) for p in (0.99, 0.5)])

    @cached_property
    def shares(self) -> dict[str, Estimate]:
        """Placement → share of its requests answered within the deadline, the largest first; empty without one."""
        deadline_ms = self.deadline_ms
        shares = {} if deadline_ms is None else {n: self.measurement.goodput(n, deadline_ms) for n in self.steady}
        return dict(sorted(shares.items(), key=lambda entry: -(entry[1].value or 0.0)))

    def answer(self) -> Answer:
        """Return the sentence, and the numbers."""
        verdict, checks = self.measurement.verdict, self.measurement.checks()
        saturated, alone = verdict.saturated, len(self.measurement.placements) == 1
        how = "how fast it is" if self.deadline_ms is None else f"whether it meets {self.deadline_ms:g} ms"
        asked = how if alone else "where to run it"
        if verdict.word == "INVALID":
            text = f"{asked} cannot be said from this run: {self._broken()}"
        elif not self.steady:
            rate = words.number(max(of.rates_hz["offered_hz"] for of in self.measurement.evidence.values()))
            keeps = f"{saturated[0]} does not keep up" if alone else "no placement keeps up"
            text = f"{keeps} with {rate} requests/s, so {asked} at this rate cannot be said"
        else:
            statement = self._by_deadline() if self.shares else self._by_speed()
            text = "; ".join(
                [statement, *self._accuracy(), *(f"{name} cannot keep up with the rate" for name in saturated)]
            )
            if any(doubt.severity == "severe" and doubt.placement not in saturated for doubt in checks):
                text = f"under severe doubt, see below: {text[:1].lower()}{text[1:]}"
        if any(
            d.asked for of in self.measurement.evidence.values() for known in of.disruptions.values() for d in known
        ):
            text = f"with the faults that were asked for: {text[:1].lower()}{text[1:]}"
        return Answer(f"{text[:1].upper()}{text[1:]}.", self._numbers())

    def _broken(self) -> str:
        """Return why the run is INVALID: first what ended a service, which makes all else follow."""
        trials = self.measurement.typed_conditions.trials
        if ended := dict.fromkeys(str(trial.placement) for trial in trials if trial.failure):
            return f"{' and '.join(ended)} broke off while it was measured"
        away = [name for name, of in self.measurement.evidence.items() if any(brokerless(of))]
        if away:
            return f"the broker was away while {' and '.join(away)} {'were' if away[1:] else 'was'} measured"
        silent = [name for name, of in self.measurement.evidence.items() if not of.counts["ok"]]
        return f"{' and '.join(silent)} answered nothing" if silent else "the sender could not keep time"

    def _by_deadline(self) -> str:
        states = {name: meets(share) for name, share in self.shares.items()}
        good, unsure = ([name for name in self.steady if states[name] is state] for state in (True, None))
        within = f"of requests answered within {self.deadline_ms:g} ms"
        first, *others = [*good, *(name for name in self.shares if name not in good)]
        if not others:
            wanted = f", {words.percent(WANTED)} are wanted" if unsure else ""
            claim = "not decided, measure longer" if unsure else f"{first} {'meets' if good else 'misses'} the deadline"
            claim = at(first) if good and len(self.measurement.placements) > 1 else claim
            return f"{claim}: {words.percentage(percent(self.shares[first]))} {within}{wanted}"
        said = {name: f"{words.share(self.shares[name].value or 0.0)} %" for name in (first, *others)}
        said |= {name: f"{said[name]} (not shown to be enough)" for name in unsure}
        each = f"{', '.join(f'{name} {share}' for name, share in said.items())} {within}"
        if len(good) == 1:
            rest = ", ".join(f"{name} {said[name]}" for name in others)
            gap = self._gap("the gap is", first, others[0])
            return f"{at(first)}: {said[first]} {within}, {rest}{f'; {gap}' if gap else ''}"
        if good:
            claim = "both meet the deadline" if not others[1:] else f"{' and '.join(good)} meet the deadline"
            faster = self._gap(f"{first} is faster by", first, others[0])
            return f"{claim}: {each}; {faster or 'either will do: the difference is within the noise'}"
        if unsure:
            missing = [name for name in self.steady if states[name] is False]
            known = f"; {' and '.join(missing)} {'misses' if not missing[1:] else 'miss'} that" if missing else ""
            wanted = f"{words.percent(WANTED)} are wanted{known}"
            return f"not decided for {' and '.join(unsure)}, measure longer: {each}, {wanted}"
        nearest = (self.shares[first].low or 0.0) > (self.shares[others[0]].high or 0.0)
        return f"no placement meets the deadline: {each}{f'; {first} comes nearest' * nearest}"

    def _by_speed(self) -> str:
        first, *others = self.steady
        if not others:
            levels = (self.measurement.estimate(first, p) for p in (0.5, 0.99))
            half, most = (words.milliseconds(replace(estimate, low=None, high=None)) for estimate in levels)
            claim = f"half of the requests answered within {half}, 99 % within {most}"
            return f"{at(first) if len(self.measurement.placements) > 1 else first}: {claim}"
        gaps = {p: self._difference(first, others[0], p) for p in (0.5, 0.99)}
        faster = {p: first if (gap.value or 0.0) > 0 else others[0] for p, gap in gaps.items() if is_shown(gap)}
        if len(set(faster.values())) > 1:
            return f"give a deadline (deadline_ms) to decide: {faster[0.5]} is faster at p50, {faster[0.99]} at p99"
        best = next(iter(faster.values()), first)
        slower = others[0] if best == first else first
        gap = self._gap(f"faster than {slower} by", best, slower)
        return f"{at(best)}: {gap}" if gap else f"either {first} or {slower}; the difference is within the noise"

    def _accuracy(self) -> list[str]:
        """Return which placement is right more often than others, if that is shown; what is fast may be wrong."""
        shares = {n: of.accuracy.value or 0.0 for n in self.steady if (of := self.measurement.evidence[n]).accuracy}
        if len(shares) < 2:
            return []
        best, *others = sorted(shares, key=lambda name: -shares[name])
        gaps = {name: self.measurement.compare(name, best).accuracy for name in others}
        worse = [name for name, gap in gaps.items() if gap is not None and gap.low is not None and gap.low > 0]
        fastest = [name for name in self.steady if name in worse][:2]
        each = ", ".join(f"{name} {100 * shares[name]:.1f} %" for name in (best, *fastest))
        return [f"{best} is right more often: {each} of the answers"] if worse else []

    def _gap(self, by: str, fast: str, slow: str) -> str:
        """Return by how much `fast` is faster, at p99 or else at p50, and how sure that is; "" if it is not shown."""
        gaps = {p: self._difference(fast, slow, p) for p in (0.99, 0.5)}
        for p, gap in gaps.items():
            level = words.level_name(p)
            if gap.value is not None and math.isinf(gap.value):
                return f"{slow} timed out at {level}"
            if gap.value is None or gap.low is None or gap.high is None or gap.low <= 0:
                continue
            if gap.value > FAR * max(gap.value - gap.low, gap.high - gap.value):
                return f"{by} {words.number(gap.value)} ms at {level}, which is far beyond every doubt"
            if p in alike_levels(self.measurement.evidence[fast]) + alike_levels(self.measurement.evidence[slow]):
                return f"{by} {words.milliseconds(gap)} at {level}, by an interval that rests on few slow episodes"
            return f"{by} {words.milliseconds(gap)} at {level}, which is more than the noise"
        return ""

    def _numbers(self) -> tuple[Number, ...]:
        """With a deadline the shares in time, else the p99, of the three fastest; of two the gap besides."""
        names = self.steady[:3]
        if self.shares:
            label = f"answered within {self.deadline_ms:g} ms"
            numbers = [Number(f"{name}, {label}", percent(self.shares[name]), "%") for name in list(self.shares)[:3]]
        else:
            label = "99 % answered within"
            numbers = [self._latency(name, label, 0.99) for name in names]
        if len(names) == 1:
            numbers += [self._latency(names[0], "half answered within", 0.5)]
            numbers += [self._latency(names[0], "99 % answered within", 0.99)] if self.shares else []
        if len(names) == 2:
            gaps = {p: self._difference(names[0], names[1], p) for p in (0.99, 0.5)}
            p = next((p for p, gap in gaps.items() if gap.low is not None), 0.99)
            gap_label = f"{names[1]} slower than {names[0]}, {words.level_name(p)}"
            gap = gaps[p]
            shown = self._shown(gap) if is_shown(gap) or gap.low is None else f"not shown: {words.milliseconds(gap)}"
            numbers.append(Number(gap_label, shown, "" if isinstance(shown, str) else "ms", minor=True))
        return (*numbers, *(Number(f"{name}, {label}", "saturated") for name in self.measurement.verdict.saturated))[:4]

    def _latency(self, name: str, label: str, p: float) -> Number:
        return Number(f"{name}, {label}", self._shown(self.measurement.estimate(name, p)), "ms", minor=p < 0.99)

    def _shown(self, estimate: Estimate) -> Estimate | str:
        finite = estimate.value is not None and math.isfinite(estimate.value)
        return estimate if finite else words.milliseconds(estimate, self.measurement.typed_conditions.timeout_s)

    def _difference(self, fast: str, slow: str, p: float) -> Estimate:
        return self.measurement.compare(fast, slow).differences[p]

    def _ms(self, name: str, p: float) -> float:
        value = self.measurement.estimate(name, p).value
        return math.inf if value is None else value


def at(placement: str) -> str:
    """Return "run it at the edge", or "choose it" for a name that is no tier's."""
    return PLACES.get(placement, f"choose {placement}")


def percent(share: Estimate) -> Estimate:
    """Return a share in percent."""
    ends = (None if end is None else 100 * end for end in (share.value, share.low, share.high))
    value, low, high = ends
    half = None if share.sampling_half_width is None else 100 * share.sampling_half_width
    return replace(share, value=value, low=low, high=high, late=100 * share.late, sampling_half_width=half)
