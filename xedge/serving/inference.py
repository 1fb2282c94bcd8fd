"""A model behind MQTT: what the services of all tiers share."""

import logging
import math
import statistics
from abc import abstractmethod
from functools import cached_property
from time import perf_counter_ns
from typing import Any, NamedTuple

import numpy as np

from xedge.core.exceptions import ModelError, RequestError
from xedge.models.engines import Engine
from xedge.models.kinds import NUMBERS, RequestFormat, model_kind
from xedge.scenario.sources import InputSpec
from xedge.serving.loop import Item, ServiceLoop
from xedge.serving.messages import (
    MAX_PAYLOAD_BYTES,
    Clock,
    ErrorAnswer,
    RequestDecoder,
    Result,
    encode,
    error_answer,
    is_device_id,
)

log = logging.getLogger(__name__)
WARM_UP_INFERENCES = 20


class Inference(NamedTuple):
    """One answer of an engine called directly."""

    prediction: Any
    inference_time_ms: float


class MLService(ServiceLoop):
    """A model behind MQTT. Use as a context manager, or `start()` and `stop()`, or `run()` in the foreground."""

    reports_links = False

    def __init__(
        self, name: str, *where: Any, max_payload_bytes: int = MAX_PAYLOAD_BYTES, threads: int = 1, **loop: Any
    ) -> None:
        super().__init__(name, *where, **loop)
        self.first_call_ms, self.threads, self._max_payload_bytes = float("nan"), threads, max_payload_bytes
        self._result_topics: dict[str, str] = {}

    @abstractmethod
    def make_engine(self) -> Engine:
        """Load the model file into this tier's engine."""

    @cached_property
    def engine(self) -> Engine:
        """The loaded engine; loads it at the first use, and times its first inference."""
        engine = self.make_engine()
        self._decoder: RequestFormat = (
            RequestDecoder(engine.input_shape, engine.input_dtype, self._max_payload_bytes)
            if engine.spec.kind == NUMBERS
            else model_kind(engine.spec.kind).request_format(engine, self._max_payload_bytes)
        )
        self._labels = self._decoder.labels
        begun_ns = perf_counter_ns()
        engine.predict(self._decoder.sample())
        self.first_call_ms = (perf_counter_ns() - begun_ns) / 1e6
        two = np.concatenate([self._decoder.sample()] * 2)
        _check_rows(engine.predict(two), len(two))  # one whose rows are not its inputs' is no use to anybody
        return engine

    @property
    def takes(self) -> InputSpec:
        """What one request contains."""
        return self.engine.spec

    def load_model(self) -> Engine:
        """Load the model and time its first inference; loading again changes nothing.

        Raises:
            ModelError: the file is missing, unreadable or not a model.
        """
        return self.engine

    def prepare(self) -> None:
        """Load the model and warm it up in the thread that will serve."""
        engine, took_ms = self.engine, []
        for _ in range(WARM_UP_INFERENCES):
            begun_ns = perf_counter_ns()
            engine.predict(self._decoder.sample())
            took_ms.append((perf_counter_ns() - begun_ns) / 1e6)
        self.inference_ms = statistics.median(took_ms)

    def revive(self) -> None:
        """Start again after `kill`: the model is loaded and warmed up anew, as in a new process."""
        self.__dict__.pop("engine", None)
        self.start()

    def run_inference(self, features: Any) -> Inference:
        """Answer one input of the model's shape, or a text model's text, directly, without MQTT or links.

        Raises:
            RequestError: the features are not what the model takes.
        """
        engine = self.engine
        batch = self._decoder.one(features)
        begun_ns = perf_counter_ns()
        output = engine.predict(batch)
        return Inference(_plain(output, 1)[0], (perf_counter_ns() - begun_ns) / 1e6)

    def describe(self) -> dict[str, Any]:
        """Return what a measurement's conditions say about this service."""
        return {
            **self.engine.describe(),
            "input_shape": list(self.engine.input_shape),
            "input_dtype": self.engine.input_dtype.name,
            "input_kind": self.engine.spec.kind,
            **({"input_made_by": self.engine.spec.made_by} if self.engine.spec.made_by else {}),
            **({"labels": list(self._labels)} if self._labels else {}),
            "compute_scale": self.compute_scale,
            "service_time": self.service_time.as_dict() if self.service_time else None,
            "servers": self.servers,
            "max_batch": self.max_batch,
            "max_queue": self.max_queue,
            "max_queue_mib": self.max_queue_mib,
            "qos": self.qos,
            "returns_request_id": True,
            "first_call_ms": round(self.first_call_ms, 3),
            "warm_inference_ms": round(self.inference_ms, 4),
            "warm_up_inferences": WARM_UP_INFERENCES,
        }

    def summary(self) -> str:
        """Return in one line what the service has done."""
        refused = ", ".join(f"{count} {reason}" for reason, count in sorted(self.refused.items())) or "none"
        counts = self.counts
        return (
            f"{self.name} service ended: {counts['received']} received, {counts['answered']} answered, "
            f"refused: {refused}; {counts['lost']} lost on links, {counts['unanswered']} unanswered, "
            f"{counts['reconnects']} reconnects"
        )

    def accept(self, payload: bytes, read_ns: int) -> Item | None:
        """Decode a request; one that is not is counted, logged and, where the device is known, answered."""
        try:
            request = self._decoder.decode(payload)
            if request.device_id not in self._result_topics:
                self._remember(request.device_id)
        except Exception as exc:  # no message whatever may stop a service
            if not isinstance(exc, RequestError):
                log.exception("%s: a message that could not even be refused", self.name)
                exc = RequestError("not_decodable", f"{type(exc).__name__}: {exc}")
            self._refuse(exc, error_answer(payload, exc))
            return None
        return Item(request, len(payload), read_ns)

    def refuse_for_room(self, item: Item) -> None:
        """Answer a request that finds the queue full at once, with an error."""
        held = f"{self.max_queue} requests or {self.max_queue_mib:g} MiB"
        self._refuse_request(RequestError("overloaded", f"the queue is full ({held}): ask less often"), item.request)

    def infer(self, items: list[Item]) -> list[Item]:
        """Give the batch to the engine; a request it cannot take is answered with an error."""
        try:
            batch = self._decoder.stack([item.request.features for item in items])
            predictions = _plain(self.engine.predict(batch), len(items))
        except Exception as exc:  # whatever an engine raises must not stop the service
            if len(items) > 1:
                return [done for item in items for done in self.infer([item])]
            said = f"the engine failed: {type(exc).__name__}: {exc}"
            self._refuse_request(RequestError("engine", said), items[0].request)
            return []
        for item, prediction in zip(items, predictions, strict=True):
            item.prediction = prediction
        return items

    def answer(self, item: Item, departed_ns: int) -> tuple[str, bytes]:
        """Encode the result with its durations and, if asked for, its clock readings."""
        request = item.request
        took_ms = (item.finished_ns - item.started_ns) / 1e6
        result = Result(request.device_id, request.timestamp_us, item.prediction, took_ms)
        if self._labels:
            result.label = self._labels[item.prediction.index(max(item.prediction))]
        if self.reports_links:
            links_ns = item.arrived_ns - item.read_ns + departed_ns - item.finished_ns
            result.cloud_latency_ms = links_ns / 1e6
            result.total_latency_ms = (departed_ns - item.read_ns) / 1e6
        if request.trace:
            result.trace = Clock(item.arrived_ns, item.started_ns, item.finished_ns, departed_ns, item.read_ns)
        result.request_id = request.request_id
        return self._result_topics.get(request.device_id) or self._remember(request.device_id), encode(result)

    def _remember(self, device_id: str) -> str:
        if not is_device_id(device_id):
            raise RequestError(
                "device_id", f"device_id {device_id[:80]!r} may not be empty nor hold / + # or control characters"
            )
        if len(self._result_topics) >= 100_000:
            self._result_topics.clear()
        topic = self._result_topics[device_id] = self.topics.result(device_id)
        return topic

    def _refuse_request(self, error: RequestError, of: Any) -> None:
        self._refuse(error, ErrorAnswer(of.device_id, of.timestamp_us, str(error), error.reason, of.request_id))

    def _refuse(self, error: RequestError, answer: ErrorAnswer | None) -> None:
        self.refused[error.reason] += 1
        count = self.refused[error.reason]
        if count <= 10 or count % 1000 == 0:
            log.warning("%s: refused request (%s, number %d): %s", self.name, error.reason, count, error)
        if answer is not None and self._connection is not None:
            self._connection.publish(self.topics.error(answer.device_id), encode(answer), self.qos)


def _plain(output: np.ndarray[Any, Any], rows: int) -> list[Any]:
    """One plain Python value a row: a number where the row has one element, else a nested list; all of them finite."""
    _check_rows(output, rows)
    if output.size == len(output):
        values = output.ravel().tolist()
        finite = output.dtype.kind != "f" or all(map(math.isfinite, values))
    else:
        values, finite = output.tolist(), output.dtype.kind != "f" or bool(np.isfinite(output).all())
    if not finite:
        raise ModelError("its output holds NaN or infinity, for which JSON has no number")
    return values


def _check_rows(output: np.ndarray[Any, Any], rows: int) -> None:
    if np.ndim(output) == 0 or len(output) != rows:
        raise ModelError(f"its output has shape {list(np.shape(output))} for a batch of {rows}: not a row an input")
