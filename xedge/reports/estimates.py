"""Numbers with intervals as a report's record holds them: of what, which, its value, and the text people read."""

import math
from collections.abc import Mapping
from typing import Any

from xedge.core.exceptions import ConfigurationError
from xedge.core.tables import heading as heading
from xedge.core.tables import split as split

NONE = "–"
_FORM = "estimates is {of what: {name_unit: number, Estimate or {value, low, high, text}}}"

Estimates = dict[str, dict[str, dict[str, Any]]]


def checked(estimates: Any) -> Estimates:
    """Return estimates in the form that run.json holds: what of → name with unit → value, low, high and text.

    Given are the same, plain numbers or `statistics.Estimate`s; what is not finite has no value, only a text.

    Raises:
        ConfigurationError: of another form.
    """
    if not isinstance(estimates, Mapping) or not all(isinstance(numbers, Mapping) for numbers in estimates.values()):
        raise ConfigurationError(f"record: {_FORM}, not {estimates!r}")
    return {str(of): {str(name): _entry(name, n) for name, n in numbers.items()} for of, numbers in estimates.items()}


def _entry(name: Any, source: Any) -> dict[str, Any]:
    known = {"value": getattr(source, "value", source), **{key: getattr(source, key, None) for key in ("low", "high")}}
    fields = dict(source) if isinstance(source, Mapping) else known
    ends = [fields.get(key) for key in ("value", "low", "high")]
    if any(isinstance(end, str | bool) or (end is not None and not hasattr(end, "__float__")) for end in ends):
        raise ConfigurationError(f"record: {name} is {source!r}, but {_FORM}")
    value, low, high = (None if end is None or not math.isfinite(end) else float(end) for end in ends)
    text = fields.get("text") or NONE
    if hasattr(source, "half_width"):
        from xedge.results.words import milliseconds

        text = milliseconds(source, unit="")
    elif text == NONE and value is not None:
        figure, interval = parts(value, low, high)
        text = f"{figure} ({interval})" if interval else figure
    return {"value": value, "low": low, "high": high, "text": str(text)}


def parts(value: float, low: float | None, high: float | None) -> tuple[str, str]:
    """Return a number and its interval as people read them; "" where there is no interval.

    >>> parts(0.612, 0.55, 0.674), parts(410, 400, 460), parts(12, None, None)
    (('0.612', '0.550–0.674'), ('410', '400–460'), ('12', ''))
    """
    from xedge.results.words import decimals, interval, number

    if low is None or high is None or not math.isfinite(high - low):
        return number(value), ""
    places = decimals(value, (high - low) / 2)
    return f"{value:.{places}f}".replace("-", "−"), interval(low, high, places)
