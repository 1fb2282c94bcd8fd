"""Tables: as HTML with every cell escaped, for what shows itself in a notebook; and columns' names with their units."""

from collections.abc import Iterable, Sequence
from html import escape

UNITS = {"ms": "ms", "s": "s", "hz": "/s", "mbps": "Mbit/s", "mb": "MB", "bytes": "bytes", "percent": "%"}


def split(name: str) -> tuple[str, str]:
    """Return the label and unit of a name with its unit: "p99_ms" is ("p99", "ms"), "servers" ("servers", "")."""
    label, _, suffix = name.rpartition("_")
    return (label.replace("_", " "), UNITS[suffix]) if label and suffix in UNITS else (name.replace("_", " "), "")


def heading(name: str) -> str:
    """Return a name with its unit as a column's heading: "p99, ms"."""
    label, unit = split(name)
    return f"{label}, {unit}" if unit else label


def html_table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table with `heads` above `rows`, the first cell of each row its heading.

    >>> html_table(["", "p99, ms"], [["edge", 3.1]])
    '<table><thead><tr><th></th><th>p99, ms</th></tr></thead><tbody><tr><th>edge</th><td>3.1</td></tr></tbody></table>'
    """
    head = "".join(f"<th>{escape(cell)}</th>" for cell in heads)
    body = "".join(
        f"<tr><th>{escape(str(first))}</th>{''.join(f'<td>{escape(str(cell))}</td>' for cell in others)}</tr>"
        for first, *others in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
