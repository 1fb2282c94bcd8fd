"""Limits for what was measured, such as "edge.p99_ms > 20": a number on that side of its limit fails the run."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xedge.core.exceptions import ConfigurationError

_SIDES = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_FORM = re.compile(r"\s*(.*?\S)\s*(>=|<=|>|<)\s*(\S+)\s*")


@dataclass(frozen=True)
class Threshold:
    """What must not be: the number `name` ("edge.p99_ms") on the `side` (">") of `limit`, in the unit of the name."""

    name: str
    side: str
    limit: float

    def __str__(self) -> str:
        return f"{self.name} {self.side} {self.limit:g}"

    def checked(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the run whose run.json says `facts` makes of it: `limit`, `state` and what is `said`.

        The state is "met", "crossed" (also by a number that could not be measured), or "unknown", where there is no
        number of that name; then it says which there are. A run that did not complete crosses everything.
        """
        numbers = {f"{of}.{name}": entry for of, own in _estimates(facts).items() for name, entry in own.items()}
        number = numbers.get(self.name)
        if facts.get("status", "completed") != "completed":
            state, said = "crossed", f"nothing was measured for {self}: the run {facts['status']}"
        elif number is None:
            there = f"it has {', '.join(numbers)}" if numbers else "it has none"
            state, said = "unknown", f"there is no number {self.name} in this run: {there}"
        elif (value := number.get("value")) is None:
            state, said = "crossed", f"{self.name} has no value ({number.get('text')}), which counts as {self}"
        else:
            crossed = _SIDES[self.side](value, self.limit)
            state = "crossed" if crossed else "met"
            said = f"{self.name} is {number.get('text') or value}; {'failed by' if crossed else 'not'} {self}"
        return {"limit": str(self), "state": state, "said": said}


def read(texts: Sequence[str]) -> list[Threshold]:
    """Return the limits that the texts mean.

    >>> read(["edge.p99_ms > 20"])
    [Threshold(name='edge.p99_ms', side='>', limit=20.0)]

    Raises:
        ConfigurationError: one is not `NAME > NUMBER`, with >, >=, < or <=.
    """
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise ConfigurationError(f"thresholds are {texts!r}: expected a list of lines such as `edge.p99_ms > 20`")
    return [_read(text) for text in texts]


def _read(text: str) -> Threshold:
    match = _FORM.fullmatch(text)
    try:
        limit = float(match[3]) if match else math.nan
    except ValueError:
        limit = math.nan
    if not match or not math.isfinite(limit) or "." not in match[1]:
        what = "expected what was measured, a side and a number, as in `edge.p99_ms > 20` (also >=, <, <=)"
        raise ConfigurationError(f"the threshold {text!r} cannot be read: {what}")
    return Threshold(match[1], match[2], limit)


def _estimates(facts: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    return facts.get("estimates") or {}
