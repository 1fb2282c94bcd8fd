"""Fixtures: models and a registry that all workers share, and real brokers of both kinds, started once a worker.

A module's tests stay on one worker, so that what a module starts is started once. What waits or computes longest
begins first. Tests marked `long` run in `make test-all` only.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from helpers import unique_prefix
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

import xedge
from xedge.core.exceptions import ModelError
from xedge.core.paths import models_dir
from xedge.models.reference import ABOUT, REFERENCE_MODELS, read_card
from xedge.serving.broker import Broker, find_mosquitto
from xedge.text.labels import TASKS
from xedge.text.registry.registry import Registry

settings.register_profile("repeatable", derandomize=True, deadline=None, database=None, print_blob=False)
settings.load_profile("repeatable")


#: Modules that begin first, the longest before the others, so that no worker is left alone with one in the end.
FIRST = ("test_container", "test_notebooks", "test_text_kafka", "test_measured", "test_load", "test_inversion")
#: Modules that start nothing together: their tests go to either worker.
APART = ("test_notebooks",)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the modules named above first."""
    items.sort(key=lambda item: FIRST.index(item.path.stem) if item.path.stem in FIRST else len(FIRST))


class ByModule(LoadScopeScheduling):
    """Hands out modules, not tests; groups by marks (`--dist loadgroup`) do nothing with pytest 9.2."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return nodeid if Path(module).stem in APART else module


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByModule:
    """Return how `pytest -n 2` splits the tests."""
    return ByModule(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """After a second look at what had failed: name what passes now."""
    if getattr(config.option, "lf", False) and (flaky := terminalreporter.getreports("passed")):
        terminalreporter.section("flaky: failed at the first look, passed at the second")
        for report in flaky:
            terminalreporter.line(f"FLAKY {report.nodeid}")


def _shared(tmp_path_factory: pytest.TempPathFactory, name: str) -> Path:
    """Return the path `name` in the folder that all workers of this run share."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name


def _once(folder: Path, make: Callable[[], object]) -> Path:
    """Return the shared folder that `make` fills; the worker that asks first makes it, the others wait for it."""
    with FileLock(f"{folder}.lock"):
        if not (whole := Path(f"{folder}.whole")).exists():
            make()
            whole.touch()
    return folder


@pytest.fixture(scope="session", autouse=True)
def _no_broker_of_the_environment() -> Iterator[None]:
    """Tests start their own brokers, whatever the shell they run in is set to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("XEDGE_BROKER", raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def _registry_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The model registry of all tests and of the processes they start: never the project's own."""
    folder = _shared(tmp_path_factory, "registry")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XEDGE_TOPIC_MODEL", "XEDGE_SENTIMENT_MODEL", "XEDGE_TEXT_POLL_S", "XEDGE_TEXT_LOAD_TIMEOUT_S"):
            patch.delenv(name, raising=False)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        yield folder


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model registry without models, to be copied: MLflow takes seconds to make its tables."""
    folder = _shared(tmp_path_factory, "empty")
    return _once(folder, lambda: Registry(folder).connect())


@pytest.fixture(scope="session")
def text_registry(_registry_folder: Path, empty_registry: Path, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """The tests' registry with both text models in it, trained quickly and in production.

    Tests that register or promote on purpose make a `Registry` of their own: this one is everybody's.
    """
    registry = Registry(_registry_folder)

    def train_and_register() -> None:
        from xedge.text.training.train import train

        shutil.copytree(empty_registry, _registry_folder, dirs_exist_ok=True)
        for task in TASKS:
            folder = tmp_path_factory.mktemp("trained") / task
            train(task, folder, quick=True)
            registry.promote(task, registry.register(task, folder).version)

    _once(_registry_folder, train_and_register)
    return registry


def _is_whole(name: str) -> bool:
    try:
        card = read_card(models_dir() / f"{name}.json")
    except ModelError:
        return False
    return card.is_intact() and card.facts.items() >= ABOUT[name].items()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the reference models; what is missing is built quickly, what is there is left alone."""

    def build_what_is_missing() -> None:
        if missing := [name for name in REFERENCE_MODELS if not _is_whole(name)]:
            xedge.build(missing, quick=True)

    _once(_shared(tmp_path_factory, "models"), build_what_is_missing)
    return models_dir()


@pytest.fixture(scope="session")
def mosquitto() -> Iterator[Broker]:
    """A running mosquitto; tests share it and keep apart by prefix."""
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    with Broker(kind="mosquitto", name="tests-mosquitto") as running:
        yield running


@pytest.fixture(scope="session")
def embedded() -> Iterator[Broker]:
    """A running broker that needs no mosquitto, shared like that one."""
    with Broker(kind="embedded", name="tests-embedded") as running:
        yield running


@pytest.fixture(params=["mosquitto", "embedded"])
def broker(request: pytest.FixtureRequest) -> Broker:
    """A running broker of each kind in turn."""
    running: Broker = request.getfixturevalue(request.param)
    return running


@pytest.fixture(scope="session")
def any_broker(request: pytest.FixtureRequest) -> Broker:
    """A running broker of the kind found first, for tests to which the kind does not matter."""
    running: Broker = request.getfixturevalue("mosquitto" if find_mosquitto() else "embedded")
    return running


@pytest.fixture
def prefix() -> str:
    """A topic prefix of this test's own."""
    return unique_prefix()
