"""A version of a text model: how it is asked for, by name with an alias or a number, and what the registry answers."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from xedge.core.exceptions import ConfigurationError
from xedge.text.labels import TASKS

PRODUCTION = "production"
_PATTERN = re.compile(r"(?:models:/+)?(?P<name>[^/:@\s]+)(?:@(?P<alias>[^/:@\s]+)|/(?P<stage>[^/:@\s]+))?")


@dataclass(frozen=True)
class Reference:
    """A registered model's `name` with the `version` asked for, or "" and an `alias`."""

    name: str
    alias: str = PRODUCTION
    version: str = ""

    def __str__(self) -> str:
        return f"{self.name}/{self.version}" if self.version else f"{self.name}@{self.alias}"


@dataclass(frozen=True)
class ModelVersion:
    """A version in the registry: `folder` holds its files on this machine; `alias` is "" if asked by number."""

    name: str
    version: str
    alias: str
    folder: Path


@dataclass(frozen=True)
class ListedVersion:
    """What the registry knows of a version; `accuracy` is that of its card, on held-out data."""

    name: str
    version: str
    aliases: tuple[str, ...]
    accuracy: float | None
    created: datetime

    @classmethod
    def of(cls, entry: Any, aliases: Mapping[str, str]) -> ListedVersion:
        """Return what MLflow's entry of a version says; `aliases` are those of its model, with their numbers."""
        try:
            accuracy = float(entry.tags.get("accuracy", ""))
        except ValueError:
            accuracy = None
        number = str(entry.version)
        own = tuple(alias for alias, version in sorted(aliases.items()) if str(version) == number)
        return cls(entry.name, number, own, accuracy, datetime.fromtimestamp(entry.creation_timestamp / 1000, UTC))


def parse(text: str) -> Reference:
    """Return what `text` refers to: `NAME`, `NAME@ALIAS`, `NAME/NUMBER` or, as with MLflow's old stages, `NAME/Stage`.

    MLflow's `models:/` may stand before it. A stage is the alias of the same word in small letters; without alias or
    number, "production" is meant. Anything else is a ConfigurationError.
    """
    match = _PATTERN.fullmatch(text.strip())
    if match is None:
        raise ConfigurationError(
            f"{text!r} names no model of the registry: write NAME@ALIAS or NAME/NUMBER, like xedge-topic@production"
        )
    stage = match["stage"] or ""
    if stage.isdecimal():
        return Reference(match["name"], alias="", version=str(int(stage)))
    return Reference(match["name"], alias=match["alias"] or stage.lower() or PRODUCTION)


def configured(task: str) -> Reference:
    """Return what `XEDGE_TOPIC_MODEL` or `XEDGE_SENTIMENT_MODEL` refers to, else `xedge-TASK@production`.

    It is a ConfigurationError if there is no such task or the variable does not name a model.
    """
    if configured_folder(task) or not (value := os.environ.get(variable_of(task), "").strip()):
        return Reference(f"xedge-{task}")
    try:
        return parse(value)
    except ConfigurationError as exc:
        raise ConfigurationError(f"{variable_of(task)}: {exc}, or the whole path of a version's folder") from None


def configured_folder(task: str) -> Path | None:
    """Return the folder that the task's variable names instead of a model of the registry, or None.

    It is a path from the root or the home, or one that begins with a dot; ConfigurationError if there is no such task.
    """
    value = os.environ.get(variable_of(check_task(task)), "").strip()
    return Path(value).expanduser() if value.startswith((".", "~")) or Path(value).is_absolute() else None


def variable_of(task: str) -> str:
    """Return the name of the task's environment variable."""
    return f"XEDGE_{task.upper()}_MODEL"


def check_task(task: str) -> str:
    """Return `task` if there is such a task; ConfigurationError if there is none."""
    if task not in TASKS:
        raise ConfigurationError(f"task is {task!r}: give one of {', '.join(TASKS)}")
    return task
