"""The application: FastAPI in front of the same functions, for our own server or to be mounted in another one."""

import gc
import logging
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from multiprocessing.process import BaseProcess
from time import perf_counter
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xedge import __version__
from xedge.serving.messages import MAX_PAYLOAD_BYTES
from xedge.text import get_model, predict_sentiment, predict_topic
from xedge.text.callers.http import bodies
from xedge.text.callers.http.keys import Keys, Rates
from xedge.text.labels import TASKS

log = logging.getLogger(__name__)
FIRST_LOAD_S = 8.0  # a worker waits so long for its models, deaf to signals; docker stop kills after 10 s
RETRY_S = 5.0  # from a failed load to the next
OPEN_PATHS = ("/health", "/docs", "/openapi.json")  # for those who watch or look up: they answer no texts
_json = msgspec.json.Encoder().encode


class Loader(threading.Thread):
    """Loads the models of `tasks` in the background, again and again until it succeeds or `ended` is set."""

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__(name="xedge-http-load", daemon=True)
        self.problems = dict.fromkeys(tasks, "the model is being loaded")
        self.ended, self._tried = threading.Event(), threading.Event()
        self._began_s = 0.0

    async def first_try(self) -> None:
        """Begin to load if nobody has, and wait for the first try to end; at most 8 s from when it began.

        An application that is mounted in another gets no word when that starts up: its first request begins it.
        """
        if not self._began_s:
            self._began_s = perf_counter()
            self.start()
        if not self._tried.is_set() and (left_s := self._began_s + FIRST_LOAD_S - perf_counter()) > 0:
            await run_in_threadpool(self._tried.wait, left_s)

    def check(self, *tasks: str) -> None:
        """Refuse with status 503 and the reason while there is no model for one of `tasks`."""
        for task in tasks:
            if task in self.problems:
                words = f"no model for {task}: {self.problems[task]}"
                raise HTTPException(503, words, {"Retry-After": f"{RETRY_S:.0f}"})

    def run(self) -> None:
        """Load until there is a model for each task; what `start` runs in the thread."""
        while self.problems and not self.ended.is_set():
            for task in list(self.problems):
                try:
                    get_model(task)
                except Exception as exc:  # whatever it was, the next try may find the registry well again
                    if self.problems[task] != str(exc):
                        log.warning("no model for %s, trying again every %g s: %s", task, RETRY_S, exc)
                    self.problems[task] = str(exc)
                else:
                    del self.problems[task]
            self._tried.set()
            if self.problems:
                self.ended.wait(RETRY_S)


class Entrance:
    """Lets a request in that has a key, where there are keys, and keeps to its rate, once the models have been tried.

    A body longer than a message over MQTT is refused.
    """

    def __init__(self, app: ASGIApp, loader: Loader, keys: Keys | None, rates: Rates | None) -> None:
        self.app, self._loader, self._keys, self._rates = app, loader, keys, rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, counting what is read of its body."""
        size = 0

        async def limited() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > MAX_PAYLOAD_BYTES:
                raise HTTPException(413, f"the body is too large: at most {MAX_PAYLOAD_BYTES} bytes are read")
            return message

        if scope["type"] == "http":
            if (self._keys or self._rates) and (refusal := self._refusal(scope)):
                await refusal(scope, receive, send)
                return
            await self._loader.first_try()
        await self.app(scope, limited if scope["type"] == "http" else receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the answer to a request that may not in; paths that answer no texts are open to everybody."""
        if scope["path"].removeprefix(scope.get("root_path", "")) in OPEN_PATHS:
            return None
        caller: int | None = 0
        if self._keys:
            values = [value for name, value in scope["headers"] if name == b"authorization"]
            caller = self._keys.number(values[0]) if len(values) == 1 else None
        if caller is None:
            words = "an API key is needed, and this is none that is known here: send Authorization: Bearer KEY"
            return _answer({"error": words}, 401, {"WWW-Authenticate": "Bearer"})
        if self._rates and (wait_s := self._rates.wait_s(caller)):
            limit = f"at most {self._rates.rate_hz:g} requests/s{' a key' * bool(self._keys)}"
            words = f"too many requests, {limit}: send it again in {math.ceil(wait_s)} s"
            return _answer({"error": words}, 429, {"Retry-After": str(math.ceil(wait_s))})
        return None


def create_app(tasks: Sequence[str] = tuple(TASKS), keys: Keys | None = None, rate_hz: float = 0.0) -> FastAPI:
    """Return the application; it loads the models when it starts up, or at its first request if it is mounted.

    With `keys`, whoever asks must send one. With a `rate_hz` above 0 each key, or all together where there are no keys,
    may ask so often a second.

    The model is called in the event loop itself: it takes 0.05 ms, handing it to a thread takes longer.
    """
    loader, created_s = Loader(tasks), perf_counter()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if (parent := multiprocessing.parent_process()) is not None:
            threading.Thread(target=_end_with, args=(parent,), name="xedge-http-parent", daemon=True).start()
        await loader.first_try()
        gc.collect()
        gc.freeze()  # what is loaded stays: searching it for garbage would only hold up requests
        yield
        loader.ended.set()

    app = FastAPI(title="xedge text models", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.exception_handlers |= {RequestValidationError: _invalid, HTTPException: _refused, Exception: _broken}
    app.add_middleware(Entrance, loader=loader, keys=keys, rates=Rates(rate_hz) if rate_hz else None)
    statuses = [*[401] * bool(keys), 413, 422, *[429] * bool(rate_hz), 503]
    refusals: dict[int | str, Any] = {status: {"model": bodies.Refusal} for status in statuses}
    told = [Security(HTTPBearer(auto_error=False, description="An API key"))] if keys else []  # for the description

    def answering(path: str, model: type[BaseModel], *needed: str) -> Callable[[Any], Any]:
        responses = {200: {"model": model}, **refusals}
        post = app.post(path, responses=responses, response_class=Response, dependencies=told)
        return post if set(needed) <= set(tasks) else lambda function: function

    @answering("/predict", bodies.BothAnswers, "topic", "sentiment")
    async def predict(request: bodies.TextForTopics) -> Response:
        """Topic and sentiment of a text."""
        loader.check("topic", "sentiment")
        topics = predict_topic(request.text, top_k=request.top_k)
        return _answer({"topic": topics, "sentiment": predict_sentiment(request.text)})

    @answering("/topic", bodies.TopicAnswer, "topic")
    async def topic(request: bodies.TextForTopics) -> Response:
        """The likeliest topics of a text."""
        loader.check("topic")
        return _answer(predict_topic(request.text, top_k=request.top_k))

    @answering("/sentiment", bodies.SentimentAnswer, "sentiment")
    async def sentiment(request: bodies.Text) -> Response:
        """Whether a text is positive, neutral or negative."""
        loader.check("sentiment")
        return _answer(predict_sentiment(request.text))

    @app.get("/health", responses={503: {}})
    async def health() -> Response:
        """Whether this worker can answer, with which versions; status 503 and the reason if not."""
        problems = dict(loader.problems)
        facts = {
            "status": "unavailable" if problems else "ok",
            "models": {task: get_model(task).version for task in tasks if task not in problems},
            "uptime_s": round(perf_counter() - created_s, 3),
            "process": os.getpid(),
            "xedge": __version__,
        }
        if problems:
            facts["error"] = "; ".join(f"{task}: {words}" for task, words in problems.items())
        return _answer(facts, 503 if problems else 200)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return Response(bodies.page(app.openapi()), 200, bodies.HEADERS, "text/html")

    return app


def _answer(content: Any, status: int = 200, headers: Any = None) -> Response:
    return Response(_json(content), status, headers, "application/json")


async def _invalid(_: Request, exc: RequestValidationError) -> Response:
    return _answer({"error": "; ".join(_words(error) for error in exc.errors())}, 422)


def _words(error: dict[str, Any]) -> str:
    """One of pydantic's errors as a sentence: where, and what is wrong."""
    place = ".".join(str(part) for part in error["loc"] if part != "body")
    if error["type"] == "json_invalid":
        return f"the body is not JSON: {error.get('ctx', {}).get('error', 'it cannot be read')}"
    if not place:
        return 'the body must be a JSON object such as {"text": "…"}, sent as application/json'
    return f"{place}: {error['msg'][:1].lower()}{error['msg'][1:]}"


async def _refused(request: Request, exc: HTTPException) -> Response:
    if exc.status_code == 400:  # the body could not even be read as text
        return _answer({"error": "the body cannot be read as JSON in UTF-8"}, 422)
    error = exc.detail
    if known := {404: "there is no such path", 405: "not with this method"}.get(exc.status_code):
        error = f"{request.method} {request.url.path[:80]}: {known}; see {request.scope.get('root_path', '')}/docs"
    return _answer({"error": error}, exc.status_code, exc.headers)


async def _broken(_: Request, exc: Exception) -> Response:
    return _answer({"error": f"the model failed: {type(exc).__name__}: {exc}"}, 500)


def _end_with(parent: BaseProcess) -> None:
    """End this worker when the process that started it has been killed."""
    parent.join()
    signal.raise_signal(signal.SIGTERM)
