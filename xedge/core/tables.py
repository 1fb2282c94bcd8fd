"""A table as HTML, every cell escaped: for what shows itself in a notebook."""

from collections.abc import Iterable, Sequence
from html import escape


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
