"""Text models as a kind of models: registered as an entry point, so that serving and scenarios need not know them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xedge.text.labels import TASKS

if TYPE_CHECKING:
    from xedge.models.engines import Engine
    from xedge.text.requests import TextRequestDecoder

architectures = ("xedge.text.architecture",)
_REGISTERED = re.compile(rf"(?:models:/+)?xedge-(?:{'|'.join(TASKS)})(?:[@/][^@/]+)?")


def registered_folder(model: str) -> Path | None:
    """Return the folder of a text model that is named as in the registry, or None for any other name.

    `xedge-topic` is what `predict_topic` would take, `xedge-topic@ALIAS` and `xedge-topic/NUMBER` are of the registry.

    Raises:
        RegistryError: the registry has no such model or version, or cannot be reached.
    """
    if not _REGISTERED.fullmatch(model):
        return None
    from xedge.text.registry import references
    from xedge.text.registry.registry import Registry

    reference = references.parse(model)
    task = reference.name.removeprefix("xedge-")
    if model == reference.name:
        return references.configured_folder(task) or Registry().resolve(task).folder
    return Registry()._resolve(task, reference).folder


def owns(folder: Path) -> bool:
    """Return whether `folder` holds a version of a text model."""
    return (folder / "labels.json").is_file()


def request_format(engine: Engine, max_payload_bytes: int) -> TextRequestDecoder:
    """Return the decoder of requests for the text model in `engine`, whose folder is checked as a whole."""
    from xedge.text.model import TextModel
    from xedge.text.requests import TextRequestDecoder

    return TextRequestDecoder(TextModel.load(engine.path.parent, engine=engine).labels, max_payload_bytes)


def topic_texts() -> tuple[str, ...]:
    """Return the sentences that ship with xedge: what `Texts()` sends."""
    from xedge.text.training import corpus

    return corpus.read("topic").texts


def encode_request(device_id: str, timestamp_us: int, text: str, **options: Any) -> bytes:
    """Return one request with a text as bytes; see `xedge.text.requests.encode_text_request`."""
    from xedge.text.requests import encode_text_request

    return encode_text_request(device_id, timestamp_us, text, **options)
