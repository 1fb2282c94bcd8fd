"""The service loop: one thread owns the MQTT client, the links' timers and the engine, and never sleeps."""

import logging
from abc import abstractmethod
from collections import Counter, deque
from time import perf_counter_ns, thread_time_ns
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from xedge.core.exceptions import BrokerError, ConfigurationError
from xedge.scenario.channel import Channel
from xedge.scenario.faults import Cut
from xedge.scenario.link import Link
from xedge.scenario.placements import check_hardware
from xedge.scenario.routes import Topics, random_routes
from xedge.scenario.service_times import ServiceTime
from xedge.scenario.station import MAX_QUEUE, MAX_QUEUE_MIB, Capacity, Station
from xedge.serving.connection import NO_CONNECTION, Connection
from xedge.serving.faults import Obedient
from xedge.serving.messages import Ping, Pong, encode, is_device_id
from xedge.serving.metrics import Meter

log = logging.getLogger(__name__)


class Item:
    """One request inside a service, with its clock readings in monotonic nanoseconds."""

    __slots__ = ("arrived_ns", "finished_ns", "prediction", "read_ns", "release_ns", "request", "size", "started_ns")

    def __init__(self, request: Any, size: int, read_ns: int) -> None:
        self.request, self.size, self.read_ns = request, size, read_ns
        self.release_ns = self.arrived_ns = self.started_ns = self.finished_ns = read_ns
        self.prediction: Any = None


class ServiceLoop(Obedient):
    """What every service shares; a subclass says how to decode, infer and encode.

    Args:
        name: the tier's word, for the thread, the client id and the log.
        broker_host, broker_port: where the broker is; as `broker_host` a URL will do, see `xedge.serving.endpoint`.
        topic_prefix: comes before every topic, so that services can share a broker.
        uplink: what requests cross before they arrive.
        downlink: what results cross before they depart.
        compute_scale: inference takes this many times the processor time, 1 or more; stands for slower hardware.
        service_time: inference takes as long as drawn from this, whatever the engine takes; instead of compute_scale.
        servers: how many batches may be in inference at once; over 1 needs compute_scale or service_time, because
            the engine itself computes in this one thread.
        max_batch: most requests given to the engine at once; 1 turns batching off.
        max_queue: most requests held at once, those crossing emulated links included; further ones are refused.
        max_queue_mib: most MiB of requests held at once, as they came.
        qos: MQTT quality of service, 0 or 1.
        seed: for the links' jitter and loss.
        metrics_interval_s: log and publish metrics this often; 0 is never.
    """

    def __init__(
        self,
        name: str,
        broker_host: str,
        broker_port: int,
        *,
        topic_prefix: str = "",
        uplink: Link | None = None,
        downlink: Link | None = None,
        compute_scale: float = 1.0,
        service_time: ServiceTime | None = None,
        servers: int = 1,
        max_batch: int = 64,
        max_queue: int = MAX_QUEUE,
        max_queue_mib: float = MAX_QUEUE_MIB,
        qos: int = 0,
        seed: int = 0,
        metrics_interval_s: float = 0.0,
    ) -> None:
        check_hardware(type(self).__name__, compute_scale, service_time, servers, max_batch)
        if max_queue < 1 or max_queue_mib <= 0:
            said = f"max_queue={max_queue}, max_queue_mib={max_queue_mib}"
            raise ConfigurationError(f"{type(self).__name__}: {said}; a service holds at least one request")
        self.max_queue, self.max_queue_mib = max_queue, max_queue_mib
        self.topic_prefix, self.prefixes, self.topics = topic_prefix, [topic_prefix], Topics(topic_prefix)
        super().__init__(name, (type(self).__name__, broker_host, broker_port, self.topics.request))
        self.broker_host, self.broker_port = self.address = broker_host, broker_port
        self.uplink, self.downlink = uplink or Link(), downlink or Link()
        self.compute_scale, self.service_time, self.servers = compute_scale, service_time, servers
        self.max_batch, self.qos, self.seed = max_batch, qos, seed
        self.counts, self.refused = Counter[str](), Counter[str]()
        self.outages: list[tuple[int, int]] = []
        self.inference_ms, self._metrics_ns = 0.0, round(metrics_interval_s * 1e9)

    def prepare(self) -> None:
        """Do, in the service's own thread, what must be done before requests are asked for; override."""

    @abstractmethod
    def accept(self, payload: bytes, read_ns: int) -> Item | None:
        """Return the request in `payload`, or None when it was refused; override."""

    def refuse_for_room(self, item: Item) -> None:  # noqa: ARG002 - what a subclass answers
        """Refuse a request that found the queue full; override to answer it too."""
        self.refused["overloaded"] += 1

    def infer(self, items: list[Item]) -> list[Item]:
        """Set each item's prediction and return those that have one; override."""
        return items

    @abstractmethod
    def answer(self, item: Item, departed_ns: int) -> tuple[str, bytes]:
        """Return the topic and payload of an item's result; override."""

    def routes(self, requests: int) -> NDArray[np.uint8]:
        """Return to which of the `prefixes` each request goes: all to the one."""
        return random_routes(self.seed, 1, requests)

    @property
    def busy_ms(self) -> float:
        """How long one request on average keeps the service busy: its inference time over the servers."""
        one_ms = self.service_time.mean_ms if self.service_time else self.inference_ms * self.compute_scale
        return one_ms / self.servers

    def describe(self) -> dict[str, Any]:
        """Return what the service says of itself to who pings it; override."""
        return {}

    def connect_mqtt(self, *, retry_s: float = 0.0) -> Connection:
        """Connect and subscribe; returns once the broker has acknowledged. Connecting again changes nothing.

        Raises:
            BrokerError: no broker there for `retry_s`, or it refused, or did not acknowledge within 10 s.
        """
        end_ns = perf_counter_ns() + round(retry_s * 1e9)
        topics = [self.topics.request, self.topics.ping]
        while self._connection is None:
            connection = Connection(f"xedge-{self.name}", *self.address, topics, self._on_message, self.qos)
            connection.on_wake = self.obey
            self._begin_links()
            self._connection = connection
            try:
                connection.connect()
                connection.wait_subscribed(10)
            except BaseException as exc:
                self._connection = None
                connection.close()
                if not isinstance(exc, BrokerError) or perf_counter_ns() >= end_ns or self._stopping.wait(0.2):
                    raise
        return self._connection

    def run(self) -> None:
        """Serve in this thread until `stop()` is called from another thread or a signal handler."""
        self.prepare()
        connection = self.connect_mqtt()
        self._ready.set()
        try:
            while not self._stopping.is_set():
                self._turn(connection)
        finally:
            self._ready.clear()
            self._connection = None
            self.counts["unanswered"] += len(self._crossing_up) + len(self._station) + len(self._crossing_down)
            self.counts["reconnects"] += connection.reconnects
            connection.close()
            self.outages += connection.outages

    def _begin_links(self) -> None:
        self.forget_orders()
        self._up = None if self.uplink.is_free else Channel(self.uplink, self.seed)
        self._down = None if self.downlink.is_free else Channel(self.downlink, self.seed, "downlink")
        self._crossing_up: deque[Item] = deque()
        self._crossing_down: deque[Item] = deque()
        self._station: Station[Item] = Station(self.servers, self.max_batch)
        self._capacity = Capacity(self.max_queue, round(self.max_queue_mib * 2**20))
        self._held = self.compute_scale != 1 or self.service_time is not None
        self._times_ns = self.service_time.draws_ns(self.seed) if self.service_time else None
        self._begun_ns = perf_counter_ns()
        self._meter = Meter(self.name, self._begun_ns)
        self._metrics_due_ns = self._begun_ns + self._metrics_ns

    def _turn(self, connection: Connection) -> None:
        connection.turn(self._timeout_s())
        now_ns = perf_counter_ns()
        while self._crossing_up and self._crossing_up[0].release_ns <= now_ns:
            item = self._crossing_up.popleft()
            item.arrived_ns = perf_counter_ns()
            self._station.arrive(item, item.arrived_ns)
        for items in self._station.ended(now_ns):
            self._finish(items)
        if self._held:
            while self._station.can_begin:
                self._compute()
        elif self._station.can_begin:  # one batch a turn: what has come meanwhile is read before the next
            self._finish(self._compute())
        while self._crossing_down and self._crossing_down[0].release_ns <= perf_counter_ns():
            self._send(self._crossing_down.popleft())
        if self._metrics_ns and now_ns >= self._metrics_due_ns:
            self._report(connection, now_ns)
        connection.flush()

    def _timeout_s(self) -> float:
        """The time to the next timer; 0 when the engine has work to begin."""
        if self._station.can_begin:
            return 0.0
        timers = [queue[0].release_ns for queue in (self._crossing_up, self._crossing_down) if queue]
        if (next_ns := self._station.next_ns) is not None:
            timers.append(next_ns)
        if self._metrics_ns:
            timers.append(self._metrics_due_ns)
        return min(0.5, (min(timers) - perf_counter_ns()) / 1e9) if timers else 0.5

    def _on_message(self, topic: str, payload: bytes) -> None:
        read_ns = perf_counter_ns()
        if topic == self.topics.ping:
            self._pong(payload, read_ns)
            return
        self.counts["received"] += 1
        if (item := self.accept(payload, read_ns)) is None:
            return
        if not self._capacity.take(item.size):
            self.refuse_for_room(item)
        elif self._up is None:
            self._station.arrive(item, read_ns)
        else:
            self._cross(item, self._up, read_ns, item.size, self._crossing_up)

    def _compute(self) -> list[Item]:
        """Return what the engine answers to the next batch; that of hardware stood for leaves the station later."""
        batch = self._station.begin(0 if self._held else perf_counter_ns())
        assert batch is not None
        for item in batch.requests:
            item.started_ns = batch.started_ns
        begun_ns, cpu_ns = perf_counter_ns(), thread_time_ns() if self._held else 0
        results = self.infer(batch.requests)
        if len(results) < len(batch.requests):
            for item in set(batch.requests).difference(results):
                self._capacity.free(item.size)
        self.counts["batches"] += 1
        if not self._held:
            self._station.release(perf_counter_ns())
            return results
        if self._times_ns:
            took_ns = next(self._times_ns)
        else:  # a pause of this machine is none of the hardware stood for, and is not multiplied
            computed_ns = thread_time_ns() - cpu_ns
            took_ns = perf_counter_ns() - begun_ns + round((self.compute_scale - 1) * computed_ns)
        self._station.end(results, batch.started_ns + took_ns)
        return results

    def _finish(self, items: list[Item]) -> None:
        finished_ns = perf_counter_ns()
        for item in items:
            item.finished_ns = finished_ns
            if self._down is None:
                self._send(item)
                continue
            size = len(self.answer(item, finished_ns)[1]) if self.downlink.rate_mbps else item.size
            self._cross(item, self._down, finished_ns, size, self._crossing_down)

    def _cross(self, item: Item, channel: Channel | Cut, now_ns: int, size: int, queue: deque[Item]) -> None:
        release_ns = channel.release_ns(now_ns, size)
        if release_ns is None:
            self.counts["lost"] += 1
            self._capacity.free(item.size)
            return
        item.release_ns = release_ns
        queue.append(item)

    def _send(self, item: Item) -> None:
        self._capacity.free(item.size)
        departed_ns = perf_counter_ns()
        topic, payload = self.answer(item, departed_ns)
        connection = self._connection
        rc = connection.publish(topic, payload, self.qos).rc if connection is not None else NO_CONNECTION
        sent = rc == 0 or (self.qos > 0 and rc == NO_CONNECTION)  # paho keeps those of QoS 1 for the next connection
        self.counts["answered" if sent else "unanswered"] += 1
        if self._metrics_ns and sent:
            self._meter.latencies_ns.append(departed_ns - item.read_ns)

    def _report(self, connection: Connection, now_ns: int) -> None:
        self._metrics_due_ns = now_ns + self._metrics_ns
        metrics = self._meter.take(now_ns, self.counts, self.refused)
        metrics.queued, metrics.queued_bytes = self._capacity.requests, self._capacity.bytes
        oldest = self._station.oldest or (self._crossing_up[0] if self._crossing_up else None)
        if oldest is not None:
            metrics.oldest_ms = round((now_ns - oldest.read_ns) / 1e6, 3)
        log.info(metrics.sentence(), extra={"metrics": msgspec.to_builtins(metrics)})
        connection.publish(self.topics.metrics(self.name), encode(metrics), self.qos)

    def _pong(self, payload: bytes, now_ns: int) -> None:
        try:
            ping = msgspec.json.decode(payload, type=Ping)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            log.warning("%s: malformed ping: %.200s", self.name, exc)
            return
        if ping.service not in ("", self.name) or not is_device_id(ping.device_id) or self._connection is None:
            return
        uptime_s = round((now_ns - self._begun_ns) / 1e9, 1)
        answer = Pong(self.name, uptime_s, dict(self.counts), dict(self.refused), self.describe())
        self._connection.publish(self.topics.pong(ping.device_id), encode(answer), self.qos)
