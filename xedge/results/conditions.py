"""What rules and tables read of a measurement's conditions, as typed data; and those of two measurements merged."""

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from xedge.core.config import as_kind
from xedge.core.exceptions import MeasurementError
from xedge.scenario.link import Link

ALIKE = {  # what two measurements must share to be merged, and what below it they may differ in
    "versions": (),
    "host": ("load_average_before",),
    "broker": ("host", "port", "url", "name"),
    "timeout_s": (),
    "scenario": ("seed", "replications", "deadline_ms"),
}


class _Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A part of the conditions: whatever is missing has its default, and what nobody here reads is passed over."""


class _Levels(_Part, frozen=True):
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None


class _NoiseFloor(_Levels, frozen=True):
    ceiling_hz: float | None = None


class _Losses(_Part, frozen=True):
    """How many of the echoes through a link were to be lost, how many were, and how many of these are other ones."""

    requested: int = 0
    measured: int = 0
    differing: int = 0


class LinkLevel(_Part, frozen=True):
    """A quantile of what the links add at the rate offered, that without waiting for messages before, and published."""

    p: float = 0.5
    published_ms: float | None = None
    drawn_ms: float = 0.0
    effective_ms: float = 0.0


class _LinkCheck(_Part, frozen=True):
    """Added delay requested of a placement's links and measured by echo; `off_ms` compares message by message."""

    requested_ms: _Levels = _Levels()
    measured_ms: _Levels = _Levels()
    off_ms: _Levels = _Levels()
    lost: _Losses = _Losses()
    by_level: tuple[LinkLevel, ...] = ()


class _Service(_Part, frozen=True):
    servers: int = 1
    boxes: int = 1
    transient_requests: int | None = None
    positive: str | None = None  # the label that high scores stand for
    cpu_ms: float | None = None  # the processor's time for one inference
    memory_mb: float | None = None  # the most memory of a process of its own


class _Broker(_Part, frozen=True):
    kind: str | None = None
    version: str | None = None
    url: str | None = None
    tls: str | None = None


class _Host(_Part, frozen=True):
    cpu: str | None = None
    cores: int | None = None
    os: str | None = None
    load_average_before: float | None = None


class _Commit(_Part, frozen=True):
    commit: str | None = None
    dirty: bool = False


class _Workload(_Part, frozen=True):
    kind: str | None = None
    rate_hz: float | None = None
    duration_s: float | None = None


class _Placement(_Part, frozen=True):
    tier: str = ""
    model: str | None = None
    link: Link | None = None
    uplink: Link | None = None
    downlink: Link | None = None


class _Scenario(_Part, frozen=True):
    model: str | None = None
    workload: _Workload = _Workload()
    placements: dict[str, _Placement] = {}
    seed: int | None = None
    deadline_ms: float | None = None


class FaultFacts(_Part, frozen=True):
    """A fault that happened in a trial: its kind, when as asked and as it was, why it could not be done or mended."""

    kind: str
    at_s: float
    begin_s: float
    end_s: float
    failure: str = ""


class Trial(_Part, frozen=True):
    """What the conditions say of one trial; `outages` are when sender or service had no broker, s after its start."""

    placement: str | None = None
    replication: int = 0
    counts: dict[str, float] = {}
    sender_reconnects: int = 0
    failure: str = ""
    faults: tuple[FaultFacts, ...] = ()
    outages: tuple[tuple[float, float], ...] = ()
    known_by: str = "request_id"
    foreign: int = 0

    @property
    def reconnects(self) -> int:
        """How often the service or the sender lost the broker and connected again."""
        return int(self.counts.get("reconnects", 0)) + self.sender_reconnects


class _Interrupted(_Part, frozen=True):
    """How many trials had ended of those planned, and what stopped the measurement."""

    ended: int = 0
    planned: int = 0
    reason: str = ""


class Conditions(_Part, frozen=True):
    """What a measurement was taken under; `strict` False makes a late sender a doubt."""

    scenario: _Scenario = _Scenario()
    replications: int | None = None
    strict: bool = True
    timeout_s: float | None = None
    started_at: str | None = None
    broker: _Broker = _Broker()
    host: _Host = _Host()
    versions: dict[str, str] = {}
    git_commit: _Commit = _Commit()
    noise_floor: _NoiseFloor = _NoiseFloor()
    link_check: dict[str, _LinkCheck] = {}
    services: dict[str, _Service] = {}
    trials: tuple[Trial, ...] = ()
    interrupted: _Interrupted | None = None

    @property
    def timeout_ms(self) -> float:
        """How long after it was due a request was waited for; inf if that is not known."""
        return math.inf if self.timeout_s is None else 1e3 * self.timeout_s

    def service(self, placement: str) -> _Service:
        """Return what the placement's service said of itself, defaults if nothing is known."""
        return self.services.get(placement, _Service())

    def sends(self, placement: str) -> bool:
        """Whether the placement's requests cross a broker; those of a device are answered where they arise."""
        return self.scenario.placements.get(placement, _Placement()).tier != "device"

    def loses(self, placement: str) -> bool:
        """Whether the scenario asks the placement's links to lose whole messages."""
        asked = self.scenario.placements.get(placement, _Placement())
        return any(link.loses for link in (asked.link, asked.uplink, asked.downlink) if link is not None)


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


def check_alike(conditions: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Refuse what was not taken alike.

    Raises:
        MeasurementError: the message names what differs.
    """
    if unlike := [text for key in ALIKE if (text := _difference(key, conditions.get(key), other.get(key)))]:
        raise MeasurementError(f"these measurements do not belong together, they differ in {'; '.join(unlike)}")


def merged(conditions: Mapping[str, Any], other: Mapping[str, Any], offset: int, replications: int) -> dict[str, Any]:
    """Return the conditions of both, the trials of `other` numbered from `offset`, `replications` in all."""
    trials = [{**trial, "replication": trial.get("replication", 0) + offset} for trial in other.get("trials") or []]
    origin = {key: value for key, value in other.items() if key not in {*ALIKE, "trials"}}
    return {
        **conditions,
        "trials": [*(conditions.get("trials") or []), *trials],
        "replications": replications,
        "merged": [*conditions.get("merged", []), {**origin, "scenario": other.get("scenario")}],
    }


def _difference(key: str, a: Any, b: Any) -> str:
    """Return "versions (numpy: 1.26 and 2.4)", the key and what is below it that differs, or ""."""
    if not isinstance(a, dict) or not isinstance(b, dict):
        return "" if a == b else f"{key} ({a} and {b})"
    names = [name for name in {**a, **b} if a.get(name) != b.get(name) and name not in ALIKE[key]]
    return f"{key} ({'; '.join(f'{name}: {a.get(name)} and {b.get(name)}' for name in names)})" if names else ""
