"""A scenario: model, workload, source, placements and links, as checked data that YAML can hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from xedge.core.config import Config
from xedge.core.exceptions import ConfigurationError
from xedge.core.extras import needed
from xedge.scenario.arrivals import Arrivals
from xedge.scenario.link import Link
from xedge.scenario.service_times import ServiceTime
from xedge.scenario.sources import Source
from xedge.serving.messages import Topics

if TYPE_CHECKING:
    from xedge.results.measurement import Measurement
    from xedge.serving.boxes import Boxes
    from xedge.serving.broker import Broker
    from xedge.serving.external import ExternalService
    from xedge.serving.services import MLService

    AnyService = MLService | ExternalService | Boxes

Scale = Annotated[float, Meta(ge=1, le=1e6)]
Count = Annotated[int, Meta(ge=1)]


class _Placement(Config, frozen=True, kw_only=True, tag_field="tier"):
    link: Link | None = None
    uplink: Link | None = None
    downlink: Link | None = None
    compute_scale: Scale = 1.0
    service_time: ServiceTime | None = None
    servers: Count = 1
    threads: Count = 1
    max_batch: Count = 64

    def check(self) -> None:
        """Refuse a link given twice, two service times, and servers that nothing emulates."""
        if self.service_time is not None and self.compute_scale != 1:
            raise ConfigurationError(
                f"{type(self).__name__}: compute_scale and service_time both say how long inference takes; give one"
            )
        if self.servers > 1 and self.service_time is None and self.compute_scale == 1:
            raise ConfigurationError(
                f"{type(self).__name__}(servers={self.servers}): engines side by side are emulated, the model itself "
                "computes in one thread; give compute_scale or service_time too"
            )
        if self.link is not None and (self.uplink is not None or self.downlink is not None):
            raise ConfigurationError(
                f"{type(self).__name__}: give link (for both directions) or uplink and downlink, not both"
            )

    @property
    def links(self) -> tuple[Link, Link]:
        """The uplink and the downlink."""
        return self.uplink or self.link or Link(), self.downlink or self.link or Link()

    def _loop(self) -> dict[str, Any]:
        up, down = self.links
        names = ("compute_scale", "service_time", "servers", "max_batch", "threads")
        return {"uplink": up, "downlink": down} | {name: getattr(self, name) for name in names}


class Edge(_Placement, frozen=True, kw_only=True, tag_field="tier", tag="edge"):
    """The model near the sensors: ONNX Runtime in a thread of this process, or isolated from it.

    Args:
        link: what requests and results cross, each way; by default nothing.
        uplink: what requests cross, if the two directions differ.
        downlink: what results cross, if the two directions differ.
        compute_scale: inference takes this many times as long, 1 or more; stands for slower hardware.
        service_time: inference takes as long as drawn from this, `Deterministic` or `Exponential`, whatever the engine
            takes: a stand-in with a known answer from queueing theory.
        servers: how many batches may be in inference at once; needs compute_scale or service_time.
        threads: the engine's intra-op threads.
        max_batch: most requests given to the engine at once; 1 turns batching off.
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
        if self.run_in != "thread":
            emulated = {
                "link": not all(link.is_free for link in self.links),
                "service_time": self.service_time is not None,
                "servers": self.servers > 1,
                "boxes": self.boxes > 1,
            }
            if wrong := [name for name, given in emulated.items() if given]:
                raise ConfigurationError(
                    f"Edge(run_in={self.run_in!r}): {', '.join(wrong)} emulated in threads only; leave it out"
                )
        if (self.run_in == "container") != (self.image is not None):
            raise ConfigurationError("Edge: run_in='container' and image go together")
        if self.cpus is not None and self.run_in != "container":
            raise ConfigurationError("Edge: cpus limits a container; elsewhere use compute_scale")

    def service(self, model: str, broker: Broker, *, qos: int = 0, seed: int = 0, prefix: str = "") -> AnyService:
        """Return the service of this placement, not yet started."""
        if self.run_in != "thread":
            from xedge.serving.isolation import IsolatedService

            options = ["--compute-scale", str(self.compute_scale), "--threads", str(self.threads)]
            options += ["--max-batch", str(self.max_batch), "--qos", str(qos)]
            return IsolatedService(model, broker.host, broker.port, prefix, self.image, self.cpus, *options)
        from xedge.serving.boxes import Boxes
        from xedge.serving.services import EdgeMLService

        def box(own: str, own_seed: int) -> EdgeMLService:
            return EdgeMLService(
                model, broker.host, broker.port, qos=qos, seed=own_seed, topic_prefix=own, **self._loop()
            )

        return box(prefix, seed) if self.boxes == 1 else Boxes(self.boxes, prefix, seed, box)


class Cloud(_Placement, frozen=True, kw_only=True, tag_field="tier", tag="cloud"):
    """The model in a data centre: PyTorch in a thread of this process, behind links.

    Args:
        link: what requests and results cross, each way; by default 50 ms.
        uplink: what requests cross, if the two directions differ.
        downlink: what results cross, if the two directions differ.
        compute_scale: inference takes this many times as long, 1 or more.
        service_time: inference takes as long as drawn from this, whatever the engine takes.
        servers: how many batches may be in inference at once; needs compute_scale or service_time.
        threads: the engine's intra-op threads.
        max_batch: most requests given to the engine at once; 1 turns batching off.
        device: "cpu" or "cuda".

    """

    device: Literal["cpu", "cuda"] = "cpu"

    @property
    def links(self) -> tuple[Link, Link]:
        """The uplink and the downlink; 50 ms each where nothing was said."""
        if self.link is None and self.uplink is None and self.downlink is None:
            return Link(delay_ms=50), Link(delay_ms=50)
        return super().links

    def service(self, model: str, broker: Broker, *, qos: int = 0, seed: int = 0, prefix: str = "") -> MLService:
        """Return the service of this placement, not yet started."""
        from xedge.serving.services import CloudMLService

        return CloudMLService(
            model,
            broker.host,
            broker.port,
            qos=qos,
            seed=seed,
            topic_prefix=prefix,
            device=self.device,
            **self._loop(),
        )


class External(Config, frozen=True, kw_only=True, tag_field="tier", tag="external"):
    """A service that runs already, started by somebody else: a container, a process, another machine.

    Its clock readings are kept only where they fit between the sender's own: on the same host.

    Args:
        topic_prefix: the service's topic prefix.
        broker: `mqtt://host:port` it is behind; by default the measurement's own broker, which must then be one
            that runs already (`measure(broker=…)` or XEDGE_BROKER).
        service: its name, "edge" or "cloud"; empty takes whoever answers first.
    """

    topic_prefix: str = ""
    broker: str | None = None
    service: str = ""

    @property
    def links(self) -> tuple[Link, Link]:
        """No emulated links: the network is the real one."""
        return Link(), Link()

    def running(self, broker: Broker) -> ExternalService:
        """Return the service, which must answer a ping.

        Raises:
            ServiceError: nobody answers there.
        """
        from xedge.serving.broker import address
        from xedge.serving.external import ExternalService

        host, port = address(self.broker) if self.broker else (broker.host, broker.port)
        return ExternalService(host, port, self.topic_prefix, self.service)


class Scenario(Config, frozen=True, kw_only=True):
    """Everything that decides a measurement, as frozen data.

    Args:
        model: the name of a model in `models/`, or a path to one of its files.
        workload: when requests are due: `Poisson`, `Constant`, `Bursty` or `Trace`.
        placements: name -> `Edge`, `Cloud` or `External`; they are measured one after the other on the same seeds.
        source: what requests contain: `Vibration`, `CsvReplay`, `Noise` or `Texts`; by default `Texts` for a text
            model and `Vibration` for others.
        seed: schedules, contents and links are drawn from it, each from a stream of its own.
        timeout_s: a request not answered this long after it was due has timed out.
        qos: MQTT quality of service, 0 or 1.
        encoding: of the requests, "json" or "msgpack".
        topic_prefix: comes before every topic.

    """

    model: str
    workload: Arrivals
    placements: dict[str, Edge | Cloud | External]
    source: Source | None = None
    seed: Annotated[int, Meta(ge=0)] = 0
    timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 5.0
    qos: Literal[0, 1] = 0
    encoding: Literal["json", "msgpack"] = "json"
    topic_prefix: str = ""

    def check(self) -> None:
        """Refuse a scenario without placements, a time-out that the links alone exceed, and an impossible prefix."""
        Topics(self.topic_prefix)
        if not self.placements:
            raise ConfigurationError("Scenario(placements={}): name at least one, for example {'edge': xedge.Edge()}")
        for name, placement in self.placements.items():
            delay_ms = sum(link.least_ms for link in placement.links)
            if delay_ms >= self.timeout_s * 1e3:
                raise ConfigurationError(
                    f"placement {name!r}: its links alone take {delay_ms:g} ms, over timeout_s={self.timeout_s:g}"
                )

    @classmethod
    def from_yaml(cls, path: str | Path) -> Scenario:
        """Read a scenario from a YAML file.

        Raises:
            ConfigurationError: the file is missing, is not YAML, or says something that cannot be meant; the
                message names the file and the place in it.

        """
        try:
            return msgspec.yaml.decode(Path(path).read_bytes(), type=cls)
        except OSError as exc:
            raise ConfigurationError(f"cannot read scenario {path}: {exc.strerror}") from None
        except (msgspec.DecodeError, ValueError) as exc:  # of msgspec, of YAML, or a ConfigurationError of ours
            raise ConfigurationError(f"scenario {path}: {exc}") from None

    def to_yaml(self) -> str:
        """Return the scenario as YAML that `from_yaml` reads back; what is not set is left out."""
        return msgspec.yaml.encode(_without_none(self.as_dict())).decode("utf-8")

    def measure(
        self,
        replications: int = 5,
        *,
        strict: bool = True,
        progress: bool = True,
        broker: Broker | None = None,
        calibration: Measurement | None = None,
    ) -> Measurement:
        """Run every placement `replications` times behind a real broker and return all rows.

        Args:
            replications: trials a placement, each on fresh seeds that all placements share.
            strict: a sender that could not keep time makes the measurement INVALID; False makes it a doubt.
            progress: show progress in the terminal or the notebook.
            broker: one that runs already; by default one is started for the measurement.
            calibration: a measurement taken shortly before behind the same broker and links, whose noise floor and link
                check are taken over instead of being measured again: for one of many points.

        Raises:
            ConfigurationError, ModelError, BrokerError, ServiceError: what the measurement needs is not there.

        """
        with needed("lab", "measuring"):
            from xedge.runs.measured import measure

        return measure(self, replications, strict=strict, progress=progress, broker=broker, calibration=calibration)


def _without_none(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _without_none(value) for key, value in data.items() if value is not None}
    return data
