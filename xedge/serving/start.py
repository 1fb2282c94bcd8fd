"""From a placement, which is data, to the service that answers for it."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import singledispatch
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from xedge.core.exceptions import ConfigurationError
from xedge.scenario.placements import Cloud, Edge, External, Placement, Served
from xedge.scenario.routes import box_prefixes, box_seeds, random_routes
from xedge.scenario.sources import InputSpec
from xedge.serving.broker import Broker
from xedge.serving.endpoint import Endpoint
from xedge.serving.external import ExternalService, IsolatedService
from xedge.serving.inference import MLService
from xedge.serving.services import CloudMLService, EdgeMLService


class Service(Protocol):
    """A service, or several that share the requests; entered before a trial and left after it.

    Own services start on entry and end on exit, external ones only begin and end their count.
    """

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    @property
    def takes(self) -> InputSpec:
        """What one request contains."""

    @property
    def address(self) -> tuple[str, int]:
        """The host and port of the broker it is behind; the host may be a URL, as in `xedge.serving.endpoint`."""

    @property
    def prefixes(self) -> list[str]:
        """The topic prefixes that requests are sent below, one a box."""

    def routes(self, requests: int) -> NDArray[np.uint8]:
        """Return which of the `prefixes` each request goes to, shape (requests,)."""

    @property
    def servers(self) -> int:
        """How many batches all of it may have in inference at once."""

    @property
    def busy_ms(self) -> float:
        """How long one request on average keeps all of it busy; known after entry."""

    @property
    def counts(self) -> Mapping[str, int]:
        """What it counted during the trial; known after exit."""

    @property
    def refused(self) -> Mapping[str, int]:
        """The requests it refused during the trial, by reason; known after exit."""

    @property
    def failure(self) -> str:
        """What ended it by itself during the trial, empty if nothing did; known after exit."""

    @property
    def outages(self) -> Sequence[tuple[int, int]]:
        """From when to when it had no connection to the broker, monotonic ns, as far as known; known after exit."""

    def describe(self) -> dict[str, Any]:
        """Return what a measurement's conditions say about it."""


class Boxes:
    """Services of one model that run together and share the requests at random, drawn from `seed`."""

    def __init__(self, services: Sequence[MLService], seed: int) -> None:
        self.services, self._seed, self.address = services, seed, services[0].address
        self.prefixes = [service.topic_prefix for service in services]
        self.servers = sum(service.servers for service in services)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for service in self.services:
                stack.enter_context(service)
            self._running = stack.pop_all()
        self.busy_ms = self.services[0].busy_ms / len(self.services)
        return self

    def __exit__(self, *exc: Any) -> None:
        self._running.__exit__(*exc)
        self.counts = sum((service.counts for service in self.services), Counter[str]())
        self.refused = sum((service.refused for service in self.services), Counter[str]())
        self.failure = next((service.failure for service in self.services if service.failure), "")
        self.outages = [outage for service in self.services for outage in service.outages]

    def kill(self) -> None:
        """End the first box."""
        self.services[0].kill()

    def revive(self) -> None:
        """Start the first box again."""
        self.services[0].revive()

    def stall(self, wait: Callable[[], object]) -> None:
        """Let the first box do nothing while `wait()` waits."""
        self.services[0].stall(wait)

    def cut_links(self, duration_s: float) -> None:
        """Let nothing enter the links of any box for so long."""
        for service in self.services:
            service.cut_links(duration_s)

    @property
    def takes(self) -> InputSpec:
        """What one request contains."""
        return self.services[0].takes

    def routes(self, requests: int) -> NDArray[np.uint8]:
        """Return which box each request goes to, shape (requests,): all boxes are equally likely."""
        return random_routes(self._seed, len(self.services), requests)

    def describe(self) -> dict[str, Any]:
        """Return what the first box says of itself, and how many there are."""
        return self.services[0].describe() | {"boxes": len(self.services)}


@dataclass(frozen=True)
class Setting:
    """What a service needs besides its placement: model, broker, QoS, the trial's link seed, topic prefix.

    The model is the placement's own, or else the scenario's. A service that is watched publishes its metrics every
    `metrics_interval_s`; 0 is never.
    """

    model: str
    broker: Broker
    qos: int = 0
    seed: int = 0
    prefix: str = ""
    metrics_interval_s: float = 0.0


@singledispatch
def service_of(placement: Placement, setting: Setting) -> Service:
    """Return the service of a placement, not yet entered; `service_of.register` adds those of further tiers.

    Raises:
        ServiceError: nobody answers where an external service should be.
        ConfigurationError: nothing is registered for this kind of placement.
    """
    raise ConfigurationError(
        f"{type(placement).__name__}: nothing serves this kind of placement; register it with "
        f"xedge.serving.start.service_of.register (broker {setting.broker.url})"
    )


@service_of.register
def _edge(placement: Edge, setting: Setting) -> Service:
    if placement.run_in != "thread":
        words = ["--compute-scale", str(placement.compute_scale), "--threads", str(placement.threads)]
        words += ["--max-batch", str(placement.max_batch), "--qos", str(setting.qos)]
        words += ["--metrics-interval", str(setting.metrics_interval_s)]
        words += ["--max-queue", str(placement.max_queue), "--max-queue-mib", str(placement.max_queue_mib)]
        where = *setting.broker.address, setting.prefix
        return IsolatedService(setting.model, *where, placement.image, placement.cpus, *words)
    places = zip(box_prefixes(setting.prefix, placement.boxes), box_seeds(setting.seed, placement.boxes), strict=True)
    shared = options(placement, setting)
    services = [
        EdgeMLService(setting.model, **shared | {"topic_prefix": prefix, "seed": seed}) for prefix, seed in places
    ]
    return services[0] if len(services) == 1 else Boxes(services, setting.seed)


@service_of.register
def _cloud(placement: Cloud, setting: Setting) -> Service:
    return CloudMLService(setting.model, device=placement.device, **options(placement, setting))


@service_of.register
def _external(placement: External, setting: Setting) -> Service:
    where = Endpoint.read(placement.broker).address if placement.broker else setting.broker.address
    return ExternalService(*where, placement.topic_prefix, placement.service)


def options(placement: Served, setting: Setting) -> dict[str, Any]:
    """Return what an `MLService` takes: broker, prefix, links, threads and the hardware stood for."""
    uplink, downlink = placement.links
    host, port = setting.broker.address
    where = {"broker_host": host, "broker_port": port, "topic_prefix": setting.prefix}
    names = ("compute_scale", "service_time", "servers", "threads", "max_batch", "max_queue", "max_queue_mib")
    hardware = {name: getattr(placement, name) for name in names}
    trial = {"uplink": uplink, "downlink": downlink, "qos": setting.qos, "seed": setting.seed}
    return where | hardware | trial | {"metrics_interval_s": setting.metrics_interval_s}
