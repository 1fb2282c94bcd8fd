"""The queue discipline: servers side by side before one queue, in batches; arithmetic on times of any one clock."""

from collections import deque
from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Generic, NamedTuple, TypeVar

Request = TypeVar("Request")
MAX_QUEUE, MAX_QUEUE_MIB = 10_000, 64


class Batch(NamedTuple, Generic[Request]):
    """Requests that one server begins together at `started_ns`."""

    started_ns: int
    requests: list[Request]


class Capacity:
    """How many requests, and how many bytes of them, a service holds at most; who finds it full is refused.

    A request is held from its arrival at the service until its answer departs, the emulated links included: what
    crosses them takes memory like what waits. One request is always taken, however large.

    >>> capacity = Capacity(max_requests=2, max_bytes=100)
    >>> capacity.take(70), capacity.take(31), capacity.take(30), capacity.take(0)
    (True, False, True, False)
    >>> capacity.free(70)
    >>> capacity.take(0), capacity.requests, capacity.bytes
    (True, 2, 30)
    """

    __slots__ = ("bytes", "max_bytes", "max_requests", "requests")

    def __init__(self, max_requests: int = MAX_QUEUE, max_bytes: int = MAX_QUEUE_MIB << 20) -> None:
        self.max_requests, self.max_bytes = max_requests, max_bytes
        self.requests = self.bytes = 0

    def take(self, size: int) -> bool:
        """Take a request of `size` bytes in and return True; False if it is to be refused."""
        held = self.bytes + size
        if self.requests and (self.requests >= self.max_requests or held > self.max_bytes):
            return False
        self.requests += 1
        self.bytes = held
        return True

    def free(self, size: int) -> None:
        """Give up what a request of `size` bytes took."""
        self.requests -= 1
        self.bytes -= size


class Station(Generic[Request]):
    """`servers` servers before one queue, first come first served, each taking up to `max_batch` requests at once.

    Its user says when requests arrive and how long batches take; the station says when they begin and end. Times are
    nanoseconds of one clock, real or virtual. A server that was free when a request arrived begins there and then, and
    one with a queue begins when it becomes free, however late the station is asked: lateness does not add up.

    >>> station = Station()
    >>> station.arrive("a", 0)
    >>> station.arrive("b", 1)
    >>> batch = station.begin()
    >>> station.end(batch.requests, batch.started_ns + 5)
    >>> station.begin() is None, station.next_ns
    (True, 5)
    >>> list(station.ended(5)), station.begin()
    ([['a']], Batch(started_ns=5, requests=['b']))
    """

    def __init__(self, servers: int = 1, max_batch: int = 64) -> None:
        self._max_batch = max_batch
        self._waiting: deque[tuple[int, Request]] = deque()
        self._idle_ns: list[int] = [0] * servers  # a heap: since when each idle server is free
        self._busy: list[tuple[int, int, list[Request]]] = []  # a heap: until when, a number, the batch's results
        self._batches = 0

    def arrive(self, request: Request, arrived_ns: int) -> None:
        """Put a request at the end of the queue; times ascend."""
        self._waiting.append((arrived_ns, request))

    @property
    def oldest(self) -> Request | None:
        """The request that has waited longest for a server; None if none waits."""
        return self._waiting[0][1] if self._waiting else None

    @property
    def can_begin(self) -> bool:
        """Whether a request waits and a server is idle."""
        return bool(self._waiting and self._idle_ns)

    def begin(self, not_before_ns: int = 0) -> Batch[Request] | None:
        """Take the next batch for the server that has been idle longest; None if nothing waits or none is idle.

        It holds what has arrived by the time the server begins, which is `not_before_ns` at the earliest. Its server is
        busy until `end` says how long.
        """
        if not self.can_begin:
            return None
        waiting = self._waiting
        started_ns = max(heappop(self._idle_ns), waiting[0][0], not_before_ns)
        requests: list[Request] = []
        while waiting and len(requests) < self._max_batch and waiting[0][0] <= started_ns:
            requests.append(waiting.popleft()[1])
        return Batch(started_ns, requests)

    def end(self, results: list[Request], ends_ns: int) -> None:
        """Say when the server that took a batch becomes free, and what `ended` shall yield then."""
        self._batches += 1
        heappush(self._busy, (ends_ns, self._batches, results))

    def release(self, now_ns: int) -> None:
        """Free the server that took a batch, whose results its user has already."""
        heappush(self._idle_ns, now_ns)

    def ended(self, now_ns: int) -> Iterator[list[Request]]:
        """Yield the results of batches that have ended by `now_ns`, in the order of ends, and free their servers."""
        while self._busy and self._busy[0][0] <= now_ns:
            ends_ns, _, results = heappop(self._busy)
            heappush(self._idle_ns, ends_ns)
            yield results

    @property
    def next_ns(self) -> int | None:
        """When the next batch ends; None while no server is busy."""
        return self._busy[0][0] if self._busy else None

    def __len__(self) -> int:
        """Return how many requests wait or are with a server."""
        return len(self._waiting) + sum(len(results) for _, _, results in self._busy)
