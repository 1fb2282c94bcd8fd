"""Topic and sentiment of messages in Kafka: a member of a consumer group that commits after its results are out."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

import msgspec

from xedge.core.exceptions import BrokerError, ConfigurationError, RequestError, ServiceError
from xedge.core.extras import needed
from xedge.serving.messages import MAX_PAYLOAD_BYTES
from xedge.serving.metrics import Meter
from xedge.text.callers.replies import Replier, is_worth_a_line

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

log = logging.getLogger(__name__)
STOP_TIMEOUT_S = 10.0


class Answer(NamedTuple):
    """What one message is answered with, and where."""

    source: Message
    topic: str
    value: dict[str, Any]


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
        self.replier = Replier(task, max_payload_bytes)
        self.max_batch = max_batch
        self._connect_timeout_s, self._metrics_interval_s = connect_timeout_s, metrics_interval_s
        self._settings = dict(settings or {})
        self.counts: Counter[str] = Counter()
        self._troubles: Counter[str] = Counter()
        self._done: dict[int, int] = {}  # partition -> the next offset, answered and not yet committed
        self._failed: list[tuple[Answer, KafkaError]] = []
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
        self.replier.warm_up()
        consumer, producer = self._connect()
        self._thread = threading.Thread(target=self._run, args=(consumer, producer), name="xedge-kafka", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Finish and commit the batch in work, leave the group, and end the thread.

        Raises:
            ServiceError: the consumer broke, or did not end within `timeout_s`; what was not committed will be
                read again.
        """
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                raise ServiceError(
                    f"Kafka took no results or offsets for {timeout_s:g} s: the batch will be read again"
                )
        if self._broken is not None:
            broken, self._broken = self._broken, None
            raise ServiceError(
                f"the Kafka consumer broke; what is not committed will be read again: {broken}"
            ) from broken

    def summary(self) -> str:
        """Return in one line what the consumer has done."""
        refused = ", ".join(f"{count} {reason}" for reason, count in sorted(self.replier.refused.items())) or "none"
        counts = self.counts
        return (
            f"kafka consumer ended: {counts['received']} received in {counts['batches']} batches, "
            f"{counts['answered']} answered, refused: {refused}; {counts['rebalances']} rebalances, "
            f"{counts['failed_commits']} failed commits"
        )

    def _connect(self) -> tuple[Consumer, Producer]:
        with needed("kafka", "a Kafka consumer"):
            from confluent_kafka import Consumer, KafkaException, Producer
        shared = {"log.connection.close": False, **self._settings, "bootstrap.servers": self.bootstrap_servers}
        shared |= {"error_cb": self._trouble, "logger": _Logger()}
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
            raise BrokerError(
                f"no Kafka broker answers at {self.bootstrap_servers} within {self._connect_timeout_s:g} s "
                f"({exc.args[0].str()}); is one running there?"
            ) from exc
        consumer.subscribe([self.topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)
        return consumer, producer

    def _run(self, consumer: Consumer, producer: Producer) -> None:
        meter = Meter("kafka", perf_counter_ns())
        logged_s = perf_counter()
        try:
            while not self._stopping.is_set():
                messages = self._take(consumer)
                if messages:
                    taken_ns = perf_counter_ns()
                    self._deliver(producer, self._answers(messages))
                    self._done |= dict(_next(message) for message in messages)  # a partition's offsets ascend
                    meter.latencies_ns += [perf_counter_ns() - taken_ns] * len(messages)
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
        found = [first, *(consumer.consume(self.max_batch - 1, 0) if self.max_batch > 1 else [])]
        for error in filter(None, (message.error() for message in found)):
            self._trouble(error)
        return [message for message in found if message.error() is None]

    def _answers(self, messages: list[Message]) -> list[Answer]:
        self.counts.update(received=len(messages), batches=1)
        replies = self.replier.replies([(_name(message), message.value()) for message in messages])
        return [
            Answer(message, self.errors if "reason" in reply else self.out, reply)
            for message, reply in zip(messages, replies, strict=True)
        ]

    def _deliver(self, producer: Producer, answers: list[Answer]) -> None:
        """Return when Kafka has acknowledged every answer; one that is too large for it becomes an error without a key.

        Raises:
            ServiceError: it will not take one, and not because of its size.
        """
        too_large = self._produce(producer, answers, keyed=True)
        lost = [(answer, why) for answer, why in too_large if answer.topic == self.out]
        errors = [answer for answer, _ in too_large if answer.topic == self.errors]
        for answer, why in lost:
            error = RequestError("too_large", f"Kafka does not take the result: {why}")
            errors.append(Answer(answer.source, self.errors, self.replier.refuse(_name(answer.source), error)))
        if self._produce(producer, errors, keyed=False):
            raise ServiceError(f"Kafka does not even take an error on {self.errors}: it is too large")
        self.counts["answered"] += sum(answer.topic == self.out for answer in answers) - len(lost)

    def _produce(self, producer: Producer, answers: list[Answer], keyed: bool) -> list[tuple[Answer, str]]:
        """Send the answers and wait for the acknowledgements; return those that are too large, and why."""
        from confluent_kafka import KafkaError, KafkaException

        for answer in answers:
            key, value = answer.source.key() if keyed else None, msgspec.json.encode(answer.value)
            try:
                producer.produce(answer.topic, value, key, on_delivery=partial(self._delivered, answer))
            except KafkaException as exc:
                self._failed.append((answer, exc.args[0]))
        while producer.flush(1.0):
            pass  # librdkafka gives up a message after `message.timeout.ms`
        failed, self._failed = self._failed, []
        for answer, error in failed:
            if error.code() != KafkaError.MSG_SIZE_TOO_LARGE:
                raise ServiceError(f"Kafka does not take the answer to {_name(answer.source)}: {error.str()}")
        return [(answer, error.str()) for answer, error in failed]

    def _delivered(self, answer: Answer, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._failed.append((answer, error))

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
        log.info("got partitions %s of %s", _numbers(partitions), self.topic)

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._commit(consumer)
        self._forget(partitions)
        log.info("gave back partitions %s of %s", _numbers(partitions), self.topic)

    def _lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._forget(partitions)
        log.warning("lost partitions %s of %s: others answer their messages again", _numbers(partitions), self.topic)

    def _forget(self, partitions: list[TopicPartition]) -> None:
        for one in partitions:
            self._done.pop(one.partition, None)

    def _trouble(self, error: KafkaError) -> None:
        """Log what librdkafka reports and mends itself, such as a broker that is away; it says it many times over."""
        if error.fatal():
            raise ServiceError(f"Kafka: {error.str()}")
        self._troubles[error.name()] += 1
        if is_worth_a_line(self._troubles[error.name()]):
            log.warning("Kafka (%s, number %d): %s", error.name(), self._troubles[error.name()], error.str())


class _Logger:
    """Puts what librdkafka says of itself under our debug level: `error_cb` hears what matters."""

    def log(self, _level: int, *message: Any) -> None:
        log.debug(*message)


def settings_of(path: str | Path) -> dict[str, str]:
    """Return the librdkafka settings in a file of lines NAME=VALUE; lines that begin with # do not count.

    Raises:
        ConfigurationError: it cannot be read, or a line is no setting.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"Kafka settings: {path} cannot be read: {exc}") from exc
    found = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if line and not line.startswith("#"):
            name, equals, value = line.partition("=")
            if not equals:
                raise ConfigurationError(f"Kafka settings: {path}, line {number} is not NAME=VALUE")
            found[name.strip()] = value.strip()
    return found


def _numbers(partitions: list[TopicPartition]) -> list[int]:
    return sorted(one.partition for one in partitions)


def _next(message: Message) -> tuple[int, int]:
    """Return a message's partition and the offset after it, which a message that was read always has."""
    return cast("int", message.partition()), cast("int", message.offset()) + 1


def _name(message: Message) -> str:
    return f"{message.topic()}/{message.partition()}/{message.offset()}"
