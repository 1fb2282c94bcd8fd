"""What messages that hold a text are answered with, and the answers' way to Kafka: sent, acknowledged, or replaced."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from xedge.core.exceptions import ConfigurationError, ModelError, RegistryError, ServiceError
from xedge.text import predict_sentiments, predict_topics

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message, Producer

log = logging.getLogger(__name__)


class TextMessage(msgspec.Struct):
    """One message to be answered, in JSON; unknown further fields are ignored."""

    text: str
    id: str | int | float | None = None


class Answer(NamedTuple):
    """What one message is answered with, and where."""

    source: Message
    topic: str
    value: dict[str, Any]


class Replier:
    """Answers batches of messages with `predict_topics` and `predict_sentiments`.

    An answer is `{"id", "topic", "sentiment"}`, each task as its function returns it, on the Kafka topic `out`, or a
    refusal on `errors`, which is `{"id", "error", "reason"}`. A message without an id is called topic/partition/offset.
    """

    def __init__(self, task: str, out: str, errors: str, max_payload_bytes: int) -> None:
        functions: dict[str, Any] = {"topic": predict_topics, "sentiment": predict_sentiments}
        if task not in ("both", *functions):
            raise ConfigurationError(f"task={task!r}: give {', '.join(('both', *functions))}")
        self.predict: dict[str, Callable[[list[str]], Any]] = functions if task == "both" else {task: functions[task]}
        self.refused: Counter[str] = Counter()
        self._out, self._errors, self._max_bytes = out, errors, max_payload_bytes
        self._decode = msgspec.json.Decoder(TextMessage).decode

    def answer(self, messages: Sequence[Message], producer: Producer) -> int:
        """Answer each message in order; return how many results Kafka has acknowledged.

        A result that is too large for Kafka becomes an error without a key.

        Raises:
            RegistryError, ModelError: there is no model, or it is gone; no message is to blame.
            ServiceError: Kafka will not take an answer, and not because of its size.
        """
        read = [self._read(message) for message in messages]
        pairs = zip(messages, read, strict=True)
        predicted = iter(
            self._predicted([(message, entry) for message, entry in pairs if isinstance(entry, TextMessage)])
        )
        answers = [next(predicted) if isinstance(entry, TextMessage) else entry for entry in read]
        too_large = self._produce(producer, answers, keyed=True)
        errors = [answer for answer, _ in too_large if answer.topic == self._errors]
        lost = [(answer.source, reason) for answer, reason in too_large if answer.topic == self._out]
        errors += [self._refuse(source, "too_large", f"Kafka does not take the result: {why}") for source, why in lost]
        if self._produce(producer, errors, keyed=False):
            raise ServiceError(f"Kafka does not even take an error on {self._errors}: it is too large")
        return sum(answer.topic == self._out for answer in answers) - len(lost)

    def _produce(self, producer: Producer, answers: list[Answer], keyed: bool) -> list[tuple[Answer, str]]:
        """Send the answers and wait for the acknowledgements; return those that are too large, and why."""
        from confluent_kafka import KafkaError, KafkaException

        failed: list[tuple[Answer, KafkaError]] = []

        def delivered(answer: Answer, error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                failed.append((answer, error))

        for answer in answers:
            key, value = answer.source.key() if keyed else None, msgspec.json.encode(answer.value)
            try:
                producer.produce(answer.topic, value, key, on_delivery=partial(delivered, answer))
            except KafkaException as exc:
                failed.append((answer, exc.args[0]))
        while producer.flush(1.0):
            pass  # librdkafka gives up a message after `message.timeout.ms`
        for answer, error in failed:
            if error.code() != KafkaError.MSG_SIZE_TOO_LARGE:
                raise ServiceError(f"Kafka does not take the answer to {_name(answer.source)}: {error.str()}")
        return [(answer, error.str()) for answer, error in failed]

    def _refuse(self, message: Message, reason: str, words: str) -> Answer:
        self.refused[reason] += 1
        if is_worth_a_line(self.refused[reason]):
            log.warning("refused %s (%s, number %d): %s", _name(message), reason, self.refused[reason], words)
        return Answer(message, self._errors, {"id": _name(message), "error": words, "reason": reason})

    def _read(self, message: Message) -> TextMessage | Answer:
        payload = message.value()
        if payload is None:
            return self._refuse(message, "not_decodable", "the message has no value")
        if len(payload) > self._max_bytes:
            return self._refuse(message, "too_large", f"{len(payload)} bytes; at most {self._max_bytes} are read")
        try:
            return self._decode(payload)
        except msgspec.ValidationError as exc:
            return self._refuse(message, "wrong_type", str(exc))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            return self._refuse(message, "not_decodable", f"not JSON: {exc}")

    def _predicted(self, asked: Sequence[tuple[Message, TextMessage]]) -> list[Answer]:
        """Predict as one batch; if that fails, each by itself, so that one text cannot take the others with it."""
        if not asked:
            return []
        texts = [request.text for _, request in asked]
        try:
            results = [predict(texts) for predict in self.predict.values()]
        except (RegistryError, ModelError):
            raise  # no text is to blame
        except Exception as exc:
            if len(asked) > 1:
                return [answer for pair in asked for answer in self._predicted([pair])]
            return [self._refuse(asked[0][0], "engine", f"the model failed: {type(exc).__name__}: {exc}")]
        answers = []
        for (message, request), *outcomes in zip(asked, *results, strict=True):
            name = _name(message) if request.id is None else request.id
            answers.append(Answer(message, self._out, {"id": name, **dict(zip(self.predict, outcomes, strict=True))}))
        return answers


def _name(message: Message) -> str:
    return f"{message.topic()}/{message.partition()}/{message.offset()}"


def is_worth_a_line(count: int) -> bool:
    """Return whether the `count`th event of one kind is logged: a flood of them must not become a flood of lines."""
    return count <= 3 or count % 1000 == 0
