"""What requests contain: vibration signals, the rows of a CSV file, noise, or texts; drawn from a seed, no clock."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from xedge.core.config import Config, kind_of, read_csv
from xedge.core.exceptions import ConfigurationError
from xedge.core.extras import plugin
from xedge.scenario import vibration

TEXT_COLUMNS = ("text", "title", "description")
POOL = 1000  # distinct inputs made for a trial; longer schedules draw from them again


class InputSpec(NamedTuple):
    """What one input of a model is: its shape without the batch axis, -1 for an axis of any length, and its dtype.

    `kind` says what is sent: "numbers", or what a kind of model of its own takes, as "text".
    """

    shape: tuple[int, ...]
    dtype: str
    kind: str = "numbers"


@runtime_checkable
class Source(Protocol):
    """What requests contain, as data: a `Config` registered with `kind_of(Source)`, its tag in the field `kind`."""

    @property
    def makes(self) -> str:
        """The kind of inputs, "numbers" or "text"; it must be what the model takes."""
        ...

    def inputs(self, n: int, shape: Sequence[int], seed: int) -> Any:
        """Return n inputs: an array (n, *shape) of numbers, or a list of n texts; the same seed gives the same."""
        ...

    def as_dict(self) -> dict[str, Any]:
        """Return the data as plain JSON types."""
        ...


@kind_of(Source)
class Vibration(Config, frozen=True, kw_only=True, tag_field="kind", tag="vibration"):
    """Bearing vibration from the documented generator: raw windows, or the features taken from them."""

    makes = "numbers"

    def inputs(self, n: int, shape: Sequence[int], seed: int) -> NDArray[Any]:
        """Return n inputs (n, *shape) for a model that takes 32 features or windows of 1024 samples."""
        rng = np.random.default_rng(seed)
        signals, _labels = vibration.windows(max(min(n, POOL), 1), int(rng.integers(2**31)))
        inputs = vibration.features(signals) if math.prod(shape) == len(vibration.FEATURE_NAMES) else signals
        if math.prod(shape) != inputs[0].size:
            raise ConfigurationError(
                f"the vibration source makes {len(vibration.FEATURE_NAMES)} features or windows of "
                f"{vibration.WINDOW_SAMPLES} samples, the model takes {list(shape)}; use source=CsvReplay or Noise"
            )
        return _draw(inputs.reshape(len(inputs), *shape), n, rng)


@kind_of(Source)
class CsvReplay(Config, frozen=True, kw_only=True, tag_field="kind", tag="csv"):
    """The rows of a CSV file in order, over and over; each row is one input, C-ordered.

    Args:
        path: the file; its first line names the columns.
        columns: which columns to take; by default all of them.
    """

    path: str
    columns: list[str] | None = None

    makes = "numbers"

    def inputs(self, n: int, shape: Sequence[int], seed: int) -> NDArray[Any]:  # noqa: ARG002 - replay draws nothing
        """Return n inputs (n, *shape): row 0, 1, 2, … of the file, beginning again at its end."""
        table = read_csv(self.path)
        missing = [c for c in self.columns or [] if c not in table]
        if missing:
            raise ConfigurationError(f"{self.path} has no column {', '.join(missing)}")
        table = table[self.columns] if self.columns else table
        try:
            rows = table.to_numpy(dtype=float)
        except ValueError as exc:
            raise ConfigurationError(f"{self.path}: not all values are numbers ({exc})") from None
        if rows.shape[1] != math.prod(shape) or len(rows) == 0:
            raise ConfigurationError(
                f"{self.path} has {len(rows)} rows of {rows.shape[1]} values; the model takes {list(shape)}"
            )
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if len(bad):
            raise ConfigurationError(f"{self.path}: data row {bad[0] + 1} holds a missing or infinite value")
        return np.asarray(rows)[np.arange(n) % len(rows)].reshape(n, *shape)


@kind_of(Source)
class Noise(Config, frozen=True, kw_only=True, tag_field="kind", tag="noise"):
    """Independent standard normal numbers of the model's shape: for a model whose time does not depend on its input."""

    makes = "numbers"

    def inputs(self, n: int, shape: Sequence[int], seed: int) -> NDArray[Any]:
        """Return n inputs (n, *shape)."""
        rng = np.random.default_rng(seed)
        return _draw(rng.standard_normal((min(n, POOL), *shape)), n, rng)


@kind_of(Source)
class Texts(Config, frozen=True, kw_only=True, tag_field="kind", tag="texts"):
    """Sentences for a text model: those that ship with xedge, or a CSV file's.

    Args:
        path: the file; by default the corpus of xedge's topic model.
        column: the column that holds the texts; by default `text`, `title` and `description`, those that are there.
    """

    path: str | None = None
    column: str | None = None

    makes = "text"

    def inputs(self, n: int, shape: Sequence[int], seed: int) -> list[str]:  # noqa: ARG002 - a text has no shape
        """Return n texts drawn from the file without repeating one before all have been used."""
        texts = self._texts()
        order = np.random.default_rng(seed).permutation(len(texts))
        return [texts[order[k % len(order)]] for k in range(n)]

    def _texts(self) -> Sequence[str]:
        if self.path is None:
            sentences: Sequence[str] = plugin("xedge.texts", "topic")()
            return sentences
        table = read_csv(self.path)
        names = [self.column] if self.column else [name for name in TEXT_COLUMNS if name in table]
        if not names or names[0] not in table:
            raise ConfigurationError(
                f"{self.path} has no column {self.column or ', '.join(TEXT_COLUMNS)}: it has {', '.join(table)}; "
                "name the one with the texts by column="
            )
        rows = table[names].fillna("").astype(str).to_numpy().tolist()
        texts = [text for row in rows if (text := " ".join(row).strip())]
        if not texts:
            raise ConfigurationError(f"{self.path} holds no text in {', '.join(names)}")
        return texts


def matching(source: Source | None, spec: InputSpec) -> Source:
    """Return `source`, or for None the one that suits the model.

    Raises:
        ConfigurationError: it makes texts and the model takes numbers, or the other way round.
    """
    if source is None:
        return Texts() if spec.kind == "text" else Vibration()
    if source.makes != spec.kind:
        name = type(source).__name__
        raise ConfigurationError(
            f"source={name} makes {source.makes}, the model takes {spec.kind}; give another source"
        )
    return source


def _draw(pool: NDArray[Any], n: int, rng: np.random.Generator) -> NDArray[Any]:
    return pool[rng.integers(len(pool), size=n)] if n > len(pool) else pool[:n]
