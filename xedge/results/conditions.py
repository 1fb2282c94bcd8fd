"""The conditions that rules and tables read, as typed data; what a measurement saves is all of its dictionary."""

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from xedge.core.config import as_kind
from xedge.core.exceptions import MeasurementError
from xedge.scenario.link import Link


class _Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A part of the conditions: whatever is missing has its default, and what nobody here reads is passed over."""


class Levels(_Part, frozen=True):
    """Plain percentiles in ms."""

    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None


class NoiseFloor(Levels, frozen=True):
    """Latency and ceiling of an echo behind the same broker."""

    n: int | None = None
    ceiling_hz: float | None = None


class Losses(_Part, frozen=True):
    """How many of the echoes through a link were to be lost, how many were, and how many of these are other ones."""

    requested: int = 0
    measured: int = 0
    differing: int = 0


class LinkCheck(_Part, frozen=True):
    """Added delay requested of a placement's links and measured by echo; `off_ms` compares message by message."""

    requested_ms: Levels = Levels()
    measured_ms: Levels = Levels()
    off_ms: Levels = Levels()
    lost: Losses = Losses()
    n: int | None = None


class ServiceFacts(_Part, frozen=True):
    """What a placement's service said of itself."""

    servers: int = 1
    boxes: int = 1
    transient_requests: int | None = None


class BrokerFacts(_Part, frozen=True):
    """The broker's kind and version."""

    kind: str | None = None
    version: str | None = None
    qos: int | None = None


class Host(_Part, frozen=True):
    """The machine, and how busy it was before."""

    cpu: str | None = None
    cores: int | None = None
    os: str | None = None
    load_average_before: float | None = None


class Commit(_Part, frozen=True):
    """The project's commit, and whether files differ from it."""

    commit: str | None = None
    dirty: bool = False


class Workload(_Part, frozen=True):
    """The arrival process."""

    kind: str | None = None
    rate_hz: float | None = None
    duration_s: float | None = None


class PlacementLinks(_Part, frozen=True):
    """The links of a placement, as the scenario states them."""

    link: Link | None = None
    uplink: Link | None = None
    downlink: Link | None = None

    @property
    def loses(self) -> bool:
        """Whether whole messages may be lost."""
        return any(link.loses for link in (self.link, self.uplink, self.downlink) if link is not None)


class ScenarioFacts(_Part, frozen=True):
    """The scenario, as far as it is read here."""

    model: str | None = None
    workload: Workload = Workload()
    placements: dict[str, PlacementLinks] = {}
    seed: int | None = None


class Trial(_Part, frozen=True):
    """One trial's seeds and length."""

    placement: str | None = None
    replication: int = 0
    schedule_seed: int | None = None
    content_seed: int | None = None
    link_seed: int | None = None
    horizon_s: float | None = None
    counts: dict[str, float] = {}
    sender_reconnects: int = 0

    @property
    def reconnects(self) -> int:
        """How often the service or the sender lost the broker and connected again."""
        return int(self.counts.get("reconnects", 0)) + self.sender_reconnects


class Interrupted(_Part, frozen=True):
    """How many trials had ended of those planned, and what stopped the measurement."""

    ended: int = 0
    planned: int = 0
    reason: str = ""


class Conditions(_Part, frozen=True):
    """What a measurement was taken under.

    `strict` False makes a late sender a doubt; `link_check` and `services` are by placement.
    """

    scenario: ScenarioFacts = ScenarioFacts()
    replications: int | None = None
    strict: bool = True
    timeout_s: float | None = None
    started_at: str | None = None
    broker: BrokerFacts = BrokerFacts()
    host: Host = Host()
    versions: dict[str, str] = {}
    git_commit: Commit = Commit()
    noise_floor: NoiseFloor = NoiseFloor()
    link_check: dict[str, LinkCheck] = {}
    services: dict[str, ServiceFacts] = {}
    trials: tuple[Trial, ...] = ()
    interrupted: Interrupted | None = None

    @property
    def timeout_ms(self) -> float:
        """How long after it was due a request was waited for; inf if that is not known."""
        return math.inf if self.timeout_s is None else 1e3 * self.timeout_s

    def service(self, placement: str) -> ServiceFacts:
        """Return what the placement's service said of itself, defaults if nothing is known."""
        return self.services.get(placement, ServiceFacts())

    def loses(self, placement: str) -> bool:
        """Whether the scenario asks the placement's links to lose messages."""
        return self.scenario.placements.get(placement, PlacementLinks()).loses


def typed(conditions: Mapping[str, Any]) -> Conditions:
    """Return the conditions as typed data; missing parts, or null ones, have their defaults.

    >>> typed({"host": {"cores": 2}}).host.cores
    2

    Raises:
        MeasurementError: a part is of another kind; the message names it.
    """
    present = {key: value for key, value in conditions.items() if value is not None}
    try:
        return msgspec.convert(present, Conditions, dec_hook=as_kind)
    except msgspec.ValidationError as error:
        raise MeasurementError(f"malformed conditions: {error}") from error
