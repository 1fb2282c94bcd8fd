"""The versions of the text models and which of them is in production, kept by MLflow in a folder or on a server."""

import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from xedge.core.exceptions import ModelError, RegistryError, XedgeError
from xedge.core.extras import needed
from xedge.text import forks
from xedge.text.model import CARD
from xedge.text.registry.problems import DENIED_ADVICE, is_denied, reason_of
from xedge.text.registry.references import PRODUCTION, Reference, configured, variable_of
from xedge.text.registry.stores import store_at
from xedge.text.registry.versions import ListedVersion, ModelVersion, load_version

HISTORY = "xedge.production_before"  # tag of a model: the numbers that were production, oldest first
LAST = "xedge.production"  # tag of a model: the number that was last put in production here
_log = logging.getLogger("xedge.text")
_MLFLOW_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # with MLflow's own defaults a server that is down blocks for 246 s
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # it would print a password in the URI
}
_TALKATIVE = {
    "alembic": logging.WARNING,
    "mlflow.store.db.utils": logging.CRITICAL,  # tells errors with their traceback, and raises them as well
    "mlflow.store.model_registry.abstract_store": logging.WARNING,
}
_ADVICE = "train and register one with `make text` or `xedge report 09_train_text`"


class Registry:
    """The model registry at `uri`.

    `uri` is a folder, `sqlite:///FILE` or anything else that MLflow calls a tracking URI; None is
    `MLFLOW_TRACKING_URI` if set, else the folder `models/registry` of the project. A folder or a sqlite file is
    an embedded registry: MLflow's own database with the versions' folders beside it and no server. To resolve
    a version there, MLflow is not loaded.
    """

    def __init__(self, uri: str | os.PathLike[str] | None = None) -> None:
        self._store = store_at(uri)
        self._connected: Any = None
        self.uri = self._store.uri
        self.where = self._store.where

    def resolve(self, task: str, alias: str | None = None, version: str | int | None = None) -> ModelVersion:
        """Return the version with `alias`, or the one asked for by number, its files downloaded if need be.

        Args:
            task: "topic" or "sentiment".
            alias: None is the version or alias that `XEDGE_TOPIC_MODEL` or `XEDGE_SENTIMENT_MODEL` names, else
                "production".
            version: a number in place of an alias.

        Raises:
            RegistryError: "unreachable", "no model" or "no version".
            ConfigurationError: no such task, or the environment names a model in a way not understood.
        """
        asked = configured(task)
        if version is not None:
            asked = Reference(asked.name, "", str(version))
        elif alias is not None:
            asked = Reference(asked.name, alias)
        return self._resolve(task, asked)

    def _resolve(self, task: str, asked: Reference) -> ModelVersion:
        with self._errors(task, f"asked for {asked}"):
            entry = self._store.find(self.connect, asked)
            if entry is None:
                raise self._nothing(asked)
            version, source = entry
            return ModelVersion(
                asked.name, version, asked.alias, self._store.get(self.connect, asked.name, version, source)
            )

    def register(self, task: str, folder: str | os.PathLike[str], **tags: object) -> ModelVersion:
        """Copy a version's folder into the registry and return the new version; it gets no alias.

        The copy is loaded and checked against its golden outputs before the registry hears of it.

        Args:
            task: "topic" or "sentiment".
            folder: what `xedge.text.training.train.train` wrote for this task.
            tags: further facts to keep with the version.

        Raises:
            ModelError: `folder` is not an intact version for this task.
            RegistryError: the copy is damaged ("corrupt"), or the registry cannot be written ("unreachable").
        """
        name, folder = configured(task).name, Path(folder)
        load_version(folder, task)
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        facts = {"task": task, "accuracy": card.get("held_out", {}).get("accuracy", ""), **tags}
        kept = {key: str(value) for key, value in facts.items()}
        with self._errors(task, f"registering {name}"), self._writing() as client:
            source, run_id, copy = self._store.put(client, name, folder)
            try:
                load_version(copy, task)
                if not self._store.numbers(self.connect, name):
                    _ensure_model(client, name)
                version = str(client.create_model_version(name, source, run_id, tags=kept).version)
                return ModelVersion(name, version, "", self._store.registered(name, version, source, copy))
            except BaseException as exc:
                shutil.rmtree(copy, ignore_errors=True)
                if isinstance(exc, ModelError):
                    raise RegistryError(
                        f"{folder} arrived damaged in {self.where}, so it was not registered: {exc}", "corrupt"
                    ) from exc
                raise

    def promote(self, task: str, version: str | int) -> ModelVersion:
        """Put `version` in production, once its files have been checked again, and return it.

        Raises:
            RegistryError: "no model", "no version", "corrupt" or "unreachable"; production stays what it was.
        """
        name = configured(task).name
        with self._errors(task, f"promoting {name}/{version}"), self._changing() as client:
            chosen = self._checked(task, Reference(name, "", str(version)))
            current, history = self._history(client, name)
            if current not in ("", chosen.version):
                history.append(current)
            return self._put_in_production(client, chosen, history)

    def rollback(self, task: str) -> ModelVersion:
        """Put the version in production that was so before the present one, and return it.

        A version that was moved there by MLflow's own means counts as well. One whose files cannot be used here is
        passed over, with a warning.

        Raises:
            RegistryError: "unreachable"; "no version" if none was in production before; what is wrong with the latest
                of those before if none of them can be used. Production stays what it was.
        """
        name = configured(task).name
        problems: list[RegistryError] = []
        with self._errors(task, f"rolling back {name}"), self._changing() as client:
            _current, history = self._history(client, name)
            while history:
                number = history.pop()
                try:
                    return self._put_in_production(client, self._checked(task, Reference(name, "", number)), history)
                except RegistryError as exc:
                    _log.warning("rollback passes over %s/%s: %s", name, number, exc)
                    problems.append(exc)
            if problems:
                raise problems[0]
            raise RegistryError(
                f"{name}: no other version was in production before, in the model registry {self.where}; "
                f"see `xedge registry list`, then `xedge registry promote {task} VERSION`",
                "no version",
            )

    def versions(self, task: str) -> list[ListedVersion]:
        """Return every version of the task's model, newest first; none if nothing is registered.

        Raises:
            RegistryError: "unreachable".
        """
        name = configured(task).name
        with self._errors(task, f"listing {name}"):
            if not self._store.numbers(self.connect, name):
                return []
            aliases = self.connect().get_registered_model(name).aliases
            entries = self.connect().search_model_versions(f"name = '{name}'")
        listed = (ListedVersion.of(entry, aliases) for entry in entries)
        return sorted(listed, key=lambda version: int(version.version), reverse=True)

    def corrupt(self, version: ModelVersion, exc: Exception) -> RegistryError:
        """Return the error for a version whose files cannot be used, and forget the copy that was downloaded."""
        self._store.discard(version.folder)
        return RegistryError(
            f"{version.name}/{version.version}, asked for as {version.asked}, of the model registry {self.where} is "
            f"corrupt: {exc}; `xedge registry rollback` puts the version before it in production",
            "corrupt",
        )

    def connect(self) -> Any:
        """Return MLflow's client of this registry, made at the first call; an embedded registry is made as well.

        Raises:
            MissingExtraError: MLflow is not installed.
        """
        if self._connected is None:
            for name, value in _MLFLOW_DEFAULTS.items():
                os.environ.setdefault(name, value)
            with needed("text", "the model registry"):
                from mlflow import MlflowClient

                for name, level in _TALKATIVE.items():
                    logging.getLogger(name).setLevel(level)
                self._connected = self._store.connect(MlflowClient)
        return self._connected

    def _checked(self, task: str, asked: Reference) -> ModelVersion:
        version = self._resolve(task, asked)
        try:
            load_version(version.folder, task)
        except ModelError as exc:
            raise self.corrupt(version, exc) from exc
        return version

    @contextmanager
    def _writing(self) -> Iterator[Any]:
        client = self.connect()  # first, for it takes the same lock to make the database
        with self._store.writing():
            yield client

    def check_exists(self) -> None:
        """Do nothing if there is a registry here, on a server or with versions or without.

        Raises:
            RegistryError: "no model": an embedded registry that nothing was registered in yet, or another name.
        """
        if not self._store.exists():
            raise RegistryError(f"no model registry at {self.where}: check the name, or {_ADVICE}", "no model")

    @contextmanager
    def _changing(self) -> Iterator[Any]:
        self.check_exists()  # only what registers makes a registry
        with self._writing() as client:
            yield client

    def _history(self, client: Any, name: str) -> tuple[str, list[str]]:
        """Return the number in production, "" if none, and those before it, oldest first.

        What was last put there by xedge was before the present one if the alias has been moved by other means since.
        """
        known = self._store.numbers(self.connect, name)
        if not known:
            raise self._nothing(Reference(name))
        model = client.get_registered_model(name)
        current = str(model.aliases.get(PRODUCTION, ""))
        before = [*model.tags.get(HISTORY, "").split(","), model.tags.get(LAST, "")]
        return current, [number for number in before if number in known and number != current]

    def _put_in_production(self, client: Any, version: ModelVersion, history: list[str]) -> ModelVersion:
        client.set_registered_model_tag(version.name, HISTORY, ",".join(history))
        client.set_registered_model_alias(version.name, PRODUCTION, version.version)
        client.set_registered_model_tag(version.name, LAST, version.version)
        return replace(version, alias=PRODUCTION)

    def _nothing(self, asked: Reference) -> RegistryError:
        known = self._store.numbers(self.connect, asked.name)
        there = f"{asked} is not in the model registry {self.where}"
        if not known:
            return RegistryError(f"{there}: no model is registered as {asked.name}; {_ADVICE}", "no model")
        return RegistryError(
            f"{there}: {asked.name} has the versions {', '.join(known)}; put one in production with "
            f"`xedge registry promote TASK VERSION`, or {_ADVICE}",
            "no version",
        )

    @contextmanager
    def _errors(self, task: str, what: str) -> Iterator[None]:
        """Turn what MLflow and the operating system raise into the one error of a registry that cannot be used.

        No process is forked meanwhile: a child would inherit locks of sqlite that nobody ever releases.
        """
        try:
            with forks.held_off():
                yield
        except XedgeError:
            raise
        except Exception as exc:
            if not isinstance(exc, OSError) and type(exc).__module__.partition(".")[0] not in ("mlflow", "sqlalchemy"):
                raise
            refused = is_denied(exc)
            advice = DENIED_ADVICE if refused else self._store.advice(configured(task).name, variable_of(task))
            raise RegistryError(
                f"the model registry {self.where} {'refuses access' if refused else 'cannot be used'} ({what}): "
                f"{reason_of(exc)}; {advice}",
                "denied" if refused else "unreachable",
            ) from exc


def _ensure_model(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as exc:
        if exc.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
