"""The command that repeats a run or a sweep of a notebook."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any


def command(verb: str, notebook: str, values: Mapping[str, Any]) -> str:
    """Return the command that runs `notebook` again with these values: `xedge report NAME -p rate_hz 500`."""
    words = ["xedge", verb, notebook]
    for name, value in values.items():
        words += ["-p", name, as_text(value)]
    return shlex.join(words)


def as_text(value: Any) -> str:
    """Return a parameter's value as one types it: true, none, 50,100."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    if isinstance(value, list):
        parts = [as_text(part) for part in value]
        plain = parts and not any(set(part) & set(",'\"[] ") or not part for part in parts)
        return ",".join(parts) if plain else str(value)
    return str(value)


def as_texts(values: Sequence[Any]) -> str:
    """Return the values of a sweep as one types them: 50,100 or, of lists, 50,100;200."""
    texts = [as_text(value) for value in values]
    if any(isinstance(value, list) for value in values) or any(set(text) & set(",;'\"[]") for text in texts):
        return ";".join(texts) + ";" * (len(texts) == 1 and not isinstance(values[0], list))
    return ",".join(texts)
