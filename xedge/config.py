"""The base of everything a scenario is made of: frozen data, checked by name, type and range when it is made."""

from __future__ import annotations

from functools import cache
from typing import Any, get_type_hints

import msgspec

from xedge.exceptions import ConfigurationError


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
            if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:  # a numpy number
                value = value.item()
            try:
                msgspec.structs.force_setattr(self, name, msgspec.convert(value, hint, dec_hook=_as_is))
            except msgspec.ValidationError as exc:
                raise ConfigurationError(f"{type(self).__name__}({name}={value!r}): {_sentence(exc)}") from None
        self.check()

    def check(self) -> None:
        """Check what one field alone cannot say; override and raise ConfigurationError."""

    def as_dict(self) -> dict[str, Any]:
        """Return the data as plain JSON types, loadable again."""
        data: dict[str, Any] = msgspec.to_builtins(self, enc_hook=str)
        return data


def _as_is(_type: type, value: Any) -> Any:
    return value


def _sentence(exc: Exception) -> str:
    """Msgspec's message with the place in words people use."""
    return str(exc).replace("Object ", "It ").replace(" - at `$", " at `")
