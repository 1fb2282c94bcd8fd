"""The rows of files as what requests contain: CSV and Parquet; what replays inputs, wherever they are recorded."""

import csv
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xedge.core.config import Config, did_you_mean, kind_of, read_csv
from xedge.core.exceptions import ConfigurationError
from xedge.core.extras import needed
from xedge.core.paths import project_root
from xedge.scenario.labels import as_labels
from xedge.scenario.sources import Source, Texts

SEPARATORS = (";", "\t", ",")


class Columns(Config, frozen=True, kw_only=True, tag_field="kind"):
    """What files of rows share: the file, and which of its columns are the input, and which the label."""

    path: str
    columns: list[str] | None = None
    without: list[str] | None = None
    label: str | None = None

    makes = "numbers"

    def table(self) -> Any:
        """Return the file as a pandas table."""
        raise NotImplementedError

    def inputs(self, n: int, shape: Sequence[int], seed: int) -> NDArray[Any]:  # noqa: ARG002 - replay draws nothing
        """Return n inputs (n, *shape): row 0, 1, 2, … of the file, beginning again at its end."""
        table = self._named()
        left_out = [*(self.without or []), self.label]
        table = table[self.columns or [name for name in table.columns if name not in left_out]]
        try:
            rows = table.to_numpy(dtype=float)
        except ValueError as exc:
            raise ConfigurationError(f"{self.path}: not all values are numbers ({exc})") from None
        if len(bad := np.flatnonzero(~np.isfinite(rows).all(axis=1))):
            raise ConfigurationError(f"{self.path}: data row {bad[0] + 1} holds a missing or infinite value")
        names = list(table.columns)
        advice = f"; its columns are {few(names)}: leave out what is no input, as {self.path}#-{names[0]}"
        return replayed(rows, n, shape, self.path, advice)

    def labels(self, n: int, seed: int) -> list[str] | None:  # noqa: ARG002 - replay draws nothing
        """Return the labels of these inputs, from the column `label`; None if there is none."""
        if self.label is None:
            return None
        labels = as_labels(self._named()[self.label], f"{self.path}, column {self.label}")
        return [labels[k % len(labels)] for k in range(n)]

    def _named(self) -> Any:
        """The table, its columns called by texts, with all those asked for."""
        table = self.table()
        table.columns = names = list(map(str, table.columns))
        asked = [*(self.columns or []), *(self.without or []), *([self.label] if self.label else [])]
        if missing := [name for name in asked if name not in names]:
            hint = did_you_mean(missing[0], names)
            raise ConfigurationError(f"{self.path} has no column {', '.join(missing)}; it has {few(names)}{hint}")
        return table


@kind_of(Source)
class CsvReplay(Columns, frozen=True, kw_only=True, tag_field="kind", tag="csv"):
    """The rows of a CSV file in order, over and over; each row is one input, C-ordered.

    Values are between commas, semicolons or tabs; with the latter two a decimal comma is read too.

    Args:
        path: the file, seen from the working folder or else from the project's.
        columns: which columns to take, by name; by default all of them. Without a line of names they are 0, 1, 2, …
        without: which columns to leave out.
        label: the column that holds the truth, whole numbers or words: no input, and what answers are compared with.
        header: whether the first line names the columns; by default it does if it holds words, or 0, 1, 2, … (as pandas
            names columns that have no names).
    """

    header: bool | None = None

    def table(self) -> Any:
        """Return the file as a pandas table."""
        path = located(self.path)
        head = []
        with suppress(OSError, UnicodeDecodeError), path.open(encoding="utf-8-sig", newline="") as file:
            head = [line for line in (file.readline() for _ in range(3)) if line.strip()]
        separator = next((s for s in SEPARATORS if s in "".join(head[:1])), ",")
        cells = next(csv.reader(head[:1], delimiter=separator), [])
        decimal = "," if separator != "," and not any("." in line for line in head[1:]) else "."
        named = self._is_named(cells, decimal) if self.header is None else self.header
        return read_csv(str(path), header=0 if named else None, sep=separator, decimal=decimal)

    def as_texts(self) -> Texts:
        """Return the source of texts that reads this file."""
        return Texts(path=self.path, column=self.columns[0] if self.columns else None, label=self.label)

    def _is_named(self, cells: list[str], decimal: str) -> bool:
        numbers = [cell for cell in cells if _is_number(cell.replace(decimal, "."))]
        words = [cell for cell in cells if cell.strip() and cell not in numbers]
        counted = any(numbers == [str(start + k) for k in range(len(numbers))] for start in (0, 1))
        if words and numbers and not counted:
            raise ConfigurationError(
                f"{self.path}: its first line holds words and numbers ({few(cells)}): say whether it names the "
                f"columns, as xedge.CsvReplay(path={self.path!r}, header=True), or False"
            )
        return bool(words) or (len(numbers) > 1 and counted and numbers[0] == "0")


@kind_of(Source)
class ParquetReplay(Columns, frozen=True, kw_only=True, tag_field="kind", tag="parquet"):
    """The rows of a Parquet file (needs `xedge[parquet]`), as `CsvReplay` those of a CSV file."""

    def table(self) -> Any:
        """Return the file as a pandas table."""
        path = located(self.path)
        with needed("parquet", "reading a Parquet file"):
            import pandas as pd
            import pyarrow  # noqa: F401 - pandas' own error names no extra
        try:
            return pd.read_parquet(path)
        except (OSError, ValueError) as exc:
            raise ConfigurationError(f"cannot read {path} as Parquet (seen from {Path.cwd()}): {exc}") from None


def located(path: str) -> Path:
    """Return the file as seen from the working folder, or from the project's if it is there."""
    file = Path(path).expanduser()
    below = project_root() / file
    return below if not file.exists() and below.exists() else file


def replayed(rows: NDArray[Any], n: int, shape: Sequence[int], where: str, advice: str = "") -> NDArray[Any]:
    """Return n inputs (n, *shape) of rows (m, ...), beginning again at the end; -1 in `shape` is any length.

    Raises:
        ConfigurationError: there are none, or they are not of that shape; with the `advice`.
    """
    each, free = tuple(rows.shape[1:]), [axis for axis, length in enumerate(shape) if length == -1]
    fits = len(each) == len(shape) and all(want in (-1, got) for want, got in zip(shape, each, strict=True))
    if not fits and len(free) <= 1:
        fixed = math.prod(length for length in shape if length != -1)
        width = math.prod(each)
        fits = width == fixed if not free else width > 0 and width % fixed == 0
        each = tuple(width // fixed if length == -1 else length for length in shape)
    if not fits or len(rows) == 0:
        size = f"{rows.shape[1]} values" if rows.ndim == 2 else f"shape {list(rows.shape[1:])}"
        wanted = f"{list(shape)}{' (-1 is any length)' if free else ''}"
        raise ConfigurationError(f"{where} has {len(rows)} rows of {size}; the model takes {wanted}{advice}")
    return rows[np.arange(n) % len(rows)].reshape(n, *each)


def few(names: Sequence[str]) -> str:
    """Return names in a line, of many the first and the last."""
    return ", ".join(names) if len(names) <= 8 else f"{', '.join(names[:3])}, …, {names[-1]} ({len(names)})"


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
