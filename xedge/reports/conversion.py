"""Annotations such as `int | None` read from their source, and values converted as they say."""

import ast
import difflib
from types import NoneType
from typing import Any, Literal, Optional, get_args, get_origin

import msgspec

SUPPORTED = "bool, int, float, str, Literal[...], Optional[X] or X | None, and list[X] of these"
_PLAIN = {"bool": bool, "int": int, "float": float, "str": str}
_BOOL_WORDS = {"yes": "true", "on": "true", "no": "false", "off": "false"}


def parse(annotation: Any) -> Any:
    """Return the type that an annotation means, given as a real type or as its source; nothing is executed.

    >>> parse("int | None"), parse("list[typing.Literal['edge', 'cloud']]")
    (typing.Optional[int], list[typing.Literal['edge', 'cloud']])

    Raises:
        ValueError: an annotation that parameters cannot have; the message lists those they can.
    """
    if not isinstance(annotation, str):
        is_class = isinstance(annotation, type) and not hasattr(annotation, "__origin__")
        annotation = annotation.__name__ if is_class else repr(annotation)
    try:
        return _type(ast.parse(annotation.strip(), mode="eval").body)
    except (SyntaxError, ValueError) as exc:
        raise ValueError(f"the annotation {annotation} is not supported: use {SUPPORTED}") from exc


def _type(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=str(source)):
            return _type(ast.parse(source, mode="eval").body)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _optional([left, right])
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in _PLAIN:
            return _PLAIN[name]
        case ast.Subscript(value=ast.Name(id=name) | ast.Attribute(attr=name), slice=inner):
            return _generic(name, inner.elts if isinstance(inner, ast.Tuple) else [inner])
    raise ValueError(ast.unparse(node))


def _generic(name: str, parts: list[ast.expr]) -> Any:
    if name == "Literal":
        return Literal[tuple(ast.literal_eval(part) for part in parts)]
    if name in ("Optional", "Union"):
        return _optional([*parts, ast.Constant(None)] if name == "Optional" else parts)
    item = _type(parts[0])
    if name not in ("list", "List") or len(parts) > 1 or is_list(item):
        raise ValueError(name)
    return list[item]  # type: ignore[valid-type]


def _optional(parts: list[ast.expr]) -> Any:
    others = [part for part in parts if not (isinstance(part, ast.Constant) and part.value is None)]
    if len(others) != 1:
        raise ValueError("only X | None")
    return Optional[_type(others[0])] if len(parts) > 1 else _type(others[0])  # noqa: UP045 - a type made here


def required(kind: Any) -> Any:
    """Return X of the type X | None, and any other type as it is."""
    others = [part for part in get_args(kind) if part is not NoneType]
    return others[0] if NoneType in get_args(kind) else kind


def is_list(kind: Any) -> bool:
    """Return whether the type is a list or a list | None."""
    return get_origin(required(kind)) is list


def words(kind: Any) -> str:
    """Return a type in words, as errors name it: "list of int", "one of 'lan', 'cloud' or None"."""
    inner = required(kind)
    if get_origin(inner) is Literal:
        text = "one of " + ", ".join(map(repr, get_args(inner)))
    else:
        text = f"list of {words(get_args(inner)[0])}" if is_list(inner) else inner.__name__
    return text if inner is kind else f"{text} or None"


def close_choice(value: Any, kind: Any) -> Any:
    """Return the choice of a Literal that is spelt almost as `value`, None if there is none."""
    inner = required(kind)
    choices = {str(choice): choice for choice in get_args(inner)} if get_origin(inner) is Literal else {}
    return next((choices[name] for name in difflib.get_close_matches(str(value), choices, n=1)), None)


def convert(value: Any, kind: Any, *, text: bool = True) -> Any:
    """Return `value` as the type `kind` wants it: text is read, numbers of NumPy become those of Python.

    >>> convert("1e3", int), convert("50, 100", list[float]), convert("none", str | None)
    (1000, [50.0, 100.0], None)

    Args:
        value: a value from a command line, a file or Python.
        kind: a type as `parse` returns it.
        text: read text such as "false" or "1e3"; without it a value must have the type already.

    Raises:
        ValueError: the value is not one of this type.
    """
    if type(value).__module__ == "numpy":
        value = value.tolist()
    inner = required(kind)
    is_text = text and isinstance(value, str)
    if inner is not kind and (value is None or (is_text and value.strip().lower() in ("none", "null"))):
        return None
    if get_origin(inner) is Literal:
        return _choice(value, get_args(inner), is_text)
    if is_list(inner):
        parts = split(value) if is_text else value
        if not isinstance(parts, (list, tuple) if text else list):
            raise ValueError("not a list")
        return [convert(part, get_args(inner)[0], text=text) for part in parts]
    lenient = is_text and inner is not str
    try:
        return msgspec.convert(_readable(value, inner) if lenient else value, inner, strict=not lenient)
    except msgspec.ValidationError as exc:
        raise ValueError(str(exc)) from exc


def _readable(text: str, kind: type) -> str:
    """Return text that people write for a bool or a number as msgspec reads it."""
    word = text.strip().lower()
    return _BOOL_WORDS.get(word, word) if kind is bool else word.replace("_", "")


def _choice(value: Any, choices: tuple[Any, ...], is_text: bool) -> Any:
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return choice
        if is_text and not isinstance(choice, str) and str(choice).lower() == value.strip().lower():
            return choice
    raise ValueError("not one of the choices")


def split(text: str) -> list[Any]:
    """Return the parts of "50,100" or "[50, 100]"; with quotes in it text is read as Python reads a list."""
    inner = text.strip()
    if '"' in inner or "'" in inner:
        return list(ast.literal_eval(inner if inner.startswith("[") else f"[{inner}]"))
    inner = inner.removeprefix("[").removesuffix("]").strip()
    return [part.strip() for part in inner.split(",")] if inner else []
