"""Programmable service times: how long a stand-in for an engine takes, drawn from a seed; pure, no clock."""

from collections.abc import Iterator
from typing import Annotated, Protocol, runtime_checkable

import numpy as np
from msgspec import Meta

from xedge.core.config import Config, kind_of

Milliseconds = Annotated[float, Meta(gt=0, le=3.6e6)]


@runtime_checkable
class ServiceTime(Protocol):
    """How long a batch keeps a server busy, as data: a `Config` registered with `kind_of(ServiceTime)`."""

    @property
    def mean_ms(self) -> float:
        """The mean time."""

    def draws_ns(self, seed: int) -> Iterator[int]:
        """Yield service times in nanoseconds, without end; the same seed yields the same."""

    def as_dict(self) -> dict[str, object]:
        """Return the data as plain JSON types."""


@kind_of(ServiceTime)
class Deterministic(Config, frozen=True, kw_only=True, tag_field="kind", tag="deterministic"):
    """Every batch takes `mean_ms`: the D of M/D/1.

    >>> next(Deterministic(mean_ms=30).draws_ns(seed=0))
    30000000
    """

    mean_ms: Milliseconds

    def draws_ns(self, seed: int) -> Iterator[int]:  # noqa: ARG002 - the same call for every kind of service time
        """Yield service times in nanoseconds, without end."""
        while True:
            yield round(self.mean_ms * 1e6)


@kind_of(ServiceTime)
class Exponential(Config, frozen=True, kw_only=True, tag_field="kind", tag="exponential"):
    """Times without memory, `mean_ms` on average: the second M of M/M/1."""

    mean_ms: Milliseconds

    def draws_ns(self, seed: int) -> Iterator[int]:
        """Yield service times in nanoseconds, without end; the same seed yields the same."""
        rng = np.random.default_rng([seed, 2])  # 0 and 1 are the links'
        while True:
            yield from np.round(rng.exponential(self.mean_ms * 1e6, 1024)).astype(np.int64).tolist()
