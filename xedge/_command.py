"""The command that repeats a run of a notebook."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any


def command(notebook: str, changed: Mapping[str, Any]) -> str:
    """Return the command that runs `notebook` again with these values: `xedge report NAME -p rate_hz 500`."""
    words = ["xedge", "report", notebook]
    for name, value in changed.items():
        words += ["-p", name, as_text(value)]
    return shlex.join(words)


def as_text(value: Any) -> str:
    """Return a parameter's value as one types it: true, none, 50,100."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    if isinstance(value, list):
        parts = [as_text(one) for one in value]
        plain = parts and not any(set(part) & set(",'\"[] ") or not part for part in parts)
        return ",".join(parts) if plain else str(value)
    return str(value)
