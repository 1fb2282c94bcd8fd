"""A service's background thread: ready on start, joined on stop, one at a time in its place."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from typing import Any, Self

from xedge.core.exceptions import ServiceError
from xedge.serving.connection import Connection

log = logging.getLogger(__name__)
READY_TIMEOUT_S = 120.0
_running: dict[Any, Background] = {}


class Background(ABC):
    """Something with a connection that `run()`s until stopped, in this thread or in one of its own.

    Args:
        name: a word for the thread, the log and the errors.
        place: what no two can serve at once; started again there (a cell run twice), the earlier one is stopped.
    """

    def __init__(self, name: str, place: Any) -> None:
        self.name, self._place = name, place
        self._connection: Connection | None = None
        self._thread: threading.Thread | None = None
        self._ready, self._stopping = threading.Event(), threading.Event()
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    @property
    def is_running(self) -> bool:
        """Whether the service answers requests now."""
        return self._ready.is_set() and not self._stopping.is_set()

    @property
    def failure(self) -> str:
        """What ended the service by itself; empty if nothing did."""
        return "" if self._failure is None else f"{type(self._failure).__name__}: {self._failure}"

    @abstractmethod
    def run(self) -> None:
        """Set `_ready` when ready and return soon after `_stopping` is set; override."""

    def start(self) -> Self:
        """Serve in a background thread; returns when ready. A service started before in its place is stopped.

        Raises:
            ModelError, BrokerError, ServiceError: it cannot get ready; nothing is left running.
        """
        if self._thread is not None and self._thread.is_alive():
            return self
        if (previous := _running.get(self._place)) is not None:
            previous.stop()
        self._ready.clear()
        self._stopping.clear()
        self._failure = None
        self._thread = threading.Thread(target=self._run_in_thread, name=f"xedge-{self.name}", daemon=True)
        self._thread.start()
        try:
            self._ready.wait(READY_TIMEOUT_S)
        except BaseException:  # Ctrl-C: what was not entered is not left either
            self.stop()
            raise
        if self._failure is not None or not self._ready.is_set():
            self.stop()
            raise self._failure or ServiceError(f"the {self.name} service was not ready within {READY_TIMEOUT_S:g} s")
        _running[self._place] = self
        return self

    def stop(self) -> None:
        """End the service and join its thread; stopping again changes nothing."""
        self._stopping.set()
        if (connection := self._connection) is not None:  # the service's thread may forget it meanwhile
            connection.wake()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(10)
            if thread.is_alive():
                raise ServiceError(f"the {self.name} service did not end within 10 s; its engine is still computing")
            self._thread = None
        if (connection := self._connection) is not None and not self._ready.is_set():  # connected by hand, never run
            self._connection = None
            connection.close()
        if _running.get(self._place) is self:
            del _running[self._place]

    def _run_in_thread(self) -> None:
        try:
            self.run()
        except BaseException as exc:
            self._failure = exc
            if _running.get(self._place) is self:  # start() has returned: nobody waits for the error
                self._stopping.set()
                log.exception("the %s service broke and answers no more", self.name)
            self._ready.set()
