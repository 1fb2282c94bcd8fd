"""Fixtures: the reference models and real brokers of both kinds, started once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import unique_prefix

import xedge
from xedge.core.exceptions import ModelError
from xedge.core.paths import models_dir
from xedge.models.reference import REFERENCE_MODELS, read_card
from xedge.serving.broker import Broker, find_mosquitto
from xedge.text.labels import TASKS
from xedge.text.registry.registry import Registry


@pytest.fixture(scope="session", autouse=True)
def _no_broker_of_the_environment() -> Iterator[None]:
    """Tests start their own brokers, whatever the shell they run in is set to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("XEDGE_BROKER", raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def _registry_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The model registry of all tests and of the processes they start: never the project's own."""
    folder = tmp_path_factory.mktemp("registry")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XEDGE_TOPIC_MODEL", "XEDGE_SENTIMENT_MODEL", "XEDGE_TEXT_POLL_S", "XEDGE_TEXT_LOAD_TIMEOUT_S"):
            patch.delenv(name, raising=False)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        yield folder


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model registry without models, to be copied: MLflow takes seconds to make its tables."""
    folder = tmp_path_factory.mktemp("empty") / "registry"
    Registry(folder).connect()
    return folder


@pytest.fixture(scope="session")
def text_registry(_registry_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """The tests' registry with both text models in it, trained quickly and in production.

    Tests that register or promote on purpose make a `Registry` of their own: this one is everybody's.
    """
    from xedge.text.training.train import train

    registry = Registry(_registry_folder)
    for task in TASKS:
        folder = tmp_path_factory.mktemp("trained") / task
        train(task, folder, quick=True)
        registry.promote(task, registry.register(task, folder).version)
    return registry


def _is_intact(name: str) -> bool:
    try:
        return read_card(models_dir() / f"{name}.json").is_intact()
    except ModelError:
        return False


@pytest.fixture(scope="session")
def models() -> Path:
    """The folder of the reference models; what is missing is built quickly, what is there is left alone."""
    missing = [name for name in REFERENCE_MODELS if not _is_intact(name)]
    if missing:
        xedge.build(missing, quick=True)
    return models_dir()


@pytest.fixture(scope="session", params=["mosquitto", "embedded"])
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """A running broker of each kind in turn; tests share it and keep apart by prefix."""
    if request.param == "mosquitto" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    with Broker(kind=request.param, name=f"tests-{request.param}") as running:
        yield running


@pytest.fixture(scope="session")
def any_broker() -> Iterator[Broker]:
    """A running broker of the kind found first, for tests to which the kind does not matter."""
    kind = "mosquitto" if find_mosquitto() else "embedded"
    with Broker(kind=kind, name="tests-any") as running:
        yield running


@pytest.fixture
def prefix() -> str:
    """A topic prefix of this test's own."""
    return unique_prefix()
