"""A scenario: model, workload, source, placements and links, as checked data that YAML can hold."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import msgspec
from msgspec import Meta

from xedge.core.config import Config, as_kind, sentence
from xedge.core.exceptions import ConfigurationError
from xedge.scenario.arrivals import Arrivals
from xedge.scenario.placements import Placement
from xedge.scenario.routes import Topics
from xedge.scenario.sources import Source


class Scenario(Config, frozen=True, kw_only=True):
    """Everything that decides a measurement, as frozen data; `xedge.runs.scenario` adds the verbs.

    Args:
        model: the name of a model in `models/`, or a path to one of its files.
        workload: when requests are due: `Poisson`, `Constant`, `Bursty` or `Trace`.
        placements: name -> `Edge`, `Cloud`, `External` or a kind of your own; they are measured one after the
            other on the same seeds.
        source: what requests contain: `Vibration`, `CsvReplay`, `Noise` or `Texts`; by default `Texts` for a text
            model and `Vibration` for others.
        seed: schedules, contents and links are drawn from it, each from a stream of its own.
        timeout_s: a request not answered this long after it was due has timed out.
        qos: MQTT quality of service, 0 or 1.
        encoding: of the requests, "json" or "msgpack".
        topic_prefix: comes before every topic.

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
    def from_yaml(cls, path: str | Path) -> Self:
        """Read a scenario from a YAML file.

        Raises:
            ConfigurationError: the file is missing, is not YAML, or a value is invalid; the message names the
                file and the place in it.
        """
        try:
            return msgspec.yaml.decode(Path(path).read_bytes(), type=cls, dec_hook=as_kind)
        except OSError as exc:
            raise ConfigurationError(f"cannot read scenario {path}: {exc.strerror}") from None
        except (msgspec.DecodeError, ValueError) as exc:  # of msgspec, of YAML, or a ConfigurationError of ours
            raise ConfigurationError(f"scenario {path}: {sentence(exc)}") from None

    def to_yaml(self) -> str:
        """Return the scenario as YAML that `from_yaml` reads back; what is not set is left out."""
        return msgspec.yaml.encode(_without_none(self.as_dict())).decode("utf-8")


def _without_none(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _without_none(value) for key, value in data.items() if value is not None}
    return data
