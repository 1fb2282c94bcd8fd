"""From a placement, which is data, to the service that answers for it."""

from dataclasses import dataclass
from functools import singledispatch
from typing import Any

from xedge.core.exceptions import ConfigurationError
from xedge.scenario.placements import Cloud, Edge, External, Placement, Served
from xedge.scenario.routes import box_prefixes, box_seeds
from xedge.serving.boxes import Boxes
from xedge.serving.broker import Broker, address
from xedge.serving.external import ExternalService, IsolatedService
from xedge.serving.service import Service
from xedge.serving.services import CloudMLService, EdgeMLService


@dataclass(frozen=True)
class Setting:
    """What a service needs to know besides its placement: model, broker, QoS, the trial's link seed, topic prefix."""

    model: str
    broker: Broker
    qos: int = 0
    seed: int = 0
    prefix: str = ""


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
        where = setting.broker.host, setting.broker.port, setting.prefix
        return IsolatedService(setting.model, *where, placement.image, placement.cpus, *words)
    places = zip(box_prefixes(setting.prefix, placement.boxes), box_seeds(setting.seed, placement.boxes), strict=True)
    services = [
        EdgeMLService(
            setting.model,
            **options(placement, setting) | {"threads": placement.threads, "topic_prefix": prefix, "seed": seed},
        )
        for prefix, seed in places
    ]
    return services[0] if len(services) == 1 else Boxes(services, setting.seed)


@service_of.register
def _cloud(placement: Cloud, setting: Setting) -> Service:
    return CloudMLService(
        setting.model, device=placement.device, threads=placement.threads, **options(placement, setting)
    )


@service_of.register
def _external(placement: External, setting: Setting) -> Service:
    where = address(placement.broker) if placement.broker else (setting.broker.host, setting.broker.port)
    return ExternalService(*where, placement.topic_prefix, placement.service)


def options(placement: Served, setting: Setting) -> dict[str, Any]:
    """Return what the loop of a service takes: broker, prefix, links and the hardware stood for."""
    uplink, downlink = placement.links
    names = ("compute_scale", "service_time", "servers", "max_batch")
    return {
        "broker_host": setting.broker.host,
        "broker_port": setting.broker.port,
        "topic_prefix": setting.prefix,
        "qos": setting.qos,
        "seed": setting.seed,
        "uplink": uplink,
        "downlink": downlink,
        **{name: getattr(placement, name) for name in names},
    }
