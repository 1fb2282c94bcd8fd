"""The sensor's own process: it has the data, computes the answers itself and records; nothing is sent."""

import gc
import os
import sys
from time import perf_counter_ns, sleep, thread_time_ns
from typing import Any, BinaryIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from xedge.core import exceptions, machine
from xedge.core.exceptions import RequestError, XedgeError
from xedge.runs.sender import LEAD_NS, SPIN_NS
from xedge.runs.worker import read_frame, write_frame
from xedge.scenario.placements import Device
from xedge.scenario.station import Station
from xedge.serving.services import EdgeMLService


class Order(msgspec.Struct):
    """What to load: a model, the placement as data, and the seed of its service times."""

    model: str
    placement: dict[str, Any]
    seed: int


class Loaded(msgspec.Struct):
    """What is ready: `busy_ms` a request takes, and what the engine says of itself; or why nothing is."""

    busy_ms: float = 0.0
    facts: dict[str, Any] = {}
    error: tuple[str, str] = ("", "")

    def as_error(self) -> XedgeError | None:
        """Return the error that kept the model from being loaded, of the class it had."""
        name, said = self.error
        error: XedgeError | None = getattr(exceptions, name, exceptions.ServiceError)(said) if name else None
        return error


class Readings(msgspec.Struct):
    """When requests fall due (int64 bytes, ascending from 0), and what they contain: an array's bytes, or texts."""

    due_ns: bytes
    inputs: bytes | list[str]
    shape: list[int]
    dtype: str
    timeout_s: float


class Answers(msgspec.Struct):
    """What happened: clock readings as int64 bytes from the schedule's zero, -1 is never; predictions and refusals.

    `sent_ns` is when a request was handed to the engine's queue, `cpu_ms` the processor's time for one inference.
    """

    sent_ns: bytes
    started_ns: bytes
    finished_ns: bytes
    predictions: list[Any]
    refused: dict[int, tuple[str, str]]
    cpu_ms: float
    memory_mb: float | None


def load(order: Order) -> tuple[EdgeMLService, Loaded]:
    """Return the loaded and warmed-up model, and what there is to say of it; it is never connected to anything."""
    placement = Device.from_dict(order.placement)
    model = EdgeMLService(
        order.model,
        threads=placement.threads,
        compute_scale=placement.compute_scale,
        service_time=placement.service_time,
        max_batch=1,
        seed=order.seed,
    )
    model.prepare()
    return model, Loaded(model.busy_ms, model.describe())


def answer_all(model: EdgeMLService, readings: Readings) -> Answers:
    """Answer every request that falls due, one after the other, and return when each was taken up and answered.

    A request that falls due while the engine is busy waits from then on; one that this process, asleep, saw late counts
    as late. What the queue has not reached when the last request's time-out is over stays unanswered.
    """
    inputs: Any = readings.inputs
    if isinstance(inputs, bytes):
        inputs = np.frombuffer(inputs, readings.dtype).reshape(readings.shape)
    n = len(inputs)
    sent_ns, started_ns, finished_ns = (np.full(n, -1, np.int64) for _ in range(3))
    predictions, refused, cpu_ns, computed = [None] * n, dict[int, tuple[str, str]](), 0, 0
    station: Station[int] = Station(servers=1, max_batch=1)
    times_ns = model.service_time.draws_ns(model.seed) if model.service_time else None
    held = times_ns is not None or model.compute_scale != 1
    parent, next_due, free_ns = os.getppid(), 0, 0
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        start_ns = perf_counter_ns() + LEAD_NS
        due_ns = (np.frombuffer(readings.due_ns, np.int64) + start_ns).tolist()
        end_ns = due_ns[-1] + round(readings.timeout_s * 1e9)
        while (now_ns := perf_counter_ns()) < end_ns:
            for (number,) in station.ended(now_ns):
                finished_ns[number], free_ns = now_ns, now_ns
            while next_due < n and (due := due_ns[next_due]) <= now_ns:
                sent_ns[next_due] = due if due <= free_ns or station.next_ns is not None else now_ns
                station.arrive(next_due, int(sent_ns[next_due]))
                next_due += 1
            if (batch := station.begin(0 if held else perf_counter_ns())) is not None:
                (number,) = batch.requests
                started_ns[number] = batch.started_ns
                begun_ns, begun_cpu_ns = perf_counter_ns(), thread_time_ns()
                try:
                    predictions[number] = model.run_inference(inputs[number]).prediction
                except RequestError as exc:
                    refused[number] = exc.reason, str(exc)
                except Exception as exc:  # whatever an engine raises must not end the trial
                    refused[number] = "engine", f"the engine failed: {type(exc).__name__}: {exc}"
                used_ns, free_ns = thread_time_ns() - begun_cpu_ns, perf_counter_ns()
                cpu_ns, computed = cpu_ns + used_ns, computed + 1
                if held:
                    slower_ns = free_ns - begun_ns + round((model.compute_scale - 1) * used_ns)
                    took_ns = next(times_ns) if times_ns else slower_ns
                    station.end([number], batch.started_ns + took_ns)
                else:
                    finished_ns[number] = free_ns
                    station.release(free_ns)
                continue
            waited_for = [due_ns[next_due]] if next_due < n else []
            if station.next_ns is not None:
                waited_for.append(station.next_ns)
            if not waited_for or os.getppid() != parent:
                break
            _wait_until(min(*waited_for, end_ns))
    finally:
        gc.enable()
    sent, started, finished = (_from(start_ns, each) for each in (sent_ns, started_ns, finished_ns))
    return Answers(
        sent, started, finished, predictions, refused, cpu_ns / 1e6 / max(computed, 1), machine.peak_memory_mb()
    )


def _wait_until(time_ns: int) -> None:
    """Sleep until shortly before, then poll; at most a second, so that a parent that died is seen."""
    if (left_ns := time_ns - perf_counter_ns()) > SPIN_NS:
        sleep(min((left_ns - SPIN_NS) / 1e9, 1.0))
        if left_ns > 1_000_000_000 + SPIN_NS:
            return
    while perf_counter_ns() < time_ns:
        pass


def _from(start_ns: int, times_ns: NDArray[np.int64]) -> bytes:
    return np.where(times_ns < 0, -1, times_ns - start_ns).astype(np.int64).tobytes()


def main(incoming: BinaryIO, outgoing: BinaryIO) -> None:
    """Load what the first message orders, then answer the readings in every further one."""
    if (order := read_frame(incoming, Order)) is None:
        return
    try:
        model, loaded = load(order)
    except XedgeError as exc:
        write_frame(outgoing, Loaded(error=(type(exc).__name__, str(exc))))
        return
    write_frame(outgoing, loaded)
    while (readings := read_frame(incoming, Readings)) is not None:
        write_frame(outgoing, answer_all(model, readings))


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
