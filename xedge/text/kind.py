"""Text models as a kind of models, an entry point that lower rooms need not know: their folders and their requests."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Generic

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType
from numpy.typing import NDArray

from xedge.core.exceptions import RequestError
from xedge.models.engines import Engine
from xedge.serving.messages import MAX_PAYLOAD_BYTES, Features, RequestDecoder, RequestId, Tensor, Timestamp
from xedge.serving.messages import encode as encode_json
from xedge.text.features import BUCKETS, MAX_FEATURES, encode, padded
from xedge.text.labels import TASKS
from xedge.text.model import LABELS, TextModel
from xedge.text.registry import versions

SAMPLE = "The council approved a plan to rebuild the old harbour before the summer festival begins."
architectures = ("xedge.text.architecture",)
_REGISTERED = re.compile(rf"(?:models:/+)?xedge-(?:{'|'.join(TASKS)})(?:[@/][^@/]+)?")


def registered_folder(model: str) -> Path | None:
    """Return the folder of a text model that is named as in the registry, or None for any other name.

    `xedge-topic` is what `predict_topic` would take, `xedge-topic@ALIAS` and `xedge-topic/NUMBER` are of the registry
    (RegistryError if it has none such, or cannot be reached).
    """
    if not _REGISTERED.fullmatch(model):
        return None
    from xedge.text.registry.registry import Registry

    reference = versions.parse(model)
    task = reference.name.removeprefix("xedge-")
    if model == reference.name:
        return versions.configured_folder(task) or Registry().resolve(task).folder
    return Registry()._resolve(task, reference).folder


def owns(folder: Path) -> bool:
    """Return whether `folder` holds a version of a text model."""
    return (folder / LABELS).is_file()


def topic_texts() -> tuple[str, ...]:
    """Return the sentences that ship with xedge: what `Texts()` sends."""
    from xedge.text.training import corpus

    return corpus.read("topic").texts


class TextRequest(msgspec.Struct, Generic[Features]):
    """One message on the request topic of a text model: `text` or `features`."""

    device_id: str
    timestamp_us: Timestamp
    features: Features | UnsetType = UNSET
    text: str | UnsetType = UNSET
    trace: bool = False
    request_id: RequestId | UnsetType = UNSET


def encode_request(
    device_id: str,
    timestamp_us: int,
    text: str,
    *,
    binary: bool = False,
    trace: bool = False,
    request_id: int | UnsetType = UNSET,
) -> bytes:
    """Return one request with a text as bytes: JSON, or MessagePack if `binary`."""
    request: TextRequest[Any] = TextRequest(device_id, timestamp_us, text=text, trace=trace, request_id=request_id)
    return msgspec.msgpack.encode(request) if binary else encode_json(request)


class TextRequestDecoder(RequestDecoder):
    """Bytes to checked requests for a text model, whose outputs are called `labels`.

    A request has `text`, as long as a message may be, or `features`, at most `MAX_FEATURES` ids as `encode` gives them.
    """

    def __init__(self, labels: Sequence[str], max_payload_bytes: int = MAX_PAYLOAD_BYTES) -> None:
        super().__init__((-1,), np.dtype(np.int32), max_payload_bytes)
        self.labels, self._flat = tuple(labels), False
        self._json: Any = msgspec.json.Decoder(TextRequest[list[Annotated[int, Meta(ge=0, lt=BUCKETS)]]])
        self._msgpack: Any = msgspec.msgpack.Decoder(TextRequest[Tensor])

    def decode(self, payload: bytes) -> Any:
        """Return the request, its `features` the ids of the text, shape (m,); RequestError if it is not one."""
        request: Any = super().decode(payload)
        if (request.features is UNSET) == (request.text is UNSET):
            raise RequestError("wrong_type", "a request to a text model has either `text` or `features`")
        if request.features is UNSET:
            request.features, request.text = encode(request.text), UNSET
        return request

    def stack(self, features: list[Any]) -> NDArray[Any]:
        """Return the batch (n, L) of decoded features, padded with 0."""
        return padded(features)

    def one(self, features: Any) -> NDArray[Any]:
        """Return the batch (1, L) of one text, or of its ids; RequestError if it is neither."""
        return padded([encode(features) if isinstance(features, str) else self._ids(super().one(features)[0])])

    def sample(self) -> NDArray[Any]:
        """Return the batch (1, L) of a sentence of usual length."""
        return padded([encode(SAMPLE)])

    def _array(self, tensor: Any) -> Any:
        return tensor if tensor is UNSET else super()._array(tensor)

    def _nested(self, features: Any) -> Any:
        return features if features is UNSET else self._ids(super()._nested(features))

    def _ids(self, ids: NDArray[Any]) -> NDArray[Any]:
        if len(ids) > MAX_FEATURES:
            raise RequestError("wrong_shape", f"features hold {len(ids)} ids; a text has at most {MAX_FEATURES}")
        if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < BUCKETS:
            raise RequestError("not_finite", f"features hold an id that is not between 0 and {BUCKETS - 1}")
        return ids


def request_format(engine: Engine, max_payload_bytes: int) -> TextRequestDecoder:
    """Return the decoder of requests for the text model in `engine`, whose folder is checked as a whole."""
    return TextRequestDecoder(TextModel.load(engine.path.parent, engine=engine).labels, max_payload_bytes)
