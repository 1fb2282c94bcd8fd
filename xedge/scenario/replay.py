"""Recorded inputs as what requests contain: files of rows or arrays, and what a notebook holds in memory."""

import csv
import hashlib
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from xedge.core.config import Config, did_you_mean, kind_of, listed, made_by, read_csv
from xedge.core.exceptions import ConfigurationError
from xedge.core.extras import needed
from xedge.core.paths import project_root
from xedge.scenario.sources import Noise, Source, Texts, Vibration

SEPARATORS = (";", "\t", ",")
BY_NAME = {"vibration": Vibration, "noise": Noise, "texts": Texts}


class Columns(Config, frozen=True, kw_only=True, tag_field="kind"):
    """What files of rows share: the file, and which of its columns are the input."""

    path: str
    columns: list[str] | None = None
    without: list[str] | None = None

    makes = "numbers"

    def table(self) -> Any:
        """Return the file as a pandas table."""
        raise NotImplementedError

    def inputs(self, n: int, shape: Sequence[int], seed: int) -> NDArray[Any]:  # noqa: ARG002 - replay draws nothing
        """Return n inputs (n, *shape): row 0, 1, 2, … of the file, beginning again at its end."""
        table = self.table()
        names = list(map(str, table.columns))
        table.columns = names
        if missing := [c for c in [*(self.columns or []), *(self.without or [])] if c not in names]:
            hint = did_you_mean(missing[0], names)
            raise ConfigurationError(f"{self.path} has no column {', '.join(missing)}; it has {_few(names)}{hint}")
        table = table[self.columns or [name for name in names if name not in (self.without or [])]]
        try:
            rows = table.to_numpy(dtype=float)
        except ValueError as exc:
            raise ConfigurationError(f"{self.path}: not all values are numbers ({exc})") from None
        if len(bad := np.flatnonzero(~np.isfinite(rows).all(axis=1))):
            raise ConfigurationError(f"{self.path}: data row {bad[0] + 1} holds a missing or infinite value")
        advice = (
            f"; its columns are {_few(list(table.columns))}: leave out what is no input, as {self.path}#-{names[0]}"
        )
        return replayed(rows, n, shape, self.path, advice)


@kind_of(Source)
class CsvReplay(Columns, frozen=True, kw_only=True, tag_field="kind", tag="csv"):
    """The rows of a CSV file in order, over and over; each row is one input, C-ordered.

    Values are between commas, semicolons or tabs; with the latter two a decimal comma is read too.

    Args:
        path: the file, seen from the working folder or else from the project's.
        columns: which columns to take, by name; by default all of them. Without a line of names they are 0, 1, 2, …
        without: which columns to leave out, such as a label.
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
        return Texts(path=self.path, column=self.columns[0] if self.columns else None)

    def _is_named(self, cells: list[str], decimal: str) -> bool:
        numbers = [cell for cell in cells if _is_number(cell.replace(decimal, "."))]
        words = [cell for cell in cells if cell.strip() and cell not in numbers]
        counted = any(numbers == [str(start + k) for k in range(len(numbers))] for start in (0, 1))
        if words and numbers and not counted:
            raise ConfigurationError(
                f"{self.path}: its first line holds words and numbers ({_few(cells)}): say whether it names the "
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


@kind_of(Source)
class ArrayReplay(Config, frozen=True, kw_only=True, tag_field="kind", tag="array"):
    """The inputs in a .npy or .npz file in order, over and over: an array (m, ...).

    Args:
        path: the file, seen from the working folder or else from the project's.
        array: which array of a .npz file; the only one needs no name.
    """

    path: str
    array: str | None = None

    makes = "numbers"

    def inputs(self, n: int, shape: Sequence[int], seed: int) -> NDArray[Any]:  # noqa: ARG002 - replay draws nothing
        """Return n inputs (n, *shape): input 0, 1, 2, … of the file, beginning again at its end."""
        try:
            loaded = np.load(located(self.path), allow_pickle=False)
            names = list(getattr(loaded, "files", []))
            name = self.array or (names[0] if len(names) == 1 else "")
            values = (loaded[name] if name in names else None) if names else loaded
        except (OSError, ValueError, EOFError) as exc:
            raise ConfigurationError(f"cannot read {self.path} as arrays (seen from {Path.cwd()}): {exc}") from None
        if values is None:
            raise ConfigurationError(
                f"{self.path} holds the arrays {', '.join(names)}: name one, as {self.path}#{names[0]}"
            )
        return replayed(_numbers(values, self.path), n, shape, self.path)


@kind_of(Source)
class Rows(Config, frozen=True, kw_only=True, tag_field="kind", tag="rows", dict=True):
    """Inputs held in memory, in order, over and over: what `Scenario(source=array)` makes of an array or DataFrame.

    As data it is the shape, type and SHA-256 of what was given, so that files say what it was but not its values. A
    scenario read from such a file needs the array again.
    """

    shape: list[int]
    dtype: str
    sha256: str

    @classmethod
    def of(cls, data: Any) -> Self:
        """Return the source of an array (m, ...), a DataFrame of numbers, or texts in a list or column."""
        values = data.to_numpy() if hasattr(data, "to_numpy") else np.asarray(data)
        if values.dtype.kind in "OUT" and values.ndim == 1 and all(isinstance(text, str) for text in values):
            held: Any = [str(text) for text in values]
            content = "\0".join(held).encode()
        else:
            if words := [str(name) for name in getattr(data, "columns", []) if not _all_numbers(data[name])]:
                raise ConfigurationError(f"source: column {_few(words)} does not hold numbers: leave it out")
            held = np.ascontiguousarray(_numbers(values, "source"))
            content = held.tobytes()
        dtype = "text" if isinstance(held, list) else held.dtype.name
        rows = cls(shape=list(np.shape(held)), dtype=dtype, sha256=hashlib.sha256(content).hexdigest())
        msgspec.structs.force_setattr(rows, "held", held)
        return rows

    @property
    def makes(self) -> str:
        """The kind of inputs."""
        return "text" if self.dtype == "text" else "numbers"

    def inputs(self, n: int, shape: Sequence[int], seed: int) -> Any:  # noqa: ARG002 - replay draws nothing
        """Return n inputs: the first, the second, …, beginning again at the end."""
        held = getattr(self, "held", None)
        if held is None:
            raise ConfigurationError(
                f"source: the inputs of shape {self.shape} were held in memory and are not in the file: give the array "
                "again, or save it with numpy.save and give the path"
            )
        if isinstance(held, list):
            return [held[k % len(held)] for k in range(n)]
        return replayed(held, n, shape, "source")


@made_by(Source)
def source_of(value: Any) -> Any:
    """Return the source that a path, a name, an array, a DataFrame or a list of texts stands for; others as they are.

    `data.csv#a,b` takes two columns, `data.csv#-label` all but one, `data.npz#windows` one array.

    Raises:
        ConfigurationError: a text that is neither a name nor a path of a known ending.
    """
    if value is None or isinstance(value, Config | dict | type | bool | int | float | Source):
        return value
    if not isinstance(value, str | Path):
        return Rows.of(value)
    path, _, part = str(value).partition("#")
    names: list[str] = [name.strip() for name in part.removeprefix("-").split(",") if name.strip()]
    which: dict[str, Any] = {("without" if part.startswith("-") else "columns"): names} if names else {}
    match Path(path).suffix.lower():
        case "" if path in BY_NAME:
            return BY_NAME[path]()
        case "" if not path:
            return None
        case ".csv" | ".tsv" | ".txt":
            return CsvReplay(path=path, **which)
        case ".parquet" | ".pq":
            return ParquetReplay(path=path, **which)
        case ".npy" | ".npz":
            return ArrayReplay(path=path, array=part or None)
    raise ConfigurationError(
        f"source {path!r}: give {listed(BY_NAME)}, a file that ends in .csv, .parquet, .npy or .npz, or an array or "
        f"DataFrame{did_you_mean(path, BY_NAME)}"
    )


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


def _numbers(values: NDArray[Any], where: str) -> NDArray[Any]:
    if values.dtype.kind not in "fiub":
        with suppress(TypeError, ValueError):
            values = values.astype(float)
    if values.dtype.kind not in "fiub" or values.ndim == 0:
        raise ConfigurationError(
            f"{where}: an array of {values.dtype} and shape {values.shape} holds no rows of numbers"
        )
    if not np.isfinite(values).all():
        row = int(np.argwhere(~np.isfinite(values))[0][0])
        raise ConfigurationError(f"{where}: input {row} holds a missing or infinite value")
    return values


def _all_numbers(column: Any) -> bool:
    return getattr(column.dtype, "kind", "O") in "fiub"


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 8 else f"{', '.join(names[:3])}, …, {names[-1]} ({len(names)})"
