"""The server: uvicorn with limits, one process or several, ready when the first can answer, ended by a signal."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import threading
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from time import sleep
from typing import Any, ClassVar

import uvicorn
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from xedge.core.exceptions import ConfigurationError, ServiceError, XedgeError
from xedge.text import reload_model
from xedge.text.callers.http.app import create_app
from xedge.text.callers.http.keys import ADVICE, Keys, Rates
from xedge.text.labels import TASKS

log = logging.getLogger(__name__)
ENDING_S = 9  # how long requests under way may take after SIGTERM; docker stop kills after 10 s
MAX_CONNECTIONS = 512  # of one worker; a process may usually have 1024 files open
MAX_HEAD_BYTES = 64 * 1024  # of a request line and its headers, which may go over it by one read
REQUEST_S = 10.0  # from a connection, or the first byte of its next request, to the end of the request


def ending_app(create: Callable[[], ASGIApp]) -> ASGIApp:
    """Return what a worker runs: what is not whole when time is up after SIGTERM gets status 503, not uvicorn's 500."""
    app = create()

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def sending(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await app(scope, receive, sending)
        except asyncio.CancelledError:
            if has_begun or scope["type"] != "http":
                raise
            headers = {"Retry-After": "1", "Connection": "close"}
            words = {"error": "the service is ending: send the request again"}
            await JSONResponse(words, 503, headers)(scope, receive, send)

    return answer


def serve(
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
    tasks: Sequence[str] = tuple(TASKS),
    *,
    keys: Keys | None = None,
    rate_hz: float = 0.0,
    connections: int = MAX_CONNECTIONS,
    access_log: bool = False,
    log_config: dict[str, Any] | None = None,
    ready: Callable[[str], None] = print,
) -> None:
    """Serve until SIGTERM or Ctrl-C; returns when the last answer is out.

    SIGHUP takes up the versions that are in production now: one worker loads them and goes on answering meanwhile,
    several are replaced one after the other.

    Args:
        host: the address to listen on.
        port: the port to listen on; 0 takes a free one.
        workers: processes, each with its models; one that dies is replaced.
        tasks: "topic", "sentiment" or both; `/predict` needs both.
        keys: the API keys that are let in; None lets in everybody, on a loopback address only.
        rate_hz: requests a second that a worker answers for each key, or for all together without keys; 0 is no limit.
        connections: most connections of one worker.
        access_log: log every request.
        log_config: the workers' logging, as `logging.config.dictConfig` takes it.
        ready: called with a sentence once the first worker can answer.

    Raises:
        ServiceError: it cannot listen there.
        ConfigurationError: other machines could reach it and there are no keys, or a limit makes no sense.
    """
    if connections < 1:
        raise ConfigurationError(f"--connections {connections}: at least one is needed")
    if rate_hz:
        Rates(rate_hz)
    listening = _listen(host, port)
    if keys is None and not ip_address(listening.getsockname()[0]).is_loopback:
        listening.close()
        raise ConfigurationError(
            f"--host {host} can be reached from other machines and there is no API key: {ADVICE}; or listen on "
            "127.0.0.1"
        )
    protocol: Any = partial(_LimitedProtocol, connections)
    config = uvicorn.Config(
        partial(ending_app, partial(create_app, tasks, keys, rate_hz)), factory=True, workers=workers,
        access_log=access_log, http=protocol, log_config=log_config, log_level=None,
        ws="none", server_header=False,
        timeout_graceful_shutdown=ENDING_S,
    )  # fmt: skip
    own_host, own_port = listening.getsockname()[:2]
    url = f"http://{f'[{own_host}]' if ':' in own_host else own_host}:{own_port}"
    asked = f", {keys!r}" if keys else ""
    sentence = f"http service ready on {url} ({workers} worker{'s' if workers > 1 else ''}{asked})"
    threading.Thread(target=_announce, args=(url, sentence, ready), name="xedge-http-ready", daemon=True).start()
    with listening:
        if workers > 1:
            uvicorn.supervisors.Multiprocess(config, sockets=[listening]).run()
            return
        server = uvicorn.Server(config)
        for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises the signal again when it has ended
            signal.signal(number, lambda *_: setattr(server, "should_exit", True))
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, lambda *_: threading.Thread(target=_reload, name="xedge-http-reload").start())
        server.run(sockets=[listening])


def _reload() -> None:
    try:
        log.info("reloaded: %s", reload_model())
    except XedgeError as exc:
        log.warning("the versions loaded before go on answering: %s", exc)


def _listen(host: str, port: int) -> socket.socket:
    """Return a bound socket; its protocol is named, because asyncio sets TCP_NODELAY only then."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, OverflowError) as exc:
        listening.close()
        raise ServiceError(f"cannot listen on {host}:{port}: {exc}; choose another with --host and --port") from None
    return listening


def _announce(url: str, sentence: str, ready: Callable[[str], None]) -> None:
    while True:
        with suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=30):
            ready(sentence)
            return
        sleep(0.1)


class _LimitedProtocol(HttpToolsProtocol):
    """One connection. Who does not send a whole request in time, or in too many headers, is refused and closed.

    When a worker has `most` connections, a new one takes the place of that which has kept an incomplete request
    for the longest; if there is none, it is refused with status 503.
    """

    # Connections without a whole request, oldest first, and what will end them.
    _incomplete: ClassVar[dict[_LimitedProtocol, asyncio.TimerHandle]] = {}
    _in_head = True
    _head_bytes = 0

    def __init__(self, most: int, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._most = most

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._most:
            slowest = next(iter(self._incomplete), None)
            if slowest is None:
                self._refuse(503, f"this worker has {self._most} connections: try again later")
                return
            slowest._refuse(408, "the connection was needed for another request")
        self._wait_for_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._head_bytes = self._head_bytes + len(data) if self._in_head else 0
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(431, f"request line and headers are too large: at most {MAX_HEAD_BYTES} bytes are read")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._wait_for_request()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._stop_waiting()
        super().on_message_complete()

    def _wait_for_request(self) -> None:
        """Wait for a request, or for the rest of one that has begun."""
        if self not in self._incomplete:
            words = f"no whole request came within {REQUEST_S:g} s"
            self._incomplete[self] = self.loop.call_later(REQUEST_S, self._refuse, 408, words)

    def _stop_waiting(self) -> None:
        if (deadline := self._incomplete.pop(self, None)) is not None:
            deadline.cancel()

    def _refuse(self, status: int, words: str) -> None:
        """Say why, if no answer has begun, and close."""
        self._stop_waiting()
        if self.transport.is_closing():
            return
        cycle: Any = self.cycle
        if cycle is None or cycle.response_complete or not cycle.response_started:
            body = json.dumps({"error": words}).encode()
            head = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            self.transport.write(STATUS_LINE[status] + head.encode() + body)
        self.transport.close()
