"""The application: FastAPI in front of the same functions, for our own server or to be mounted in another one."""

import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xedge import __version__
from xedge.serving.messages import MAX_PAYLOAD_BYTES
from xedge.text import predict_sentiment, predict_topic
from xedge.text.callers.http.bodies import BothAnswers, Refusal, SentimentAnswer, Text, TextForTopics, TopicAnswer
from xedge.text.callers.http.loader import Loader
from xedge.text.callers.http.page import HEADERS, page
from xedge.text.labels import TASKS

TASKS_VARIABLE = "XEDGE_HTTP_TASKS"  # what tells workers which tasks to serve
_json = msgspec.json.Encoder().encode


class Entrance:
    """Lets a request in when the models have been tried once, and refuses a body longer than a message over MQTT."""

    def __init__(self, app: ASGIApp, loader: Loader) -> None:
        self.app, self._loader = app, loader

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
            await self._loader.first_try()
        await self.app(scope, limited if scope["type"] == "http" else receive, send)


def create_app() -> FastAPI:
    """Return the application; it loads the models when it starts up, or at its first request if it is mounted.

    The model is called in the event loop itself: it takes 0.05 ms, handing it to a thread takes longer.
    """
    tasks = os.environ.get(TASKS_VARIABLE, ",".join(TASKS)).split(",")
    loader = Loader(tasks)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        _end_with_parent()
        await loader.first_try()
        gc.collect()
        gc.freeze()  # what is loaded stays: searching it for garbage would only hold up requests
        yield
        loader.stop()

    app = FastAPI(title="xedge text models", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(Entrance, loader=loader)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(Exception, _broken)
    refusals: dict[int | str, Any] = {status: {"model": Refusal} for status in (413, 422, 503)}

    def answering(path: str, model: type[BaseModel], *needed: str) -> Callable[[Any], Any]:
        known = {200: {"model": model}, **refusals}
        post = app.post(path, responses=known, response_class=Response)
        return post if set(needed) <= set(tasks) else lambda function: function

    @answering("/predict", BothAnswers, "topic", "sentiment")
    async def predict(request: TextForTopics) -> Response:
        """Topic and sentiment of a text."""
        loader.check("topic")
        loader.check("sentiment")
        topics = predict_topic(request.text, top_k=request.top_k)
        return _answer({"topic": topics, "sentiment": predict_sentiment(request.text)})

    @answering("/topic", TopicAnswer, "topic")
    async def topic(request: TextForTopics) -> Response:
        """The likeliest topics of a text."""
        loader.check("topic")
        return _answer(predict_topic(request.text, top_k=request.top_k))

    @answering("/sentiment", SentimentAnswer, "sentiment")
    async def sentiment(request: Text) -> Response:
        """Whether a text is positive, neutral or negative."""
        loader.check("sentiment")
        return _answer(predict_sentiment(request.text))

    @app.get("/health", responses={503: {}})
    async def health() -> Response:
        """Whether this worker can answer, with which versions; status 503 and the reason if not."""
        facts = loader.health()
        return _answer(facts, 200 if facts["status"] == "ok" else 503)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return Response(page(app.openapi()), 200, HEADERS, "text/html")

    return app


def _answer(content: Any, status: int = 200, headers: Any = None) -> Response:
    return Response(_json(content), status, headers, "application/json")


async def _invalid(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)
    return _answer({"error": "; ".join(_words(error) for error in exc.errors())}, 422)


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
    docs = f"{request.scope.get('root_path', '')}/docs"
    words = {404: f"there is no such path; see {docs}", 405: f"not with this method; see {docs}"}
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
