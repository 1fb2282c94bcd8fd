"""uvicorn's protocol with limits: on connections, on the size of a request's head, and on the time to send one."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_CONNECTIONS = 512  # of one worker; a process may usually have 1024 files open
MAX_HEAD_BYTES = 64 * 1024  # of a request line and its headers, which may go over it by one read
REQUEST_S = 10.0  # from a connection, or the first byte of its next request, to the end of the request


class LimitedProtocol(HttpToolsProtocol):
    """One connection. Who does not send a whole request in time, or in too many headers, is refused and closed.

    When a worker has `MAX_CONNECTIONS`, a new one takes the place of that which has kept an incomplete request
    for the longest; if there is none, it is refused with status 503.
    """

    _incomplete: ClassVar[dict[LimitedProtocol, None]] = {}  # connections without a whole request, oldest first
    _deadline: asyncio.TimerHandle | None = None
    _in_head = True
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request, if there is room."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            slowest = next(iter(self._incomplete), None)
            if slowest is None:
                self._refuse(503, f"this worker has {MAX_CONNECTIONS} connections: try again later")
                return
            slowest._refuse(408, "the connection was needed for another request")
        self._wait_for_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, and count what belongs to the head of a request."""
        super().data_received(data)
        self._head_bytes = self._head_bytes + len(data) if self._in_head else 0
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(431, f"request line and headers are too large: at most {MAX_HEAD_BYTES} bytes are read")

    def on_message_begin(self) -> None:
        """Wait for the rest of a request that has begun."""
        super().on_message_begin()
        self._in_head = True
        if self._deadline is None:
            self._wait_for_request()

    def on_headers_complete(self) -> None:
        """The head is over."""
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._stop_waiting()
        super().on_message_complete()

    def _wait_for_request(self) -> None:
        self._incomplete[self] = None
        words = f"no whole request came within {REQUEST_S:g} s"
        self._deadline = self.loop.call_later(REQUEST_S, self._refuse, 408, words)

    def _stop_waiting(self) -> None:
        self._incomplete.pop(self, None)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, status: int, words: str) -> None:
        """Say why, if no answer has begun, and close."""
        self._stop_waiting()
        if self.transport.is_closing():
            return
        cycle: Any = self.cycle
        if cycle is None or cycle.response_complete or not cycle.response_started:
            body = json.dumps({"error": words}).encode()
            head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
            self.transport.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        self.transport.close()
