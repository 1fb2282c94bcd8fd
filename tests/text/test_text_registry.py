"""The model registry: versions, production and the way back, damage refused, several processes, and its errors."""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import multiprocessing
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from helpers import wait_until
from versions import write_text_version

from xedge.cli.main import EXIT_FAILED, main
from xedge.core.exceptions import ConfigurationError, ModelError, RegistryError
from xedge.core.files import file_sha256, sealed
from xedge.text import get_model
from xedge.text.kind import registered_folder
from xedge.text.model import TextModel
from xedge.text.registry import signing, stores, versions
from xedge.text.registry.registry import HISTORY, Registry
from xedge.text.registry.versions import ModelVersion, Reference


@pytest.fixture
def registry(tmp_path: Path, empty_registry: Path) -> Registry:
    """An empty embedded registry of this test's own."""
    return Registry(shutil.copytree(empty_registry, tmp_path / "registry"))


@pytest.fixture
def add(registry: Registry, tmp_path: Path) -> Callable[..., ModelVersion]:
    """Register another version of a task."""

    def register(task: str = "topic", seed: int = 1) -> ModelVersion:
        return registry.register(task, write_text_version(tmp_path / f"{task}-{seed}", task, seed))

    return register


def production(registry: Registry) -> str:
    return registry.resolve("topic").version


def test_registry_default_place_is_in_the_project_and_mlflow_can_name_another(tmp_path, monkeypatch):
    monkeypatch.setenv("XEDGE_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert Registry().where == str(tmp_path / "models" / "registry")
    assert Registry().uri == f"sqlite:///{tmp_path}/models/registry/mlflow.db"
    assert list(tmp_path.iterdir()) == []  # to ask is not to make
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:secret@registry.test:5000")
    assert Registry().uri == "http://someone:secret@registry.test:5000"
    assert Registry().where == "http://registry.test:5000"


def test_registry_of_an_installed_package_is_the_users_and_not_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.delenv("XEDGE_HOME", raising=False)
    monkeypatch.setattr(stores, "project_root", lambda: tmp_path / "somewhere")  # as outside a checkout
    (tmp_path / "somewhere" / "models" / "registry").mkdir(parents=True)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert Registry().where == str(tmp_path / "data" / "xedge" / "registry")


def test_uri_of_every_kind_is_understood(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wanted = f"sqlite:///{tmp_path}/reg/mlflow.db"
    for uri in ("reg", Path("reg"), tmp_path / "reg", "sqlite:///reg/mlflow.db", wanted, f"{wanted}?timeout=5"):
        assert Registry(uri).uri == wanted
    for uri in ("https://registry.test", "databricks", "postgresql://db.test/mlflow"):
        assert Registry(uri).uri == uri


@pytest.mark.long
def test_version_registered_promoted_and_resolved(registry, add, tmp_path):
    made = add(seed=3)
    assert made == ModelVersion("xedge-topic", "1", "", made.folder)
    assert made.folder.is_relative_to(tmp_path / "registry")
    promoted = registry.promote("topic", made.version)
    assert promoted == registry.resolve("topic") == ModelVersion("xedge-topic", "1", "production", made.folder)
    shutil.rmtree(tmp_path / "topic-3")  # the registry has a copy of its own
    assert TextModel.load(promoted.folder, promoted.version).version == "1"
    assert registry.resolve("topic", version=1).folder == made.folder


def test_versions_lists_newest_first_with_alias_and_accuracy(registry, add):
    assert registry.versions("topic") == []
    for seed in (1, 2):
        add(seed=seed)
    add("sentiment", 1)
    registry.promote("topic", 1)
    newest, oldest = registry.versions("topic")
    assert (newest.version, newest.aliases, newest.accuracy) == ("2", (), 0.52)
    assert (oldest.version, oldest.aliases, oldest.accuracy) == ("1", ("production",), 0.51)
    assert newest.created >= oldest.created
    assert newest.created.tzinfo is not None


def test_tags_are_kept_with_the_version(registry, tmp_path):
    made = registry.register("topic", write_text_version(tmp_path / "v"), data="mine.csv", epochs=7)
    tags = registry.connect().get_model_version("xedge-topic", "1").tags
    card = file_sha256(made.folder / "card.json")
    assert tags == {"task": "topic", "accuracy": "0.5", "data": "mine.csv", "epochs": "7", "card_sha256": card}


def test_rollback_goes_back_step_by_step_and_then_says_there_is_no_more(registry, add):
    for seed in (1, 2, 3):
        registry.promote("topic", add(seed=seed).version)
    registry.promote("topic", 3)  # already is: not a step
    assert [registry.rollback("topic").version, production(registry)] == ["2", "2"]
    assert [registry.rollback("topic").version, production(registry)] == ["1", "1"]
    with pytest.raises(RegistryError, match="no other version was in production before") as caught:
        registry.rollback("topic")
    assert (caught.value.reason, production(registry)) == ("no version", "1")
    registry.promote("topic", 3)
    assert registry.rollback("topic").version == "1"


def test_rollback_knows_what_mlflow_itself_put_in_production(registry, add):
    for seed in (1, 2, 3):
        add(seed=seed)
    registry.connect().set_registered_model_alias("xedge-topic", "production", 2)  # as a person does on MLflow's pages
    registry.promote("topic", 3)
    assert registry.connect().get_registered_model("xedge-topic").tags[HISTORY] == "2"
    assert registry.rollback("topic").version == "2"


def test_rollback_goes_to_what_was_in_production_when_mlflow_itself_moved_the_alias(registry, add):
    for seed in (1, 2, 3):
        add(seed=seed)
    for version in (1, 2):
        registry.promote("topic", version)
    registry.connect().set_registered_model_alias("xedge-topic", "production", 3)
    assert [registry.rollback("topic").version for _ in range(2)] == ["2", "1"]
    registry.connect().set_registered_model_alias("xedge-topic", "production", 2)
    assert registry.rollback("topic").version == "1"


def test_rollback_passes_over_a_version_that_is_no_text_model(registry, add, tmp_path, caplog):
    registry.promote("topic", add(seed=1).version)
    (tmp_path / "foreign").mkdir()
    client = registry.connect()
    foreign = client.create_model_version("xedge-topic", (tmp_path / "foreign").as_uri()).version
    client.set_registered_model_alias("xedge-topic", "production", foreign)
    registry.promote("topic", add(seed=3).version)
    assert registry.rollback("topic").version == "1"
    assert f"rollback passes over xedge-topic/{foreign}: " in caplog.text
    with pytest.raises(RegistryError, match="no other version was in production before"):
        registry.rollback("topic")


def test_rollback_passes_over_deleted_versions(registry, add):
    for seed in (1, 2, 3):
        registry.promote("topic", add(seed=seed).version)
    registry.connect().delete_model_version("xedge-topic", "2")
    assert registry.rollback("topic").version == "1"


@pytest.mark.parametrize(
    ("alias", "version", "registered", "reason", "said"),
    [
        (None, None, (), "no model", "no model is registered as xedge-topic"),
        (None, None, ("sentiment",), "no model", "no model is registered as xedge-topic"),
        (None, None, ("topic", "topic"), "no version", "xedge-topic has the versions 1, 2"),
        ("champion", None, ("topic",), "no version", "xedge-topic@champion is not in the model registry"),
        (None, 7, ("topic",), "no version", "xedge-topic/7 is not in the model registry"),
        (None, "seven", ("topic",), "no version", "xedge-topic/seven is not in the model registry"),
    ],
)
def test_missing_version_is_told_apart_by_reason(registry, add, alias, version, registered, reason, said):
    for seed, task in enumerate(registered):
        add(task, seed)
    with pytest.raises(RegistryError) as caught:
        registry.resolve("topic", alias, version)
    assert caught.value.reason == reason
    for part in (said, f"the model registry {registry.where}", "make text", "xedge report 09_train_text"):
        assert part in str(caught.value)


def test_unknown_task_is_refused(registry):
    with pytest.raises(ConfigurationError, match="task is 'mood': give one of topic, sentiment"):
        registry.resolve("mood")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("xedge-topic", Reference("xedge-topic", "production")),
        ("xedge-topic@champion", Reference("xedge-topic", "champion")),
        ("xedge-topic/Production", Reference("xedge-topic", "production")),
        ("models:/xedge-topic/Production", Reference("xedge-topic", "production")),
        ("models:/xedge-topic@production", Reference("xedge-topic", "production")),
        ("models:/xedge-topic/Staging", Reference("xedge-topic", "staging")),
        ("models:/xedge-topic/12", Reference("xedge-topic", "", "12")),
        (" my.model_1/3 ", Reference("my.model_1", "", "3")),
    ],
)
def test_configured_name_is_understood(text, wanted, monkeypatch):
    assert versions.parse(text) == wanted
    monkeypatch.setenv("XEDGE_TOPIC_MODEL", text)
    assert versions.configured("topic") == wanted
    assert versions.configured("sentiment") == Reference("xedge-sentiment", "production")


@pytest.mark.parametrize("text", ["a/b/c", "models:/", "a@b@c", "a@", "runs:/1/model", "two words", "s3://b/k"])
def test_configured_name_that_is_none_is_refused(text, monkeypatch):
    monkeypatch.setenv("XEDGE_TOPIC_MODEL", text)
    with pytest.raises(ConfigurationError, match=r"XEDGE_TOPIC_MODEL: .* names no model of the registry: write NAME@"):
        versions.configured("topic")


def test_old_style_name_in_the_environment_resolves(registry, add, monkeypatch):
    add()
    registry.promote("topic", 1)
    add(seed=2)
    monkeypatch.setenv("XEDGE_TOPIC_MODEL", "models:/xedge-topic/Production")
    assert (registry.resolve("topic").version, registry.resolve("topic").alias) == ("1", "production")
    monkeypatch.setenv("XEDGE_TOPIC_MODEL", "models:/xedge-topic/2")
    assert (registry.resolve("topic").version, registry.resolve("topic").alias) == ("2", "")


def damage(folder: Path) -> None:
    """Turn one byte of the weights."""
    path = folder / "model.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def test_register_refuses_a_damaged_folder_and_another_task(registry, tmp_path):
    damaged = write_text_version(tmp_path / "damaged")
    damage(damaged)
    with pytest.raises(ModelError, match="damaged"):
        registry.register("topic", damaged)
    with pytest.raises(ModelError, match="holds a model for 'sentiment', not for 'topic'"):
        registry.register("topic", write_text_version(tmp_path / "other", "sentiment"))
    assert registry.versions("topic") == []


def test_copy_that_arrives_damaged_is_not_registered(registry, add, tmp_path, monkeypatch):
    registry.promote("topic", add(seed=1).version)
    copytree = shutil.copytree

    def copy_badly(source, target):
        copytree(source, target)
        damage(target)

    monkeypatch.setattr(shutil, "copytree", copy_badly)
    with pytest.raises(RegistryError, match=r"arrived damaged .* so it was not registered") as caught:
        add(seed=2)
    assert caught.value.reason == "corrupt"
    assert [one.version for one in registry.versions("topic")] == ["1"]
    assert len(list((tmp_path / "registry" / "versions" / "xedge-topic").iterdir())) == 1  # nothing is left over


@pytest.mark.parametrize("how", ["promote", "rollback"])
def test_version_damaged_since_does_not_become_production(registry, add, how):
    first, second = add(seed=1), add(seed=2)
    registry.promote("topic", first.version)
    if how == "rollback":
        registry.promote("topic", second.version)
    damage((first if how == "rollback" else second).folder)
    before = production(registry)
    with pytest.raises(RegistryError, match=r"corrupt: .*model\.onnx.*xedge registry rollback") as caught:
        registry.rollback("topic") if how == "rollback" else registry.promote("topic", second.version)
    assert (caught.value.reason, production(registry)) == ("corrupt", before)


def forge(folder: Path) -> None:
    """Put another whole, loadable version in the place of one: what each file says of the others agrees."""
    forged = write_text_version(folder.with_name("forged"), seed=99)
    shutil.rmtree(folder)
    forged.rename(folder)


def test_version_replaced_by_another_whole_one_is_refused_wherever_it_is_asked_for(registry, add, monkeypatch):
    first, second = add(seed=1), add(seed=2)
    for version in (first, second):
        registry.promote("topic", version.version)
    forge(second.folder)
    assert TextModel.load(second.folder).task == "topic"  # by itself it is whole
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.where)
    for ask in (lambda: registry.resolve("topic"), lambda: registered_folder("xedge-topic@production")):
        with pytest.raises(
            RegistryError, match=r"corrupt: its card\.json is missing, or not the one that was"
        ) as caught:
            ask()
        assert caught.value.reason == "corrupt"
    assert registry.rollback("topic").version == first.version  # the way back is open
    (first.folder / "card.json").unlink()
    with pytest.raises(RegistryError, match=r"xedge-topic/1, asked for as xedge-topic@production, .* is missing"):
        registry.resolve("topic")


def test_version_registered_before_checksums_of_cards_were_kept_still_resolves(registry, add):
    made = add()
    registry.connect().delete_model_version_tag("xedge-topic", made.version, stores.CARD_SHA256)
    assert registry.promote("topic", made.version).folder == made.folder


@pytest.mark.parametrize("original", ["there", "changed", "gone"])
def test_copied_registry_has_its_own_files_only(registry, add, tmp_path, original):
    made = add(seed=1)
    registry.promote("topic", made.version)
    copied = Registry(shutil.copytree(registry.where, tmp_path / "copy"))
    if original == "changed":
        forge(made.folder)
    elif original == "gone":
        shutil.rmtree(registry.where)
    found = copied.resolve("topic")
    assert found.folder.is_relative_to(tmp_path / "copy")
    assert copied.load("topic", found).version == "1"
    shutil.rmtree(found.folder)  # a copy that is not whole does not look into the original
    with pytest.raises(RegistryError, match=r"files of xedge-topic/1 are not in .*copy.* whole folder") as caught:
        copied.resolve("topic")
    assert caught.value.reason == "corrupt"


@pytest.mark.parametrize("source", ["{0}/outside", "{0}/registry/versions/xedge-topic/..", "../../outside", "outside"])
def test_version_whose_files_lie_outside_of_the_registry_is_refused(registry, tmp_path, source):
    write_text_version(tmp_path / "outside")
    client = registry.connect()
    client.create_registered_model("xedge-topic")
    with closing(sqlite3.connect(registry._store.database)) as database, database:  # MLflow would refuse some of them
        client.create_model_version("xedge-topic", "file:///somewhere")
        database.execute("UPDATE model_versions SET source = ?", [source.format(tmp_path)])
    with pytest.raises(RegistryError, match="files of xedge-topic/1 are not in the model registry"):
        registry.promote("topic", 1)


@pytest.fixture
def keys(tmp_path: Path) -> list[Path]:
    """A private key, its public half, and the public half of another one."""
    pytest.importorskip("model_signing", reason="model-signing is not installed: pip install xedge[signing]")
    serialization = importlib.import_module("cryptography.hazmat.primitives.serialization")
    ec = importlib.import_module("cryptography.hazmat.primitives.asymmetric.ec")
    paths = [tmp_path / name for name in ("key.pem", "key.pub", "other.pub")]
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    own, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    paths[0].write_bytes(own.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    for path, key in zip(paths[1:], (own, other), strict=True):
        path.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return paths


def test_version_that_was_signed_is_taken_with_its_key_only(registry, add, keys, monkeypatch, tmp_path):
    unsigned = add(seed=1)
    monkeypatch.setenv(signing.SIGN_WITH, str(keys[0]))
    signed = add(seed=2)
    monkeypatch.delenv(signing.SIGN_WITH)
    monkeypatch.setenv(signing.TRUST, str(keys[1]))
    assert registry.promote("topic", signed.version).folder == signed.folder
    copied = Registry(shutil.copytree(registry.where, tmp_path / "copy"))
    assert copied.resolve("topic").folder.is_relative_to(tmp_path / "copy")
    with pytest.raises(RegistryError, match=r"is not signed, and XEDGE_TRUSTED_KEY asks for a signature"):
        registry.promote("topic", unsigned.version)
    monkeypatch.setenv(signing.TRUST, str(keys[2]))
    with pytest.raises(RegistryError, match="does not sign these files with the key of XEDGE_TRUSTED_KEY") as caught:
        registry.resolve("topic")
    assert caught.value.reason == "corrupt"


@pytest.mark.parametrize("name", ["labels.json", "card.json", "model.onnx", "model.pt", "more.py", "model.sig"])
def test_version_changed_after_it_was_signed_is_refused(registry, add, keys, monkeypatch, name):
    monkeypatch.setenv(signing.SIGN_WITH, str(keys[0]))
    made = add()
    monkeypatch.setenv(signing.TRUST, str(keys[1]))
    signing.check(made.folder)
    with (made.folder / name).open("ab") as file:
        file.write(b" ")
    if name == "model.sig":  # a space after JSON changes nothing
        (made.folder / name).write_bytes((made.folder / name).read_bytes().replace(b'"sig"', b'"gis"'))
    with pytest.raises(ModelError, match="does not sign these files"):
        signing.check(made.folder)
    monkeypatch.setenv("XEDGE_TOPIC_MODEL", str(made.folder))
    with pytest.raises(RegistryError, match="does not sign these files"):
        get_model("topic")


@pytest.mark.parametrize("variable", [signing.SIGN_WITH, signing.TRUST])
@pytest.mark.parametrize(
    "content", [None, b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"]
)
def test_key_that_is_none_is_told_with_how_to_make_one(add, keys, monkeypatch, tmp_path, variable, content):
    made = add()
    if content is not None:
        (tmp_path / "mine.pem").write_bytes(content)
    monkeypatch.setenv(variable, str(tmp_path / "mine.pem"))
    with pytest.raises(ConfigurationError, match=rf"{variable}: .*mine.pem holds no .*`openssl ecparam"):
        signing.sign(made.folder) if variable == signing.SIGN_WITH else signing.check(made.folder)


def register_in_a_process(folder: str, version: str, start: object) -> None:
    start.wait()  # type: ignore[attr-defined]
    Registry(folder).register("topic", version)


@pytest.mark.long
def test_six_processes_that_open_a_new_registry_at_once_all_register(tmp_path):
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(6)
    versions = [write_text_version(tmp_path / f"v{seed}", seed=seed) for seed in range(6)]
    where = str(tmp_path / "registry")
    workers = [context.Process(target=register_in_a_process, args=(where, str(one), start)) for one in versions]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * 6
    listed = Registry(where).versions("topic")
    assert [one.version for one in listed] == ["6", "5", "4", "3", "2", "1"]
    assert {one.accuracy for one in listed} == {0.5, 0.51, 0.52, 0.53, 0.54, 0.55}
    with closing(sqlite3.connect(tmp_path / "registry" / "mlflow.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.long
def test_process_killed_while_it_makes_the_database_leaves_nothing_in_the_way(registry, add, tmp_path):
    shutil.rmtree(tmp_path / "registry")
    code = f"from xedge.text.registry.registry import Registry; Registry({str(tmp_path / 'registry')!r}).connect()"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        wait_until((tmp_path / "registry" / "mlflow.draft").exists, "the database is being made")
        process.kill()
    assert not (tmp_path / "registry" / "mlflow.db").exists()
    assert add().version == "1"


def test_folder_under_another_name_still_resolves(registry, add, tmp_path):
    add()
    registry.promote("topic", 1)
    (tmp_path / "registry").rename(tmp_path / "moved")
    found = Registry(tmp_path / "moved").resolve("topic")
    assert found.folder.is_relative_to(tmp_path / "moved")
    assert TextModel.load(found.folder).task == "topic"


def test_tables_are_read_as_mlflow_reads_them(registry, add, monkeypatch):
    for seed in (1, 2):
        add(seed=seed)
    registry.promote("topic", 1)
    asked = [("topic", None, None), ("topic", "production", None), ("topic", None, 2)]
    direct = [registry.resolve(*one) for one in asked]
    monkeypatch.setattr(stores, "_FIND", "SELECT version, source FROM a_table_of_a_later_mlflow")
    monkeypatch.setattr(stores, "_NUMBERS", "SELECT version FROM a_table_of_a_later_mlflow")
    assert [registry.resolve(*one) for one in asked] == direct
    for missing in (("topic", "champion", None), ("topic", None, 9), ("sentiment", None, None)):
        with pytest.raises(RegistryError, match="is not in the model registry"):
            registry.resolve(*missing)


def test_resolve_in_a_folder_loads_no_mlflow(registry, add):
    add()
    registry.promote("topic", 1)
    code = (
        "import sys; from xedge.text.registry.registry import Registry; "
        f"print(Registry({registry.where!r}).resolve('topic').version, "
        "*{'mlflow', 'sqlalchemy', 'torch'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=180)
    assert (done.stdout.split(), done.stderr) == (["1"], "")


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_server_that_is_down_is_told_without_its_password(tmp_path, monkeypatch):
    monkeypatch.setenv("XEDGE_HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    port = closed_port()
    registry = Registry(f"http://someone:secret@127.0.0.1:{port}")
    with pytest.raises(RegistryError) as caught:
        registry.resolve("topic")
    said = str(caught.value)
    assert caught.value.reason == "unreachable"
    for part in (f"http://127.0.0.1:{port} ", "xedge-topic@production", "Connection refused", "MLFLOW_TRACKING_URI"):
        assert part in said
    assert "secret" not in said
    assert "XEDGE_TOPIC_MODEL" not in said  # nothing was downloaded before


class Denying(BaseHTTPRequestHandler):
    """Answers every request with the status of its server, as a proxy with passwords in front of MLflow does."""

    def do_GET(self) -> None:
        self.send_error(self.server.status)  # type: ignore[attr-defined]

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("status", [401, 403])
def test_server_that_denies_access_is_not_called_down(tmp_path, monkeypatch, status):
    monkeypatch.setenv("XEDGE_HOME", str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), Denying) as server:
        server.status = status  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(RegistryError, match="refuses access") as caught:
            Registry(f"http://127.0.0.1:{server.server_port}").resolve("topic")
        server.shutdown()
    assert caught.value.reason == "denied"
    assert "MLFLOW_TRACKING_USERNAME" in str(caught.value)
    assert "server is up" not in str(caught.value)


def test_database_that_is_none_is_unreachable(tmp_path):
    (tmp_path / "mlflow.db").write_text("not a database")
    with pytest.raises(RegistryError, match=r"file is not a database; check that mlflow\.db is whole") as caught:
        Registry(tmp_path).resolve("topic")
    assert caught.value.reason == "unreachable"


@pytest.mark.parametrize("uri", ["sqlite:///", "sqlite:///{}", "foo://bar"])
def test_uri_of_no_database_is_told_at_once(tmp_path, monkeypatch, uri):
    monkeypatch.chdir(tmp_path)
    said = "unsupported URI 'foo://bar'" if "foo" in uri else f"{tmp_path} is a folder and no database"
    with pytest.raises(RegistryError, match=re.escape(said)) as caught:
        Registry(uri.format(tmp_path)).resolve("topic")
    assert caught.value.reason == "unreachable"


def test_error_of_the_database_is_told_once_and_without_its_traceback(registry, add):
    add()
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append
    logging.getLogger("mlflow.store.db.utils").addHandler(handler)
    with closing(sqlite3.connect(registry._store.database)) as database:
        database.execute("DROP TABLE registered_model_aliases")
    with pytest.raises(RegistryError, match="no such table") as caught:
        registry.promote("topic", 1)
    logging.getLogger("mlflow.store.db.utils").removeHandler(handler)
    assert caught.value.reason == "unreachable"
    assert records == []


def test_sentiment_with_labels_of_its_own_is_refused(registry, tmp_path):
    folder = write_text_version(tmp_path / "v", "sentiment")
    labels = json.loads((folder / "labels.json").read_text())
    labels["labels"] = ["good", "so-so", "bad"]
    (folder / "labels.json").write_text(json.dumps(labels))
    card = json.loads((folder / "card.json").read_text())
    card["sha256"]["labels.json"] = file_sha256(folder / "labels.json")
    (folder / "card.json").write_text(json.dumps(sealed(card)))
    with pytest.raises(ModelError, match="good, so-so, bad; sentiment needs positive, neutral, negative"):
        registry.register("sentiment", folder)


def test_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RegistryError, match="cannot be written") as caught:
        Registry(tmp_path / "file").register("topic", write_text_version(tmp_path / "v"))
    assert caught.value.reason == "unreachable"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry whose files are uploaded to runs of MLflow's and downloaded, as with a server."""
    monkeypatch.chdir(tmp_path)  # where MLflow puts the files of its runs
    monkeypatch.setenv("XEDGE_HOME", str(tmp_path / "home"))
    registry = Registry(tmp_path)
    registry._store = stores.Store(f"sqlite:///{tmp_path}/server.db")
    return registry


def downloads(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "home" / "models" / "registry" / "downloads").glob("*/*/*/*"))


def test_uploaded_version_is_checked_promoted_and_downloaded_once(elsewhere, tmp_path):
    for seed in (1, 2):
        made = elsewhere.register("topic", write_text_version(tmp_path / f"v{seed}", seed=seed))
        assert elsewhere.promote("topic", made.version).folder == made.folder
    assert elsewhere.rollback("topic").version == "1"
    kept = downloads(tmp_path)
    assert [path.name for path in sorted(kept, key=lambda path: path.name)] == ["1", "2"]
    assert not [path for path in kept[0].parents[2].iterdir() if path.name.startswith(".")]  # no half download
    shutil.rmtree(kept[0].parents[2])  # as on another machine
    found = elsewhere.resolve("topic")
    assert TextModel.load(found.folder, found.version).task == "topic"
    (found.folder / "mark").touch()
    assert (elsewhere.resolve("topic").folder / "mark").exists()  # not downloaded again


def test_download_that_is_damaged_is_downloaded_again(elsewhere, tmp_path):
    made = elsewhere.register("topic", write_text_version(tmp_path / "v"))
    damage(made.folder)
    with pytest.raises(RegistryError, match="corrupt") as caught:
        elsewhere.promote("topic", made.version)
    assert caught.value.reason == "corrupt"
    assert elsewhere.promote("topic", made.version).version == made.version


def test_upload_that_is_damaged_is_not_registered(elsewhere, tmp_path, monkeypatch):
    download = stores.Store._download

    def download_badly(self, source):
        copy = download(self, source)
        damage(copy)
        return copy

    monkeypatch.setattr(stores.Store, "_download", download_badly)
    with pytest.raises(RegistryError, match="arrived damaged"):
        elsewhere.register("topic", write_text_version(tmp_path / "v"))
    assert elsewhere.versions("topic") == []


def test_version_downloaded_before_is_named_when_the_server_is_down(tmp_path, monkeypatch):
    monkeypatch.setenv("XEDGE_HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = f"http://127.0.0.1:{closed_port()}"
    store = stores.Store(uri)
    kept = store.registered("xedge-topic", "4", "runs:/1", write_text_version(tmp_path / "copy"))
    with pytest.raises(RegistryError, match=f"set XEDGE_TOPIC_MODEL={kept} to use version 4, downloaded before"):
        Registry(uri).resolve("topic")


@pytest.mark.long
@pytest.mark.skipif(
    importlib.util.find_spec("flask") is None, reason="mlflow-skinny has no server: install xedge[test]"
)
def test_mlflow_server_keeps_versions(tmp_path, monkeypatch):
    monkeypatch.setenv("XEDGE_HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    port = closed_port()
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path}/m.db", "--artifacts-destination", str(tmp_path / "files")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: answers(port), "the server answers")
            registry = Registry(f"http://127.0.0.1:{port}")
            with pytest.raises(RegistryError, match="no model is registered"):
                registry.resolve("topic")
            for seed in (1, 2):
                made = registry.register("topic", write_text_version(tmp_path / f"v{seed}", seed=seed))
                registry.promote("topic", made.version)
            assert [(one.version, one.aliases) for one in registry.versions("topic")] == [
                ("2", ("production",)),
                ("1", ()),
            ]
            assert registry.rollback("topic").version == "1"
            shutil.rmtree(tmp_path / "models")
            assert TextModel.load(registry.resolve("topic").folder).task == "topic"
            with pytest.raises(RegistryError, match="xedge-topic has the versions 1, 2"):
                registry.resolve("topic", "champion")
        finally:
            process.terminate()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_command_line_lists_promotes_and_rolls_back(registry, add, capsys):
    where = ["--registry", registry.where]
    assert main(["registry", "list", *where]) == 0
    assert "no versions: train and register one with `make text`" in capsys.readouterr().out
    for seed in (1, 2):
        add(seed=seed)
    add("sentiment")
    for command, said in (
        (["promote", "topic", "1"], "xedge-topic/1 is in production"),
        (["promote", "topic", "2"], "xedge-topic/2 is in production"),
        (["rollback", "topic"], "xedge-topic/1 is in production"),
    ):
        assert main(["registry", *command, *where]) == 0
        assert capsys.readouterr().out.strip() == said
    assert main(["registry", "list", *where]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"model registry {registry.where}"
    assert [line.split()[:3] for line in lines[2:4]] == [
        ["xedge-topic", "2", "0.520"],
        ["xedge-topic", "1", "production"],
    ]
    assert lines[4].startswith("xedge-sentiment")
    assert main(["registry", "list", "sentiment", *where]) == 0
    assert "xedge-topic" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["promote", "topic", "7"], "no model is registered as xedge-topic"),
        (["rollback", "topic"], "no model is registered as xedge-topic"),
    ],
)
def test_command_line_that_cannot_says_why(registry, capsys, command, said):
    assert main(["registry", *command, "--registry", registry.where]) == EXIT_FAILED
    assert said in capsys.readouterr().err
