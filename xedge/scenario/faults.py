"""What is to go wrong in a trial and when, as data; and the arithmetic of a link that is down."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from xedge.core.config import Config
from xedge.core.exceptions import ConfigurationError
from xedge.scenario.channel import RTO_FLOOR_MS, RTO_MOST_MS, Channel

FaultKind = Literal["broker_restart", "link_down", "service_kill", "stall"]
FAULTS: dict[str, str] = {  # as people read it
    "broker_restart": "broker restarted",
    "link_down": "link down",
    "service_kill": "service killed",
    "stall": "service stalled",
}


class Fault(Config, frozen=True, kw_only=True):
    """One thing that goes wrong in a trial, mended after a while; `xedge.runs.faults` does it to the real thing.

    `broker_restart`: the broker's process is ended, and started again on its port. `link_down`: for both directions of
    the link nothing enters; connections stay, and TCP sends again what waits (`Cut`). `service_kill`: the service is
    ended with all that waits in it, and started again from its model file on; of several boxes the first one's.
    `stall`: the service, of several boxes the first one, does nothing. What a start takes comes on top of `duration_s`.

    Args:
        at_s: when it begins, seconds after the start of the trial.
        kind: what goes wrong.
        duration_s: how long until it is mended.
        placement: in whose trials; by default in those of every placement.

    >>> Fault(at_s=2, kind="link_down", placement="cloud").end_s
    3.0
    """

    at_s: Annotated[float, Meta(ge=0)]
    kind: FaultKind
    duration_s: Annotated[float, Meta(gt=0, le=3600)] = 1.0
    placement: str | None = None

    wants: ClassVar[dict[str, str]] = {"at_s": "seconds after the start of the trial, as 2.0"}

    @property
    def end_s(self) -> float:
        """When it is to be mended, seconds after the start of the trial."""
        return self.at_s + self.duration_s

    def __str__(self) -> str:
        where = f" ({self.placement})" if self.placement else ""
        return f"{self.kind} at {self.at_s:g} s{where}"


def check_faults(faults: tuple[Fault, ...], placements: Mapping[str, Any], duration_s: float) -> None:
    """Refuse faults that no request of a trial of `duration_s` could tell of, or that cannot happen to a placement.

    Raises:
        ConfigurationError: an unknown placement, a fault that is not over within the trial, two at once, or one that
            its placement refuses.
    """
    for fault in faults:
        if fault.placement is not None and fault.placement not in placements:
            raise ConfigurationError(
                f"fault {fault}: there is no placement {fault.placement!r}; there are {', '.join(placements)}"
            )
        if fault.end_s >= duration_s:
            raise ConfigurationError(
                f"fault {fault} for {fault.duration_s:g} s: it would end at {fault.end_s:g} s, and the trial's last "
                f"request is due by {duration_s:g} s; begin earlier, or make the workload's duration_s longer"
            )
    for name, placement in placements.items():
        planned = of_placement(faults, name)
        for earlier, later in pairwise(planned):
            if later.at_s < earlier.end_s:
                raise ConfigurationError(
                    f"faults of {name}: {later} begins before {earlier} is over, at {earlier.end_s:g} s"
                )
        for fault in planned:
            if why := refusal(placement, fault.kind):
                hint = "" if fault.placement else "; say with placement= whose trials it is meant for"
                raise ConfigurationError(f"fault {fault}: it cannot happen to {name!r}: {why}{hint}")


def of_placement(faults: tuple[Fault, ...] | None, placement: str) -> list[Fault]:
    """Return what is to happen in the trials of a placement, in the order of time."""
    own = [fault for fault in faults or () if fault.placement in (None, placement)]
    return sorted(own, key=lambda fault: fault.at_s)


def refusal(placement: Any, kind: FaultKind) -> str:
    """Return why this cannot happen to a placement; empty if it can, as far as data says."""
    refuses = getattr(placement, "refuses", None)
    return "" if refuses is None else str(refuses(kind))


class Cut:
    """A link that nothing enters until `until_ns`; connections stay, and what waits is sent again as TCP does.

    The first message that finds the link down is sent again after the retransmission timeout RTO = round trip + 200 ms,
    then after twice that, and so on (RFC 6298 with Linux' floor, as in `xedge.scenario.channel`), until the link passes
    it. So the wait goes on after the link is up, for up to as long again as it was down. All that comes meanwhile waits
    behind that message, in order; what was on its way already arrives.

    Args:
        channel: the link that was cut.
        until_ns: when it is up again, on the clock of its messages.
        rtt_ms: the round trip of the path, there and back.
    """

    def __init__(self, channel: Channel | Cut, until_ns: int, rtt_ms: float) -> None:
        self._channel, self._until_ns, self._rtt_ms = channel, until_ns, rtt_ms
        self._again_ns: int | None = None

    def release_ns(self, arrived_ns: int, size_bytes: int) -> int | None:
        """Return when a message that reaches the link at `arrived_ns` leaves it, or None if it is lost."""
        if self._again_ns is None and arrived_ns < self._until_ns:
            self._again_ns = sent_again_ns(arrived_ns, self._until_ns, self._rtt_ms)
        return self._channel.release_ns(max(arrived_ns, self._again_ns or 0), size_bytes)


def sent_again_ns(arrived_ns: int, until_ns: int, rtt_ms: float) -> int:
    """Return when TCP sends a message again that was stopped at `arrived_ns`, for the first time that passes.

    >>> [sent_again_ns(0, ms * 1_000_000, rtt_ms=0.0) // 1_000_000 for ms in (100, 201, 601, 1000)]
    [200, 600, 1400, 1400]
    """
    timeout_ms = rtt_ms + RTO_FLOOR_MS
    while True:
        arrived_ns += round(min(timeout_ms, RTO_MOST_MS) * 1e6)
        if arrived_ns >= until_ns:
            return arrived_ns
        timeout_ms *= 2
