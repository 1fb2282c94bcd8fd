"""The truth about inputs, where a source knows it: labels as texts, of one form wherever they come from."""

import math
from collections.abc import Iterable
from typing import Any

from xedge.core.exceptions import ConfigurationError


def as_labels(values: Iterable[Any], where: str) -> list[str]:
    """Return labels as texts: 1, 1.0, True and "1" are all "1"; words stay as they are.

    Raises:
        ConfigurationError: one is missing, or a number that is not whole; `where` and the row are named.
    """
    return [_as_label(value, f"{where}, data row {row}") for row, value in enumerate(values, start=1)]


def _as_label(value: Any, where: str) -> str:
    number = float(value) if hasattr(value, "__float__") and not isinstance(value, str) else None
    text = "" if value is None or (number is not None and math.isnan(number)) else str(value).strip()
    if text in ("", "<NA>", "nan"):
        raise ConfigurationError(f"{where}: the label is missing; fill it in, or leave the row out")
    if number is not None:
        if not number.is_integer():
            raise ConfigurationError(f"{where}: the label is {value}; give whole numbers or words, one for each class")
        return str(int(number))
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if number.is_integer() else text
