"""The page `/docs`: paths, bodies and answers as plain HTML, which loads nothing from anywhere."""

import json
from html import escape
from typing import Any

HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
_STYLE = "body{font:16px sans-serif;max-width:50em;margin:2em auto}pre{background:#f4f4f4;padding:1em;overflow:auto}"


def page(described: dict[str, Any]) -> str:
    """Return the page for an OpenAPI description: each path with its method, body and answer, then every schema."""
    title = f"{described['info']['title']} {described['info']['version']}"
    parts = [_path(path, *operation) for path, methods in described["paths"].items() for operation in methods.items()]
    schemas = [_schema(name, schema) for name, schema in described["components"]["schemas"].items()]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
        f"<h1>{escape(title)}</h1><p>For programs: <a href='openapi.json'>openapi.json</a></p>"
        f"{''.join(parts)}<h2>Schemas</h2>{''.join(schemas)}</html>"
    )


def _path(path: str, method: str, operation: dict[str, Any]) -> str:
    body = _links(operation.get("requestBody", {}))
    answers = "".join(
        f"<li>{status}: {_links(answer) or escape(answer['description'])}</li>"
        for status, answer in operation["responses"].items()
    )
    return (
        f"<h2>{method.upper()} {escape(path)}</h2><p>{escape(operation.get('description', ''))}</p>"
        + (f"<p>Body: {body}</p>" if body else "")
        + f"<ul>{answers}</ul>"
    )


def _links(message: dict[str, Any]) -> str:
    """Return a link to the schema of a body or an answer, "" if it has none."""
    schema = message.get("content", {}).get("application/json", {}).get("schema", {})
    name = escape(schema.get("$ref", "").rpartition("/")[2])
    return f"<a href='#{name}'>{name}</a>" if name else ""


def _schema(name: str, schema: dict[str, Any]) -> str:
    return f"<h3 id='{escape(name)}'>{escape(name)}</h3><pre>{escape(json.dumps(schema, indent=1))}</pre>"
