"""Numbers with intervals as a report's record holds them: of what, which, its value, how people read it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from xedge.core.exceptions import ConfigurationError

UNITS = {"ms": "ms", "s": "s", "hz": "/s", "mbps": "Mbit/s", "bytes": "bytes", "percent": "%"}
NONE = "–"
_FORM = "estimates is {of what: {name_unit: number, Estimate or {value, low, high, text}}}"

Estimates = dict[str, dict[str, dict[str, Any]]]


def checked(given: Any) -> Estimates:
    """Return estimates in the form that run.json holds: what of → name with unit → value, low, high and text.

    Args:
        given: the same with plain numbers or `statistics.Estimate`s allowed as values; what is not finite has
            no value, only a text.

    Raises:
        ConfigurationError: of another form.
    """
    if not isinstance(given, Mapping) or not all(isinstance(numbers, Mapping) for numbers in given.values()):
        raise ConfigurationError(f"record: {_FORM}, not {given!r}")
    return {str(of): {str(name): _entry(name, one) for name, one in numbers.items()} for of, numbers in given.items()}


def _entry(name: Any, given: Any) -> dict[str, Any]:
    fields = given if isinstance(given, Mapping) else {key: getattr(given, key, None) for key in ("low", "high")}
    value = given.get("value") if isinstance(given, Mapping) else getattr(given, "value", given)
    numbers = [value, fields.get("low"), fields.get("high")]
    if any(isinstance(one, str | bool) or (one is not None and not hasattr(one, "__float__")) for one in numbers):
        raise ConfigurationError(f"record: {name} is {given!r}, but {_FORM}")
    value, low, high = (None if one is None or not math.isfinite(one) else float(one) for one in numbers)
    told = fields.get("text") or (_told(given) if hasattr(given, "half_width") else _text(value, low, high))
    return {"value": value, "low": low, "high": high, "text": str(told)}


def _told(estimate: Any) -> str:
    from xedge.results.words import milliseconds

    return milliseconds(estimate, unit="")


def _text(value: float | None, low: float | None, high: float | None) -> str:
    """Return "0.61 ± 0.04", "0.61 (0.60 to 0.70)" where the interval is lopsided, "–" where there is nothing."""
    from xedge.results.words import decimals, number

    if value is None:
        return NONE
    if low is None or high is None:
        return number(value)
    half = (high - low) / 2
    places = decimals(value, half)
    if abs(high + low - 2 * value) > 0.2 * half:
        return f"{value:.{places}f} ({low:.{places}f} to {high:.{places}f})"
    return f"{value:.{places}f} ± {half:.{places}f}"


def split(name: str) -> tuple[str, str]:
    """Return the label and unit of a name with its unit: "p99_ms" is ("p99", "ms"), "servers" ("servers", "")."""
    label, _, suffix = name.rpartition("_")
    return (label.replace("_", " "), UNITS[suffix]) if label and suffix in UNITS else (name.replace("_", " "), "")


def heading(name: str) -> str:
    """Return a name with its unit as a column's heading: "p99, ms"."""
    label, unit = split(name)
    return f"{label}, {unit}" if unit else label


def columns(estimates: Iterable[Estimates]) -> dict[str, list[str]]:
    """Return what of → the names there are in any of `estimates`, in the order first seen."""
    found: dict[str, list[str]] = {}
    for one in estimates:
        for of, numbers in one.items():
            names = found.setdefault(of, [])
            names += [name for name in numbers if name not in names]
    return found
