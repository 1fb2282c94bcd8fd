"""The base of everything a scenario is made of: frozen data, checked by name, type and range when it is made."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec

from xedge.core.exceptions import ConfigurationError

YAML_DEPTH = 50
_KINDS: dict[type, dict[str, type[Config]]] = {}
Kind = TypeVar("Kind", bound="type[Config]")


def kind_of(protocol: type) -> Callable[[Kind], Kind]:
    """Register a `Config` as one kind of `protocol`, a runtime-checkable `Protocol` such as `Arrivals`.

    Fields annotated with the protocol take an instance of any class that offers what it asks for, and mappings with the
    tag of a registered kind, as YAML files have them.
    """

    def register(cls: Kind) -> Kind:
        _KINDS.setdefault(protocol, {})[str(cls.__struct_config__.tag)] = cls
        return cls

    return register


@cache
def _hints(cls: type[Config]) -> dict[str, Any]:
    return {field.name: field.type for field in msgspec.structs.fields(cls)}


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Frozen keyword data; a wrong type or value raises ConfigurationError naming the field and what it may be."""

    def __post_init__(self) -> None:
        for name, hint in _hints(type(self)).items():
            value = getattr(self, name)
            value = value.tolist() if hasattr(value, "tolist") else value  # numpy's numbers and arrays
            try:
                msgspec.structs.force_setattr(self, name, msgspec.convert(value, hint, dec_hook=as_kind))
            except msgspec.ValidationError as exc:
                raise ConfigurationError(f"{type(self).__name__}({name}={shown(value)}): {sentence(exc)}") from None
        self.check()

    def check(self) -> None:
        """Check what one field alone cannot say; override and raise ConfigurationError."""

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Return what `as_dict` was made of.

        Raises:
            ConfigurationError: the data is not of this kind; the message names the place in it.
        """
        try:
            return msgspec.convert(data, cls, strict=False, dec_hook=as_kind)
        except msgspec.ValidationError as exc:
            raise ConfigurationError(f"{cls.__name__}: {sentence(exc)}") from None

    def as_dict(self) -> dict[str, Any]:
        """Return the data as plain JSON types, loadable again."""
        data: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return data


def shown(value: Any) -> str:
    """Return a value as an error message shows it: the beginning of one as long as a trace."""
    text = repr(value)
    return text if len(text) <= 160 else f"{text[:160]} … ({len(text)} characters)"


def as_kind(protocol: type, value: Any) -> Any:
    """Return `value` as one of the kinds registered for `protocol`; msgspec calls this for fields of that type.

    Raises:
        ConfigurationError: a mapping whose tag names no kind, or with fields that its kind does not have.
    """
    registered = _KINDS.get(protocol, {})
    if isinstance(value, type):
        raise ConfigurationError(f"{value.__name__} is a class: give an instance of it, as {value.__name__}(…)")
    if not isinstance(value, dict) or not registered:
        return value
    field = str(next(iter(registered.values())).__struct_config__.tag_field)
    if not isinstance(tag := value.get(field), str) or tag not in registered:
        close = difflib.get_close_matches(str(tag), registered, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ConfigurationError(f"{field} is {tag!r}, give one of {', '.join(registered)}{hint} at `{field}`")
    try:
        return msgspec.convert(value, registered[tag], strict=False, dec_hook=as_kind)
    except msgspec.ValidationError as exc:
        raise ConfigurationError(sentence(exc)) from None


def sentence(exc: Exception) -> str:
    """Return msgspec's message with the place in words people use: "… at `workload.rate_hz`"."""
    text = str(exc).replace("Object ", "It ").replace(" - at `$.", " at `").replace(" - at `$", " at `")
    return re.sub(r" at `([^`]*)` at `([^`]*)`$", lambda place: f" at `{place[2]}.{place[1]}`", text)


def check_yaml(text: str) -> None:
    """Refuse YAML that is deeper than a reader's stack, or small and yet without end because of its aliases.

    Raises:
        ConfigurationError: nested over `YAML_DEPTH` deep, or with an alias; what is no YAML at all passes.
    """
    import yaml

    depth = 0
    with suppress(yaml.YAMLError):
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            line = event.start_mark.line + 1
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > YAML_DEPTH:
                raise ConfigurationError(f"line {line}: nested over {YAML_DEPTH} deep")
            if isinstance(event, yaml.AliasEvent):
                raise ConfigurationError(
                    f"line {line}: *{event.anchor} is an alias, which is not read: repeat the value"
                )


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
