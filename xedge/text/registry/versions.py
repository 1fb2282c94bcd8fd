"""A version of a text model: where its files are, what a listing says of it, and how it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from xedge.core.exceptions import ModelError
from xedge.text.labels import SENTIMENT_LABELS
from xedge.text.model import TextModel
from xedge.text.registry.references import Reference


@dataclass(frozen=True)
class ModelVersion:
    """A version in the registry: `folder` holds its files on this machine; `alias` is "" if asked by number."""

    name: str
    version: str
    alias: str
    folder: Path

    @property
    def asked(self) -> Reference:
        """What it was asked for as."""
        return Reference(self.name, self.alias, "" if self.alias else self.version)


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
        created = datetime.fromtimestamp(entry.creation_timestamp / 1000, UTC)
        return cls(entry.name, number, own, accuracy, created)


def load_version(folder: Path, task: str, version: str = "") -> TextModel:
    """Return the model in `folder`, loaded and checked.

    Raises:
        ModelError: its files cannot be used, or are for another task.
    """
    model = TextModel.load(folder, version)
    if model.task != task:
        raise ModelError(f"{folder} holds a model for {model.task!r}, not for {task!r}")
    if task == "sentiment" and set(model.labels) != set(SENTIMENT_LABELS):
        raise ModelError(f"{folder} knows {', '.join(model.labels)}; sentiment needs {', '.join(SENTIMENT_LABELS)}")
    return model
