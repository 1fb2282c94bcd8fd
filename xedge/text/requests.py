"""Requests for a text model: the text itself, or the ids that `features.encode` makes of it."""

from collections.abc import Sequence
from typing import Annotated, Any, Generic

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType
from numpy.typing import NDArray

from xedge.core.exceptions import RequestError
from xedge.serving.messages import MAX_PAYLOAD_BYTES, Features, RequestDecoder, RequestId, Tensor, Timestamp
from xedge.serving.messages import encode as encode_json
from xedge.text.features import BUCKETS, MAX_FEATURES, encode, padded

SAMPLE = "The council approved a plan to rebuild the old harbour before the summer festival begins."
_Ids = list[Annotated[int, Meta(ge=0, lt=BUCKETS)]]


class TextRequest(msgspec.Struct, Generic[Features]):
    """One message on the request topic of a text model: `text` or `features`."""

    device_id: str
    timestamp_us: Timestamp
    features: Features | UnsetType = UNSET
    text: str | UnsetType = UNSET
    trace: bool = False
    request_id: RequestId | UnsetType = UNSET


class TextRequestDecoder(RequestDecoder):
    """Bytes to checked requests for a text model, whose outputs are called `labels`.

    A request has `text`, as long as a message may be, or `features`, at most `MAX_FEATURES` ids.
    """

    def __init__(self, labels: Sequence[str], max_payload_bytes: int = MAX_PAYLOAD_BYTES) -> None:
        super().__init__((-1,), np.dtype(np.int32), max_payload_bytes)
        self.labels = tuple(labels)
        self._json: Any = msgspec.json.Decoder(TextRequest[_Ids])
        self._msgpack: Any = msgspec.msgpack.Decoder(TextRequest[Tensor])
        self._flat = False

    def decode(self, payload: bytes) -> Any:
        """Return the request, its `features` the ids of the text, shape (m,).

        Raises:
            RequestError: it is not a request for a text model; `reason` is one of `REASONS`.
        """
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
        """Return the batch (1, L) of one text, or of its ids.

        Raises:
            RequestError: it is neither.
        """
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


def encode_text_request(
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
