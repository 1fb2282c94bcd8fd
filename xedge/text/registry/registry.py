"""The versions of the text models and which of them is in production, kept by MLflow in a folder or on a server."""

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from xedge.core.exceptions import ModelError, RegistryError, XedgeError
from xedge.core.files import file_sha256
from xedge.text import forks
from xedge.text.model import CARD, TextModel, load_version
from xedge.text.registry import signing
from xedge.text.registry.stores import CARD_SHA256, store_at
from xedge.text.registry.versions import PRODUCTION, ListedVersion, ModelVersion, Reference, configured, variable_of

HISTORY = "xedge.production_before"  # tag of a model: the numbers that were production, oldest first
LAST = "xedge.production"  # tag of a model: the number that was last put in production here
_log = logging.getLogger("xedge.text")
_DENIED_ADVICE = "give a user who may: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
_ADVICE = "train and register one with `make text` or `xedge report 09_train_text`"


class Registry:
    """The model registry at `uri`: a folder, `sqlite:///FILE` or anything else that MLflow calls a tracking URI.

    None is `MLFLOW_TRACKING_URI` if set, else the folder `models/registry` of the project. A folder or a sqlite file is
    an embedded registry: MLflow's own database with the versions' folders beside it and no server. To resolve a version
    there, MLflow is not loaded.
    """

    def __init__(self, uri: str | os.PathLike[str] | None = None) -> None:
        self._store = store_at(uri)
        self.uri, self.where = self._store.uri, self._store.where

    def resolve(self, task: str, alias: str | None = None, version: str | int | None = None) -> ModelVersion:
        """Return the version with `alias`, or the one asked for by number, its files downloaded if need be.

        With neither, it is what `XEDGE_TOPIC_MODEL` or `XEDGE_SENTIMENT_MODEL` names, else "production".

        The card's checksum is kept with the version's entry and compared here; the card has those of the other files.

        Raises:
            RegistryError: "unreachable", "no model", "no version", or "corrupt": another card, or files elsewhere.
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
            if (entry := self._store.find(asked)) is None:
                raise self._nothing(asked)
            number, source, checksum = entry
            version = ModelVersion(asked.name, number, asked.alias, self._store.get(asked.name, number, source))
        if checksum and not _has_card(version.folder, checksum):
            raise self._corrupt(version, f"its {CARD} is missing, or not the one that was registered")
        try:
            signing.check(version.folder)
        except ModelError as exc:
            raise self._corrupt(version, str(exc)) from exc
        return version

    def register(self, task: str, folder: str | os.PathLike[str], **tags: object) -> ModelVersion:
        """Copy a folder that `xedge.text.training.train.train` wrote and return the new version; it gets no alias.

        Where `XEDGE_SIGNING_KEY` is set, the folder is signed. The copy is loaded and checked against its golden
        outputs before the registry hears of it. `tags` are further facts to keep with the version.

        Raises:
                    ModelError: `folder` is not an intact version for this task.
                    RegistryError: the copy is damaged ("corrupt"), or the registry cannot be written ("unreachable").
        """
        name, folder = configured(task).name, Path(folder)
        load_version(folder, task)
        signing.sign(folder)
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        checksum = file_sha256(folder / CARD)
        accuracy = card.get("held_out", {}).get("accuracy", "")
        tags = {"task": task, "accuracy": accuracy, **tags, CARD_SHA256: checksum}
        with self._errors(task, f"registering {name}"), self._writing(makes=True) as client:
            source, run_id, copy = self._store.put(name, folder)
            try:
                _check_copy(copy, task, checksum)
                if not self._store.numbers(name):
                    _ensure_model(client, name)
                kept = {key: str(value) for key, value in tags.items()}
                version = str(client.create_model_version(name, source, run_id, tags=kept).version)
                return ModelVersion(name, version, "", self._store.registered(name, version, source, copy))
            except BaseException as exc:
                shutil.rmtree(copy, ignore_errors=True)
                if isinstance(exc, ModelError):
                    damaged = f"{folder} arrived damaged in {self.where}, so it was not registered: {exc}"
                    raise RegistryError(damaged, "corrupt") from exc
                raise

    def promote(self, task: str, version: str | int) -> ModelVersion:
        """Put `version` in production, once its files have been checked again, and return it.

        A RegistryError ("no model", "no version", "corrupt", "unreachable") leaves production what it was.
        """
        asked = Reference(configured(task).name, "", str(version))
        with self._errors(task, f"promoting {asked}"), self._writing() as client:
            chosen = self._resolve(task, asked)
            current, history = self._history(client, chosen.name)
            if current not in ("", chosen.version):
                history.append(current)
            return self._put_in_production(client, task, chosen, history)

    def rollback(self, task: str) -> ModelVersion:
        """Put the version in production that was so before the present one, and return it.

        A version that MLflow's own means put there counts too. One whose files cannot be used is passed over, with a
        warning.

        Raises:
            RegistryError: "unreachable"; "no version" if none was in production before; what is wrong with the latest
                of those before if none of them can be used. Production stays what it was.
        """
        name = configured(task).name
        problems: list[RegistryError] = []
        with self._errors(task, f"rolling back {name}"), self._writing() as client:
            _current, history = self._history(client, name)
            while history:
                number = history.pop()
                try:
                    chosen = self._resolve(task, Reference(name, "", number))
                    return self._put_in_production(client, task, chosen, history)
                except RegistryError as exc:
                    _log.warning("rollback passes over %s/%s: %s", name, number, exc)
                    problems.append(exc)
            raise (
                problems[0]
                if problems
                else RegistryError(
                    f"{name}: no other version was in production before, in the model registry {self.where}; "
                    f"see `xedge registry list`, then `xedge registry promote {task} VERSION`",
                    "no version",
                )
            )

    def versions(self, task: str) -> list[ListedVersion]:
        """Return every version of the task's model, newest first; RegistryError "unreachable"."""
        name = configured(task).name
        with self._errors(task, f"listing {name}"):
            if not self._store.numbers(name):
                return []
            aliases = self.connect().get_registered_model(name).aliases
            listed = [ListedVersion.of(e, aliases) for e in self.connect().search_model_versions(f"name = '{name}'")]
        return sorted(listed, key=lambda version: int(version.version), reverse=True)

    def load(self, task: str, version: ModelVersion) -> TextModel:
        """Return a resolved version's model; if that is "corrupt" (RegistryError), a copy downloaded is forgotten."""
        try:
            return load_version(version.folder, task, version.version)
        except ModelError as exc:
            raise self._corrupt(version, str(exc)) from exc

    def _corrupt(self, version: ModelVersion, why: str) -> RegistryError:
        self._store.discard(version.folder)
        asked = Reference(version.name, version.alias, "" if version.alias else version.version)
        return RegistryError(
            f"{version.name}/{version.version}, asked for as {asked}, of the model registry {self.where} is "
            f"corrupt: {why}; `xedge registry rollback` puts the version before it in production",
            "corrupt",
        )

    def connect(self) -> Any:
        """Return MLflow's client of this registry, made at the first call; an embedded registry is made as well."""
        return self._store.client

    def check_exists(self) -> None:
        """Raise RegistryError, "no model", if no embedded registry was made here yet; of a server this says nothing."""
        if not self._store.exists():
            raise RegistryError(f"no model registry at {self.where}: check the name, or {_ADVICE}", "no model")

    @contextmanager
    def _writing(self, makes: bool = False) -> Iterator[Any]:
        if not makes:  # only what registers makes a registry
            self.check_exists()
        client = self.connect()  # first, for it takes the same lock to make the database
        with self._store.writing():
            yield client

    def _history(self, client: Any, name: str) -> tuple[str, list[str]]:
        """Return the number in production, "" if none, and those before it, oldest first.

        What was last put there by xedge was before the present one if the alias has been moved by other means since.
        """
        if not (known := self._store.numbers(name)):
            raise self._nothing(Reference(name))
        model = client.get_registered_model(name)
        current = str(model.aliases.get(PRODUCTION, ""))
        before = [*model.tags.get(HISTORY, "").split(","), model.tags.get(LAST, "")]
        return current, [number for number in before if number in known and number != current]

    def _put_in_production(self, client: Any, task: str, version: ModelVersion, history: list[str]) -> ModelVersion:
        self.load(task, version)
        client.set_registered_model_tag(version.name, HISTORY, ",".join(history))
        client.set_registered_model_alias(version.name, PRODUCTION, version.version)
        client.set_registered_model_tag(version.name, LAST, version.version)
        return replace(version, alias=PRODUCTION)

    def _nothing(self, asked: Reference) -> RegistryError:
        there = f"{asked} is not in the model registry {self.where}"
        if not (known := self._store.numbers(asked.name)):
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
        except Exception as exc:
            foreign = isinstance(exc, OSError) or type(exc).__module__.partition(".")[0] in ("mlflow", "sqlalchemy")
            if isinstance(exc, XedgeError) or not foreign:
                raise
            denied = _is_denied(exc)
            advice = _DENIED_ADVICE if denied else self._store.advice(configured(task).name, variable_of(task))
            raise RegistryError(
                f"the model registry {self.where} {'refuses access' if denied else 'cannot be used'} ({what}): "
                f"{_reason_of(exc)}; {advice}",
                "denied" if denied else "unreachable",
            ) from exc


def _check_copy(copy: Path, task: str, checksum: str) -> None:
    load_version(copy, task)
    if not _has_card(copy, checksum):
        raise ModelError(f"{copy / CARD} is another card")


def _has_card(folder: Path, checksum: str) -> bool:
    try:
        return file_sha256(folder / CARD) == checksum
    except OSError:
        return False


def _is_denied(exc: BaseException | None) -> bool:
    """Return whether a server answered that it does not know the caller (401) or does not let them in (403)."""
    while exc is not None:
        if getattr(exc, "error_code", "") in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
            return True
        if re.search(r"(?:error code|status code|Error:) (?:401|403)\b|\b(?:401|403) Client Error", str(exc)):
            return True
        exc = exc.__cause__ or exc.__context__
    return False


def _reason_of(exc: BaseException) -> str:
    """Return what began it all, in one line and without a password."""
    while (before := exc.__cause__ or exc.__context__) is not None and not isinstance(before, LookupError):
        exc = before
    text = re.sub(r"//[^/\s@]*@", "//", " ".join(str(exc).split()))
    return f"{type(exc).__name__}: {text if len(text) <= 200 else f'{text[:199]}…'}"


def _ensure_model(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as exc:
        if exc.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
