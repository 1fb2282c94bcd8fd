"""When requests are due: pure functions of rate, duration and seed; no clock, no I/O."""

from __future__ import annotations

import math
from typing import Annotated, Any, Protocol, runtime_checkable

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from xedge.core.config import Config, kind_of, read_csv
from xedge.core.exceptions import ConfigurationError

Rate = Annotated[float, Meta(gt=0, le=1e6)]
Duration = Annotated[float, Meta(gt=0, le=7 * 86400)]


@runtime_checkable
class Arrivals(Protocol):
    """When requests are due, as data: a `Config` registered with `kind_of(Arrivals)`, its tag in the field `kind`."""

    @property
    def rate_hz(self) -> float:
        """The mean rate over the duration."""

    @property
    def duration_s(self) -> float:
        """How long requests fall due."""

    def due_ns(self, seed: int) -> NDArray[np.int64]:
        """Return the due times, shape (n,), ascending nanoseconds from the start; the same seed gives the same."""

    def as_dict(self) -> dict[str, Any]:
        """Return the data as plain JSON types."""


@kind_of(Arrivals)
class Poisson(Config, frozen=True, kw_only=True, tag_field="kind", tag="poisson"):
    """Independent users: exponential gaps with mean `1/rate_hz`, for `duration_s`.

    >>> len(Poisson(rate_hz=100, duration_s=10).due_ns(seed=7))
    1018
    """

    rate_hz: Rate
    duration_s: Duration

    def due_ns(self, seed: int) -> NDArray[np.int64]:
        """Return the due times, shape (n,), ascending nanoseconds from the start; n is itself random."""
        rng = np.random.default_rng(seed)
        mean = self.rate_hz * self.duration_s
        gaps = rng.exponential(1 / self.rate_hz, size=int(mean + 10 * np.sqrt(mean) + 20))
        due_s = np.cumsum(gaps)
        return _to_ns(due_s[due_s < self.duration_s])


@kind_of(Arrivals)
class Constant(Config, frozen=True, kw_only=True, tag_field="kind", tag="constant"):
    """A sensor on a timer: one request every `1/rate_hz`, for `duration_s`.

    >>> Constant(rate_hz=4, duration_s=1).due_ns(seed=0).tolist()
    [0, 250000000, 500000000, 750000000]
    """

    rate_hz: Rate
    duration_s: Duration

    def due_ns(self, seed: int) -> NDArray[np.int64]:  # noqa: ARG002 - the same call for every kind of arrivals
        """Return the due times, shape (n,), ascending nanoseconds from the start."""
        return _to_ns(np.arange(math.ceil(round(self.rate_hz * self.duration_s, 6))) / self.rate_hz)


@kind_of(Arrivals)
class Bursty(Config, frozen=True, kw_only=True, tag_field="kind", tag="bursty"):
    """Calm and bursts in turn, each of random length: a Markov-modulated Poisson process of two states.

    Args:
        rate_hz: mean rate over all.
        duration_s: how long.
        burst_factor: rate within a burst over the mean rate, above 1.
        burst_share: share of the time that is burst; `burst_factor · burst_share` may not exceed 1, and at 1 nothing
            is due between bursts.
        burst_s: mean length of a burst; lengths are exponential, as those of the calm between.
    """

    rate_hz: Rate
    duration_s: Duration
    burst_factor: Annotated[float, Meta(gt=1, le=1e4)] = 4.0
    burst_share: Annotated[float, Meta(gt=0, lt=1)] = 0.1
    burst_s: Annotated[float, Meta(ge=0.001, le=86400)] = 0.5

    def check(self) -> None:
        """Refuse bursts that alone are more than the mean rate."""
        if self.burst_factor * self.burst_share > 1 + 1e-12:
            raise ConfigurationError(
                f"Bursty: {self.burst_factor:g} times the mean rate for {self.burst_share:g} of the time is more than "
                f"all requests; burst_factor may be {1 / self.burst_share:g} at most, or make burst_share less"
            )

    @property
    def rates_hz(self) -> tuple[float, float]:
        """The rate in the calm and the rate in a burst."""
        left = max(1 - self.burst_factor * self.burst_share, 0.0)
        return self.rate_hz * left / (1 - self.burst_share), self.rate_hz * self.burst_factor

    def due_ns(self, seed: int) -> NDArray[np.int64]:
        """Return the due times, shape (n,), ascending nanoseconds from the start, steady from the first."""
        rng = np.random.default_rng(seed)
        state, ends = int(rng.random() < self.burst_share), [0.0]
        means, expected = (self.burst_s * (1 - self.burst_share) / self.burst_share, self.burst_s), [0.0]
        while ends[-1] < self.duration_s:
            ends.append(ends[-1] + (length := rng.exponential(means[state])))
            expected.append(expected[-1] + length * self.rates_hz[state])
            state = 1 - state
        total = expected[-1]
        passed = np.cumsum(rng.exponential(size=int(total + 10 * math.sqrt(total) + 20)))
        due_s = np.interp(passed[passed < total], expected, ends)  # a Poisson process of rate 1, its clock changed
        return _to_ns(due_s[due_s < self.duration_s])


@kind_of(Arrivals)
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


def _to_ns(seconds: NDArray[Any]) -> NDArray[np.int64]:
    return np.round(seconds * 1e9).astype(np.int64)
