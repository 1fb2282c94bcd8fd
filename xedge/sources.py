"""What requests contain: vibration signals, the rows of a CSV file, or noise; drawn from a seed, no clock."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xedge.config import Config, read_csv
from xedge.exceptions import ConfigurationError

POOL = 1000  # distinct inputs made for a trial; longer schedules draw from them again


class Vibration(Config, frozen=True, kw_only=True, tag_field="kind", tag="vibration"):
    """Bearing vibration from the documented generator: raw windows, or the features taken from them."""

    def inputs(self, n: int, shape: Sequence[int], seed: int) -> NDArray[Any]:
        """Return n inputs (n, *shape) for a model that takes 32 features or windows of 1024 samples."""
        from xedge.zoo import vibration

        rng = np.random.default_rng(seed)
        signals, _labels = vibration.windows(max(min(n, POOL), 1), int(rng.integers(2**31)))
        made = vibration.features(signals) if math.prod(shape) == len(vibration.FEATURE_NAMES) else signals
        if math.prod(shape) != made[0].size:
            raise ConfigurationError(
                f"the vibration source makes {len(vibration.FEATURE_NAMES)} features or windows of "
                f"{vibration.WINDOW_SAMPLES} samples, the model takes {list(shape)}; use source=CsvReplay or Noise"
            )
        return _draw(made.reshape(len(made), *shape), n, rng)


class CsvReplay(Config, frozen=True, kw_only=True, tag_field="kind", tag="csv"):
    """The rows of a CSV file in order, over and over; each row is one input, C-ordered.

    Args:
        path: the file; its first line names the columns.
        columns: which columns to take; by default all of them.

    """

    path: str
    columns: list[str] | None = None

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


class Noise(Config, frozen=True, kw_only=True, tag_field="kind", tag="noise"):
    """Independent standard normal numbers of the model's shape: for a model whose time does not depend on its input."""

    def inputs(self, n: int, shape: Sequence[int], seed: int) -> NDArray[Any]:
        """Return n inputs (n, *shape)."""
        rng = np.random.default_rng(seed)
        return _draw(rng.standard_normal((min(n, POOL), *shape)), n, rng)


Source = Vibration | CsvReplay | Noise


def _draw(pool: NDArray[Any], n: int, rng: np.random.Generator) -> NDArray[Any]:
    return pool[rng.integers(len(pool), size=n)] if n > len(pool) else pool[:n]
