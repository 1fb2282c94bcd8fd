"""Topic and sentiment of messages in Kafka: a member of a consumer group that commits after its results are out."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import msgspec

from xedge.exceptions import (
    BrokerError,
    ConfigurationError,
    ModelError,
    RegistryError,
    RequestError,
    ServiceError,
)
from xedge.extras import needed
from xedge.messages import MAX_PAYLOAD_BYTES
from xedge.metrics import Meter
from xedge.text.labels import TASKS

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Message, Producer

log = logging.getLogger(__name__)
TASKS_OF = {"both": tuple(TASKS)} | {task: (task,) for task in TASKS}
STOP_TIMEOUT_S = 10.0
Predict = Callable[[Sequence[str]], Sequence[Mapping[str, Any]]]


class TextMessage(msgspec.Struct):
    """The value of a message to be answered; unknown further fields are ignored."""

    text: str
    id: str | int | float | None = None


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
        if task not in TASKS_OF:
            raise ConfigurationError(f"task={task!r}: give {', '.join(TASKS_OF)}")
        if max_batch < 1:
            raise ConfigurationError(f"max_batch={max_batch}: give 1 or more")
        self.predict = {one: _predictor(one) for one in TASKS_OF[task]}
        self.max_batch, self._max_bytes = max_batch, max_payload_bytes
        self._connect_timeout_s, self._metrics_interval_s = connect_timeout_s, metrics_interval_s
        self._settings = dict(settings or {})
        self.counts: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._troubles: Counter[str] = Counter()
        self._failed: list[tuple[Message, KafkaError]] = []
        self._decode = msgspec.json.Decoder(TextMessage).decode
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
        for predict in self.predict.values():
            predict(["warm-up"])
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
        refused = ", ".join(f"{count} {reason}" for reason, count in sorted(self.refused.items())) or "none"
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
        consumer.subscribe(
            [self.topic],
            on_assign=partial(self._rebalanced, "got"),
            on_revoke=partial(self._rebalanced, "gave back"),
            on_lost=partial(self._rebalanced, "lost"),
        )
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
                    self._commit(consumer, messages)
                    meter.latencies_ns += [perf_counter_ns() - taken_ns] * len(messages)
                if 0 < self._metrics_interval_s <= perf_counter() - logged_s:
                    logged_s = perf_counter()
                    metrics = meter.take(perf_counter_ns(), self.counts, self.refused)
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
        """Return an answer to every message: predictions for those that hold a text, the error for the others."""
        self.counts.update(received=len(messages), batches=1)
        answers, asked = [], []
        for message in messages:
            try:
                asked.append((message, self._read(message.value())))
            except RequestError as exc:
                answers.append(self._refuse(message, exc))
        return answers + self._predicted(asked)

    def _read(self, value: bytes | None) -> TextMessage:
        if value is None:
            raise RequestError("not_decodable", "the message has no value")
        if len(value) > self._max_bytes:
            raise RequestError("too_large", f"{len(value)} bytes; at most {self._max_bytes} are read")
        try:
            return self._decode(value)
        except msgspec.ValidationError as exc:
            raise RequestError("wrong_type", str(exc)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise RequestError("not_decodable", f"not JSON: {exc}") from None

    def _predicted(self, asked: list[tuple[Message, TextMessage]]) -> list[Answer]:
        """Predict as one batch; if that fails, each by itself, so that one text cannot take the others with it."""
        if not asked:
            return []
        texts = [request.text for _, request in asked]
        try:
            results = {task: predict(texts) for task, predict in self.predict.items()}
        except (RegistryError, ModelError):
            raise  # no text is to blame
        except Exception as exc:
            if len(asked) > 1:
                return [answer for one in asked for answer in self._predicted([one])]
            return [self._refuse(asked[0][0], RequestError("engine", f"the model failed: {type(exc).__name__}: {exc}"))]
        return [
            Answer(message, self.out, {"id": _id(message) if request.id is None else request.id} | found)
            for (message, request), found in zip(asked, _rows(results), strict=True)
        ]

    def _refuse(self, message: Message, error: RequestError) -> Answer:
        self.refused[error.reason] += 1
        count = self.refused[error.reason]
        if count <= 10 or count % 1000 == 0:
            log.warning("refused %s (%s, number %d): %s", _id(message), error.reason, count, error)
        return Answer(message, self.errors, {"id": _id(message), "error": str(error), "reason": error.reason})

    def _deliver(self, producer: Producer, answers: list[Answer]) -> None:
        """Return when Kafka has acknowledged every answer.

        Raises:
            ServiceError: it will not take one, and not because of its size.
        """
        self._produce(producer, answers)
        if too_large := self._undelivered():
            self._produce(producer, [self._refuse(source, RequestError("too_large", why)) for source, why in too_large])
            if left := self._undelivered():
                raise ServiceError(f"Kafka takes not even the error for {_id(left[0][0])}: {left[0][1]}")
        self.counts["answered"] += sum(answer.topic == self.out for answer in answers) - len(too_large)

    def _produce(self, producer: Producer, answers: list[Answer]) -> None:
        from confluent_kafka import KafkaException

        for source, topic, value in answers:
            # The key that made a result too large would make its error too large.
            key = None if value.get("reason") == "too_large" else source.key()
            try:
                producer.produce(topic, msgspec.json.encode(value), key, on_delivery=partial(self._delivered, source))
            except KafkaException as exc:
                self._failed.append((source, exc.args[0]))
        while producer.flush(1.0):
            pass  # librdkafka gives up a message after `message.timeout.ms`

    def _delivered(self, source: Message, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._failed.append((source, error))

    def _undelivered(self) -> list[tuple[Message, str]]:
        from confluent_kafka import KafkaError

        failed, self._failed = self._failed, []
        for source, error in failed:
            if error.code() != KafkaError.MSG_SIZE_TOO_LARGE:
                raise ServiceError(f"Kafka does not take the answer to {_id(source)}: {error.str()}")
        return [(source, f"Kafka does not take the answer: {error.str()}") for source, error in failed]

    def _commit(self, consumer: Consumer, messages: list[Message]) -> None:
        """Commit what was answered; where it fails, the messages are answered again by whoever reads them next."""
        from confluent_kafka import KafkaException, TopicPartition

        owned = {partition.partition for partition in consumer.assignment()}
        next_of: dict[int | None, int] = {}
        for message in messages:  # the offsets of a partition ascend
            next_of[message.partition()] = (message.offset() or 0) + 1
        done = [TopicPartition(self.topic, place, offset) for place, offset in next_of.items() if place in owned]
        try:
            if done:
                consumer.commit(offsets=done, asynchronous=False)
        except KafkaException as exc:
            self.counts["failed_commits"] += 1
            log.warning("offsets not committed, these messages may be answered again: %s", exc.args[0].str())

    def _rebalanced(self, what: str, _consumer: Consumer, partitions: list[Any]) -> None:
        self.counts["rebalances"] += what == "got"
        log.info("%s partitions %s of %s", what, sorted(one.partition for one in partitions), self.topic)

    def _trouble(self, error: KafkaError) -> None:
        """Log what librdkafka reports and mends itself, such as a broker that is away; it says it many times over."""
        if error.fatal():
            raise ServiceError(f"Kafka: {error.str()}")
        self._troubles[error.name()] += 1
        if self._troubles[error.name()] in (1, 10, 100) or self._troubles[error.name()] % 1000 == 0:
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


def _predictor(task: str) -> Predict:
    from xedge import text

    predict: Predict = text.predict_topics if task == "topic" else text.predict_sentiments
    return predict


def _rows(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Turn {task: results} into one {task: result} a message."""
    return [dict(zip(results, row, strict=True)) for row in zip(*results.values(), strict=True)]


def _id(message: Message) -> str:
    return f"{message.topic()}/{message.partition()}/{message.offset()}"
