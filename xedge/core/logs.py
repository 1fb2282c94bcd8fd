"""What the `xedge` command logs, and how: text or JSON lines on standard error."""

from __future__ import annotations

import argparse
import json
import logging
import os
from typing import Any

from xedge.core.exceptions import ConfigurationError

LEVELS = ("debug", "info", "warning", "error")


def add_options(parser: argparse.ArgumentParser, default: Any) -> None:
    """Give a command the options --log-level and --log-format."""
    parser.add_argument("--log-level", default=default, help=f"{', '.join(LEVELS)}; or XEDGE_LOG_LEVEL")
    parser.add_argument("--log-format", default=default, help="text or json; or XEDGE_LOG_FORMAT")


class _JsonLines(logging.Formatter):
    """One JSON object a record, metrics as fields."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {"time": self.formatTime(record), "level": record.levelname, "logger": record.name}
        fields |= {"message": record.getMessage()} | getattr(record, "metrics", {})
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def config(arguments: argparse.Namespace) -> dict[str, Any]:
    """What this process logs as, for `logging.config.dictConfig` in processes that it starts."""
    level, form = _settings(arguments)
    handlers = {"stderr": {"()": "xedge.core.logs.handler", "form": form}}
    root = {"level": level.upper(), "handlers": ["stderr"]}
    return {"version": 1, "disable_existing_loggers": False, "handlers": handlers, "root": root}


def handler(form: str) -> logging.Handler:
    """Return the handler that writes "text" or "json" lines to standard error."""
    made = logging.StreamHandler()
    made.setFormatter(_JsonLines() if form == "json" else logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    return made


def begin(arguments: argparse.Namespace) -> None:
    """Log to standard error as the options or the environment say.

    Raises:
        ConfigurationError: a level or format that there is not.
    """
    level, form = _settings(arguments)
    logging.basicConfig(level=level.upper(), handlers=[handler(form)])


def _settings(arguments: argparse.Namespace) -> tuple[str, str]:
    level = (arguments.log_level or os.environ.get("XEDGE_LOG_LEVEL") or arguments.usual_level).lower()
    form = (arguments.log_format or os.environ.get("XEDGE_LOG_FORMAT") or "text").lower()
    if level not in LEVELS:
        raise ConfigurationError(f"log level {level!r} (--log-level or XEDGE_LOG_LEVEL): give {', '.join(LEVELS)}")
    if form not in ("text", "json"):
        raise ConfigurationError(f"log format {form!r} (--log-format or XEDGE_LOG_FORMAT): give text or json")
    return level, form
