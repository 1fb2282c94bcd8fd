"""Recorded inputs as what requests contain: arrays in files and in memory, and the source that a path stands for."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from xedge.core.config import Config, did_you_mean, kind_of, listed, made_by
from xedge.core.exceptions import ConfigurationError
from xedge.scenario.columns import CsvReplay, ParquetReplay, few, located, replayed
from xedge.scenario.labels import as_labels
from xedge.scenario.sources import Noise, Source, Texts, Vibration

BY_NAME = {"vibration": Vibration, "noise": Noise, "texts": Texts}


@kind_of(Source)
class ArrayReplay(Config, frozen=True, kw_only=True, tag_field="kind", tag="array"):
    """The inputs in a .npy or .npz file in order, over and over: an array (m, ...).

    Args:
        path: the file, seen from the working folder or else from the project's.
        array: which array of a .npz file; the only one needs no name.
        label: which array of a .npz file holds the truth, one label an input.
    """

    path: str
    array: str | None = None
    label: str | None = None

    makes = "numbers"

    def inputs(self, n: int, shape: Sequence[int], seed: int) -> NDArray[Any]:  # noqa: ARG002 - replay draws nothing
        """Return n inputs (n, *shape): input 0, 1, 2, … of the file, beginning again at its end."""
        return replayed(_numbers(self._array(self.array), self.path), n, shape, self.path)

    def labels(self, n: int, seed: int) -> list[str] | None:  # noqa: ARG002 - replay draws nothing
        """Return the labels of these inputs, from the array `label`; None if there is none."""
        if self.label is None:
            return None
        values, inputs = self._array(self.label), self._array(self.array)
        return _labelled(np.ravel(values).tolist(), len(inputs), n, f"{self.path}, array {self.label}")

    def _array(self, wanted: str | None) -> NDArray[Any]:
        try:
            loaded = np.load(located(self.path), allow_pickle=False)
            names = list(getattr(loaded, "files", []))
            others = [name for name in names if name != self.label]
            name = wanted or (others[0] if len(others) == 1 else "")
            values = (loaded[name] if name in names else None) if names else loaded
        except (OSError, ValueError, EOFError) as exc:
            raise ConfigurationError(f"cannot read {self.path} as arrays (seen from {Path.cwd()}): {exc}") from None
        if values is None:
            raise ConfigurationError(
                f"{self.path} holds the arrays {', '.join(names)}: name one, as {self.path}#{names[0]}"
            )
        return np.asarray(values)


@kind_of(Source)
class Rows(Config, frozen=True, kw_only=True, tag_field="kind", tag="rows", dict=True):
    """Inputs held in memory, in order, over and over: what `Scenario(source=array)` makes of an array or DataFrame.

    As data it is the shape, type and SHA-256 of what was given, so that files say what it was but not its values. A
    scenario read from such a file needs the array again.
    """

    shape: list[int]
    dtype: str
    sha256: str
    labelled: bool = False

    @classmethod
    def of(cls, data: Any, labels: Any = None) -> Self:
        """Return the source of an array (m, ...), a DataFrame of numbers, or texts in a list or column, with labels."""
        values = data.to_numpy() if hasattr(data, "to_numpy") else np.asarray(data)
        if values.dtype.kind in "OUT" and values.ndim == 1 and all(isinstance(text, str) for text in values):
            held: Any = [str(text) for text in values]
            content = "\0".join(held).encode()
        else:
            if words := [str(name) for name in getattr(data, "columns", []) if not _all_numbers(data[name])]:
                raise ConfigurationError(f"source: column {few(words)} does not hold numbers: leave it out")
            held = np.ascontiguousarray(_numbers(values, "source"))
            content = held.tobytes()
        dtype = "text" if isinstance(held, list) else held.dtype.name
        truth = None if labels is None else _labelled(np.ravel(labels).tolist(), len(held), len(held), "source")
        content += "\0".join(truth or []).encode()
        sha256, labelled = hashlib.sha256(content).hexdigest(), truth is not None
        rows = cls(shape=list(np.shape(held)), dtype=dtype, sha256=sha256, labelled=labelled)
        msgspec.structs.force_setattr(rows, "held", held)
        msgspec.structs.force_setattr(rows, "truth", truth)
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

    def labels(self, n: int, seed: int) -> list[str] | None:  # noqa: ARG002 - replay draws nothing
        """Return the labels of these inputs; None if none were given."""
        truth = getattr(self, "truth", None)
        return None if truth is None else [truth[k % len(truth)] for k in range(n)]


@made_by(Source)
def source_of(value: Any) -> Any:
    """Return the source that a path, a name, an array, a DataFrame or a list of texts stands for; others as they are.

    `data.csv#a,b` takes two columns, `data.csv#-time` all but one, `data.npz#windows` one array. `label=damaged` among
    them says which column or array holds the truth: `data.csv#label=damaged`. A tuple is inputs and their labels.

    Raises:
        ConfigurationError: a text that is neither a name nor a path of a known ending.
    """
    if value is None or isinstance(value, Config | dict | type | bool | int | float | Source):
        return value
    if isinstance(value, tuple) and len(value) == 2 and np.ndim(value[1]) == 1 and not np.isscalar(value[0]):
        return Rows.of(*value)
    if not isinstance(value, str | Path):
        return Rows.of(value)
    path, _, part = str(value).partition("#")
    names: list[str] = [name.strip() for name in part.removeprefix("-").split(",") if name.strip()]
    label = next((name.removeprefix("label=") for name in names if name.startswith("label=")), None)
    names = [name for name in names if not name.startswith("label=")]
    which: dict[str, Any] = {("without" if part.startswith("-") else "columns"): names} if names else {}
    which |= {"label": label} if label else {}
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
            return ArrayReplay(path=path, array=names[0] if names else None, label=label)
    raise ConfigurationError(
        f"source {path!r}: give {listed(BY_NAME)}, a file that ends in .csv, .parquet, .npy or .npz, or an array or "
        f"DataFrame{did_you_mean(path, BY_NAME)}"
    )


def _labelled(values: Sequence[Any], inputs: int, n: int, where: str) -> list[str]:
    """The labels of n inputs replayed, of as many `values` as there are `inputs`."""
    if len(values) != inputs:
        raise ConfigurationError(f"{where}: {len(values)} labels for {inputs} inputs; give one for each")
    labels = as_labels(values, where)
    return [labels[k % len(labels)] for k in range(n)]


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
