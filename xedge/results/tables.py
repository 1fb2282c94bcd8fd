"""A table for a paper: numbers with units and intervals, as CSV, as a DataFrame of texts and as LaTeX."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from xedge.core.tables import heading
from xedge.results import words

if TYPE_CHECKING:
    from xedge.results.measurement import Measurement

ENDS = ("_low", "_high", "_late")
NONE = "–"
_LATEX = {"\u202f": r"\,", "\u00a0": "~", "–": "--", "−": "$-$", "±": r"$\pm$", "≤": r"$\le$", "∞": r"$\infty$"}


@dataclass(frozen=True)
class PaperTable:
    """A table of xedge's, its `rows` as numbers: a column NAME_low and one NAME_high are the interval of NAME.

    A name ends in its unit: p99_ms, offered_hz. NaN is no number; inf is "timed out".

    >>> rows = pd.DataFrame({"of": ["edge"], "p99_ms": [1.23], "p99_ms_low": [1.1], "p99_ms_high": [1.4]})
    >>> PaperTable(rows).texts().to_dict("records")
    [{'of': 'edge', 'p99, ms': '1.23 (1.10–1.40)'}]
    """

    rows: pd.DataFrame
    caption: str = ""

    def texts(self) -> pd.DataFrame:
        """Return the table as it is printed: heads with units, values with their intervals, low–high."""
        rows = self.rows if isinstance(self.rows.index, pd.RangeIndex) else self.rows.reset_index()
        merged = {base + end for base in map(str, rows) for end in ENDS if base + end in rows}
        return pd.DataFrame({heading(name): _column(rows, name) for name in map(str, rows) if name not in merged})

    def latex(self, label: str = "", caption: str | None = None) -> str:
        """Return a `table` environment with the rules of the package booktabs; the preamble needs only that package."""
        texts = self.texts()
        numeric = [str(name) for name in self.rows.select_dtypes("number")]
        right = {heading(name) for name in numeric}
        styled = texts.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis=1)
        text = styled.to_latex(
            hrules=True,
            column_format="".join("r" if name in right else "l" for name in texts),
            position="tb",
            position_float="centering",
            caption=_escaped(self.caption if caption is None else caption) or None,
            label=label or None,
        )
        for mark, command in _LATEX.items():
            text = text.replace(mark, command)
        return str(text)

    def save(self, path: str | Path) -> Path:
        """Write `path` with .csv (the numbers, in UTF-8) and with .tex, and return the first."""
        csv, tex = (Path(f"{path}.{kind}") for kind in ("csv", "tex"))
        csv.parent.mkdir(parents=True, exist_ok=True)
        indexed = not isinstance(self.rows.index, pd.RangeIndex)
        csv.write_bytes(self.rows.to_csv(index=indexed, lineterminator="\n").encode())
        tex.write_text(f"% \\usepackage{{booktabs}}\n{self.latex()}", encoding="utf-8", newline="\n")
        return csv

    def _repr_html_(self) -> str:
        return str(self.texts().to_html(index=False, border=0))


def tables_of(measurement: Measurement) -> dict[str, PaperTable]:
    """Return the tables of a measurement: `summary`, `parts` and, of several placements, `differences` to the first."""
    summary, conditions = measurement.summary(), measurement.typed_conditions
    fates = ["error", "timeout", "lost", "not_sent"]
    none = [name for name in fates if not summary[name].any()]
    summary = summary.drop(columns=none if len(none) < len(fates) else ["ok", *none])
    runs = conditions.replications or measurement.rows["replication"].nunique()
    about = f"{runs} replication{'s' * (runs != 1)}, 95 % intervals. {measurement.verdict.word}."
    tables = {"summary": PaperTable(summary, f"Latency from the due time. {about}")}
    parts = measurement.breakdown()
    parts["share_percent"] = 100 * parts.pop("share")
    tables["parts"] = PaperTable(parts, f"Where the time goes: parts of the latency. {about}")
    first, *others = measurement.placements
    compared = [measurement.compare(first, other) for other in others]
    each = [c.table().assign(placement=c.b, against=c.a) for c in compared if c.differences]
    if each:
        rows = pd.concat(each, ignore_index=True)
        rows = rows.rename(columns={"low_ms": "difference_ms_low", "high_ms": "difference_ms_high"})
        rows = rows[["placement", "against", "level", *(name for name in rows if "difference" in name), "n"]]
        tables["differences"] = PaperTable(rows, f"Paired differences of the latency. {about}")
    return tables


def _column(rows: pd.DataFrame, name: str) -> list[str]:
    low, high = (rows[name + end] if name + end in rows else [math.nan] * len(rows) for end in ENDS[:2])
    return [_cell(*cell) for cell in zip(rows[name], low, high, strict=True)]


def _cell(value: Any, low: Any, high: Any) -> str:
    if isinstance(value, str | bool) or value is None:
        return NONE if value is None else str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "timed out" if math.isinf(value) else NONE
    if float(value).is_integer() and not isinstance(value, float):
        return words.count(int(value))
    if low is None or high is None or not math.isfinite(low) or not math.isfinite(high):
        return words.number(value).replace("-", "−")
    places = words.decimals(value, (high - low) / 2)
    return f"{value:.{places}f}".replace("-", "−") + f" ({words.interval(low, high, places)})"


def _escaped(text: str) -> str:
    for mark in "%_&#":
        text = text.replace(mark, f"\\{mark}")
    return text
