"""A member of a consumer group that answers texts, and commits their offsets after its results are out."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter, perf_counter_ns
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self, cast

import msgspec

from xedge.core.exceptions import BrokerError, ConfigurationError, ServiceError
from xedge.core.extras import needed
from xedge.serving.messages import MAX_PAYLOAD_BYTES
from xedge.serving.metrics import Meter
from xedge.text.callers.kafka.replies import Replier, is_worth_a_line

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

log = logging.getLogger(__name__)


class TextConsumer:
    """Answers the texts of one Kafka topic on another, at least once; a thread of its own between start and stop.

    A batch is what has come, up to `max_batch` messages. It is predicted as one, its results are delivered, and only
    then its offsets are committed: whenever the process ends, what was not committed is read again by a member of
    the group. So a result may be there twice, with the same id, and none is missing. A message that is no request
    is counted and answered on the error topic.

    Args:
        bootstrap_servers: HOST:PORT of one or more Kafka brokers, by commas.
        topic: the Kafka topic to read.
        out: the Kafka topic for results; a result has its message's key, so it keeps the order of the key.
        group: the consumer group; its members share the partitions.
        task: "topic", "sentiment" or "both".
        errors: the Kafka topic for refused messages; by default `out` + "-errors".
        max_batch: most messages in one batch.
        max_payload_bytes: longer messages are refused.
        connect_timeout_s: how long `start` waits for a broker.
        metrics_interval_s: how often throughput and latency are logged; 0 never.
        settings: further settings of librdkafka, such as `security.protocol`.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        out: str,
        group: str,
        task: str = "both",
        *,
        errors: str | None = None,
        max_batch: int = 500,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
        connect_timeout_s: float = 10.0,
        metrics_interval_s: float = 10.0,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.bootstrap_servers, self.topic, self.out, self.group = bootstrap_servers, topic, out, group
        self.errors = errors or f"{out}-errors"
        for what, value in {"bootstrap servers": bootstrap_servers, "topic": topic, "out": out, "group": group}.items():
            if not value:
                raise ConfigurationError(f"Kafka: {what} may not be empty")
        if topic in (out, self.errors):
            raise ConfigurationError(f"Kafka: results on the topic they are read from ({topic}) would be read again")
        if max_batch < 1:
            raise ConfigurationError(f"max_batch={max_batch}: give 1 or more")
        self.replier = Replier(task, out, self.errors, max_payload_bytes)
        self.max_batch, self._settings = max_batch, dict(settings or {})
        self._connect_timeout_s, self._metrics_interval_s = connect_timeout_s, metrics_interval_s
        self.counts, self._troubles = Counter[str](), Counter[str]()
        self._done: dict[int, int] = {}  # partition -> the next offset, answered and not yet committed
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._broken: BaseException | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    @property
    def is_running(self) -> bool:
        """Whether the thread runs: false before `start`, after `stop`, and if it broke."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Load the models, reach a broker, join the group and begin.

        Raises:
            RegistryError: a model cannot be loaded.
            BrokerError: no broker answers.
            ConfigurationError: a setting is none of librdkafka's.
        """
        if self._thread is not None:
            raise ServiceError("this consumer was started before: make a new one")
        for predict in self.replier.predict.values():
            predict(["warm-up"])
        consumer, producer = self._connect()
        consumer.subscribe([self.topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)
        self._thread = threading.Thread(target=self._run, args=(consumer, producer), name="xedge-kafka", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Finish and commit the batch in work, leave the group, and end the thread.

        Raises:
            ServiceError: it broke, or did not end within `timeout_s`; what was not committed will be read again.
        """
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
        if self.is_running:
            raise ServiceError(f"Kafka took no results or offsets for {timeout_s:g} s: the batch will be read again")
        broken, self._broken = self._broken, None
        if broken is not None:
            words = "the Kafka consumer broke; what is not committed will be read again"
            raise ServiceError(f"{words}: {broken}") from broken

    def summary(self) -> str:
        """Return in one line what the consumer has done."""
        refused = ", ".join(f"{count} {reason}" for reason, count in sorted(self.replier.refused.items())) or "none"
        return (
            f"kafka consumer ended: {self.counts['received']} received in {self.counts['batches']} batches, "
            f"{self.counts['answered']} answered, refused: {refused}; {self.counts['rebalances']} rebalances, "
            f"{self.counts['failed_commits']} failed commits"
        )

    def _connect(self) -> tuple[Consumer, Producer]:
        """Return a consumer that commits nothing by itself, and an idempotent producer, once a broker answers."""
        with needed("kafka", "a Kafka consumer"):
            from confluent_kafka import Consumer, KafkaException, Producer
        shared = {"log.connection.close": False, **self._settings, "bootstrap.servers": self.bootstrap_servers}
        # What librdkafka says of itself belongs under our debug level: `error_cb` hears what matters.
        shared |= {"error_cb": self._trouble, "logger": SimpleNamespace(log=lambda _level, *said: log.debug(*said))}
        reading = {"auto.offset.reset": "earliest"} | shared
        reading |= {"group.id": self.group, "enable.auto.commit": False, "enable.auto.offset.store": False}
        try:
            consumer, producer = Consumer(reading), Producer({"enable.idempotence": True} | shared)
        except KafkaException as exc:
            raise ConfigurationError(f"Kafka settings: {exc.args[0].str()}") from exc
        try:
            consumer.list_topics(timeout=self._connect_timeout_s)
        except KafkaException as exc:
            consumer.close()
            where = f"{self.bootstrap_servers} within {self._connect_timeout_s:g} s ({exc.args[0].str()})"
            raise BrokerError(f"no Kafka broker answers at {where}; is one running there?") from exc
        return consumer, producer

    def _run(self, consumer: Consumer, producer: Producer) -> None:
        meter = Meter("kafka", perf_counter_ns())
        logged_s = perf_counter()
        try:
            while not self._stopping.is_set():
                if messages := self._take(consumer):
                    received_ns = perf_counter_ns()
                    self.counts.update(received=len(messages), batches=1)
                    self.counts["answered"] += self.replier.answer(messages, producer)
                    for message in messages:  # read, so they have both; a partition's offsets ascend
                        self._done[cast("int", message.partition())] = cast("int", message.offset()) + 1
                    meter.latencies_ns += [perf_counter_ns() - received_ns] * len(messages)
                self._commit(consumer)
                if 0 < self._metrics_interval_s <= perf_counter() - logged_s:
                    logged_s = perf_counter()
                    metrics = meter.take(perf_counter_ns(), self.counts, self.replier.refused)
                    log.info(metrics.sentence(), extra={"metrics": msgspec.to_builtins(metrics)})
        except Exception as exc:
            log.exception("the Kafka consumer broke")
            self._broken = exc
        finally:
            consumer.close()

    def _take(self, consumer: Consumer) -> list[Message]:
        """Wait for a message and return it with all that came with it."""
        first = consumer.poll(0.5)
        if first is None:
            return []
        messages = [first, *(consumer.consume(self.max_batch - 1, 0) if self.max_batch > 1 else [])]
        for error in filter(None, (message.error() for message in messages)):
            self._trouble(error)
        return [message for message in messages if message.error() is None]

    def _commit(self, consumer: Consumer) -> None:
        """Commit what was answered; what fails is tried again next time, and before partitions are given back."""
        from confluent_kafka import KafkaException, TopicPartition

        owned = {partition.partition for partition in consumer.assignment()}
        self._done = {place: offset for place, offset in self._done.items() if place in owned}
        if not self._done:
            return
        offsets = [TopicPartition(self.topic, place, offset) for place, offset in self._done.items()]
        try:
            consumer.commit(offsets=offsets, asynchronous=False)
            self._done = {}
        except KafkaException as exc:
            self.counts["failed_commits"] += 1
            if is_worth_a_line(self.counts["failed_commits"]):
                log.warning("offsets not committed, so messages may be answered again: %s", exc.args[0].str())

    def _assigned(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.counts["rebalances"] += 1
        log.info("got partitions %s of %s", sorted(partition.partition for partition in partitions), self.topic)

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._commit(consumer)
        log.info("gave back partitions %s of %s", self._forget(partitions), self.topic)

    def _lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        revoked = self._forget(partitions)
        log.warning("lost partitions %s of %s: others answer their messages again", revoked, self.topic)

    def _forget(self, partitions: list[TopicPartition]) -> list[int]:
        places = sorted(partition.partition for partition in partitions)
        self._done = {place: offset for place, offset in self._done.items() if place not in places}
        return places

    def _trouble(self, error: KafkaError) -> None:
        """Log what librdkafka reports and mends itself, such as a broker that is away; it says it many times over."""
        if error.fatal():
            raise ServiceError(f"Kafka: {error.str()}")
        self._troubles[error.name()] += 1
        if is_worth_a_line(self._troubles[error.name()]):
            log.warning("Kafka (%s, number %d): %s", error.name(), self._troubles[error.name()], error.str())


def settings_of(path: str | Path) -> dict[str, str]:
    """Return the librdkafka settings in a file of lines NAME=VALUE; lines that begin with # do not count.

    Raises:
        ConfigurationError: it cannot be read, or a line is no setting.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"Kafka settings: {path} cannot be read: {exc}") from exc
    settings = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if line and not line.startswith("#"):
            name, equals, value = line.partition("=")
            if not equals:
                raise ConfigurationError(f"Kafka settings: {path}, line {number} is not NAME=VALUE")
            settings[name.strip()] = value.strip()
    return settings
