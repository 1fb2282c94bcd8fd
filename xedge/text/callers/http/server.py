"""The server: one worker process or several, ready when the first can answer, ended by a signal."""

import asyncio
import logging
import os
import signal
import socket
import threading
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import sleep
from typing import Any

import uvicorn
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xedge.core.exceptions import ServiceError, XedgeError
from xedge.text import reload_model
from xedge.text.callers.http.app import TASKS_VARIABLE, create_app
from xedge.text.callers.http.limits import LimitedProtocol
from xedge.text.labels import TASKS

log = logging.getLogger(__name__)
ENDING_S = 9  # how long requests under way may take after SIGTERM; docker stop kills after 10 s


class Ending:
    """Answers requests that are not whole when time is up after SIGTERM: status 503, where uvicorn says 500."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        has_begun = False

        async def sending(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except asyncio.CancelledError:
            if has_begun or scope["type"] != "http":
                raise
            headers = {"Retry-After": "1", "Connection": "close"}
            answer = JSONResponse({"error": "the service is ending: send the request again"}, 503, headers)
            await answer(scope, receive, send)


def ending_app() -> Ending:
    """Return what a worker runs."""
    return Ending(create_app())


def serve(
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
    tasks: Sequence[str] = tuple(TASKS),
    *,
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
        access_log: log every request.
        log_config: the workers' logging, as `logging.config.dictConfig` takes it.
        ready: called with a sentence once the first worker can answer.

    Raises:
        ServiceError: it cannot listen there.
    """
    listening = _listen(host, port)
    os.environ[TASKS_VARIABLE] = ",".join(tasks)
    config = uvicorn.Config(
        f"{__name__}:ending_app", factory=True, workers=workers, access_log=access_log, http=LimitedProtocol,
        log_config=log_config, log_level=None, ws="none", server_header=False, timeout_graceful_shutdown=ENDING_S,
    )  # fmt: skip
    own_host, own_port = listening.getsockname()[:2]
    url = f"http://{f'[{own_host}]' if ':' in own_host else own_host}:{own_port}"
    sentence = f"http service ready on {url} ({workers} worker{'s' if workers > 1 else ''})"
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
