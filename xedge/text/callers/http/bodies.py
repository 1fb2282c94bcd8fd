"""What requests and answers hold, and the page `/docs` that describes it, which loads nothing from anywhere."""

import json
from html import escape
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from xedge.text.features import MAX_CHARACTERS

HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
_STYLE = "body{font:16px sans-serif;max-width:50em;margin:2em auto}pre{background:#f4f4f4;padding:1em;overflow:auto}"


class Text(BaseModel):
    """A text to answer for."""

    model_config = ConfigDict(extra="forbid", strict=True)
    text: Annotated[str, Field(description=f"any text; its first {MAX_CHARACTERS} characters count", examples=["Rain"])]


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


def page(described: dict[str, Any]) -> str:
    """Return the page for an OpenAPI description: each path with its method, body and answer, then every schema."""
    title = escape(f"{described['info']['title']} {described['info']['version']}")
    parts = [_path(path, *operation) for path, methods in described["paths"].items() for operation in methods.items()]
    schemas = [
        f"<h3 id='{escape(name)}'>{escape(name)}</h3><pre>{escape(json.dumps(schema, indent=1))}</pre>"
        for name, schema in described["components"]["schemas"].items()
    ]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1><p>For programs: <a href='openapi.json'>openapi.json</a></p>"
        f"{''.join(parts)}<h2>Schemas</h2>{''.join(schemas)}</html>"
    )


def _path(path: str, method: str, operation: dict[str, Any]) -> str:
    body = _links(operation.get("requestBody", {}))
    answers = operation["responses"].items()
    listed = [f"<li>{status}: {_links(answer) or escape(answer['description'])}</li>" for status, answer in answers]
    return (
        f"<h2>{method.upper()} {escape(path)}</h2><p>{escape(operation.get('description', ''))}</p>"
        f"{body and f'<p>Body: {body}</p>'}<ul>{''.join(listed)}</ul>"
    )


def _links(message: dict[str, Any]) -> str:
    """Return a link to the schema of a body or an answer, "" if it has none."""
    schema = message.get("content", {}).get("application/json", {}).get("schema", {})
    name = escape(schema.get("$ref", "").rpartition("/")[2])
    return f"<a href='#{name}'>{name}</a>" if name else ""
