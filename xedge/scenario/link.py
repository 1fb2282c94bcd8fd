"""One direction of a network path, as data: the services emulate with it, a simulator can compute with it."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

import numpy as np
from msgspec import Meta

from xedge.core.config import Config, read_csv, shown
from xedge.core.exceptions import ConfigurationError

Direction = Literal["uplink", "downlink"]
Delay = Annotated[float, Meta(ge=0, le=3.6e6)]
Knot = tuple[Annotated[float, Meta(ge=0, le=1)], Delay]
Share = Annotated[float, Meta(ge=0, lt=1)]
Seconds = Annotated[float, Meta(ge=0, le=7 * 86400)]
Period = Annotated[float, Meta(gt=0, le=7 * 86400)]


class DelayPart(Protocol):
    """One part of a crossing's delay, in use: it may remember what it drew before."""

    def ms(self, at_ns: int) -> float | None:
        """Return the delay in ms of a message sent `at_ns` after the first one, or None if it is lost.

        Called once a message, with ascending times.
        """


@runtime_checkable
class LinkPart(Protocol):
    """A part of a link's delay as data, given in `Link(parts=[…])`; register its class with `kind_of(LinkPart)`."""

    @property
    def least_ms(self) -> float:
        """The shortest delay that it can add."""

    def part(self, rng: np.random.Generator) -> DelayPart:
        """Return the part in use; everything random is drawn from `rng`."""


class QuantileTable:
    """A distribution given by its quantiles `[(p, ms), …]` with p ascending."""

    def __init__(self, knots: Sequence[tuple[float, float]]) -> None:
        self._levels, self._values = [p for p, _ in knots], [ms for _, ms in knots]

    def __call__(self, p: float) -> float:
        """Return the p-quantile: log-linear between knots, linear in a piece that begins at 0."""
        levels, values = self._levels, self._values
        if len(levels) == 1:
            return values[0]
        k = bisect_right(levels, p, 1, len(levels) - 1)
        low, high = values[k - 1], values[k]
        share = (p - levels[k - 1]) / (levels[k] - levels[k - 1])
        return low * (high / low) ** share if low > 0 else share * high


class GilbertElliott(Config, frozen=True, kw_only=True):
    """Losses in bursts: good and bad periods take turns, and each has its share of losses.

    A Markov chain that steps with every message (with every new segment, for `Link.segment_loss`), begun in its
    stationary state: from good to bad with probability p, back with r. With bad = 1 and good = 0 messages are lost in
    bursts of geometric length. In the letters of tc-netem(8), `gemodel p r 1-h 1-k`:

        π = (share - good) / (bad - good)    share of messages in bad periods
        r = 1 / burst,    p = r π / (1 - π),    1-h = bad,    1-k = good

    E. N. Gilbert, Bell Syst. Tech. J. 39 (1960) 1253; E. O. Elliott, Bell Syst. Tech. J. 42 (1963) 1977.

    Args:
        share: of all messages lost, in the long run.
        burst: how many messages a bad period lasts on average.
        bad: share lost in a bad period.
        good: share lost in a good period.
    """

    share: Annotated[float, Meta(gt=0, lt=1)]
    burst: Annotated[float, Meta(ge=1, le=1e9)]
    bad: Annotated[float, Meta(gt=0, le=1)] = 1.0
    good: Share = 0.0

    def check(self) -> None:
        """Refuse shares in the wrong order, and bursts shorter than chance makes them."""
        if not self.good < self.share < self.bad:
            raise ConfigurationError(
                f"GilbertElliott(good={self.good:g}, share={self.share:g}, bad={self.bad:g}): the share lost over all "
                "lies between those of good and bad periods"
            )
        if self.p + self.r > 1 + 1e-9:
            least = (self.bad - self.good) / (self.bad - self.share)
            raise ConfigurationError(
                f"GilbertElliott(burst={self.burst:g}): independent losses of that share already make {least:.4g}; "
                "give more, or a plain number as the loss"
            )

    @property
    def r(self) -> float:
        """The probability that a bad period ends with a message."""
        return 1 / self.burst

    @property
    def p(self) -> float:
        """The probability that a good period ends with a message."""
        return self.r * (self.share - self.good) / (self.bad - self.share)


class Link(Config, frozen=True, kw_only=True):
    """One direction of a network path: serialisation, then propagation, then loss; never reordering (TCP).

    Propagation takes delay_ms + base + jitter + trace, as far as they are given. Many messages are in flight at once.

    Args:
        delay_ms: delay of every message.
        jitter_ms: delay on top of it as quantiles, `[(p, ms), …]` with p ascending from 0 to 1; drawn for each
            message by inverse CDF, log-linear between knots (linear where a knot is 0).
        correlation_ms: the jitter of messages Δt apart is correlated through a Gaussian copula, with
            exp(-Δt / correlation_ms); its quantiles stay those of jitter_ms. 0 is independent.
        base_ms: delay on top of it, as quantiles, that holds for `rebase_s` and is then drawn anew.
        rebase_s: see base_ms.
        trace_ms: recorded delay on top of it, `[(t_s, ms), …]` with t_s ascending from 0: each holds until the next,
            the last for the mean step, and then it begins again. None (null in YAML) instead of ms loses the messages
            of that while.
        trace_start: "first" replays from the first entry, "random" from a place drawn from the seed.
        rate_mbps: bits leave one after the other at this rate (10⁶ bit/s), first in first out; None is unlimited.
        loss: share of whole messages that never arrive, 0 to below 1; or a `GilbertElliott` for bursts.
        segment_loss: share of TCP segments lost, or a `GilbertElliott`. TCP sends them again, so this loss is delay:
            of that message, and of what comes behind it. `xedge.scenario.channel` states the model.
        parts: further delay on top of it, by kinds of your own.
        published_ms: quantiles that somebody measured of the round trip, `[(p, ms), …]`, which links both ways are to
            make together; the link check compares with them, and nothing is drawn from them.
        source: where the numbers come from.

    >>> Link(delay_ms=20, jitter_ms=[(0, 0), (0.5, 2), (1, 30)], rate_mbps=10).least_ms
    20.0
    """

    delay_ms: Delay = 0.0
    jitter_ms: list[Knot] | None = None
    correlation_ms: Delay = 0.0
    base_ms: list[Knot] | None = None
    rebase_s: Period | None = None
    trace_ms: list[tuple[Seconds, Delay | None]] | None = None
    trace_start: Literal["first", "random"] = "first"
    rate_mbps: Annotated[float, Meta(gt=0)] | None = None
    loss: Share | GilbertElliott = 0.0
    segment_loss: Share | GilbertElliott = 0.0
    parts: list[LinkPart] | None = None
    published_ms: list[Knot] | None = None
    source: str | None = None

    def check(self) -> None:
        """Refuse malformed tables and traces, and fields that need another one."""
        for name in ("jitter_ms", "base_ms"):
            if (table := getattr(self, name)) is not None:
                _check_table(name, table)
        if self.trace_ms is not None:
            times = [t for t, _ in self.trace_ms]
            if len(times) < 2 or times[0] != 0 or (np.diff(times) <= 0).any():
                raise ConfigurationError(
                    "Link(trace_ms=…): give at least two entries (t_s, ms) with t_s ascending from 0; "
                    f"the first times given are {times[:5]}"
                )
            if all(ms is None for _, ms in self.trace_ms):
                raise ConfigurationError("Link(trace_ms=…): every entry is a loss; nothing would ever arrive")
        if (self.base_ms is None) != (self.rebase_s is None):
            raise ConfigurationError("Link: base_ms (the quantiles) and rebase_s (how often) go together")
        if self.correlation_ms and self.jitter_ms is None:
            raise ConfigurationError("Link: correlation_ms says how jitter_ms changes in time; give jitter_ms too")
        if self.trace_start != "first" and self.trace_ms is None:
            raise ConfigurationError("Link: trace_start says where trace_ms begins; give trace_ms too")

    @classmethod
    def preset(cls, name: str, direction: Direction = "uplink", client: float = 0.5) -> Link:
        """Return one direction of a published network; both together make its round trip.

        Args:
            name: one of `xedge.scenario.link.presets()`.
            direction: "uplink" or "downlink"; only the rate differs.
            client: which client, 0 to 1, of a spread that was measured across clients; 0.5 is the median one. Where
                nothing was measured across clients it changes nothing.
        """
        facts = published(name)
        if direction not in ("uplink", "downlink"):
            raise ConfigurationError(f"direction {direction!r}: give 'uplink' or 'downlink'")
        knots = [(float(p), float(ms)) for p, ms in facts["rtt_ms"].items()]
        delay: dict[str, Any]
        if "one_way_ms" in facts:
            delay = {"jitter_ms": facts["one_way_ms"], "correlation_ms": facts["correlation_ms"]}
        elif "rebase_s" in facts:
            delay = {"base_ms": [(p, ms / 2) for p, ms in _to_the_top(knots)], "rebase_s": facts["rebase_s"]}
        elif len(knots) > 1 and not knots[0][0] <= client <= knots[-1][0]:
            raise ConfigurationError(
                f"preset {name!r} is known for clients {knots[0][0]} to {knots[-1][0]}, not for client={client}"
            )
        else:
            delay = {"delay_ms": QuantileTable(knots)(client) / 2}
        if "within" in facts["kind"]:
            delay["published_ms"] = knots
        rate = facts.get("up_mbps" if direction == "uplink" else "down_mbps")
        return cls(**delay, rate_mbps=rate, source=f"{name} ({facts['kind']}): {facts['source']}")

    @classmethod
    def from_trace(
        cls, path: str, column: str = "one_way_ms", time_column: str = "t_s", *, round_trip: bool = False, **link: Any
    ) -> Link:
        """Return a link that replays delays recorded in a CSV file.

        Args:
            path: the file; its first line names the columns.
            column: the delays in milliseconds; an empty cell is a loss.
            time_column: when each was recorded, in seconds from anywhere, ascending.
            round_trip: the column holds round trips; each direction gets half of one.
            link: what else the link has, for example `rate_mbps=10` or `trace_start="random"`.

        Raises:
            ConfigurationError: there is no such file or column, or it holds no trace.
        """
        table = read_csv(path)
        if missing := [name for name in (time_column, column) if name not in table]:
            raise ConfigurationError(
                f"{path} has no column {', '.join(map(repr, missing))}; it has {', '.join(map(str, table.columns))}"
            )
        try:
            times, delays = (table[name].to_numpy(dtype=float) for name in (time_column, column))
        except ValueError as exc:
            raise ConfigurationError(f"{path}, columns {time_column!r} and {column!r}: {exc}") from None
        one_way = [None if np.isnan(ms) else ms / (2 if round_trip else 1) for ms in delays.tolist()]
        trace = list(zip((times - times[:1]).tolist(), one_way, strict=True))
        try:
            return cls(**{"source": f"{path}, column {column}"} | link, trace_ms=trace)
        except ConfigurationError as exc:
            raise ConfigurationError(f"{path}: {exc}") from None

    @property
    def is_free(self) -> bool:
        """Whether messages cross at once: no delay, no jitter, no rate, no loss."""
        drawn = (self.jitter_ms, self.base_ms, self.trace_ms, self.rate_mbps, self.loss, self.segment_loss, self.parts)
        return self.delay_ms == 0 and not any(drawn)

    @property
    def least_ms(self) -> float:
        """The shortest propagation delay that can be drawn."""
        tables = [table[0][1] for table in (self.jitter_ms, self.base_ms) if table]
        replayed_ms = min((ms for _, ms in self.trace_ms or [] if ms is not None), default=0.0)
        return self.delay_ms + sum(tables) + replayed_ms + sum(part.least_ms for part in self.parts or ())

    @property
    def loses(self) -> bool:
        """Whether whole messages may be lost."""
        return bool(self.loss) or any(ms is None for _, ms in self.trace_ms or [])


@cache
def presets() -> dict[str, dict[str, Any]]:
    """Return the published networks by name: what they are, round-trip quantiles, rates, source.

    The kind says what the quantiles are spread over: "across" clients, "within" one client's time, or a "constant".
    """
    table: dict[str, dict[str, Any]] = json.loads(files("xedge.scenario").joinpath("networks.json").read_text("utf-8"))
    return table


def published(name: str) -> dict[str, Any]:
    """Return what `presets` has about one network; ConfigurationError names those there are."""
    if name not in presets():
        raise ConfigurationError(f"no network preset {name!r}; there are {', '.join(presets())}")
    return presets()[name]


def _to_the_top(knots: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The knots, the last piece continued to p = 1 as steeply as it is (log-linear)."""
    (p0, ms0), (p1, ms1) = knots[-2:]
    return knots if p1 == 1 else [*knots, (1.0, ms1 * (ms1 / ms0) ** ((1 - p1) / (p1 - p0)))]


def _check_table(name: str, table: Sequence[tuple[float, float]]) -> None:
    p, ms = zip(*table, strict=True) if table else ((), ())
    if len(p) < 2 or p[0] != 0 or p[-1] != 1 or (np.diff(p) <= 0).any() or (np.diff(ms) < 0).any():
        raise ConfigurationError(
            f"Link({name}={shown(table)}): give quantiles as [(p, ms), …] with p ascending from 0 to 1 "
            f"and ms never falling, for example [(0, 0), (0.5, 2), (0.99, 30), (1, 60)]"
        )
