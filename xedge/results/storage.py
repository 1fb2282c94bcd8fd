"""A measurement as a folder: rows as Parquet or CSV, conditions and verdict as JSON; complete or not at all."""

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from xedge.core.exceptions import MeasurementError, MissingExtraError
from xedge.core.files import put_in_place, scratch_beside
from xedge.results.rows import COLUMNS, OF_TRUTH

Format = Literal["csv", "parquet"]
_SUFFIXES: dict[Format, str] = {"parquet": ".parquet", "csv": ".csv.gz"}
_CONDITIONS, _NA = "conditions.json", "\\N"


def write(
    target: Path, rows: pd.DataFrame, conditions: Mapping[str, Any], verdict: Mapping[str, Any], wanted: Format | None
) -> Path:
    """Write the folder `target`, replacing a measurement that is there, and return it.

    Raises:
        MeasurementError: `target` is there and is no measurement.
        MissingExtraError: Parquet was asked for without pyarrow.
    """
    empty = target.is_dir() and not any(target.iterdir())
    if target.exists() and not empty and not (target / _CONDITIONS).is_file():
        raise MeasurementError(f"{target} is there and is not a measurement: give a folder that is not there yet")
    chosen = _format(wanted)
    target.parent.mkdir(parents=True, exist_ok=True)
    with scratch_beside(target) as scratch:
        (new := scratch / "new").mkdir()
        write_rows(rows, new / "rows", chosen)
        for name, content in ((_CONDITIONS, conditions), ("verdict.json", verdict)):
            text = json.dumps(content, indent=2, ensure_ascii=False)
            (new / name).write_text(f"{text}\n", encoding="utf-8")
        put_in_place(new, target)  # what was measured before is lost neither to a failing save nor to a kill
    return target


def read(folder: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the rows and conditions that `write` wrote, with exactly the dtypes and values they had.

    Raises:
        MeasurementError: the folder is no measurement.
    """
    if not (folder / _CONDITIONS).is_file():
        raise MeasurementError(f"{folder} is not a measurement: it has no {_CONDITIONS}")
    names = [f"rows{suffix}" for suffix in _SUFFIXES.values()]
    for name in names:
        if (folder / name).is_file():
            return read_rows(folder / name), json.loads((folder / _CONDITIONS).read_text(encoding="utf-8"))
    raise MeasurementError(f"{folder} has neither {' nor '.join(names)}: its rows are missing")


def _format(wanted: Format | None) -> Format:
    if wanted is not None and wanted not in _SUFFIXES:
        raise MeasurementError(f"rows are written as {' or '.join(_SUFFIXES)}, not as {wanted!r}")
    try:
        importlib.import_module("pyarrow")
    except ImportError as error:
        if wanted == "parquet":
            raise MissingExtraError('parquet needs pyarrow: pip install "xedge[parquet]", or format="csv"') from error
        return "csv"
    return wanted or "parquet"


def write_rows(rows: pd.DataFrame, stem: Path, wanted: Format | None = None) -> Path:
    """Write `stem`.parquet where pyarrow is installed, else `stem`.csv.gz, and return the file."""
    kind = _format(wanted)
    path = stem.with_name(f"{stem.name}{_SUFFIXES[kind]}")
    if kind == "parquet":
        rows.to_parquet(path, engine="pyarrow", index=False)
    else:
        rows.to_csv(path, index=False, na_rep=_NA, compression={"method": "gzip", "mtime": 0})
    return path


def read_rows(path: Path) -> pd.DataFrame:
    """Return the rows in a file that `write_rows` wrote."""
    if path.suffix == ".parquet":
        _format("parquet")
        return pd.read_parquet(path, engine="pyarrow")
    kinds = {**COLUMNS, **OF_TRUTH, "prediction": "string"}  # pandas' own reading of floats can be off in the last bit
    return pd.read_csv(path, dtype=kinds, keep_default_na=False, na_values=[_NA])
