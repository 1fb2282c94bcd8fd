"""What a service must be able to do for faults: end and begin again, stand still, and have its links cut."""

import threading
from collections import deque
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any, Protocol, runtime_checkable

from xedge.core.exceptions import ServiceError
from xedge.scenario.channel import Channel
from xedge.scenario.faults import Cut
from xedge.scenario.link import Link
from xedge.serving.background import Background


@runtime_checkable
class Breakable(Protocol):
    """What a service offers besides for the faults `service_kill` and `stall`; for `link_down` also `cut_links`."""

    def kill(self) -> None:
        """End it at once; what waits in it is gone."""

    def revive(self) -> None:
        """Start it again after that, as a new one; raises BrokerError or ServiceError as long as it cannot."""

    def stall(self, wait: Callable[[], object]) -> None:
        """Let it do nothing while `wait()` waits; return when it goes on."""


class Obedient(Background):
    """A service in a thread, behind links, that takes orders; one that gets none does nothing for it.

    Its connection calls `obey` when it is woken.
    """

    uplink: Link
    downlink: Link
    seed: int
    _up: Channel | Cut | None
    _down: Channel | Cut | None

    def __init__(self, name: str, place: Any) -> None:
        super().__init__(name, place)
        self._orders: deque[Callable[[], object]] = deque()

    def kill(self) -> None:
        """End as in a fault: what waits in it is gone."""
        self.stop()

    def revive(self) -> None:
        """Start again after `kill`; raises as `start`."""
        self.start()

    def stall(self, wait: Callable[[], object]) -> None:
        """Do nothing while `wait()` waits; raises as `in_loop`."""
        self.in_loop(wait)

    def cut_links(self, duration_s: float) -> None:
        """Let nothing enter either link for so long from now on (`xedge.scenario.faults.Cut`); raises as `in_loop`."""
        rtt_ms, until_ns = self.uplink.least_ms + self.downlink.least_ms, perf_counter_ns() + round(duration_s * 1e9)

        def cut() -> None:
            self._up, self._down = (
                Cut(link or Channel(Link(), self.seed), until_ns, rtt_ms) for link in (self._up, self._down)
            )

        self.in_loop(cut)

    def in_loop(self, order: Callable[[], object]) -> None:
        """Have the service's own thread do this between two readings, and wait until it is done.

        Raises:
            ServiceError: the service is not running, or ended meanwhile.
        """
        if (connection := self._connection) is None or not self.is_running:
            raise ServiceError(f"the {self.name} service is not running")
        done = threading.Event()

        def obeyed() -> None:
            order()
            done.set()

        self._orders.append(obeyed)
        connection.wake()
        while not done.wait(0.05):
            if not self._ready.is_set():
                raise ServiceError(f"the {self.name} service ended")

    def obey(self) -> None:
        """Do what was ordered, in the service's own thread."""
        while self._orders:
            self._orders.popleft()()

    def forget_orders(self) -> None:
        """Drop what was ordered of a service that has ended."""
        self._orders.clear()
