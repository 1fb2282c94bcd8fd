"""The services that are watched: each in processes of its own, asked as its callers ask, at a rate or unpaused."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from xedge.results.rows import latency_ms
from xedge.results.statistics import FloatArray
from xedge.runs.sender import Flight, Sender
from xedge.runs.trial import Requests, fly
from xedge.scenario.arrivals import Poisson
from xedge.scenario.placements import External
from xedge.scenario.scenario import Replication, Scenario
from xedge.scenario.sources import Texts
from xedge.serving.broker import Broker
from xedge.serving.external import ExternalService, IsolatedService
from xedge.text.copies.arrangements import ARRANGEMENTS, HTTP, Arrangement, processes_below
from xedge.text.copies.copies import model_folder

MODEL = "anomaly_detector"
CALLERS = 4  # of the HTTP service, each with a connection that it keeps
WINDOW = 256  # requests always on their way over MQTT, to learn the ceiling
FLOOD_HZ, FLOOD_S = 10_000.0, 1.0  # how many requests that is learnt from; they are all due at once
CLOUD_MS = 5.0  # of the cloud's link, each way


class Watched(Protocol):
    """A running service and its callers; `pids` are the service's own processes."""

    pids: list[int]

    def ask(self, rate_hz: float, duration_s: float, number: int) -> FloatArray:
        """Return the latency of each request of a Poisson schedule, ms from when it was due; inf without a result."""

    def flood(self) -> float:
        """Return how many requests a second are answered while callers never pause."""


@dataclass
class OverMqtt:
    """An `xedge serve edge` or `cloud` behind a broker, asked by the sender's process."""

    service: ExternalService
    broker: Broker
    sender: Sender
    pids: list[int]

    def ask(self, rate_hz: float, duration_s: float, number: int) -> FloatArray:
        """Fly one schedule; see `Watched`."""
        scenario, replication = self._schedule(rate_hz, duration_s, number)
        rows, _ = fly(scenario, replication, self.service, "watched", self.broker, self.sender, lambda _: None)
        return latency_ms(rows)

    def flood(self) -> float:
        """Keep `WINDOW` requests on their way; see `Watched`."""
        scenario, replication = self._schedule(FLOOD_HZ, FLOOD_S, 0)
        requests = Requests(scenario, replication, self.service)
        at_once = np.zeros(len(requests.payloads), np.int64).tobytes()
        where = (*self.service.address, self.service.prefixes, requests.device_id)
        log = self.sender.fly(Flight(*where, at_once, requests.payloads, scenario.timeout_s, window=WINDOW))
        return len(log.replies) / (log.replies[-1][0] - log.start_ns) * 1e9

    def _schedule(self, rate_hz: float, duration_s: float, number: int) -> tuple[Scenario, Replication]:
        workload, prefix = Poisson(rate_hz=rate_hz, duration_s=duration_s), self.service.prefixes[0]
        scenario = Scenario(model=MODEL, workload=workload, placements={"watched": External(topic_prefix=prefix)})
        return scenario, Replication.of(scenario, number)


@dataclass
class OverHttp:
    """`xedge serve http`, asked by `CALLERS` processes one text at a time each."""

    arrangement: Arrangement
    pids: list[int]

    def ask(self, rate_hz: float, duration_s: float, number: int) -> FloatArray:
        """Fly one schedule for each caller; see `Watched`."""
        workload = Poisson(rate_hz=rate_hz / CALLERS, duration_s=duration_s)
        seeds = np.random.SeedSequence(number).generate_state(CALLERS).tolist()
        due = [workload.due_ns(seed) for seed in seeds]
        logs = self._fly(due, seeds)
        waited = [(log[:, 2] - due_ns) / 1e6 for log, due_ns in zip(logs, due, strict=True)]
        answered = [log[:, 2] >= 0 for log in logs]
        return np.where(np.concatenate(answered), np.concatenate(waited), np.inf)

    def flood(self) -> float:
        """Let each caller ask again at once; see `Watched`."""
        logs = self._fly([np.zeros(round(FLOOD_HZ * FLOOD_S / CALLERS / 4), np.int64)] * CALLERS, range(CALLERS))
        return sum(len(log) for log in logs) / max(float(log[:, 2].max()) for log in logs) * 1e9

    def _fly(self, due: Any, seeds: Any) -> list[Any]:
        texts = [Texts().inputs(len(due_ns), (), seed) for due_ns, seed in zip(due, seeds, strict=True)]
        flights = [{"due_ns": due_ns.tolist(), "texts": own} for due_ns, own in zip(due, texts, strict=True)]
        return [np.reshape(log, (-1, 3)).astype(np.int64) for log in self.arrangement.fly(flights)]


class CloudProcess(IsolatedService):
    """`xedge serve cloud` under a guard."""

    tier = "cloud"


@contextmanager
def _over_mqtt(kind: Callable[..., IsolatedService], model: str, *options: str) -> Iterator[OverMqtt]:
    with (
        Broker(name="xedge-soak") as broker,
        kind(model, *broker.address, "soak", None, None, *options) as service,
        Sender() as sender,
    ):
        running = ExternalService(*service.address, service.prefixes[0])
        yield OverMqtt(running, broker, sender, processes_below(service.guard))


@contextmanager
def _over_http() -> Iterator[OverHttp]:
    with ARRANGEMENTS[HTTP](model_folder("topic")) as arrangement:
        arrangement.grow(CALLERS)
        yield OverHttp(arrangement, arrangement.shared["service"])


SERVICES: dict[str, Callable[[], AbstractContextManager[Watched]]] = {
    "edge": lambda: _over_mqtt(IsolatedService, MODEL),
    "cloud": lambda: _over_mqtt(CloudProcess, MODEL, "--cloud-latency-ms", str(CLOUD_MS)),
    "http": _over_http,
    "text": lambda: _over_mqtt(IsolatedService, str(model_folder("topic"))),
}
