"""Tables as aligned text and as HTML with every cell escaped, and columns' names with their units."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import ClassVar, TypeVar

Row = TypeVar("Row")

UNITS = {"ms": "ms", "s": "s", "hz": "/s", "mbps": "Mbit/s", "mb": "MB", "bytes": "bytes", "percent": "%"}


def split(name: str) -> tuple[str, str]:
    """Return the label and unit of a name with its unit: "p99_ms" is ("p99", "ms"), "servers" ("servers", "")."""
    label, _, suffix = name.rpartition("_")
    return (label.replace("_", " "), UNITS[suffix]) if label and suffix in UNITS else (name.replace("_", " "), "")


def heading(name: str) -> str:
    """Return a name with its unit as a column's heading: "p99, ms"."""
    label, unit = split(name)
    return f"{label}, {unit}" if unit else label


def text_table(rows: Sequence[Sequence[str]], *, right: bool = False) -> str:
    """Return rows, the first of them the heads, as lines whose columns begin, or with `right` end, below each other.

    >>> print(text_table([("model", "kB"), ("vibration_cnn", "33")]))
    model          kB
    vibration_cnn  33
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    align = str.rjust if right else str.ljust
    return "\n".join("  ".join(map(align, row, widths)).rstrip() for row in rows)


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


class TableList(list[Row]):
    """A list that shows itself as a table: a subclass names its `columns` and says in `cells` what one entry shows."""

    columns: ClassVar[tuple[str, ...]]

    def cells(self, entry: Row) -> tuple[str, ...]:
        """Return what the table says of one entry, a text a column; override."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return text_table([self.columns, *map(self.cells, self)])

    def _repr_html_(self) -> str:
        return html_table(self.columns, map(self.cells, self))
