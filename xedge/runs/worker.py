"""A process of its own that answers questions over its pipes: how the sender and the sensor are started and asked."""

import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any, Self, TypeVar

import msgspec

from xedge.core.exceptions import MeasurementError

Answer = TypeVar("Answer")


class Worker:
    """`python -m MODULE`, which reads frames from its input and answers each on its output until its input closes.

    `name` says in errors whose process it is. Ready on entry, gone on exit, and gone when this process is.
    """

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", self._module], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        return self

    def __exit__(self, *exc: object) -> None:
        if exc[0] is not None:
            self._process.kill()
        try:
            self._process.communicate(timeout=10)  # closes its input, at which it ends
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate(timeout=5)

    def ask(
        self,
        question: Any,
        kind: type[Answer],
        tick: Callable[[float], None] | None = None,
        began: Callable[[int], None] | None = None,
    ) -> Answer:
        """Send a question and return the answer, of `kind`; `tick` gets the seconds since then four times a second.

        A number that comes before the answer is when it all begins, and told to `began`.

        Raises:
            MeasurementError: the process died.
        """
        answer: list[Answer | None] = []
        out = self._process.stdout
        assert self._process.stdin
        assert out
        try:
            write_frame(self._process.stdin, question)
        except OSError:
            status = self._process.wait(5)
            raise MeasurementError(f"the {self._name}'s process ended with status {status} before the trial") from None

        def read() -> None:
            while isinstance(frame := read_frame(out, int | kind), int):
                if began is not None:
                    began(frame)
            answer.append(frame)

        reader = threading.Thread(target=read, name=f"xedge-{self._name}", daemon=True)
        reader.start()
        begun_ns = perf_counter_ns()
        while reader.is_alive():
            reader.join(0.25)
            if tick is not None:
                tick((perf_counter_ns() - begun_ns) / 1e9)
        if not answer or answer[0] is None:
            raise MeasurementError(f"the {self._name}'s process ended with status {self._process.wait(5)} in mid-trial")
        return answer[0]


def write_frame(stream: Any, message: Any) -> None:
    """Write a message, its length before it."""
    frame = msgspec.msgpack.encode(message)
    stream.write(struct.pack("<Q", len(frame)) + frame)
    stream.flush()


def read_frame(stream: Any, kind: Any) -> Any:
    """Return the next message, or None at the end of the stream."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    frame = stream.read(struct.unpack("<Q", head)[0])
    return msgspec.msgpack.decode(frame, type=kind)
