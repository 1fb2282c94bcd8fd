"""The wire format: topics, requests in JSON or MessagePack, results and error answers; typed, no I/O."""

import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, Generic, TypeVar

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType
from numpy.typing import NDArray

from xedge.core.exceptions import RequestError
from xedge.models.engines.engine import fits

MAX_PAYLOAD_BYTES = 1 << 20
#: Every word a refused request is counted under.
REASONS = ("not_decodable", "wrong_type", "wrong_shape", "not_finite", "too_large", "device_id", "engine", "overloaded")

Features = TypeVar("Features")
Timestamp = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
RequestId = Annotated[int, Meta(ge=0, le=2**63 - 1)]
# A level of a topic that a broker may not disconnect for: no / + #, and none of the characters that MQTT 3.1.1 (1.5.3)
# forbids or lets a receiver refuse: NUL, surrogates, control characters, non-characters.
_NON_CHARACTERS = "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
_DEVICE_ID = re.compile(rf"[^/+#\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef{_NON_CHARACTERS}]{{1,256}}")
_DTYPES = ("bool", *(f"{u}int{bits}" for u in ("", "u") for bits in (8, 16, 32, 64)), "float16", "float32", "float64")
_MAP_BYTES = frozenset([*range(0x80, 0x90), 0xDE, 0xDF])  # how a MessagePack map begins; JSON never does


class Ping(msgspec.Struct):
    """Asks a service whether it serves; `service` is its name, or empty for any."""

    device_id: str
    service: str = ""


class Pong(msgspec.Struct):
    """A service's answer to a ping: its name, its counters since the start, and what it says of itself."""

    service: str
    uptime_s: float
    counts: dict[str, int]
    refused: dict[str, int]
    description: dict[str, Any]


class Request(msgspec.Struct, Generic[Features]):
    """One message on the request topic; a `request_id` comes back with the answer, unknown fields are ignored."""

    device_id: str
    timestamp_us: Timestamp
    features: Features
    trace: bool = False
    request_id: RequestId | UnsetType = UNSET


class Tensor(msgspec.Struct):
    """Features in the binary encoding: C-ordered little-endian `data` of `dtype` and `shape`."""

    dtype: str
    shape: list[int]
    data: bytes


class Clock(msgspec.Struct, gc=False, omit_defaults=True):
    """A service's clock readings for one request, monotonic nanoseconds of its host."""

    arrived_ns: int
    started_ns: int
    finished_ns: int
    departed_ns: int
    read_ns: int | UnsetType = UNSET  # off the socket, before the uplink; a service of an older xedge has none


class Result(msgspec.Struct, gc=False, omit_defaults=True):
    """What a service answers; a label comes from text models, the latencies from the cloud, the trace if asked for."""

    device_id: str
    timestamp_us: int
    prediction: Any
    inference_time_ms: float
    label: str | UnsetType = UNSET
    cloud_latency_ms: float | UnsetType = UNSET
    total_latency_ms: float | UnsetType = UNSET
    trace: Clock | UnsetType = UNSET
    request_id: int | UnsetType = UNSET


class ErrorAnswer(msgspec.Struct, gc=False):
    """What a refused request is answered with, where the device is known."""

    device_id: str
    timestamp_us: int | None
    error: str
    reason: str
    request_id: int | UnsetType = UNSET


encode = msgspec.json.Encoder().encode


def is_device_id(value: object) -> bool:
    """Return whether `value` can be a level of a topic: 1 to 256 characters, no / + #, control or non-character."""
    return isinstance(value, str) and _DEVICE_ID.fullmatch(value) is not None


def encode_request(
    device_id: str,
    timestamp_us: int,
    features: NDArray[Any],
    *,
    binary: bool = False,
    trace: bool = False,
    request_id: int | UnsetType = UNSET,
) -> bytes:
    """Return one request as bytes: JSON, or MessagePack with dtype, shape and raw bytes if `binary`."""
    if not binary:
        return encode(Request(device_id, timestamp_us, features.tolist(), trace, request_id))
    little = np.ascontiguousarray(features, dtype=features.dtype.newbyteorder("<"))
    tensor = Tensor(features.dtype.name, list(features.shape), little.tobytes())
    return msgspec.msgpack.encode(Request(device_id, timestamp_us, tensor, trace, request_id))


class RequestDecoder:
    """Bytes to checked requests for a model whose input is `shape` (without the batch axis) of `dtype`.

    -1 in `shape` is an axis of any length; requests whose lengths differ go to the engine one by one.
    """

    labels: tuple[str, ...] = ()  # what the elements of an output are called, where they have names

    def __init__(self, shape: Sequence[int], dtype: np.dtype[Any], max_payload_bytes: int = MAX_PAYLOAD_BYTES) -> None:
        self.shape, self.dtype, self._max_bytes = tuple(shape), np.dtype(dtype), max_payload_bytes
        features: Any = _number(self.dtype)
        for _ in self.shape:
            features = list[features]
        self._json = msgspec.json.Decoder(Request[features])
        self._msgpack = msgspec.msgpack.Decoder(Request[Tensor])
        self._flat = len(self.shape) == 1

    def decode(self, payload: bytes) -> Request[Any]:
        """Return the request, its `features` a list (one dimension) or an array of the model's shape.

        Raises:
            RequestError: it is not a request for this model; `reason` is one of `REASONS`.
        """
        if len(payload) > self._max_bytes:
            raise RequestError("too_large", f"{len(payload)} bytes; at most {self._max_bytes} are read")
        try:
            if payload and payload[0] in _MAP_BYTES:
                request: Request[Any] = self._msgpack.decode(payload)
                request.features = self._array(request.features)
            else:
                request = self._json.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise _unreadable(payload, exc) from None
        if not self._flat:
            request.features = self._nested(request.features)
        elif len(request.features) != self.shape[0]:
            self._check_shape((len(request.features),))
        return request

    def stack(self, features: list[Any]) -> NDArray[Any]:
        """Return the batch (n, *shape) of decoded features."""
        return np.array(features, dtype=self.dtype)

    def one(self, features: Any) -> NDArray[Any]:
        """Return the batch (1, *shape) of one input that did not come as a message.

        Raises:
            RequestError: it is not what the model takes.
        """
        try:
            batch = np.asarray(features, dtype=self.dtype)[np.newaxis]
        except (TypeError, ValueError) as exc:
            raise RequestError("wrong_type", f"features are not numbers: {exc}") from None
        self._check_shape(batch.shape[1:])
        if not np.isfinite(batch).all():
            raise RequestError("not_finite", "features hold NaN or infinity")
        return batch

    def sample(self) -> NDArray[Any]:
        """Return a batch of one to warm an engine up with, shape (1, *shape)."""
        return np.zeros((1, *(abs(length) for length in self.shape)), self.dtype)

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        if not fits(shape, self.shape):
            got, wanted = list(shape), list(self.shape)
            raise RequestError("wrong_shape", f"features have shape {got}; the model takes {wanted}")

    def _nested(self, features: Any) -> NDArray[Any]:
        try:
            array = np.array(features, dtype=self.dtype)
        except ValueError:
            raise RequestError("wrong_shape", "features: rows differ in length") from None
        self._check_shape(array.shape)
        return array

    def _array(self, tensor: Tensor) -> NDArray[Any]:
        if tensor.dtype not in _DTYPES:
            said = f"features: dtype {tensor.dtype[:40]!r} is not one of {', '.join(_DTYPES)}"
            raise RequestError("wrong_type", said)
        dtype = np.dtype(tensor.dtype)
        if self.dtype.kind in "iu" and dtype.kind == "f":
            raise RequestError("wrong_type", f"features: dtype {tensor.dtype} where the model takes whole numbers")
        try:
            array = np.frombuffer(tensor.data, dtype.newbyteorder("<")).reshape(tensor.shape)
        except ValueError:
            said = f"features: {len(tensor.data)} bytes are not {tensor.shape} of {tensor.dtype}"
            raise RequestError("wrong_shape", said) from None
        self._check_shape(array.shape)
        if self.dtype.kind in "iu" and dtype.kind in "iu" and array.size:
            info = np.iinfo(self.dtype)
            if int(array.min()) < info.min or int(array.max()) > info.max:
                raise RequestError("not_finite", f"features hold a number beyond {self.dtype.name}")
        with np.errstate(over="ignore", invalid="ignore"):
            array = array.astype(self.dtype)
        if self.dtype.kind == "f" and not np.isfinite(array).all():
            raise RequestError("not_finite", f"features hold NaN, infinity or a number beyond {self.dtype.name}")
        return array


def _unreadable(payload: bytes, exc: Exception) -> RequestError:
    if isinstance(exc, msgspec.ValidationError):
        too_far = "features" in str(exc) and ("out of range" in str(exc) or "=" in str(exc))
        return RequestError("not_finite" if too_far else "wrong_type", str(exc))
    if _salvage(payload) and re.search(r"\b(NaN|Infinity)\b", payload.decode("utf-8", "replace")):
        return RequestError("not_finite", "features hold NaN or Infinity, which JSON has no number for")
    return RequestError("not_decodable", f"neither JSON nor MessagePack: {exc}")


def _number(dtype: np.dtype[Any]) -> Any:
    """The type of one feature in JSON, bounded so that it is a finite number in the model's dtype."""
    if dtype.kind == "f":
        limit = float(np.finfo(dtype).max)
        return Annotated[float, Meta(ge=-limit, le=limit)]
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return Annotated[int, Meta(ge=int(info.min), le=min(int(info.max), 2**63 - 1))]
    return bool


def _salvage(payload: bytes) -> dict[str, Any]:
    """The fields of a payload that is not a request, as far as it is a map at all; {} if not."""
    try:
        fields = msgspec.msgpack.decode(payload) if payload[:1] and payload[0] in _MAP_BYTES else json.loads(payload)
    except (ValueError, RecursionError, msgspec.DecodeError):
        return {}
    return fields if isinstance(fields, dict) else {}


def error_answer(payload: bytes, error: RequestError) -> ErrorAnswer | None:
    """Return the answer to a refused payload, or None where no valid device can be read from it."""
    fields = {} if error.reason == "too_large" else _salvage(payload)
    device_id, timestamp_us, request_id = map(fields.get, ("device_id", "timestamp_us", "request_id"))
    if not isinstance(device_id, str) or not is_device_id(device_id):
        return None
    if type(timestamp_us) is not int or abs(timestamp_us) >= 2**63:
        timestamp_us = None
    if type(request_id) is not int or not 0 <= request_id < 2**63:
        request_id = UNSET
    return ErrorAnswer(device_id, timestamp_us, str(error), error.reason, request_id)
