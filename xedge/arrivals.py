"""When requests are due: pure functions of rate, duration and seed; no clock, no I/O."""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from xedge.config import Config, read_csv
from xedge.exceptions import ConfigurationError

Rate = Annotated[float, Meta(gt=0, le=1e6)]
Duration = Annotated[float, Meta(gt=0, le=7 * 86400)]


class Poisson(Config, frozen=True, kw_only=True, tag_field="kind", tag="poisson"):
    """Independent users: exponential gaps with mean `1/rate_hz`, for `duration_s`."""

    rate_hz: Rate
    duration_s: Duration

    def due_ns(self, seed: int) -> NDArray[np.int64]:
        """Return the due times, shape (n,), ascending nanoseconds from the start; n is itself random."""
        rng = np.random.default_rng(seed)
        mean = self.rate_hz * self.duration_s
        gaps = rng.exponential(1 / self.rate_hz, size=int(mean + 10 * np.sqrt(mean) + 20))
        due_s = np.cumsum(gaps)
        return _to_ns(due_s[due_s < self.duration_s])


class Constant(Config, frozen=True, kw_only=True, tag_field="kind", tag="constant"):
    """A sensor on a timer: one request every `1/rate_hz`, for `duration_s`."""

    rate_hz: Rate
    duration_s: Duration

    def due_ns(self, seed: int) -> NDArray[np.int64]:  # noqa: ARG002 - the same call for every kind of arrivals
        """Return the due times, shape (n,), ascending nanoseconds from the start."""
        return _to_ns(np.arange(math.ceil(round(self.rate_hz * self.duration_s, 6))) / self.rate_hz)


class Trace(Config, frozen=True, kw_only=True, tag_field="kind", tag="trace"):
    """Arrivals as they were recorded: `due_s`, ascending seconds from the start."""

    due_s: list[Annotated[float, Meta(ge=0, le=7 * 86400)]]

    def check(self) -> None:
        """Refuse an empty trace and times that run backwards."""
        if not self.due_s:
            raise ConfigurationError("Trace(due_s=[]): a trace needs at least one due time in seconds")
        steps = np.diff(self.due_s)
        if (steps < 0).any():
            at = int(np.argmax(steps < 0)) + 1
            raise ConfigurationError(
                f"Trace: due_s[{at}] = {self.due_s[at]} is before due_s[{at - 1}] = {self.due_s[at - 1]}; sort them"
            )

    @classmethod
    def from_csv(cls, path: str, column: str = "due_s") -> Trace:
        """Read the due times (seconds) from one column of a CSV file."""
        table = read_csv(path)
        if column not in table:
            raise ConfigurationError(f"{path} has no column {column!r}; it has {', '.join(map(str, table.columns))}")
        try:
            times = [float(x) for x in table[column]]
        except ValueError as exc:
            raise ConfigurationError(f"{path}, column {column!r}: {exc}") from None
        return cls(due_s=times)

    @property
    def duration_s(self) -> float:
        """The last due time."""
        return self.due_s[-1]

    @property
    def rate_hz(self) -> float:
        """The mean rate over the trace."""
        return len(self.due_s) / self.duration_s if self.duration_s else float(len(self.due_s))

    def due_ns(self, seed: int) -> NDArray[np.int64]:  # noqa: ARG002 - the same call for every kind of arrivals
        """Return the due times, shape (n,), ascending nanoseconds from the start."""
        return _to_ns(np.asarray(self.due_s))


Arrivals = Poisson | Constant | Trace


def _to_ns(seconds: NDArray[Any]) -> NDArray[np.int64]:
    return np.round(seconds * 1e9).astype(np.int64)
