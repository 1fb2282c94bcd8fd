"""One doubt in words, with what to do about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

# What to do: said once for all doubts that it helps against.
QUIETER = "close other programs on this machine, or lower the rate (rate_hz), and measure again"
SETTLE = "close other programs on this machine and measure again"
LONGER = "make the trials longer (duration_s)"
MORE = "take more replications: three at least, five are usual"
LESS = "lower the rate (rate_hz), or give it a faster machine, more boxes or larger batches (max_batch)"
SLOWER = "lower the rate (rate_hz), or say over which time the jitter of the link is alike (correlation_ms)"
PATIENCE = "lower the rate (rate_hz), or raise timeout_s if an answer that late is still of use"

Severity = Literal["severe", "warning", "note"]


@dataclass(frozen=True)
class Doubt:
    """One reason to doubt a figure, about a placement or about all of them (None), and what to do about it."""

    placement: str | None
    severity: Severity
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.placement}: {self.text}" if self.placement else self.text


def said_once(listed: Sequence[Doubt]) -> list[Doubt]:
    """Return doubts of the same text as one about all their placements, and those of one remedy as one text.

    >>> both = [Doubt("edge", "note", "it swayed", "wait"), Doubt("cloud", "note", "it swayed", "wait")]
    >>> [str(doubt) for doubt in said_once(both)]
    ['edge and cloud: it swayed']
    """
    groups: dict[tuple[Severity, str], dict[str, list[str]]] = {}
    for doubt in listed:
        names = groups.setdefault((doubt.severity, doubt.remedy), {}).setdefault(doubt.text, [])
        names += [doubt.placement] if doubt.placement and doubt.placement not in names else []
    merged = []
    for (severity, remedy), about in groups.items():
        by_names: dict[str, list[str]] = {}
        for text, placements in about.items():
            by_names.setdefault(" and ".join(placements), []).append(text)
        texts = (str(Doubt(name, severity, ", ".join(of))) for name, of in by_names.items())
        merged.append(Doubt(None, severity, "; ".join(texts), remedy))
    return merged
