"""One request on its way through a service."""

from typing import Any


class Item:
    """One request inside a service, with its clock readings in monotonic nanoseconds."""

    __slots__ = (
        "arrived_ns",
        "finished_ns",
        "prediction",
        "read_ns",
        "release_ns",
        "request",
        "size",
        "started_ns",
    )

    def __init__(self, request: Any, size: int, read_ns: int) -> None:
        self.request, self.size, self.read_ns = request, size, read_ns
        self.release_ns = self.arrived_ns = self.started_ns = self.finished_ns = read_ns
        self.prediction: Any = None
