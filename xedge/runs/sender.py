"""The load generator: a process of its own that waits, publishes and records; nothing else."""

import gc
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter_ns
from typing import Any, BinaryIO, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from xedge.core.exceptions import BrokerError, XedgeError
from xedge.runs.worker import Worker, read_frame, write_frame
from xedge.scenario.routes import Topics
from xedge.serving.connection import Connection

SPIN_NS = 500_000  # sleep until this long before the slot, then poll: a sleep alone is 0.1 ms late
LEAD_NS = 50_000_000  # from the last preparation to the schedule's zero
SWITCH_INTERVAL_S = 0.0005  # how long a busy thread here may keep the interpreter; Python's default is 5 ms
READS_PER_TURN = 4  # a reply costs 40 µs: never let a heap of them stand between a request and its slot


class Flight(msgspec.Struct):
    """What to send: `due_ns` (int64 bytes, ascending from 0), one payload each, and where to.

    Where the service returns a `request_id`, `ids` (int64 bytes) has those of the payloads: the flight then ends when
    all of them have come back, whatever others publish on its topics; else with as many replies as payloads.

    `host` may be a URL, as in `xedge.serving.endpoint`; a password stands where that says, not here.
    `routes` (uint8 bytes) says to which of the topic `prefixes` each request goes; empty is all to the first.
    """

    host: str
    port: int
    prefixes: list[str]
    device_id: str
    due_ns: bytes
    payloads: list[bytes]
    timeout_s: float
    qos: int = 0
    window: int = 0
    routes: bytes = b""
    ids: bytes = b""


class Log(msgspec.Struct):
    """What happened: `start_ns` is the schedule's zero on the monotonic clock; -1 in `sent_ns` is not sent.

    `outages` are from when to when there was no connection to the broker, on the same clock.
    """

    start_ns: int
    sent_ns: bytes
    replies: list[tuple[int, bool, bytes]]
    error: str = ""
    reconnects: int = 0
    outages: list[tuple[int, int]] = []


class Sender:
    """The sender's process, for as many flights as wanted; ready on entry, gone on exit.

    In between no thread of this process keeps the interpreter from the others for longer than `SWITCH_INTERVAL_S`.
    """

    def __enter__(self) -> Self:
        self._worker = Worker("xedge.runs.sender", "sender").__enter__()
        self._switch_interval_s = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        return self

    def __exit__(self, *exc: object) -> None:
        gc.unfreeze()
        sys.setswitchinterval(self._switch_interval_s)
        self._worker.__exit__(*exc)

    def fly(
        self,
        flight: Flight,
        tick: Callable[[float], None] | None = None,
        began: Callable[[int], None] | None = None,
    ) -> Log:
        """Send all requests at their times and return what happened.

        This process' own objects are first put out of the garbage collector's sight (until the sender is gone): one
        search through PyTorch's holds up a service in a thread here for 40 ms.

        `tick` is called four times a second with the seconds since the start; the sender itself is not disturbed.
        `began` is called once, from another thread, with the schedule's zero on the monotonic clock, shortly before it.

        Raises:
            BrokerError: the sender could not connect.
            MeasurementError: the sender's process died.
        """
        gc.collect()
        gc.freeze()
        log = self._worker.ask(flight, Log, tick, began)
        if log.error:
            raise BrokerError(log.error)
        return log


def fly(flight: Flight, began: Callable[[int], None]) -> Log:
    """Send one flight from this process and thread; `began` is told the schedule's zero before anything is due."""
    topics, replies = [Topics(prefix) for prefix in flight.prefixes], []
    errors = {place.error(flight.device_id) for place in topics}
    answers = [*errors, *(place.result(flight.device_id) for place in topics)]

    def on_message(topic: str, payload: bytes) -> None:
        replies.append((perf_counter_ns(), topic in errors, payload))

    try:
        where = flight.host, flight.port
        connection = Connection("xedge-sender", *where, answers, on_message, flight.qos, READS_PER_TURN)
        with connection.connected(10):
            start_ns, sent_ns = _send_all(connection, [place.request for place in topics], flight, replies, began)
    except XedgeError as exc:
        return Log(0, b"", [], str(exc))
    return Log(start_ns, sent_ns.tobytes(), replies, "", connection.reconnects, connection.outages)


def _send_all(
    connection: Connection, topics: list[str], flight: Flight, replies: list[Any], began: Callable[[int], None]
) -> tuple[int, NDArray[np.int64]]:
    topic_of = [topics[route] for route in flight.routes] or topics[:1] * len(flight.payloads)
    payloads, qos, window = flight.payloads, flight.qos, flight.window
    parent, sent_ns, awaited = os.getppid(), np.full(len(payloads), -1, np.int64), _Awaited(flight)
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        start_ns = perf_counter_ns() + LEAD_NS
        began(start_ns)
        due_ns = (np.frombuffer(flight.due_ns, np.int64) + start_ns).tolist()
        for number, (due, payload) in enumerate(zip(due_ns, payloads, strict=True)):
            while (left_ns := due - perf_counter_ns()) > 0:
                connection.turn(min((left_ns - SPIN_NS) / 1e9, 1.0))
                if os.getppid() != parent:
                    raise SystemExit(1)
            while window and number - len(replies) >= window and perf_counter_ns() < due + flight.timeout_s * 1e9:
                connection.turn(0.1)
            now_ns = perf_counter_ns()
            if connection.publish(topic_of[number], payload, qos).rc == 0:
                sent_ns[number] = now_ns - start_ns
            connection.flush()
            if left_ns < -1_000_000 and number % 16 == 0:  # behind schedule: still read what has come
                connection.turn(0)
        end_ns = due_ns[-1] + round(flight.timeout_s * 1e9)
        while not awaited.are_answered(replies) and perf_counter_ns() < end_ns and os.getppid() == parent:
            connection.turn(min(0.1, (end_ns - perf_counter_ns()) / 1e9))
    finally:
        gc.enable()
    return start_ns, sent_ns


class _Id(msgspec.Struct):
    """What is read of a reply here."""

    request_id: int = -1


class _Awaited:
    """The requests of a flight that have no answer yet; looks into replies only when there are enough of them."""

    def __init__(self, flight: Flight) -> None:
        self._ids, self._fewest, self._looked_at = (
            set(np.frombuffer(flight.ids, np.int64).tolist()),
            len(flight.payloads),
            0,
        )
        self._decode = msgspec.json.Decoder(_Id).decode

    def are_answered(self, replies: list[tuple[int, bool, bytes]]) -> bool:
        if len(replies) < self._fewest:
            return False
        for _, _, payload in replies[self._looked_at :]:
            with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                self._ids.discard(self._decode(payload).request_id)
        self._looked_at = len(replies)
        return not self._ids


def main(incoming: BinaryIO, outgoing: BinaryIO) -> None:
    """Fly what arrives on one pipe and answer on the other, until the first closes."""
    while (flight := read_frame(incoming, Flight)) is not None:
        write_frame(outgoing, fly(flight, lambda start_ns: write_frame(outgoing, start_ns)))


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
