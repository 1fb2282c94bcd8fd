"""Annotations such as `int | None` read from their source, and values converted as they say."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Any

SUPPORTED = "bool, int, float, str, Literal[...], Optional[X] or X | None, and list[X] of these"
_PLAIN = ("bool", "int", "float", "str")
_WORDS = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(("false", "no", "off", "0"), False)
_INTEGER = re.compile(r"([+-]?\d+(?:_\d+)*)(?:[eE]\+?(\d{1,2}))?")


@dataclass(frozen=True)
class Kind:
    """A type that a parameter can have: `name` is one of bool, int, float, str, literal and list."""

    name: str
    optional: bool = False
    choices: tuple[Any, ...] = ()
    item: Kind | None = None

    def __str__(self) -> str:
        """Return the type in words, as errors name it."""
        if self.name == "literal":
            words = "one of " + ", ".join(repr(choice) for choice in self.choices)
        else:
            words = self.name if self.item is None else f"list of {self.item}"
        return f"{words} or None" if self.optional else words


def parse(annotation: Any) -> Kind:
    """Return the kind that an annotation means, given as a real type or as its source; nothing is executed.

    Raises:
        ValueError: an annotation that parameters cannot have; the message lists those they can.
    """
    if not isinstance(annotation, str):
        is_class = isinstance(annotation, type) and not hasattr(annotation, "__origin__")
        annotation = annotation.__name__ if is_class else repr(annotation)
    try:
        return _kind(ast.parse(annotation.strip(), mode="eval").body)
    except (SyntaxError, ValueError) as exc:
        raise ValueError(f"the annotation {annotation} is not supported: use {SUPPORTED}") from exc


def _kind(node: ast.expr) -> Kind:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _kind(ast.parse(node.value, mode="eval").body)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _union([node.left, node.right])
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    if name in _PLAIN:
        return Kind(name)
    if isinstance(node, ast.Subscript):
        return _subscript(node)
    raise ValueError(ast.unparse(node))


def _subscript(node: ast.Subscript) -> Kind:
    name = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if name == "Literal":
        return Kind("literal", choices=tuple(ast.literal_eval(part) for part in parts))
    if name == "Optional" and len(parts) == 1:
        return _union([*parts, ast.Constant(None)])
    if name == "Union":
        return _union(parts)
    if name in ("list", "List") and len(parts) == 1:
        item = _kind(parts[0])
        if item.name != "list":
            return Kind("list", item=item)
    raise ValueError(ast.unparse(node))


def _union(parts: list[ast.expr]) -> Kind:
    def is_none(node: ast.expr) -> bool:
        return isinstance(node, ast.Constant) and node.value is None

    others = [part for part in parts if not is_none(part)]
    if len(others) != 1:
        raise ValueError("only X | None")
    kind = _kind(others[0])
    optional = kind.optional or len(others) < len(parts)
    return Kind(kind.name, optional, kind.choices, kind.item)


def convert(value: Any, kind: Kind, *, text: bool = True) -> Any:
    """Return `value` as `kind` wants it: text is read, numbers of NumPy become those of Python.

    Args:
        value: what was given.
        kind: what the annotation says.
        text: read text such as "false" or "1e3"; without it a value must have the type already.

    Raises:
        ValueError: the value cannot be meant.
    """
    if type(value).__module__ == "numpy":
        value = value.tolist()
    if value is None or (text and kind.optional and str(value).strip().lower() in ("none", "null")):
        if kind.optional:
            return None
        raise ValueError("None is not allowed")
    if kind.name == "literal":
        return _choice(value, kind, text)
    if kind.item is not None:
        return _list(value, kind.item, text)
    return _scalar(value, kind.name, text)


def _choice(value: Any, kind: Kind, text: bool) -> Any:
    for choice in kind.choices:
        if type(choice) is type(value) and choice == value:
            return choice
    if text and isinstance(value, str):
        for choice in kind.choices:
            if str(choice).lower() == value.strip().lower() and not isinstance(choice, str):
                return choice
    raise ValueError("not one of the choices")


def _list(value: Any, item: Kind, text: bool) -> list[Any]:
    if text and isinstance(value, str):
        value = split(value)
    if not isinstance(value, (list, tuple) if text else list):
        raise ValueError("not a list")  # noqa: TRY004 - one kind of error for what does not fit
    return [convert(one, item, text=text) for one in value]


def split(text: str) -> list[Any]:
    """Return the parts of "50,100" or "[50, 100]"; with quotes in it text is read as Python reads a list."""
    inner = text.strip()
    if '"' in inner or "'" in inner:
        value = ast.literal_eval(inner if inner.startswith("[") else f"[{inner}]")
        return list(value)
    inner = inner.removeprefix("[").removesuffix("]").strip()
    return [part.strip() for part in inner.split(",")] if inner else []


def _scalar(value: Any, name: str, text: bool) -> Any:
    if isinstance(value, str):
        if name == "str":
            return value
        if text:
            return _from_text(value.strip(), name)
    elif name == "float" and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif type(value).__name__ == name:
        return value
    raise ValueError("another type")


def _from_text(value: str, name: str) -> bool | int | float:
    if name == "bool":
        if value.lower() in _WORDS:
            return _WORDS[value.lower()]
    elif name == "float":
        return float(value)
    elif match := _INTEGER.fullmatch(value):
        return int(match[1]) * int(10 ** int(match[2] or 0))
    raise ValueError("not readable as one")
