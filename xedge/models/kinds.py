"""Kinds of models that take something else than numbers: they register themselves, so that no room below knows them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from xedge.core.extras import plugin, plugins

if TYPE_CHECKING:
    from xedge.models.engines import Engine

NUMBERS, GROUP = "numbers", "xedge.model_kinds"


class RequestFormat(Protocol):
    """Between bytes and batches: how requests for one model are read."""

    labels: tuple[str, ...]

    def decode(self, payload: bytes) -> Any:
        """Return the request with its checked `features`; raises RequestError for one that the model does not take."""

    def stack(self, features: list[Any]) -> NDArray[Any]:
        """Return the batch of decoded features."""

    def one(self, features: Any) -> NDArray[Any]:
        """Return the batch of one input that did not come as a message."""

    def sample(self) -> NDArray[Any]:
        """Return a batch of one to warm an engine up with."""


class ModelKind(Protocol):
    """One kind of models, such as "text"; an entry point of that name in the group `xedge.model_kinds`."""

    architectures: tuple[str, ...]
    """The modules with the classes that .pt files of this kind name."""

    def registered_folder(self, model: str) -> Path | None:
        """Return the folder of a model named as in this kind's registry; None for a name of another form."""

    def owns(self, folder: Path) -> bool:
        """Return whether `folder` holds a model of this kind."""

    def request_format(self, engine: Engine, max_payload_bytes: int) -> RequestFormat:
        """Return how requests for the model in `engine` are read, after checking its files."""

    def encode_request(self, device_id: str, timestamp_us: int, content: Any, **options: Any) -> bytes:
        """Return one request as bytes; `options` are those of `xedge.serving.messages.encode_request`."""


def model_kind(name: str) -> ModelKind:
    """Return the kind registered under `name`.

    Raises:
        MissingExtraError: nothing is registered under that name.
    """
    kind: ModelKind = plugin(GROUP, name)
    return kind


def architectures_of_kinds() -> list[str]:
    """Return the modules that the registered kinds have their architectures in."""
    return [module for kind in plugins(GROUP).values() for module in getattr(kind, "architectures", ())]


def kind_in(folder: Path) -> str:
    """Return the name of the kind whose model `folder` holds, "numbers" for any other folder."""
    return next((name for name, kind in plugins(GROUP).items() if kind.owns(folder)), NUMBERS)


def registered_folder(model: str) -> Path | None:
    """Return the folder of a model that is named as in a registry, or None for any other name.

    Raises:
        RegistryError: the registry has no such model or version, or cannot be reached.
    """
    folders = (kind.registered_folder(model) for kind in plugins(GROUP).values())
    return next((folder for folder in folders if folder is not None), None)
