"""The device tier for a trial: the sensor's own process, which computes what it would otherwise send."""

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from xedge.models.engines import OnnxEngine
from xedge.models.lookup import model_path
from xedge.runs.sensor import Answers, Loaded, Order, Readings
from xedge.runs.worker import Worker
from xedge.scenario.placements import Device
from xedge.scenario.sources import InputSpec
from xedge.serving.start import Setting, service_of


class OnDevice:
    """The engine in the sensor's own process, loaded and warmed up on entry, gone on exit.

    It has no address: who asks for it does not send, but hands over `Readings` and gets `Answers`.

    Args:
        model: an .onnx file, or the name of a model in `models/`.
        placement: the hardware stood for.
        seed: of its service times.

    Raises:
        ModelError, ConfigurationError: on entry, as `EdgeMLService`.
    """

    address, prefixes, servers, failure, outages = ("", 0), list[str](), 1, "", ()

    def __init__(self, model: str, placement: Device, seed: int) -> None:
        self._order = Order(model, placement.as_dict(), seed)
        self.counts, self.refused = Counter[str](), Counter[str]()

    @cached_property
    def engine(self) -> OnnxEngine:
        """The model, loaded in this process to know what it takes; the sensor has its own."""
        return OnnxEngine(model_path(self._order.model, ".onnx"))

    @property
    def takes(self) -> InputSpec:
        """What one request contains."""
        return self.engine.spec

    def routes(self, requests: int) -> NDArray[np.uint8]:
        """Return zeros, shape (requests,): there is one engine."""
        return np.zeros(requests, np.uint8)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._worker = stack.enter_context(Worker("xedge.runs.sensor", "sensor"))
            loaded = self._worker.ask(self._order, Loaded)
            if error := loaded.as_error():
                raise error
            self._running = stack.pop_all()
        self.busy_ms, self._facts = loaded.busy_ms, loaded.facts
        return self

    def __exit__(self, *exc: Any) -> None:
        self._running.__exit__(*exc)

    def answer(self, readings: Readings, tick: Callable[[float], None]) -> Answers:
        """Let the sensor answer its readings as they fall due; `tick` as of `Sender.fly`.

        Raises:
            MeasurementError: its process died.
        """
        answers = self._worker.ask(readings, Answers, tick)
        requests, finished = len(answers.predictions), np.frombuffer(answers.finished_ns, np.int64)
        taken = np.frombuffer(answers.started_ns, np.int64) >= 0
        self.refused.update(reason for reason, _ in answers.refused.values())
        answered = int((finished >= 0).sum()) - len(answers.refused)
        counts = {"received": requests, "batches": int(taken.sum()), "answered": answered}
        self.counts.update(counts, unanswered=requests - answered - len(answers.refused))
        self._facts["cpu_ms"] = round(answers.cpu_ms, 4)
        self._facts["memory_mb"] = None if answers.memory_mb is None else round(answers.memory_mb, 1)
        return answers

    def describe(self) -> dict[str, Any]:
        """Return what the engine says of itself, and after a trial the processor's time and memory it took.

        `cpu_ms` is the processor's time for one inference, `memory_mb` the most memory of the whole process.
        """
        return self._facts | {"run_in": "the sensor's own process"}


@service_of.register
def _on_device(placement: Device, setting: Setting) -> OnDevice:
    return OnDevice(setting.model, placement, setting.seed)
