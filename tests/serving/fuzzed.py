"""Messages as strangers send them: hypothesis strategies for each kind, and a fast stream of mutations for counts."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
from hypothesis import strategies as st

from xedge.scenario.routes import Topics
from xedge.serving.messages import encode_request, is_device_id
from xedge.serving.services import EdgeMLService

#: Ids that brokers disconnect for, or that lead to another topic.
POISON = ["", "a/b", "+", "#", "a\0b", "\x01", "\x7f", "\x9f", "\ufffe", "\uffff", "\U0001fffe", "\ud800", "d" * 70_000]
NUMBERS = [0, -1, 1.5, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**30, 1e308, 1e400, float("nan"), float("inf"), True]
ODD = [None, [], {}, [[]], {"a": {}}, "x", "NaN", *POISON, *NUMBERS, [1] * 31, [1] * 33, [None] * 32, [[0.5] * 32]]
FEATURES = [0.5] * 32
REQUEST = {"device_id": "sensor", "timestamp_us": 1, "features": FEATURES, "trace": True, "request_id": 7}
TENSOR = {"dtype": "float32", "shape": [32], "data": b"\0" * 128}
PING = {"device_id": "asks", "service": ""}
DEPTHS = (900, 990, 1100, 5000)


class Recorder:
    """Stands for the connection in one process: keeps what is published, of which a broker must take every topic."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []

    def publish(self, topic: str, payload: bytes, _qos: int) -> Recorder:
        self.published.append((topic, payload))
        return self

    rc = 0

    def turn(self, _timeout_s: float) -> None: ...

    def flush(self) -> None: ...


class Stepped:
    """A whole service without its thread and broker: one message in, one turn of its loop, everything checked."""

    def __init__(self, model: str = "anomaly_detector") -> None:
        self.service = EdgeMLService(model)
        self.service.load_model()
        self.service._begin_links()
        self.out: Any = Recorder()
        self.service._connection = self.out
        self.topics = Topics("")

    def step(self, topic: str, payload: bytes) -> list[tuple[str, bytes]]:
        """Give the service one message and return what it published; AssertionError if that is not all in order."""
        service, counts = self.service, self.service.counts
        self.out.published.clear()
        before = counts["received"], counts["answered"] + sum(service.refused.values())
        service._on_message(topic, payload)
        service._turn(self.out)
        after = counts["received"], counts["answered"] + sum(service.refused.values())
        assert after[0] - before[0] == (topic == self.topics.request)
        assert after[1] - before[1] == after[0] - before[0], "neither answered nor refused"
        assert (service._capacity.requests, service._capacity.bytes) == (0, 0)
        for where, said in self.out.published:
            _, _, device_id = where.rpartition("/")
            assert is_device_id(device_id), where
            assert len(where.encode()) < 65_536
            json.loads(said)
        return list(self.out.published)


def _values() -> st.SearchStrategy[Any]:
    leaves = st.one_of(st.sampled_from(ODD), st.text(max_size=20), st.integers(), st.floats(), st.none(), st.booleans())
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    )


def _maps(of: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The fields of a message, each as it should be, as it should not, or absent, and perhaps a strange one."""
    fields = {name: st.just(value) | st.sampled_from(ODD) | _values() for name, value in of.items()}
    return st.fixed_dictionaries({}, optional=fields | {"strange": _values()})


def _json(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _msgpack(value: Any) -> bytes:
    try:
        return msgspec.msgpack.encode(value)
    except (OverflowError, UnicodeEncodeError, RecursionError):
        return b"\x81\xc1"


REQUESTS = (
    _maps(REQUEST).map(_json)
    | st.builds(lambda fields, tensor: _msgpack(fields | {"features": tensor}), _maps(REQUEST), _maps(TENSOR))
    | st.binary(max_size=200)
)
PINGS = _maps(PING).map(_json) | st.binary(max_size=200)
DEEP = st.builds(
    lambda depth, opening, field: b'{"device_id":"a","%s":%s' % (field, opening * depth),
    st.sampled_from(DEPTHS), st.sampled_from([b"[", b'{"a":']), st.sampled_from([b"x", b"features", b"service"]),
)  # fmt: skip


def stream(seed: int) -> Iterator[tuple[bool, bytes]]:
    """Yield (is it a ping, payload) without end: mutations of good messages, poison ids, deep ones, and noise."""
    rng = random.Random(seed)
    good = [_json(REQUEST), encode_request("sensor", 1, np.array(FEATURES, np.float32), binary=True), _json(PING)]
    while True:
        kind = rng.random()
        if kind < 0.45:
            payload = _mutated(rng, bytearray(rng.choice(good)))
        elif kind < 0.85:
            fields = dict(rng.choice([REQUEST, PING]))
            for _ in range(rng.randrange(1, 4)):
                fields[rng.choice([*REQUEST, *PING, "strange"])] = rng.choice(ODD)
            payload = (_json if rng.random() < 0.7 else _msgpack)(fields)
        elif kind < 0.95:
            payload = _json(rng.choice([REQUEST, PING]) | {"device_id": rng.choice(POISON)})
        elif kind < 0.97:
            payload = b'{"device_id":"a","x":' + rng.choice([b"[", b'{"a":']) * rng.choice(DEPTHS)
            if rng.random() < 0.5:
                payload = b'{"device_id":"a","x":' + b"[" * 990 + b"]" * 990 + b"}"
        else:
            payload = rng.randbytes(rng.randrange(300))
        yield rng.random() < 0.3, payload


def _mutated(rng: random.Random, payload: bytearray) -> bytes:
    for _ in range(rng.randrange(1, 6)):
        at, kind = rng.randrange(len(payload) + 1), rng.randrange(4)
        if kind == 0 and at < len(payload):
            payload[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            payload[at:at] = rng.randbytes(rng.randrange(1, 5))
        elif kind == 2:
            del payload[at : at + rng.randrange(1, 9)]
        else:
            payload[at:at] = payload[rng.randrange(len(payload) + 1) :][: rng.randrange(40)]
    return bytes(payload)
