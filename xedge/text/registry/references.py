"""Which model of the registry a task asks for: its name with an alias or a number, as configured."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from xedge.core.exceptions import ConfigurationError
from xedge.text.labels import TASKS

PRODUCTION = "production"
NAMES = {task: f"xedge-{task}" for task in TASKS}
_PATTERN = re.compile(r"(?:models:/+)?(?P<name>[^/:@\s]+)(?:@(?P<alias>[^/:@\s]+)|/(?P<stage>[^/:@\s]+))?")


@dataclass(frozen=True)
class Reference:
    """A registered model's `name` with the `version` asked for, or "" and an `alias`."""

    name: str
    alias: str = PRODUCTION
    version: str = ""

    def __str__(self) -> str:
        return f"{self.name}/{self.version}" if self.version else f"{self.name}@{self.alias}"


def parse(text: str) -> Reference:
    """Return what `text` refers to: `NAME`, `NAME@ALIAS`, `NAME/NUMBER` or, as with MLflow's old stages, `NAME/Stage`.

    MLflow's `models:/` may stand before it. A stage is understood as the alias of the same word in small
    letters, and no alias or number as "production".

    Raises:
        ConfigurationError: it is none of these.
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

    Raises:
        ConfigurationError: no such task, or the variable does not name a model.
    """
    check_task(task)
    variable = variable_of(task)
    value = os.environ.get(variable, "").strip()
    if not value or is_folder(value):
        return Reference(NAMES[task])
    try:
        return parse(value)
    except ConfigurationError as exc:
        raise ConfigurationError(f"{variable}: {exc}, or the whole path of a version's folder") from None


def configured_folder(task: str) -> Path | None:
    """Return the folder of a version that the task's variable names instead of a model of the registry, or None."""
    value = os.environ.get(variable_of(check_task(task)), "").strip()
    return Path(value).expanduser() if is_folder(value) else None


def is_folder(value: str) -> bool:
    """Return whether a configured value is a path: one from the root or the home, or one that begins with a dot."""
    return value.startswith((".", "~")) or Path(value).is_absolute()


def variable_of(task: str) -> str:
    """Return the name of the task's environment variable."""
    return f"XEDGE_{task.upper()}_MODEL"


def check_task(task: str) -> str:
    """Return `task` if there is such a task.

    Raises:
        ConfigurationError: there is none.
    """
    if task not in NAMES:
        raise ConfigurationError(f"task is {task!r}: give one of {', '.join(NAMES)}")
    return task
