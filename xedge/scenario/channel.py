"""A link in use: when every message leaves it, by arithmetic on times that its user reads from a clock."""

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from xedge.scenario.link import DelayPart, Direction, GilbertElliott, Link, QuantileTable

BLOCK = 1024  # random numbers drawn at once
SEGMENT_BYTES = 1448  # of payload: Ethernet's 1500 less the headers of IP and TCP with time stamps
DUPLICATE_ACKS = 3  # RFC 5681, section 3.2
RTO_FLOOR_MS, RTO_MOST_MS = 200.0, 120_000.0  # Linux: TCP_RTO_MIN, TCP_RTO_MAX


class Channel:
    """A link in use: remembers the last bit sent, the last release and the state of everything drawn.

    `waited_ns` is how long the last message had to wait, its own delay over, for those before it.

    Args:
        link: what is crossed.
        seed: the same seed draws the same.
        direction: the two directions of one seed draw apart, but share what belongs to the path: when a new base
            comes and how high it is, and where a trace begins.
    """

    def __init__(self, link: Link, seed: int, direction: Direction = "uplink") -> None:
        way = 0 if direction == "uplink" else 1
        rng = [np.random.default_rng([seed, way, part]) for part in (1, 2, 3, 4)]
        self._delay_ns = round(link.delay_ms * 1e6)
        self._ns_per_byte = 8e3 / link.rate_mbps if link.rate_mbps else 0.0
        self._lost = _losses(link.loss, rng[0]) if link.loss else None
        self._parts: list[DelayPart] = []
        if link.jitter_ms:
            self._parts.append(_Jitter(link.jitter_ms, link.correlation_ms, rng[1]))
        if link.base_ms and link.rebase_s:
            self._parts.append(_Base(link.base_ms, link.rebase_s, seed))
        if link.trace_ms:
            self._parts.append(_Replay(link.trace_ms, seed if link.trace_start == "random" else None))
        self._parts += [kind.part(np.random.default_rng([seed, way, 5 + k])) for k, kind in enumerate(link.parts or ())]
        self._recovery = None
        if (loss := link.segment_loss) != 0:
            again = loss if isinstance(loss, int | float) else loss.share
            self._recovery = _Recovery(_losses(loss, rng[2]), _losses(again, rng[3]))
        self._begun_ns: int | None = None
        self._wire_free_ns = 0
        self._released_ns = self.waited_ns = 0

    def release_ns(self, arrived_ns: int, size_bytes: int) -> int | None:
        """Return when a message that reaches the link at `arrived_ns` leaves it, or None if it is lost.

        Times are nanoseconds of any one clock, ascending. Release = max(previous release, last bit + delay): first
        in, first out. A lost message takes its time on the wire too.
        """
        sent_ns = arrived_ns
        if self._ns_per_byte:
            sent_ns = max(arrived_ns, self._wire_free_ns) + round(size_bytes * self._ns_per_byte)
            self._wire_free_ns = sent_ns
        if self._lost is not None and next(self._lost):
            return None
        delay_ns = self._delay_ns
        if self._parts:
            if self._begun_ns is None:
                self._begun_ns = sent_ns
            for part in self._parts:
                ms = part.ms(sent_ns - self._begun_ns)
                if ms is None:
                    return None
                delay_ns += round(ms * 1e6)
        if self._recovery is not None:
            rtt_ms = (sent_ns - arrived_ns + 2 * delay_ns) / 1e6
            delay_ns += round(1e6 * self._recovery.wait_ms(sent_ns / 1e6, size_bytes, rtt_ms))
        self.waited_ns = max(self._released_ns - sent_ns - delay_ns, 0)
        self._released_ns = sent_ns + delay_ns + self.waited_ns
        return self._released_ns


class _Jitter:
    """A delay a message, drawn from a table; correlated in time, it stays in the table.

    z is an Ornstein-Uhlenbeck process of mean 0 and variance 1 at the messages' times:
    z = a z' + √(1-a²) ε with a = exp(-Δt/τ) and ε standard normal; the delay is the table's Φ(z)-quantile (a Gaussian
    copula). With τ = 0 delays are independent.
    """

    def __init__(self, table: Sequence[tuple[float, float]], tau_ms: float, rng: np.random.Generator) -> None:
        self._quantile, self._tau_ns = QuantileTable(table), tau_ms * 1e6
        self._uniform, self._normal = _drawn(rng.random), _drawn(rng.standard_normal)
        self._z, self._at_ns = 0.0, -math.inf

    def ms(self, at_ns: int) -> float:
        if not self._tau_ns:
            return self._quantile(next(self._uniform))
        steps = (at_ns - self._at_ns) / self._tau_ns
        self._z = math.exp(-steps) * self._z + math.sqrt(-math.expm1(-2 * steps)) * next(self._normal)
        self._at_ns = at_ns
        return self._quantile(0.5 * math.erfc(-self._z / math.sqrt(2)))


class _Base:
    """A delay that holds for a while and is then drawn anew; the k-th is the same whenever messages come."""

    def __init__(self, table: Sequence[tuple[float, float]], period_s: float, seed: int) -> None:
        self._quantile, self._period_ns, self._seed = QuantileTable(table), period_s * 1e9, seed
        self._phase_ns = _of_path(seed, 1) * self._period_ns
        self._epoch, self._ms = -1, 0.0

    def ms(self, at_ns: int) -> float:
        epoch = int((at_ns + self._phase_ns) // self._period_ns)
        if epoch != self._epoch:
            self._epoch, self._ms = epoch, self._quantile(_of_path(self._seed, 3 + epoch))
        return self._ms


class _Replay:
    """Recorded delays, each held until the next; the last for the mean step; then from the beginning."""

    def __init__(self, trace: Sequence[tuple[float, float | None]], seed: int | None) -> None:
        self._times_ns = [round(1e9 * s) for s, _ in trace]
        self._ms = [ms for _, ms in trace]
        self._period_ns = round(self._times_ns[-1] * len(trace) / (len(trace) - 1))
        self._from_ns = 0 if seed is None else int(_of_path(seed, 2) * self._period_ns)

    def ms(self, at_ns: int) -> float | None:
        return self._ms[bisect_right(self._times_ns, (self._from_ns + at_ns) % self._period_ns) - 1]


class _Recovery:
    """How long TCP takes to mend a message that lost segments.

    A message is ceil(bytes / 1448) segments, each lost with the share given. A lost one is sent again as soon as one of
    these says so, counted from when it was sent, with t₁ and t₃ the time until the first and third segment behind it:

    - the third duplicate acknowledgement: t₃ + SRTT (fast retransmit, RFC 5681, 3.2);
    - the first one, after the reordering window: max(t₁ + SRTT, 5/4 SRTT) (RACK, RFC 8985, 6.2);
    - the timeout: RTO = SRTT + max(200 ms, 4 RTTVAR) (RFC 6298, 2, with Linux' floor below the second term instead of
      the RFC's second below the sum). SRTT and RTTVAR have its gains, 1/8 and 1/4, and no samples of messages that
      were sent again.

    Segments of one message leave together. The messages to come are not known yet: they are taken to follow, one
    segment each, as the last ones did. So fast recovery needs messages that follow each other within about 200 ms; a
    lone one waits for its timeout. What is sent again is lost again with the long-run share, because a burst is over by
    then; then a timeout follows, and each further one takes twice as long, up to 120 s. Lost segments of one message
    are mended side by side (RFC 2018). The round trip is twice this link's delay, and its queue.

    Left out: the time on the wire of what is sent again, and the congestion window. So the rate must stay well below
    the one that TCP reaches under such loss, about segment size / round trip · √(3 / (2 share)) (Mathis et al.,
    Computer Communication Review 27 (1997) 67).
    """

    def __init__(self, lost: Iterator[bool], lost_again: Iterator[bool]) -> None:
        self._lost, self._lost_again = lost, lost_again
        self._sent_ms: deque[float] = deque([-math.inf] * DUPLICATE_ACKS, maxlen=DUPLICATE_ACKS)
        self._srtt_ms, self._rttvar_ms = -1.0, 0.0

    def wait_ms(self, sent_ms: float, size_bytes: int, rtt_ms: float) -> float:
        """Return how much later a message of `size_bytes` that was sent at `sent_ms` is complete; 0 without loss."""
        if self._srtt_ms < 0:
            self._srtt_ms, self._rttvar_ms = rtt_ms, rtt_ms / 2
        segments = max(1, math.ceil(size_bytes / SEGMENT_BYTES))
        waits = [self._mended_ms(sent_ms, segments - k) for k in range(1, segments + 1) if next(self._lost)]
        if not waits:
            self._rttvar_ms += (abs(self._srtt_ms - rtt_ms) - self._rttvar_ms) / 4
            self._srtt_ms += (rtt_ms - self._srtt_ms) / 8
        self._sent_ms.append(sent_ms)
        return max(waits, default=0.0)

    def _mended_ms(self, sent_ms: float, behind: int) -> float:
        """The wait of one lost segment with `behind` more behind it in its message."""
        srtt_ms = self._srtt_ms
        rto_ms = srtt_ms + max(RTO_FLOOR_MS, 4 * self._rttvar_ms)
        nths = (1, DUPLICATE_ACKS)
        first_ms, third_ms = (0.0 if behind >= nth else sent_ms - self._sent_ms[behind - nth] for nth in nths)
        wait_ms, next_ms = min(third_ms + srtt_ms, max(first_ms + srtt_ms, 1.25 * srtt_ms)), rto_ms
        if wait_ms >= rto_ms:
            wait_ms, next_ms = rto_ms, 2 * rto_ms
        while next(self._lost_again):
            wait_ms += min(next_ms, RTO_MOST_MS)
            next_ms *= 2
        return wait_ms


def _losses(loss: float | GilbertElliott, rng: np.random.Generator) -> Iterator[bool]:
    """Whether the next one is lost, for ever."""
    if isinstance(loss, int | float):
        while True:
            yield from (rng.random(BLOCK) < loss).tolist()
    p, r, shares = loss.p, loss.r, (loss.good, loss.bad)
    bad = bool(rng.random() < p / (p + r))
    while True:
        for fate, turn in rng.random((BLOCK, 2)).tolist():
            yield fate < shares[bad]
            bad = turn >= r if bad else turn < p


def _drawn(draw: Callable[[int], Any]) -> Iterator[float]:
    while True:
        yield from draw(BLOCK).tolist()


def _of_path(seed: int, part: int) -> float:
    """A uniform number that both directions of a path share."""
    return float(np.random.default_rng([seed, 2, part]).random())
