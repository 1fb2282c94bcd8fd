"""Annotations such as `int | None` read from their source, and values converted as they say, from text and to text."""

import ast
import difflib
import shlex
import typing
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import msgspec

SUPPORTED = "bool, int, float, str, Literal[...], Optional[X] or X | None, and list[X] of these"
_PLAIN = {"bool": bool, "int": int, "float": float, "str": str}
_NAMES = {**vars(typing), **_PLAIN, "list": list, "typing": typing, "t": typing, "__builtins__": {}}
_CALLING_NOTHING = ast.Expression | ast.Name | ast.Attribute | ast.Load | ast.Constant | ast.Subscript | ast.Tuple
_OPERATORS = ast.BinOp | ast.BitOr | ast.UnaryOp | ast.USub
_BOOL_WORDS = {"yes": "true", "on": "true", "no": "false", "off": "false"}


def parse(annotation: Any) -> Any:
    """Return the type that an annotation means, given as a real type or as its source, of which nothing is called.

    >>> parse("int | None"), parse("list[typing.Literal['edge', 'cloud']]")
    (int | None, list[typing.Literal['edge', 'cloud']])

    Raises:
        ValueError: an annotation that parameters cannot have; the message lists those they can.
    """
    kind, unsupported = annotation, f"the annotation {annotation} is not supported: use {SUPPORTED}"
    try:
        while isinstance(kind, str):
            tree = ast.parse(kind.strip(), mode="eval")
            if not all(isinstance(node, _CALLING_NOTHING | _OPERATORS) for node in ast.walk(tree)):
                raise ValueError(unsupported)
            kind = eval(compile(tree, "annotation", "eval"), _NAMES)
    except (SyntaxError, NameError, AttributeError, TypeError) as exc:
        raise ValueError(unsupported) from exc
    inner = required(kind)
    item = get_args(inner)[0] if is_list(inner) and len(get_args(inner)) == 1 else inner
    if required(item) not in _PLAIN.values() and get_origin(required(item)) is not Literal:
        raise ValueError(unsupported)
    return kind


def required(kind: Any) -> Any:
    """Return X of the type X | None, and any other type as it is."""
    others = [part for part in get_args(kind) if part is not NoneType]
    return others[0] if NoneType in get_args(kind) and len(others) == 1 else kind


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
    """Return a value of a command line, a file or Python as the type `kind` (as `parse` returns it) wants it.

    Numbers of NumPy become those of Python, and `text` such as "false" or "1e3" is read, else the type must be right.

    >>> convert("1e3", int), convert("50, 100", list[float]), convert("none", str | None)
    (1000, [50.0, 100.0], None)

    Raises:
        ValueError: the value is not one of this type.
    """
    value, inner = plain(value), required(kind)
    word = value.strip().lower() if text and isinstance(value, str) else None
    if inner is not kind and (value is None or word in ("none", "null")):
        return None
    if get_origin(inner) is Literal:
        for choice in get_args(inner):
            same = type(choice) is type(value) and choice == value
            if same or (word is not None and not isinstance(choice, str) and str(choice).lower() == word):
                return choice
        raise ValueError("not one of the choices")
    if is_list(inner):
        parts = value if word is None else split(value)
        if not isinstance(parts, (list, tuple) if text else list):
            raise ValueError("not a list")
        return [convert(part, get_args(inner)[0], text=text) for part in parts]
    if lenient := word is not None and inner is not str:
        value = _BOOL_WORDS.get(word, word) if inner is bool else word.replace("_", "")
    try:
        return msgspec.convert(value, inner, strict=not lenient)
    except msgspec.ValidationError as exc:
        raise ValueError(str(exc)) from exc


def plain(value: Any) -> Any:
    """Return a value of NumPy as one of Python, any other as it is."""
    return value.tolist() if type(value).__module__ == "numpy" else value


def split(text: str) -> list[Any]:
    """Return the parts of "50,100" or "[50, 100]"; with quotes in it text is read as Python reads a list."""
    inner = text.strip()
    if '"' in inner or "'" in inner:
        return list(ast.literal_eval(inner if inner.startswith("[") else f"[{inner}]"))
    inner = inner.removeprefix("[").removesuffix("]").strip()
    return [part.strip() for part in inner.split(",")] if inner else []


def as_text(value: Any) -> str:
    """Return a parameter's value as one types it: true, none, 50,100."""
    if isinstance(value, list):
        parts = [as_text(part) for part in value]
        unquoted = parts and not any(set(part) & set(",'\"[] ") or not part for part in parts)
        return ",".join(parts) if unquoted else str(value)
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def as_texts(values: Sequence[Any]) -> str:
    """Return the values of a sweep as one types them: 50,100 or, of lists, 50,100;200."""
    texts = [as_text(value) for value in values]
    if any(isinstance(value, list) for value in values) or any(set(text) & set(",;'\"[]") for text in texts):
        return ";".join(texts) + ";" * (len(texts) == 1 and not isinstance(values[0], list))
    return ",".join(texts)


def command(verb: str, notebook: str, texts: Mapping[str, str]) -> str:
    """Return the command that runs `notebook` again with these values: `xedge report NAME -p rate_hz 500`."""
    return shlex.join(["xedge", verb, notebook, *(word for pair in texts.items() for word in ("-p", *pair))])
