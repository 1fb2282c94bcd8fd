"""The base of everything a scenario is made of: frozen data, checked by name, type and range when it is made."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar, get_args, get_origin

import msgspec

from xedge.core.exceptions import ConfigurationError

YAML_DEPTH = 50
_KINDS: dict[type, dict[str, type[Config]]] = {}
_MAKERS: dict[Any, Callable[[Any], Any]] = {}
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


def made_by(protocol: type) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    """Register the function that makes a kind of `protocol` of what people have at hand, as a path or an array."""

    def register(maker: Callable[[Any], Any]) -> Callable[[Any], Any]:
        _MAKERS[protocol] = maker
        return maker

    return register


@cache
def _hints(cls: type[Config]) -> dict[str, Any]:
    return {field.name: field.type for field in msgspec.structs.fields(cls)}


class _Named(msgspec.StructMeta):
    """Makes objects, and names the fields there are where one was called otherwise or forgotten."""

    def __call__(self, *args: Any, **fields: Any) -> Any:
        try:
            return super().__call__(*args, **fields)
        except TypeError as exc:
            known = list(_hints(self))
            has = ", ".join(f"{name}=" for name in known) or "nothing"
            if strange := [name for name in fields if name not in known]:
                said = f"there is no {strange[0]}; it takes {has}{did_you_mean(f'{strange[0]}=', has.split(', '))}"
            elif lacking := re.search(r"Missing required argument '(\w+)'", str(exc)):
                said = f"give {lacking[1]}= too; it takes {has}"
            else:
                said = f"give its values by name; it takes {has}"
            raise ConfigurationError(f"{self.__name__}: {said}") from None


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, metaclass=_Named):
    """Frozen keyword data; a wrong type or value raises ConfigurationError naming the field and what it may be."""

    wants: ClassVar[dict[str, str]] = {}
    """What an error about a field says to give, where its type alone does not."""

    def __post_init__(self) -> None:
        for name, hint in _hints(type(self)).items():
            value = _plain(getattr(self, name), hint)
            try:
                msgspec.structs.force_setattr(self, name, msgspec.convert(value, hint, dec_hook=as_kind))
            except msgspec.ValidationError as exc:
                said = sentence(exc, hint, self.wants.get(name, ""))
                raise ConfigurationError(f"{type(self).__name__}({name}={shown(value)}): {said}") from None
        self.check()

    def check(self) -> None:
        """Check what one field alone cannot say; override and raise ConfigurationError."""

    @classmethod
    def written_out(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Return data of a file with its short forms as fields; override where a kind has any."""
        return data

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Return what `as_dict` was made of.

        Raises:
            ConfigurationError: the data is not of this kind; the message names the place in it.
        """
        try:
            return msgspec.convert(data, cls, strict=False, dec_hook=as_kind)
        except msgspec.ValidationError as exc:
            raise ConfigurationError(f"{cls.__name__}: {sentence(exc, cls)}") from None

    def as_dict(self) -> dict[str, Any]:
        """Return the data as plain JSON types, loadable again."""
        data: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return data


def shown(value: Any) -> str:
    """Return a value as an error message shows it: the beginning of one as long as a trace."""
    text = repr(value)
    return text if len(text) <= 160 else f"{text[:160]} … ({len(text)} characters)"


def did_you_mean(value: Any, choices: Iterable[Any]) -> str:
    """Return "; did you mean process?" if one of the choices is spelt almost as `value`, "" if none is."""
    close = difflib.get_close_matches(str(value), [str(choice) for choice in choices], n=1)
    return f"; did you mean {close[0]}?" if close else ""


def listed(choices: Iterable[Any]) -> str:
    """Return "thread, process or container"."""
    *others, last = map(str, choices)
    return f"{', '.join(others)} or {last}" if others else last


def _plain(value: Any, hint: Any) -> Any:
    """The value with what its field's kinds are made of made a kind, and NumPy's numbers and arrays as Python's."""
    for part in (hint, *get_args(hint)):
        if isinstance(part, type) and part in _MAKERS:
            return _MAKERS[part](value)
    return value.tolist() if hasattr(value, "tolist") else value


def as_kind(protocol: type, value: Any) -> Any:
    """Return `value` as one of the kinds registered for `protocol`; msgspec calls this for fields of that type.

    Raises:
        ConfigurationError: a mapping whose tag names no kind, or with fields that its kind does not have.
    """
    registered = _KINDS.get(protocol, {})
    if isinstance(value, type):
        raise ConfigurationError(f"{value.__name__} is a class: give an instance of it, as {value.__name__}(…)")
    if protocol in _MAKERS:
        value = _MAKERS[protocol](value)
    if not isinstance(value, dict) or not registered:
        return value
    field = str(next(iter(registered.values())).__struct_config__.tag_field)
    if not isinstance(tag := value.get(field), str) or tag not in registered:
        hint = did_you_mean(tag, registered)
        raise ConfigurationError(f"{field} is {tag!r}, give one of {', '.join(registered)}{hint} at `{field}`")
    try:
        return msgspec.convert(registered[tag].written_out(value), registered[tag], strict=False, dec_hook=as_kind)
    except msgspec.ValidationError as exc:
        raise ConfigurationError(sentence(exc, registered[tag])) from None


def sentence(exc: Exception, kind: Any = None, wanted: str = "") -> str:
    """Return msgspec's message with the place in words people use: "… at `workload.rate_hz`".

    Of the type or `Config` that was to be made, `kind`, it names the choices where a value or a name is none of them,
    and what is `wanted` where its type alone does not say that.
    """
    text = _with_choices(str(exc), kind, wanted)
    text = text.replace("Object ", "It ").replace(" - at `$.", " at `").replace(" - at `$", " at `")
    return re.sub(r" at `([^`]*)` at `([^`]*)`$", lambda place: f" at `{place[2]}.{place[1]}`", text)


def _with_choices(text: str, kind: Any, wanted: str) -> str:
    """The message with the choices of the field it is about, found by its place below `kind`."""
    said, _, place = text.partition(" - at `$")
    for name in re.findall(r"[A-Za-z_]\w*", place):  # not the number of one in a list
        owner = next((part for part in _parts(kind) if _is_config(part) and name in _hints(part)), None)
        kind, wanted = (_hints(owner)[name], owner.wants.get(name, "")) if owner else (None, wanted)
    if wrong := re.fullmatch(r"Invalid enum value '?(.*?)'?", said):
        choices = [choice for part in _parts(kind) if get_origin(part) is Literal for choice in get_args(part)]
        said = f"give {listed(choices)}{did_you_mean(wrong[1], choices)}" if choices else said
    elif unknown := re.fullmatch(r"Object contains unknown field `(.*)`", said):
        fields = [name for part in _parts(kind) if _is_config(part) for name in _hints(part)]
        said += f"; it takes {', '.join(fields)}{did_you_mean(unknown[1], fields)}" * bool(fields)
    elif wanted and said.startswith("Expected `") and " at `" not in said:
        said = f"give {wanted} ({said})" if "[" in place else f"give {wanted}"
    return f"{said} - at `${place}" if place else said


def _parts(kind: Any) -> tuple[Any, ...]:
    """The type itself and all that it is made of: of `tuple[Fault, ...] | None` also the Fault."""
    if get_origin(kind) in (None, Literal):
        return (kind,)
    return (kind, *(part for argument in get_args(kind) for part in _parts(argument)))


def _is_config(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Config)


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


def read_csv(path: str, **options: Any) -> Any:
    """Return a CSV file as a pandas table; the options are those of `pandas.read_csv`.

    Raises:
        ConfigurationError: there is no such file, or it is not a table.
    """
    import pandas as pd

    try:
        return pd.read_csv(path, **options)
    except (OSError, ValueError) as exc:  # pandas' own errors are ValueErrors
        raise ConfigurationError(f"cannot read {path} as CSV (seen from {Path.cwd()}): {exc}") from None
