"""A scenario as checked data that YAML can hold, and its replications: schedule, seeds and inputs; pure."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from xedge.core.config import Config, as_kind, check_yaml, sentence
from xedge.core.exceptions import ConfigurationError
from xedge.scenario import replay as replay  # its kinds are known wherever scenarios are
from xedge.scenario import thresholds
from xedge.scenario.arrivals import Arrivals
from xedge.scenario.faults import Fault, check_faults
from xedge.scenario.making import making
from xedge.scenario.placements import Placement
from xedge.scenario.routes import Topics
from xedge.scenario.sources import InputSpec, Source, matching


class Scenario(Config, frozen=True, kw_only=True):
    """Everything that decides a measurement, as frozen data; `xedge.runs.scenario` adds the verbs.

    Args:
        model: the name of a model in `models/`, or a path to one of its files.
        workload: when requests are due: `Poisson`, `Constant`, `Bursty` or `Trace`.
        placements: name -> `Edge`, `Cloud`, `External` or a kind of your own; they are measured one after the
            other on the same seeds.
        source: what requests contain: the path of a file (.csv, .parquet, .npy, .npz), an array, a DataFrame, or
            `Vibration`, `CsvReplay`, `Noise` or `Texts`; by default `Texts` for a text model, `Vibration` for others.
        seed: schedules, contents and links are drawn from it, each from a stream of its own.
        timeout_s: a request not answered this long after it was due has timed out.
        deadline_ms: an answer later than this is of no use; the measurement says who meets it.
        qos: MQTT quality of service, 0 or 1.
        encoding: of the requests, "json" or "msgpack".
        topic_prefix: comes before every topic.
        faults: what goes wrong in each trial, and when; nothing by default.
        thresholds: what may not be, as "edge.p99_ms > 20"; `xedge measure` then ends with status 4.

    >>> from xedge.scenario.arrivals import Constant
    >>> from xedge.scenario.placements import Edge
    >>> workload = Constant(rate_hz=10, duration_s=5)
    >>> scenario = Scenario(model="anomaly_detector", workload=workload, placements={"edge": Edge()})
    >>> Scenario.from_dict(scenario.as_dict()) == scenario
    True
    """

    model: str
    workload: Arrivals
    placements: dict[str, Placement]
    source: Source | None = None
    seed: Annotated[int, Meta(ge=0)] = 0
    timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 5.0
    deadline_ms: Annotated[float, Meta(gt=0)] | None = None
    qos: Literal[0, 1] = 0
    encoding: Literal["json", "msgpack"] = "json"
    topic_prefix: str = ""
    faults: tuple[Fault, ...] | None = None
    thresholds: tuple[str, ...] | None = None

    wants: ClassVar[dict[str, str]] = {
        "placements": "placements by name, as {'edge': xedge.Edge(), 'cloud': xedge.Cloud()}",
        "workload": "when requests are due, as xedge.Poisson(rate_hz=200, duration_s=5)",
        "faults": "faults in a list, as [xedge.Fault(at_s=2, kind='link_down', placement='cloud')]",
    }

    def check(self) -> None:
        """Refuse no placements, links or a deadline beyond the time-out, and a prefix or faults that cannot be."""
        Topics(self.topic_prefix)
        thresholds.read(self.thresholds or ())
        if self.deadline_ms is not None and self.deadline_ms > self.timeout_s * 1e3:
            raise ConfigurationError(
                f"deadline_ms={self.deadline_ms:g} is beyond timeout_s={self.timeout_s:g}: raise timeout_s, "
                "no answer is waited for that long"
            )
        if not self.placements:
            raise ConfigurationError("Scenario(placements={}): name at least one, for example {'edge': xedge.Edge()}")
        for name, placement in self.placements.items():
            if (delay_ms := sum(link.least_ms for link in placement.links)) >= self.timeout_s * 1e3:
                raise ConfigurationError(
                    f"placement {name!r}: its links alone take {delay_ms:g} ms, over timeout_s={self.timeout_s:g}"
                )
        check_faults(self.faults or (), self.placements, self.workload.duration_s)

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """Read a scenario from a YAML file.

        Raises:
            ConfigurationError: the file is missing, is not YAML, or a value is invalid; the message names the
                file and the place in it.
        """
        try:
            check_yaml(text := Path(path).read_text("utf-8"))
            return msgspec.yaml.decode(text, type=cls, dec_hook=as_kind)
        except OSError as exc:
            raise ConfigurationError(f"cannot read scenario {path}: {exc.strerror}") from None
        except (msgspec.DecodeError, ValueError) as exc:  # of msgspec, of YAML, or a ConfigurationError of ours
            raise ConfigurationError(f"scenario {path}: {sentence(exc, cls)}") from None

    def to_yaml(self) -> str:
        """Return the scenario as YAML that `from_yaml` reads back; what is not set is left out."""
        return msgspec.yaml.encode(_without_none(self.as_dict())).decode("utf-8")


def _without_none(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _without_none(value) for key, value in data.items() if value is not None}
    return data


@dataclass(frozen=True, eq=False)
class Replication:
    """What placements of one replication share (common random numbers); a request is known by its index in `due_ns`.

    Args:
        number: which replication, from 0.
        due_ns: when requests are due, shape (n,), ascending nanoseconds from the start.
        schedule_seed: what `due_ns` is drawn from; `content_seed`: inputs; `link_seed`: links, service times, routes.
    """

    number: int
    due_ns: NDArray[np.int64]
    schedule_seed: int
    content_seed: int
    link_seed: int

    @classmethod
    def of(cls, scenario: Scenario, number: int) -> Self:
        """Return replication `number` of a scenario; the same number is the same replication.

        Raises:
            ConfigurationError: no request falls due.
        """
        seeds = np.random.SeedSequence([scenario.seed, number]).generate_state(3).tolist()
        workload = scenario.workload
        due_ns = workload.due_ns(seeds[0])
        if len(due_ns) == 0:
            raise ConfigurationError(
                f"replication {number}: no request falls due within {workload.duration_s:g} s at "
                f"{workload.rate_hz:g} requests/s; make the workload longer"
            )
        return cls(number, due_ns, *seeds)

    def inputs(self, scenario: Scenario, spec: InputSpec) -> Any:
        """Return one input a request: an array (n, *spec.shape) of numbers, or a list of texts.

        Raises:
            ConfigurationError: the source does not make what the model takes.
        """
        source, n, seed = matching(scenario.source, spec), len(self.due_ns), self.content_seed
        try:
            inputs = source.inputs(n, spec.shape, seed)
        except ConfigurationError as exc:
            if not spec.made_by:
                raise
            of, make = making(spec.made_by)
            try:
                inputs = make(source.inputs(n, of, seed))
            except ConfigurationError:
                said = f"{exc} (or windows of {list(of)}, of which {spec.made_by} makes it)"
                raise ConfigurationError(said) from None
        return inputs.astype(spec.dtype) if spec.kind == "numbers" else inputs

    def labels(self, scenario: Scenario, spec: InputSpec) -> list[str] | None:
        """Return the truth about these inputs, a label a request, the same for every model; None if nobody knows it.

        Raises:
            ConfigurationError: one is missing.
        """
        known = getattr(matching(scenario.source, spec), "labels", None)
        labels: list[str] | None = known(len(self.due_ns), self.content_seed) if known else None
        return labels
