"""One direction of a network path, as arithmetic: the services emulate with it, a simulator can compute with it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from xedge.config import Config
from xedge.exceptions import ConfigurationError

Direction = Literal["uplink", "downlink"]
Knot = tuple[Annotated[float, Meta(ge=0, le=1)], Annotated[float, Meta(ge=0, le=3.6e6)]]


class Link(Config, frozen=True, kw_only=True):
    """One direction of a network path: serialisation, then propagation, then loss; never reordering (TCP).

    Args:
        delay_ms: propagation delay of every message. Many messages are in flight at once.
        jitter_ms: delay on top of it as quantiles, `[(p, ms), …]` with p ascending from 0 to 1; drawn for each
            message by inverse CDF, log-linear between knots (linear where a knot is 0).
        rate_mbps: bits leave one after the other at this rate (10⁶ bit/s), first in first out; None is unlimited.
        loss: share of whole messages that never arrive, 0 to below 1.
        source: where the numbers come from.

    """

    delay_ms: Annotated[float, Meta(ge=0, le=3.6e6)] = 0.0
    jitter_ms: list[Knot] | None = None
    rate_mbps: Annotated[float, Meta(gt=0)] | None = None
    loss: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    source: str | None = None

    def check(self) -> None:
        """Refuse a quantile table that is not one."""
        if self.jitter_ms is None:
            return
        p, ms = zip(*self.jitter_ms, strict=True) if self.jitter_ms else ((), ())
        if len(p) < 2 or p[0] != 0 or p[-1] != 1 or (np.diff(p) <= 0).any() or (np.diff(ms) < 0).any():
            raise ConfigurationError(
                f"Link(jitter_ms={self.jitter_ms}): give quantiles as [(p, ms), …] with p ascending from 0 to 1 "
                f"and ms never falling, for example [(0, 0), (0.5, 2), (0.99, 30), (1, 60)]"
            )

    @classmethod
    def preset(cls, name: str, direction: Direction = "uplink", client: float = 0.5) -> Link:
        """Return one direction of a published network: half its round trip.

        Args:
            name: one of `xedge.network.presets()`.
            direction: "uplink" or "downlink"; only the rate differs.
            client: which client, 0 to 1, of a spread that was measured across clients; 0.5 is the median one.

        """
        facts = presets().get(name)
        if facts is None:
            raise ConfigurationError(f"no network preset {name!r}; there are {', '.join(presets())}")
        if direction not in ("uplink", "downlink"):
            raise ConfigurationError(f"direction {direction!r}: give 'uplink' or 'downlink'")
        knots = [(float(p), float(ms)) for p, ms in facts["rtt_ms"].items()]
        if len(knots) > 1 and not knots[0][0] <= client <= knots[-1][0]:
            raise ConfigurationError(
                f"preset {name!r} is known for clients {knots[0][0]} to {knots[-1][0]}, not for client={client}"
            )
        rtt_ms = float(_inverse_cdf(knots, np.array([client]))[0])
        rate = facts.get("up_mbps" if direction == "uplink" else "down_mbps")
        return cls(delay_ms=rtt_ms / 2, rate_mbps=rate, source=f"{name} ({facts['kind']}): {facts['source']}")

    @property
    def is_free(self) -> bool:
        """Whether messages cross at once: no delay, no jitter, no rate, no loss."""
        return self.delay_ms == 0 and self.jitter_ms is None and self.rate_mbps is None and self.loss == 0

    def delay_quantile_ms(self, p: float) -> float:
        """Return the p-quantile of the propagation delay, rate and queueing apart."""
        jitter = _inverse_cdf(self.jitter_ms, np.array([p]))[0] if self.jitter_ms else 0.0
        return self.delay_ms + float(jitter)

    def channel(self, seed: int) -> Channel:
        """Return a fresh crossing of this link; the same seed draws the same jitter and loss."""
        return Channel(self, seed)


class Channel:
    """A link in use: remembers the last bit sent and the last release."""

    def __init__(self, link: Link, seed: int) -> None:
        self._link = link
        self._delay_ns = round(link.delay_ms * 1e6)
        self._ns_per_byte = 8e3 / link.rate_mbps if link.rate_mbps else 0.0
        self._rng = np.random.default_rng(seed)
        self._jitter_ns: list[int] = []
        self._loss: list[bool] = []
        self._wire_free_ns = 0
        self._released_ns = 0

    def release_ns(self, arrived_ns: int, size_bytes: int) -> int | None:
        """Return when a message that reaches the link at `arrived_ns` leaves it, or None if it is lost.

        Times are nanoseconds of any one clock. Release = max(previous release, last bit + delay): first in,
        first out. A lost message takes its time on the wire too.
        """
        if self._ns_per_byte:
            start_ns = max(arrived_ns, self._wire_free_ns)
            arrived_ns = self._wire_free_ns = start_ns + round(size_bytes * self._ns_per_byte)
        if self._link.loss and self._draw_loss():
            return None
        delay_ns = self._delay_ns + (self._draw_jitter_ns() if self._link.jitter_ms else 0)
        self._released_ns = max(self._released_ns, arrived_ns + delay_ns)
        return self._released_ns

    def _draw_loss(self) -> bool:
        if not self._loss:
            self._loss = (self._rng.random(1024) < self._link.loss).tolist()
        return self._loss.pop()

    def _draw_jitter_ns(self) -> int:
        if not self._jitter_ns:
            ms = _inverse_cdf(self._link.jitter_ms or [], self._rng.random(1024))
            self._jitter_ns = np.round(ms * 1e6).astype(np.int64).tolist()
        return self._jitter_ns.pop()


@cache
def presets() -> dict[str, dict[str, Any]]:
    """Return the published networks by name: what they are, round-trip quantiles, rates, source."""
    table: dict[str, dict[str, Any]] = json.loads(files("xedge").joinpath("networks.json").read_text("utf-8"))
    return table


def _inverse_cdf(knots: Sequence[tuple[float, float]], p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quantiles between knots: log-linear, linear in a piece that starts at 0."""
    levels, values = np.array(knots, dtype=float).T
    piece = np.clip(np.searchsorted(levels, p, side="right") - 1, 0, max(len(levels) - 2, 0))
    if len(levels) == 1:
        return np.full_like(p, values[0])
    low, high = values[piece], values[piece + 1]
    share = (p - levels[piece]) / (levels[piece + 1] - levels[piece])
    linear = low + share * (high - low)
    with np.errstate(divide="ignore", invalid="ignore"):
        logarithmic = low * (high / low) ** share
    return np.asarray(np.where(low > 0, logarithmic, linear), dtype=float)
