"""The base of everything a scenario is made of: frozen data, checked by name, type and range when it is made."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from xedge.core.exceptions import ConfigurationError

LONGEST_SHOWN = 160  # characters


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Frozen keyword data; a wrong type or value raises ConfigurationError naming the field and what it may be."""

    def __post_init__(self) -> None:
        for name, hint in _hints(type(self)).items():
            if name.startswith("__"):
                continue
            value = getattr(self, name)
            if hasattr(value, "tolist"):  # numpy's numbers and arrays
                value = value.tolist()
            try:
                msgspec.structs.force_setattr(self, name, msgspec.convert(value, hint, dec_hook=_as_is))
            except msgspec.ValidationError as exc:
                raise ConfigurationError(f"{type(self).__name__}({name}={shown(value)}): {_sentence(exc)}") from None
        self.check()

    def check(self) -> None:
        """Check what one field alone cannot say; override and raise ConfigurationError."""

    def as_dict(self) -> dict[str, Any]:
        """Return the data as plain JSON types, loadable again."""
        data: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return data


def shown(value: Any) -> str:
    """Return a value as an error message shows it: the beginning of one as long as a trace."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]} … ({len(text)} characters)"


def _as_is(_type: type, value: Any) -> Any:
    return value


def _sentence(exc: Exception) -> str:
    """Msgspec's message with the place in words people use."""
    return str(exc).replace("Object ", "It ").replace(" - at `$", " at `")


def read_csv(path: str) -> Any:
    """Return a CSV file as a pandas table.

    Raises:
        ConfigurationError: there is no such file, or it is not a table.
    """
    import pandas as pd

    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as exc:  # pandas' own errors are ValueErrors
        raise ConfigurationError(f"cannot read {path} as CSV (seen from {Path.cwd()}): {exc}") from None
