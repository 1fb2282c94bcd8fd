"""Where a registry keeps its versions: in a folder, beside MLflow's sqlite database, or on an MLflow server."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import uuid
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import unquote, urlsplit
from zlib import crc32

from xedge.core.exceptions import RegistryError
from xedge.core.extras import needed
from xedge.core.paths import models_dir, project_root
from xedge.text.registry.versions import Reference

EXPERIMENT = "xedge-text"  # of the runs that hold the files uploaded to a server
LOCK_TIMEOUT_S = 120  # MLflow makes its tables in 2 s, and in 20 s on a busy machine
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
CARD_SHA256 = "card_sha256"  # tag of a version: the checksum of its card, which holds those of its other files
_FIND = f"""SELECT v.version, v.source, t.value FROM model_versions v LEFT JOIN registered_model_aliases a
    ON a.name = v.name AND a.version = v.version AND a.alias = :alias
    LEFT JOIN model_version_tags t ON t.name = v.name AND t.version = v.version AND t.key = '{CARD_SHA256}'
    WHERE v.name = :name AND (v.version = :version OR a.alias = :alias) AND v.current_stage IS NOT 'Deleted_Internal'"""
_NUMBERS = """SELECT version FROM model_versions
    WHERE name = :name AND current_stage IS NOT 'Deleted_Internal' ORDER BY version"""


def home() -> Path:
    """Return the folder of the project's registry: `models/registry` of the project that this runs in.

    Outside a project (`XEDGE_HOME` unset, no folder `notebooks`), as for a package installed from a wheel, it is
    `xedge/registry` in the user's data folder: never whatever happens to lie in the working folder.
    """
    project = project_root()
    if os.environ.get("XEDGE_HOME") or (project / "notebooks").is_dir():
        return models_dir() / "registry"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "xedge" / "registry"


def store_at(uri: str | os.PathLike[str] | None) -> Store:
    """Return the store at a folder, at `sqlite:///FILE`, or at another of MLflow's tracking URIs; see `Registry`."""
    place = os.fspath(uri) if uri is not None else os.environ.get("MLFLOW_TRACKING_URI") or str(home())
    scheme, mark, rest = place.partition("://")
    if scheme.startswith("sqlite"):
        return FolderStore(Path(rest.removeprefix("/").partition("?")[0]))
    if not mark and not place.startswith(("databricks", "file:")):
        return FolderStore(Path(place).expanduser() / "mlflow.db")
    return Store(place)


class Store:
    """An MLflow server, or whatever else MLflow has a tracking URI for; versions are downloaded once each."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        scheme, mark, rest = uri.partition("://")
        self.where = scheme + mark + rest.rpartition("@")[2]
        key = "".join(char if char.isalnum() else "_" for char in self.where.partition("://")[2] or self.where)
        self.downloads = home() / "downloads" / f"{key[:40]}-{crc32(uri.encode()):08x}"

    @cached_property
    def client(self) -> Any:
        """MLflow's client, connected when first asked for; MissingExtraError if MLflow is not installed."""
        for name, value in _MLFLOW_DEFAULTS.items():
            os.environ.setdefault(name, value)
        with needed("text", "the model registry"):
            from mlflow import MlflowClient
        for name, level in _TALKATIVE.items():
            logging.getLogger(name).setLevel(level)
        return self._connected(MlflowClient)

    def _connected(self, client: Any) -> Any:
        return client(self.uri, self.uri)

    def exists(self) -> bool:
        """Return whether there is a registry at this place; whether a server is there shows when it is asked."""
        return True

    def writing(self) -> AbstractContextManager[None]:
        """Return a context in which no other process of this project writes here; a server sees to it itself."""
        return nullcontext()

    def find(self, reference: Reference) -> tuple[str, str, str] | None:
        """Return the number, the source and the card's checksum ("" if none was kept) of a version, or None."""
        client = self.client  # first: it sets what MLflow reads when it is imported
        from mlflow.exceptions import MlflowException

        try:
            if reference.version:
                entry = client.get_model_version(reference.name, reference.version)
            else:
                entry = client.get_model_version_by_alias(reference.name, reference.alias)
            return str(entry.version), str(entry.source), entry.tags.get(CARD_SHA256, "")
        except MlflowException as exc:
            if exc.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    def numbers(self, name: str) -> list[str]:
        """Return the numbers of a model's versions, oldest first; none if there is no such model."""
        return sorted(
            (str(version.version) for version in self.client.search_model_versions(f"name = '{name}'")), key=int
        )

    def put(self, name: str, folder: Path) -> tuple[str, str | None, Path]:
        """Copy a version's files here; return the source and run to register, and the copy as read back."""
        experiment = self.client.get_experiment_by_name(EXPERIMENT)
        number = experiment.experiment_id if experiment else self.client.create_experiment(EXPERIMENT)
        run = self.client.create_run(number, run_name=name).info
        self.client.log_artifacts(run.run_id, str(folder), "model")
        self.client.set_terminated(run.run_id)
        source = f"{run.artifact_uri}/model"
        return source, run.run_id, self._download(source)

    def registered(self, name: str, version: str, source: str, copy: Path) -> Path:
        """Return where the files that `put` read back stay, now that they are registered as `version`."""
        kept = self._place(name, version, source)
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            copy.rename(kept)
        except OSError:  # another process was quicker
            if not kept.is_dir():
                raise
            shutil.rmtree(copy, ignore_errors=True)
        return kept

    def get(self, name: str, version: str, source: str) -> Path:
        """Return the folder of a version's files on this machine, downloaded if need be."""
        if (kept := self._place(name, version, source)).is_dir():
            return kept
        copy = self._download(self.client.get_model_version_download_uri(name, version))
        return self.registered(name, version, source, copy)

    def _place(self, name: str, version: str, source: str) -> Path:
        # With its source, for a server that was set up again counts from 1 again.
        return self.downloads / name / f"{crc32(source.encode()):08x}" / version

    def _download(self, source: str) -> Path:
        from mlflow.artifacts import download_artifacts

        self.downloads.mkdir(parents=True, exist_ok=True)
        copy = self.downloads / f".{uuid.uuid4().hex[:12]}"
        with TemporaryDirectory(prefix=".", dir=self.downloads, ignore_cleanup_errors=True) as target:
            Path(download_artifacts(artifact_uri=source, dst_path=target, tracking_uri=self.uri)).rename(copy)
        return copy

    def discard(self, folder: Path) -> None:
        """Remove a copy that was downloaded; what is kept here stays."""
        if self.downloads in folder.parents:
            shutil.rmtree(folder, ignore_errors=True)

    def advice(self, name: str, variable: str) -> str:
        """Return what to do when it cannot be used; `variable` can name a version of model `name` in its place."""
        advice = "check that the server is up and MLFLOW_TRACKING_URI right, or unset it for the project's own registry"
        kept = max(self.downloads.glob(f"{name}/*/*"), key=lambda path: path.stat().st_mtime, default=None)
        return f"{advice}; set {variable}={kept} to use version {kept.name}, downloaded before" if kept else advice


class FolderStore(Store):
    """An embedded registry: MLflow's own sqlite database, and the versions' folders beside it. No server."""

    def __init__(self, database: Path) -> None:
        self.database = database.absolute()
        self.folder = self.database.parent
        self.uri, self.where = f"sqlite:///{self.database.as_posix()}", str(self.folder)
        self.downloads = self.folder / "downloads"  # has none of its own: files are used where they are

    def exists(self) -> bool:
        """Return whether there is a database."""
        return self.database.exists()

    def _connected(self, client: Any) -> Any:
        if self.database.is_dir():  # MLflow would try for two minutes to open it
            raise RegistryError(f"{self.database} is a folder and no database: write sqlite:///FILE, or its path alone")
        with warnings.catch_warnings(action="ignore"):  # MLflow 3.17 on SQLAlchemy 2.1 warns about MLflow's own code
            if not self.database.exists():
                with self.writing():  # and in one piece: several processes at once have destroyed a database
                    if not self.database.exists():
                        draft = self.database.with_suffix(".draft")
                        draft.unlink(missing_ok=True)
                        client(f"sqlite:///{draft.as_posix()}")  # MLflow makes its tables, about a hundred statements
                        draft.replace(self.database)
            return super()._connected(client)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock, an open transaction of a sqlite file, which ends with the process however that ends."""
        cannot = f"the model registry {self.where} cannot be written"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = sqlite3.connect(self.folder / ".lock", timeout=LOCK_TIMEOUT_S, isolation_level=None)
        except (OSError, sqlite3.Error) as exc:
            raise RegistryError(f"{cannot}: {exc}") from exc
        with closing(lock):
            try:
                lock.execute("BEGIN EXCLUSIVE")
            except sqlite3.Error as exc:
                raise RegistryError(f"{cannot} ({exc}): another process may hold it") from exc
            yield

    def find(self, reference: Reference) -> tuple[str, str, str] | None:
        """Return what the database has of a version, or None."""
        asked = {"name": reference.name, "alias": reference.alias, "version": reference.version or -1}
        rows = self._read(_FIND, asked)
        if rows is None:
            return super().find(reference)
        return (str(rows[0][0]), str(rows[0][1]), str(rows[0][2] or "")) if rows else None

    def numbers(self, name: str) -> list[str]:
        """Return the numbers of a model's versions, as the database has them."""
        rows = self._read(_NUMBERS, {"name": name})
        return super().numbers(name) if rows is None else [str(number) for (number,) in rows]

    def _read(self, query: str, values: dict[str, Any]) -> list[Any] | None:
        """Return rows of MLflow's tables, read without loading MLflow: that takes 1.5 s and 100 MB.

        None is: ask MLflow instead, which knows its tables or says what is wrong with the file.
        """
        if not self.database.exists():
            return []
        try:
            with closing(sqlite3.connect(f"{self.database.as_uri()}?mode=ro", uri=True, timeout=10)) as database:
                return database.execute(query, values).fetchall()
        except sqlite3.Error:
            return None

    def put(self, name: str, folder: Path) -> tuple[str, str | None, Path]:
        """Copy a version's files beside the database."""
        copy = self.folder / "versions" / name / uuid.uuid4().hex[:12]
        shutil.copytree(folder, copy)
        return copy.as_uri(), None, copy

    def registered(self, name: str, version: str, source: str, copy: Path) -> Path:  # noqa: ARG002
        """Return the copy: it stays where it is."""
        return copy

    def get(self, name: str, version: str, source: str) -> Path:
        """Return the folder of a version's files, inside this registry's folder whatever that was called before.

        A RegistryError ("corrupt") if they are not there: files elsewhere, such as those of the registry that this one
        was copied from, are never taken for it.
        """
        path = Path(unquote(urlsplit(source).path) if source.startswith("file:") else source)
        folder = self.folder / "versions" / name / path.name
        if path.parts[-3:-1] == ("versions", name) and path.name != ".." and folder.is_dir():
            return folder
        raise RegistryError(
            f"the files of {name}/{version} are not in the model registry {self.where}, but were put in {path}: copy "
            f"the whole folder of a registry, or register that version here",
            "corrupt",
        )

    def advice(self, name: str, variable: str) -> str:  # noqa: ARG002
        """Return what to do when the database cannot be used."""
        return f"check that {self.database.name} is whole and the folder writable, or copy them from elsewhere"
