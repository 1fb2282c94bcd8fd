"""Topic and sentiment over HTTP: FastAPI in front of the same functions, several worker processes if asked."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from time import perf_counter, sleep
from typing import Annotated, Any

import msgspec

from xedge import __version__
from xedge.core.exceptions import ServiceError
from xedge.core.extras import needed
from xedge.serving.messages import MAX_PAYLOAD_BYTES
from xedge.text import get_model, predict_sentiment, predict_topic
from xedge.text.labels import TASKS

with needed("http", "the HTTP service"):
    import uvicorn
    from fastapi import FastAPI, Request, Response
    from fastapi.exceptions import RequestValidationError
    from pydantic import BaseModel, ConfigDict, Field
    from starlette.concurrency import run_in_threadpool
    from starlette.exceptions import HTTPException
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)
FIRST_LOAD_S = 8.0  # a worker waits so long for its models, deaf to signals; docker stop kills after 10 s
TASKS_VARIABLE = "XEDGE_HTTP_TASKS"  # what tells workers which tasks to serve
RETRY_S = 5.0  # from a failed load to the next
_json = msgspec.json.Encoder().encode


class Text(BaseModel):
    """A text to answer for."""

    model_config = ConfigDict(extra="forbid", strict=True)
    text: Annotated[str, Field(description="any text; only the first 4096 characters count", examples=["Rain again"])]


class TextForTopics(Text):
    """A text, and how many topics are wanted."""

    top_k: Annotated[int, Field(ge=1, description="how many topics, the likeliest first")] = 3


class Topic(BaseModel):
    """One topic."""

    topic: str
    confidence: float


class TopicAnswer(BaseModel):
    """What `predict_topic` returns."""

    predictions: list[Topic]
    text_length: int
    model_version: str


class SentimentAnswer(BaseModel):
    """What `predict_sentiment` returns."""

    positive: float
    neutral: float
    negative: float
    text_length: int
    model_version: str


class BothAnswers(BaseModel):
    """Topic and sentiment of one text."""

    topic: TopicAnswer
    sentiment: SentimentAnswer


class Refusal(BaseModel):
    """Why there is no answer."""

    error: str


class Loader:
    """Loads the models of `tasks` in a thread of its own, again and again until it succeeds."""

    def __init__(self, tasks: Sequence[str]) -> None:
        self.tasks = tuple(tasks)
        self.problems = dict.fromkeys(self.tasks, "the model is being loaded")
        self.tried, self._ended = threading.Event(), threading.Event()
        self._begun = perf_counter()

    def start(self) -> None:
        """Begin to load."""
        threading.Thread(target=self._run, name="xedge-http-load", daemon=True).start()

    def stop(self) -> None:
        """Try no further."""
        self._ended.set()

    def check(self, task: str) -> None:
        """Refuse with status 503 and the reason while there is no model for `task`."""
        if task in self.problems:
            raise HTTPException(503, f"no model for {task}: {self.problems[task]}", {"Retry-After": f"{RETRY_S:.0f}"})

    def health(self) -> dict[str, Any]:
        """Return what `GET /health` answers."""
        problems = dict(self.problems)
        facts = {
            "status": "unavailable" if problems else "ok",
            "models": {task: get_model(task).version for task in self.tasks if task not in problems},
            "uptime_s": round(perf_counter() - self._begun, 3),
            "process": os.getpid(),
            "xedge": __version__,
        }
        return facts | (
            {"error": "; ".join(f"{task}: {words}" for task, words in problems.items())} if problems else {}
        )

    def _run(self) -> None:
        while self.problems and not self._ended.is_set():
            for task in list(self.problems):
                try:
                    get_model(task)
                except Exception as exc:  # whatever it was, the next try may find the registry well again
                    if self.problems[task] != str(exc):
                        log.warning("no model for %s, trying again every %g s: %s", task, RETRY_S, exc)
                    self.problems[task] = str(exc)
                else:
                    del self.problems[task]
            self.tried.set()
            if self.problems:
                self._ended.wait(RETRY_S)


class BodyLimit:
    """Refuses a request whose body is longer than a message over MQTT may be."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, counting what is read of its body."""
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > MAX_PAYLOAD_BYTES:
                raise HTTPException(413, f"the body is too large: at most {MAX_PAYLOAD_BYTES} bytes are read")
            return message

        await self.app(scope, limited if scope["type"] == "http" else receive, send)


def create_app() -> FastAPI:
    """Return the application; it loads the models when it starts up.

    The model is called in the event loop itself: it takes 0.05 ms, handing it to a thread takes longer.
    """
    tasks = os.environ.get(TASKS_VARIABLE, ",".join(TASKS)).split(",")
    loader = Loader(tasks)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        _end_with_parent()
        loader.start()
        await run_in_threadpool(loader.tried.wait, FIRST_LOAD_S)
        gc.collect()
        gc.freeze()  # what is loaded stays: searching it for garbage would only hold up requests
        yield
        loader.stop()

    app = FastAPI(title="xedge text models", version=__version__, lifespan=lifespan)
    app.add_middleware(BodyLimit)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(Exception, _broken)
    refusals: dict[int | str, Any] = {status: {"model": Refusal} for status in (413, 422, 503)}

    def answering(path: str, model: type[BaseModel], *wanted: str) -> Callable[[Any], Any]:
        known = {200: {"model": model}, **refusals}
        post = app.post(path, responses=known, response_class=Response)
        return post if set(wanted) <= set(tasks) else lambda function: function

    @answering("/predict", BothAnswers, "topic", "sentiment")
    async def predict(wanted: TextForTopics) -> Response:
        """Topic and sentiment of a text."""
        loader.check("topic")
        loader.check("sentiment")
        found = predict_topic(wanted.text, top_k=wanted.top_k)
        return _answer({"topic": found, "sentiment": predict_sentiment(wanted.text)})

    @answering("/topic", TopicAnswer, "topic")
    async def topic(wanted: TextForTopics) -> Response:
        """The likeliest topics of a text."""
        loader.check("topic")
        return _answer(predict_topic(wanted.text, top_k=wanted.top_k))

    @answering("/sentiment", SentimentAnswer, "sentiment")
    async def sentiment(wanted: Text) -> Response:
        """Whether a text is positive, neutral or negative."""
        loader.check("sentiment")
        return _answer(predict_sentiment(wanted.text))

    @app.get("/health", responses={503: {}})
    async def health() -> Response:
        """Whether this worker can answer, with which versions; status 503 and the reason if not."""
        facts = loader.health()
        return _answer(facts, 200 if facts["status"] == "ok" else 503)

    return app


def _answer(content: Any, status: int = 200, headers: Any = None) -> Response:
    return Response(_json(content), status, headers, "application/json")


async def _invalid(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)
    return _answer({"error": "; ".join(_words(one) for one in exc.errors())}, 422)


def _words(error: dict[str, Any]) -> str:
    """One of pydantic's errors as a sentence: where, and what is wrong."""
    place = ".".join(str(part) for part in error["loc"] if part != "body")
    if error["type"] == "json_invalid":
        return f"the body is not JSON: {error.get('ctx', {}).get('error', 'it cannot be read')}"
    if not place:
        return 'the body must be a JSON object such as {"text": "…"}, sent as application/json'
    return f"{place}: {error['msg'][:1].lower()}{error['msg'][1:]}"


async def _refused(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    words = {404: "there is no such path; see /docs", 405: "not with this method; see /docs"}
    if exc.status_code == 400:  # the body could not even be read as text
        return _answer({"error": "the body cannot be read as JSON in UTF-8"}, 422)
    known = words.get(exc.status_code)
    error = f"{request.method} {request.url.path[:80]}: {known}" if known else exc.detail
    return _answer({"error": error}, exc.status_code, exc.headers)


async def _broken(_: Request, exc: Exception) -> Response:
    return _answer({"error": f"the model failed: {type(exc).__name__}: {exc}"}, 500)


def _end_with_parent() -> None:
    """Let a worker end when the process that started it has been killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def wait() -> None:
            parent.join()
            signal.raise_signal(signal.SIGTERM)

        threading.Thread(target=wait, name="xedge-http-parent", daemon=True).start()


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
        "xedge.text.callers.http:create_app", factory=True, workers=workers, access_log=access_log,
        log_config=log_config, log_level=None, ws="none", server_header=False, timeout_graceful_shutdown=5,
    )  # fmt: skip
    own_host, own_port = listening.getsockname()[:2]
    url = f"http://{f'[{own_host}]' if ':' in own_host else own_host}:{own_port}"
    sentence = f"http service ready on {url} ({workers} worker{'s' if workers > 1 else ''})"
    threading.Thread(target=_tell, args=(url, sentence, ready), name="xedge-http-ready", daemon=True).start()
    with listening:
        if workers > 1:
            uvicorn.supervisors.Multiprocess(config, sockets=[listening]).run()
            return
        server = uvicorn.Server(config)
        for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises the signal again when it has ended
            signal.signal(number, lambda *_: setattr(server, "should_exit", True))
        server.run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    """Return a bound socket; its protocol is named, because asyncio sets TCP_NODELAY only then."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except (OSError, OverflowError) as exc:
        made.close()
        raise ServiceError(f"cannot listen on {host}:{port}: {exc}; choose another with --host and --port") from None
    return made


def _tell(url: str, sentence: str, ready: Callable[[str], None]) -> None:
    while True:
        with suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=30):
            ready(sentence)
            return
        sleep(0.1)
