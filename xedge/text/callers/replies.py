"""What messages that hold a text are answered with: a result, or the reason there is none; batches as one, no I/O."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from xedge.core.exceptions import ConfigurationError, ModelError, RegistryError, RequestError
from xedge.serving.messages import MAX_PAYLOAD_BYTES
from xedge.text.labels import TASKS

log = logging.getLogger(__name__)
TASKS_OF = {"both": tuple(TASKS)} | {task: (task,) for task in TASKS}
Predict = Callable[[Sequence[str]], Sequence[Mapping[str, Any]]]
Reply = dict[str, Any]


class TextMessage(msgspec.Struct):
    """One message to be answered, in JSON; unknown further fields are ignored."""

    text: str
    id: str | int | float | None = None


class Replier:
    """Answers batches of messages with `predict_topics` and `predict_sentiments`.

    A reply is `{"id", "topic", "sentiment"}`, each task as its function returns it, or a refusal, which is
    `{"id", "error", "reason"}`.

    Args:
        task: "topic", "sentiment" or "both".
        max_payload_bytes: longer messages are refused.
    """

    def __init__(self, task: str = "both", max_payload_bytes: int = MAX_PAYLOAD_BYTES) -> None:
        from xedge import text

        if task not in TASKS_OF:
            raise ConfigurationError(f"task={task!r}: give {', '.join(TASKS_OF)}")
        functions: dict[str, Any] = {"topic": text.predict_topics, "sentiment": text.predict_sentiments}
        self.predict: dict[str, Predict] = {name: functions[name] for name in TASKS_OF[task]}
        self.refused: Counter[str] = Counter()
        self._max_bytes = max_payload_bytes
        self._decode = msgspec.json.Decoder(TextMessage).decode

    def warm_up(self) -> None:
        """Load the models.

        Raises:
            RegistryError: one of them cannot be loaded.
        """
        for predict in self.predict.values():
            predict(["warm-up"])

    def replies(self, messages: Sequence[tuple[str, bytes | None]]) -> list[Reply]:
        """Return a reply to each message in order, of which there is a name (its id, if it has none) and the bytes.

        Raises:
            RegistryError: there is no model; no message is to blame.
            ModelError: the model is gone; no message is to blame.
        """
        requests: list[TextMessage | Reply] = [self._read(name, payload) for name, payload in messages]
        named = zip(messages, requests, strict=True)
        whole = [(name, request) for (name, _), request in named if isinstance(request, TextMessage)]
        answers = iter(self._predicted(whole))
        return [next(answers) if isinstance(request, TextMessage) else request for request in requests]

    def refuse(self, name: str, error: RequestError) -> Reply:
        """Count, log and return a refusal."""
        self.refused[error.reason] += 1
        if is_worth_a_line(self.refused[error.reason]):
            log.warning("refused %s (%s, number %d): %s", name, error.reason, self.refused[error.reason], error)
        return {"id": name, "error": str(error), "reason": error.reason}

    def _read(self, name: str, payload: bytes | None) -> TextMessage | Reply:
        if payload is None:
            return self.refuse(name, RequestError("not_decodable", "the message has no value"))
        if len(payload) > self._max_bytes:
            reason = f"{len(payload)} bytes; at most {self._max_bytes} are read"
            return self.refuse(name, RequestError("too_large", reason))
        try:
            return self._decode(payload)
        except msgspec.ValidationError as exc:
            return self.refuse(name, RequestError("wrong_type", str(exc)))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            return self.refuse(name, RequestError("not_decodable", f"not JSON: {exc}"))

    def _predicted(self, asked: Sequence[tuple[str, TextMessage]]) -> list[Reply]:
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
                return [reply for request in asked for reply in self._predicted([request])]
            error = RequestError("engine", f"the model failed: {type(exc).__name__}: {exc}")
            return [self.refuse(asked[0][0], error)]
        return [
            {"id": name if request.id is None else request.id, **dict(zip(self.predict, answers, strict=True))}
            for (name, request), *answers in zip(asked, *results, strict=True)
        ]


def is_worth_a_line(count: int) -> bool:
    """Return whether the `count`th event of one kind is logged: a flood of them must not become a flood of lines."""
    return count <= 3 or count % 1000 == 0
