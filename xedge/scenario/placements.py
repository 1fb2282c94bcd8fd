"""Where inference happens, as data: tiers with their links and hardware. `serving.start` makes services of them."""

import re
from typing import Annotated, Any, Literal, Protocol, get_args, runtime_checkable

from msgspec import Meta

from xedge.core.config import Config, kind_of
from xedge.core.exceptions import ConfigurationError
from xedge.scenario.faults import FaultKind
from xedge.scenario.link import Direction, Link
from xedge.scenario.service_times import ServiceTime
from xedge.scenario.station import MAX_QUEUE, MAX_QUEUE_MIB

Count = Annotated[int, Meta(ge=1)]
Scale = Annotated[float, Meta(ge=1, le=1e6)]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)


@runtime_checkable
class Placement(Protocol):
    """A tier as data: a `Config` registered with `kind_of(Placement)`, its tag in the field `tier`.

    What serves it is registered with `xedge.serving.start.service_of`.
    """

    @property
    def links(self) -> tuple[Link, Link]:
        """The uplink that requests cross and the downlink that results cross."""


def check_hardware(
    name: str, compute_scale: float, service_time: ServiceTime | None, servers: int, max_batch: int
) -> None:
    """Refuse what cannot be emulated: `name` says in the message what the settings are of, `Edge` the others.

    Raises:
        ConfigurationError: faster than the engine, two service times, servers that nothing emulates, or no batch.
    """
    if compute_scale < 1:
        raise ConfigurationError(f"{name}: compute_scale={compute_scale} is faster than the engine; give 1 or more")
    if service_time is not None and compute_scale != 1:
        raise ConfigurationError(f"{name}: compute_scale and service_time both say how long inference takes; give one")
    if servers < 1 or (servers > 1 and service_time is None and compute_scale == 1):
        raise ConfigurationError(
            f"{name}(servers={servers}): engines side by side are emulated, the model itself computes in one thread; "
            "give 1, or compute_scale or service_time too"
        )
    if max_batch < 1:
        raise ConfigurationError(f"{name}: max_batch={max_batch}; the engine needs at least one request at a time")


class Served(Config, frozen=True, kw_only=True, tag_field="tier"):
    """What the tiers that xedge itself serves share: model, links, hardware stood for, batches, limits of the queue."""

    model: str | None = None
    link: Link | None = None
    uplink: Link | None = None
    downlink: Link | None = None
    compute_scale: Scale = 1.0
    service_time: ServiceTime | None = None
    servers: Count = 1
    threads: Count = 1
    max_batch: Count = 64
    max_queue: Count = MAX_QUEUE
    max_queue_mib: Annotated[float, Meta(gt=0)] = float(MAX_QUEUE_MIB)

    wants = dict.fromkeys(
        ("link", "uplink", "downlink"), "a link, as xedge.Link(delay_ms=20) or xedge.Link.preset('cloud-europe')"
    )

    def check(self) -> None:
        """Refuse a link given twice, two service times, and servers that nothing emulates."""
        name = type(self).__name__
        check_hardware(name, self.compute_scale, self.service_time, self.servers, self.max_batch)
        if self.link is not None and (self.uplink is not None or self.downlink is not None):
            raise ConfigurationError(f"{name}: give link (for both directions) or uplink and downlink, not both")

    @classmethod
    def written_out(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Return data of a file with `link: {preset: NAME, client: 0.9}` as links; one `link` makes both directions."""
        if _is_preset(link := data.get("link")):
            if both := [name for name in DIRECTIONS if name in data]:
                raise ConfigurationError(f"link and {both[0]}: give link, for both directions, or uplink and downlink")
            data = {name: value for name, value in data.items() if name != "link"} | dict.fromkeys(DIRECTIONS, link)
        return data | {d: _preset(data[d], d) for d in DIRECTIONS if _is_preset(data.get(d))}

    @property
    def links(self) -> tuple[Link, Link]:
        """The uplink and the downlink."""
        return self.uplink or self.link or Link(), self.downlink or self.link or Link()


@kind_of(Placement)
class Device(Config, frozen=True, kw_only=True, tag_field="tier", tag="device"):
    """The model in the sensor itself: ONNX Runtime in the process that has the data; nothing is sent anywhere.

    One engine answers one request at a time, first come first served; who finds it busy waits.

    Args:
        model: a model of its own, by name or path; by default the scenario's.
        compute_scale: inference takes this many times the processor time, 1 or more: a sensor is slower than this.
        service_time: inference takes as long as drawn from this, as of `Edge`.
        threads: the engine's intra-op threads.
    """

    model: str | None = None
    compute_scale: Scale = 1.0
    service_time: ServiceTime | None = None
    threads: Count = 1

    def check(self) -> None:
        """Refuse two service times."""
        check_hardware("Device", self.compute_scale, self.service_time, servers=1, max_batch=1)

    @property
    def links(self) -> tuple[Link, Link]:
        """No links: nothing is sent."""
        return Link(), Link()


def _is_preset(link: Any) -> bool:
    return isinstance(link, dict) and "preset" in link


def model_of(placement: Placement, model: str) -> str:
    """Return the model that a placement serves: its own, or else the scenario's `model`."""
    return getattr(placement, "model", None) or model


def _preset(link: dict[str, Any], direction: Direction) -> dict[str, Any]:
    if others := link.keys() - {"preset", "client"}:
        raise ConfigurationError(
            f"a link with a preset takes client beside it, not {', '.join(sorted(map(str, others)))}: give the preset "
            "alone, or all of the link"
        )
    if not isinstance(client := link.get("client", 0.5), int | float):
        raise ConfigurationError(f"client is {client!r}, give a number from 0 to 1: which client of those measured")
    return Link.preset(str(link["preset"]), direction, client).as_dict()


@kind_of(Placement)
class Edge(Served, frozen=True, kw_only=True, tag_field="tier", tag="edge"):
    """The model near the sensors: ONNX Runtime in a thread of this process, or isolated from it.

    Args:
        model: a model of its own, by name or path; by default the scenario's.
        link: what requests and results cross, each way; by default nothing.
        uplink, downlink: what requests and what results cross, if the two directions differ.
        compute_scale: inference takes this many times the processor time, 1 or more; stands for slower hardware. Pauses
            of this machine are not multiplied.
        service_time: inference takes as long as drawn from this, `Deterministic` or `Exponential`, whatever the engine
            takes: a stand-in with a known answer from queueing theory.
        servers: how many batches may be in inference at once; needs compute_scale or service_time.
        threads: the engine's intra-op threads.
        max_batch: most requests given to the engine at once; 1 turns batching off.
        max_queue: most requests that the service (each box) holds; further ones are refused and have `overloaded` in
            their row.
        max_queue_mib: most MiB of requests that it holds.
        run_in: "thread", "process" or "container". Links are emulated in threads only.
        image: the container's image (see containers/README.md).
        cpus: how much processor time the container may use; 0.5 is half a core.
        boxes: how many such edge boxes there are; every request belongs to one of them, each with the same probability.
    """

    run_in: Literal["thread", "process", "container"] = "thread"
    image: str | None = None
    cpus: Annotated[float, Meta(gt=0)] | None = None
    boxes: Annotated[int, Meta(ge=1, le=100)] = 1

    def check(self) -> None:
        """Refuse links where none are emulated, and container settings without a container."""
        super().check()
        emulated = {
            "link": not all(link.is_free for link in self.links),
            "service_time": self.service_time is not None,
            "servers": self.servers > 1,
            "boxes": self.boxes > 1,
        }
        if self.run_in != "thread" and (wrong := [name for name, value in emulated.items() if value]):
            raise ConfigurationError(
                f"Edge(run_in={self.run_in!r}): {', '.join(wrong)} emulated in threads only; leave it out"
            )
        if (self.run_in == "container") != (self.image is not None):
            raise ConfigurationError("Edge: run_in='container' and image go together")
        if self.cpus is not None and self.run_in != "container":
            raise ConfigurationError("Edge: cpus limits a container; elsewhere use compute_scale")

    def refuses(self, kind: FaultKind) -> str:
        """Return why a fault cannot happen to it; empty if it can."""
        if self.run_in == "container" and kind != "broker_restart":
            return "it runs in a container, and only its broker can be made to fail; use run_in='process'"
        return "links are emulated in threads only" * (kind == "link_down" and self.run_in != "thread")


@kind_of(Placement)
class Cloud(Served, frozen=True, kw_only=True, tag_field="tier", tag="cloud"):
    """The model in a data centre: PyTorch in a thread of this process, behind links.

    Args:
        link, uplink, downlink: as of `Edge`; by default 50 ms each way.
        model, compute_scale, service_time, servers, threads, max_batch, max_queue, max_queue_mib: as of `Edge`.
        device: "cpu" or "cuda".
    """

    device: Literal["cpu", "cuda"] = "cpu"

    @property
    def links(self) -> tuple[Link, Link]:
        """The uplink and the downlink; 50 ms each where nothing was said."""
        if self.link is None and self.uplink is None and self.downlink is None:
            return Link(delay_ms=50), Link(delay_ms=50)
        return super().links


@kind_of(Placement)
class External(Config, frozen=True, kw_only=True, tag_field="tier", tag="external"):
    """A service that runs already, started by somebody else: a container, a process, another machine.

    Its clock readings are kept only where they fit between the sender's own: on the same host.

    Args:
        topic_prefix: the service's topic prefix.
        broker: `mqtt://host:port` or `mqtts://user@host:port?ca=FILE&password_file=FILE` it is behind; by default the
            measurement's own broker, which must then be one that runs already (`measure(broker=…)` or XEDGE_BROKER).
        service: its name, "edge" or "cloud"; empty takes whoever answers first.
    """

    topic_prefix: str = ""
    broker: str | None = None
    service: str = ""

    def check(self) -> None:
        """Refuse a password, which would be saved with the scenario."""
        if re.search(r"//[^/?]*:[^?]*@", self.broker or ""):
            how = "leave it out and name a file by ?password_file=FILE, or a variable by ?password_env=NAME"
            raise ConfigurationError(f"External(broker=…): a password in a URL is saved with the scenario: {how}")

    @property
    def links(self) -> tuple[Link, Link]:
        """No emulated links: the network is the real one."""
        return Link(), Link()

    def refuses(self, kind: FaultKind) -> str:
        """Return why a fault cannot happen to it; empty if it can."""
        if kind == "broker_restart" and self.broker is None:
            return ""
        return f"an external service{' behind its own broker' * bool(self.broker)} is not ours to break"
