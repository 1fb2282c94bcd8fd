"""Answers on their way to Kafka: sent, acknowledged, and replaced by an error where they are too large for it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from xedge.core.exceptions import RequestError, ServiceError
from xedge.text.callers.replies import Replier

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message, Producer


class Answer(NamedTuple):
    """What one message is answered with, and where."""

    source: Message
    topic: str
    value: dict[str, Any]


class Delivery:
    """Sends answers and waits until Kafka has acknowledged them.

    Args:
        out: the topic of results.
        errors: the topic of refusals.
        replier: what words and counts a refusal.
    """

    def __init__(self, out: str, errors: str, replier: Replier) -> None:
        self.out, self.errors, self._replier = out, errors, replier
        self._failed: list[tuple[Answer, KafkaError]] = []

    def answers(self, messages: list[Message]) -> list[Answer]:
        """Return the answer to each message, and the topic it belongs on."""
        replies = self._replier.replies([(name_of(message), message.value()) for message in messages])
        return [
            Answer(message, self.errors if "reason" in reply else self.out, reply)
            for message, reply in zip(messages, replies, strict=True)
        ]

    def deliver(self, producer: Producer, answers: list[Answer]) -> int:
        """Return how many results Kafka has acknowledged; one that is too large for it became an error without a key.

        Raises:
            ServiceError: it will not take one, and not because of its size.
        """
        too_large = self._produce(producer, answers, keyed=True)
        lost = [(answer, reason) for answer, reason in too_large if answer.topic == self.out]
        errors = [answer for answer, _ in too_large if answer.topic == self.errors]
        for answer, reason in lost:
            error = RequestError("too_large", f"Kafka does not take the result: {reason}")
            errors.append(Answer(answer.source, self.errors, self._replier.refuse(name_of(answer.source), error)))
        if self._produce(producer, errors, keyed=False):
            raise ServiceError(f"Kafka does not even take an error on {self.errors}: it is too large")
        return sum(answer.topic == self.out for answer in answers) - len(lost)

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
                raise ServiceError(f"Kafka does not take the answer to {name_of(answer.source)}: {error.str()}")
        return [(answer, error.str()) for answer, error in failed]

    def _delivered(self, answer: Answer, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._failed.append((answer, error))


def name_of(message: Message) -> str:
    """Return what a message without an id is called: topic/partition/offset."""
    return f"{message.topic()}/{message.partition()}/{message.offset()}"
