"""What a process logs, and how: text or JSON lines on standard error."""

import json
import logging
from typing import Any

from xedge.core.exceptions import ConfigurationError
from xedge.core.plain import escaped

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")


class _JsonLines(logging.Formatter):
    """One JSON object a record, metrics as fields."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {"time": self.formatTime(record), "level": record.levelname, "logger": record.name}
        fields |= {"message": record.getMessage(), **getattr(record, "metrics", {})}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields)


class _Lines(logging.Formatter):
    """Lines of text, in which nothing quoted from elsewhere is obeyed by a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return escaped(super().format(record))


def begin(level: str, form: str) -> None:
    """Log to standard error from `level` on, as `form`: one of `LEVELS` and one of `FORMATS`.

    Raises:
        ConfigurationError: another level or format.
    """
    if level not in LEVELS:
        raise ConfigurationError(f"log level {level!r} (--log-level or XEDGE_LOG_LEVEL): give {', '.join(LEVELS)}")
    if form not in FORMATS:
        raise ConfigurationError(f"log format {form!r} (--log-format or XEDGE_LOG_FORMAT): give text or json")
    logging.basicConfig(level=level.upper(), handlers=[handler(form)])


def config(level: str, form: str) -> dict[str, Any]:
    """Return the same as `logging.config.dictConfig` takes it, for processes that this one starts."""
    handlers = {"stderr": {"()": "xedge.core.logs.handler", "form": form}}
    root = {"level": level.upper(), "handlers": ["stderr"]}
    return {"version": 1, "disable_existing_loggers": False, "handlers": handlers, "root": root}


def handler(form: str) -> logging.Handler:
    """Return the handler that writes lines of that format to standard error."""
    lines = logging.StreamHandler()
    lines.setFormatter(_JsonLines() if form == "json" else _Lines("%(asctime)s %(levelname)s %(message)s"))
    return lines
