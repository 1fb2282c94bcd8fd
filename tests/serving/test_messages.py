"""The wire format: tables of payloads that are requests and of payloads that are not."""

from __future__ import annotations

import json
import math
import random

import msgspec
import numpy as np
import pytest

from xedge.core.exceptions import ConfigurationError, RequestError
from xedge.scenario.routes import Topics
from xedge.serving import messages
from xedge.serving.messages import RequestDecoder, encode, encode_request, error_answer, is_device_id

F32 = RequestDecoder((3,), np.dtype("float32"))
GRID = RequestDecoder((2, 3), np.dtype("float32"))
SCALAR = RequestDecoder((), np.dtype("float32"))
THREE = np.arange(3, dtype="<f4")
HEAD = b'{"device_id":"d","timestamp_us":1,"features":'
DEEP = 100_000


def body(**changes):
    return json.dumps({"device_id": "d", "timestamp_us": 1, "features": [1, 2, 3]} | changes).encode()


def tensor(array, **changes):
    array = np.asarray(array)
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": array.tobytes()} | changes


def packed(**changes):
    return msgspec.msgpack.encode({"device_id": "d", "timestamp_us": 1, "features": tensor(THREE)} | changes)


def refusal(decoder, payload):
    with pytest.raises(RequestError) as caught:
        decoder.decode(payload)
    assert caught.value.reason in messages.REASONS
    assert str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize(
    ("payload", "features"),
    [
        (body(), [1, 2, 3]),
        (body(features=[1.5, -2, 0]), [1.5, -2, 0]),
        (body(features=[1e-400, 3.4028234663852886e38, 10**30]), [0, 3.4028234663852886e38, 1e30]),
        (HEAD + b"[1e-400,1E2,-0.0]}", [0, 100, 0]),
        (body(unknown={"deep": [1, None, "x"]}), [1, 2, 3]),
        (b" \n" + body() + b"\n ", [1, 2, 3]),
        (packed(), [0, 1, 2]),
        (packed(unknown=[None, {"a": 1}]), [0, 1, 2]),
        (packed(features=tensor(THREE, unknown=1)), [0, 1, 2]),
        (packed(features=tensor(np.array([1, -2, 3], "int64"))), [1, -2, 3]),
        (packed(features=tensor(np.array([1, 0, 1], "bool"))), [1, 0, 1]),
        (packed(features=tensor(np.array([0.5, 2, 3], "float64"))), [0.5, 2, 3]),
        (packed(features=tensor(np.array([0.5, 2, 3], "float16"))), [0.5, 2, 3]),
    ],
)
def test_decode_returns_the_features_of_a_request(payload, features):
    request = F32.decode(payload)
    assert (request.device_id, request.timestamp_us, request.trace) == ("d", 1, False)
    np.testing.assert_array_equal(F32.stack([request.features]), np.array([features], "float32"))


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "not_decodable"),
        (b"hello", "not_decodable"),
        (b"NaN", "not_decodable"),
        (b"\xff\xfe\x00", "not_decodable"),
        (b"\x00" * 10, "not_decodable"),
        (b"\xef\xbb\xbf" + body(), "not_decodable"),
        (body()[:-1], "not_decodable"),
        (body()[:20], "not_decodable"),
        (body() + b"x", "not_decodable"),
        (body() + body(), "not_decodable"),
        (body(device_id="NaN")[:-1], "not_decodable"),
        (b'{"device_id":"\xff","timestamp_us":1,"features":[1,2,3]}', "not_decodable"),
        (body(device_id="\ud800"), "not_decodable"),
        (b'{"a":' * DEEP, "not_decodable"),
        (HEAD + b'[1,2,3],"x":' + b"[" * DEEP, "not_decodable"),
        (HEAD + b'[1,2,3],"x":' + b"[" * DEEP + b"]" * DEEP + b"}", "not_decodable"),
        (b"null", "wrong_type"),
        (b"1", "wrong_type"),
        (b'"text"', "wrong_type"),
        (b"[]", "wrong_type"),
        (b"{}", "wrong_type"),
        (b'{"device_id":"d"}', "wrong_type"),
        (b'{"device_id":"d","timestamp_us":1}', "wrong_type"),
        (b'{"timestamp_us":1,"features":[1,2,3]}', "wrong_type"),
        (body(device_id=1), "wrong_type"),
        (body(device_id=None), "wrong_type"),
        (body(device_id=["d"]), "wrong_type"),
        (body(timestamp_us="1"), "wrong_type"),
        (body(timestamp_us=1.5), "wrong_type"),
        (body(timestamp_us=True), "wrong_type"),
        (body(timestamp_us=None), "wrong_type"),
        (body(timestamp_us=2**63), "wrong_type"),
        (body(timestamp_us=-(2**63) - 1), "wrong_type"),
        (body(timestamp_us=10**40), "wrong_type"),
        (b'{"device_id":"d","timestamp_us":1e400,"features":[1,2,3]}', "wrong_type"),
        (body(trace=1), "wrong_type"),
        (body(trace=None), "wrong_type"),
        (body(features=None), "wrong_type"),
        (body(features="123"), "wrong_type"),
        (body(features={"0": 1}), "wrong_type"),
        (body(features=[1, "2", 3]), "wrong_type"),
        (body(features=[1, None, 3]), "wrong_type"),
        (body(features=[1, True, 3]), "wrong_type"),
        (body(features=[[1, 2, 3]]), "wrong_type"),
        (HEAD + b"[" * DEEP, "wrong_type"),
        (body(features=[]), "wrong_shape"),
        (body(features=[1, 2]), "wrong_shape"),
        (body(features=[1, 2, 3, 4]), "wrong_shape"),
        (body(features=[math.nan, 2, 3]), "not_finite"),
        (body(features=[1, math.inf, 3]), "not_finite"),
        (body(features=[1, 2, -math.inf]), "not_finite"),
        (body(features=[1e39, 2, 3]), "not_finite"),
        (body(features=[1, 2, -1e39]), "not_finite"),
        (HEAD + b"[1e400,2,3]}", "not_finite"),
        (body(features=[10**400, 2, 3]), "not_finite"),
    ],
    ids=lambda value: str(value[:60]) if isinstance(value, bytes) else value,
)
def test_decode_refuses_json_that_is_no_request(payload, reason):
    assert refusal(F32, payload) == reason


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (packed()[:-1], "not_decodable"),
        (packed()[:10], "not_decodable"),
        (packed() + b"x", "not_decodable"),
        (b"\xde", "not_decodable"),
        (b"\xdf\xff\xff\xff\xff", "not_decodable"),
        (b"\x81\xa9device_id\xa1\xff", "not_decodable"),
        (b"\x81\xa1a" * DEEP, "not_decodable"),
        (b"\x80", "wrong_type"),
        (b"\x81\x90\x01", "wrong_type"),
        (b"\x81\xc0\xc0", "wrong_type"),
        (packed(device_id=b"d"), "wrong_type"),
        (packed(timestamp_us=1.0), "wrong_type"),
        (packed(timestamp_us=2**63), "wrong_type"),
        (packed(features=[1.0, 2.0, 3.0]), "wrong_type"),
        (packed(features=None), "wrong_type"),
        (packed(features={}), "wrong_type"),
        (packed(features=tensor(THREE, dtype=4)), "wrong_type"),
        (packed(features=tensor(THREE, shape=3)), "wrong_type"),
        (packed(features=tensor(THREE, shape=[3.0])), "wrong_type"),
        (packed(features=tensor(THREE, data="text")), "wrong_type"),
        (packed(features=tensor(THREE, data=[0, 1])), "wrong_type"),
        (packed(features=tensor(THREE, shape=[2])), "wrong_shape"),
        (packed(features=tensor(THREE, shape=[3, 1])), "wrong_shape"),
        (packed(features=tensor(THREE, shape=[])), "wrong_shape"),
        (packed(features=tensor(THREE, shape=[0])), "wrong_shape"),
        (packed(features=tensor(THREE, shape=[-1, -1])), "wrong_shape"),
        (packed(features=tensor(THREE, shape=[1] * 70)), "wrong_shape"),
        (packed(features=tensor(THREE, shape=[2**62, 2**62])), "wrong_shape"),
        (packed(features=tensor(THREE, shape=[2**64 - 1])), "wrong_shape"),
        (packed(features=tensor(THREE, data=b"")), "wrong_shape"),
        (packed(features=tensor(THREE, data=b"abc")), "wrong_shape"),
        (packed(features=tensor(THREE, dtype="float64")), "wrong_shape"),
        (packed(features=tensor(np.arange(4, dtype="<f4"))), "wrong_shape"),
        (packed(features=tensor(np.array([math.nan, 1, 2], "<f4"))), "not_finite"),
        (packed(features=tensor(np.array([1, -math.inf, 2], "<f8"))), "not_finite"),
        (packed(features=tensor(np.array([1e39, 1, 2], "<f8"))), "not_finite"),
    ],
    ids=lambda value: str(value[:40]) if isinstance(value, bytes) else value,
)
def test_decode_refuses_messagepack_that_is_no_request(payload, reason):
    assert refusal(F32, payload) == reason


@pytest.mark.parametrize(
    "dtype",
    [
        *("object", "O", "S4", "U3", "V4", "V0", "S0", "complex64", "datetime64[s]", "timedelta64[s]", "nosuch", "é"),
        *("f4,f4", "3f4", "(3,)f4", "f4:x", "{", "i0", "float32" * 1000),
        *(",", "f4,,", ",float", "a", "(99999999999999999999,)f4", "(2,", "f4,\x00", "(1)(2)f4"),
    ],
)
def test_decode_refuses_dtypes_that_are_no_numbers(dtype):
    assert refusal(F32, packed(features=tensor(THREE, dtype=dtype))) in ("wrong_type", "wrong_shape")


@pytest.mark.parametrize(
    ("decoder", "features"),
    [
        (GRID, [[1, 2, 3], [4, 5, 6]]),
        (SCALAR, 1.5),
        (RequestDecoder((1, 2, 1), np.dtype("float64")), [[[1], [2]]]),
    ],
)
def test_decode_returns_nested_features_as_an_array_of_the_model(decoder, features):
    expected = np.array(features, decoder.dtype)
    for payload in (body(features=features), packed(features=tensor(expected))):
        got = decoder.decode(payload).features
        assert (got.dtype, got.shape) == (decoder.dtype, decoder.shape)
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("decoder", "features", "reason"),
    [
        (GRID, [[1, 2, 3], [4, 5]], "wrong_shape"),
        (GRID, [[1, 2], [3, 4]], "wrong_shape"),
        (GRID, [[1, 2], [3, 4], [5, 6]], "wrong_shape"),
        (GRID, [], "wrong_shape"),
        (GRID, [[], []], "wrong_shape"),
        (GRID, [1, 2, 3], "wrong_type"),
        (GRID, [[[1]]], "wrong_type"),
        (GRID, [[1, 2, 3], [4, 5, "6"]], "wrong_type"),
        (GRID, [[1, 2, 3], [4, 5, math.nan]], "not_finite"),
        (GRID, [[1, 2, 3], [4, 5, 1e39]], "not_finite"),
        (SCALAR, [1], "wrong_type"),
        (SCALAR, None, "wrong_type"),
    ],
)
def test_decode_refuses_nested_features_that_do_not_fit(decoder, features, reason):
    assert refusal(decoder, body(features=features)) == reason


LIMITS = [
    *((name, np.iinfo(name).min, int(np.iinfo(name).max)) for name in ("int8", "uint8", "int16", "int32", "uint32")),
    ("int64", -(2**63), 2**63 - 1),
    ("uint64", 0, 2**63 - 1),  # JSON numbers are read as signed
]


@pytest.mark.parametrize(("dtype", "low", "high"), LIMITS, ids=[row[0] for row in LIMITS])
def test_decode_takes_whole_numbers_to_the_limits_of_the_dtype(dtype, low, high):
    decoder = RequestDecoder((2,), np.dtype(dtype))
    for payload in (body(features=[int(low), high]), packed(features=tensor(np.array([low, high], dtype)))):
        stacked = decoder.stack([decoder.decode(payload).features])
        assert stacked.dtype == dtype
        assert stacked.tolist() == [[low, high]]
    for beyond in ([int(low) - 1, 0], [0, high + 1]):
        assert refusal(decoder, body(features=beyond)) == "not_finite"
    for fraction in ([1.5, 0], [1.0, 0]):
        assert refusal(decoder, body(features=fraction)) == "wrong_type"
    assert refusal(decoder, packed(features=tensor(np.array([1.0, 0.0])))) == "wrong_type"


@pytest.mark.parametrize(
    ("dtype", "sent"),
    [
        ("uint8", np.array([300, 5], "int64")),
        ("uint8", np.array([-1, 5], "int64")),
        ("int8", np.array([128, 5], "uint8")),
        ("int64", np.array([2**64 - 1, 5], "uint64")),
        ("uint64", np.array([-1, 5], "int64")),
        ("int32", np.array([2**31, 5], "int64")),
    ],
)
def test_decode_refuses_whole_numbers_that_would_wrap_in_the_dtype(dtype, sent):
    assert refusal(RequestDecoder((2,), np.dtype(dtype)), packed(features=tensor(sent))) == "not_finite"


def test_decode_takes_truth_values_for_a_model_of_truth_values():
    decoder = RequestDecoder((2,), np.dtype("bool"))
    for payload in (body(features=[True, False]), packed(features=tensor(np.array([True, False])))):
        assert decoder.stack([decoder.decode(payload).features]).tolist() == [[True, False]]
    assert refusal(decoder, body(features=[1, 0])) == "wrong_type"


@pytest.mark.parametrize(
    ("dtype", "fits", "overflows"),
    [("float16", 65504.0, 65520.0), ("float32", 3.4028234663852886e38, 3.5e38), ("float64", 1.7e308, math.inf)],
)
def test_decode_refuses_numbers_beyond_a_float_type(dtype, fits, overflows):
    decoder = RequestDecoder((2,), np.dtype(dtype))
    for sign in (1, -1):
        good, bad = [sign * fits, 0.0], [sign * overflows, 0.0]
        for payload in (body(features=good), packed(features=tensor(good))):
            assert np.isfinite(decoder.stack([decoder.decode(payload).features])).all()
        for payload in (body(features=bad), packed(features=tensor(bad))):
            assert refusal(decoder, payload) == "not_finite"


@pytest.mark.parametrize("make", [body, packed])
def test_decode_reads_up_to_the_largest_payload(make):
    payload = make()
    assert RequestDecoder((3,), np.dtype("float32"), len(payload)).decode(payload).device_id == "d"
    assert refusal(RequestDecoder((3,), np.dtype("float32"), len(payload) - 1), payload) == "too_large"


def test_decode_reads_a_mebibyte_by_default():
    limit = messages.MAX_PAYLOAD_BYTES
    assert limit == 1 << 20
    assert F32.decode(body().ljust(limit)).device_id == "d"
    assert refusal(F32, body().ljust(limit + 1)) == "too_large"


@pytest.mark.parametrize(("times", "seed"), [(3000, 6), pytest.param(300_000, 7, marks=pytest.mark.long)])
def test_decode_and_error_answer_survive_any_damage(times, seed):
    dice = random.Random(seed)
    good = [encode_request("d", 1, THREE, binary=binary) for binary in (False, True)]
    outcomes = set()
    for k in range(times):
        payload = bytearray(good[k % 2])
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(len(payload))
            payload[at : at + dice.randint(0, 1)] = bytes(dice.randrange(256) for _ in range(dice.randint(0, 1)))
        try:
            F32.decode(bytes(payload))
        except RequestError as error:
            outcomes.add(error.reason)
            encode(error_answer(bytes(payload), error))
        else:
            outcomes.add("ok")
    assert outcomes >= {"ok", "not_decodable", "wrong_type", "wrong_shape"}


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("trace", [False, True])
@pytest.mark.parametrize("device_id", ["d", "sensor 7", "温度-センサー", "😀", 'a"b\\c', "x" * 256])
def test_request_makes_a_round_trip(binary, trace, device_id):
    features = np.random.default_rng(1).standard_normal((2, 3)).astype("float32")
    request = GRID.decode(encode_request(device_id, -(2**63), features, binary=binary, trace=trace))
    assert (request.device_id, request.timestamp_us, request.trace) == (device_id, -(2**63), trace)
    np.testing.assert_array_equal(request.features, features)


@pytest.mark.parametrize(
    "features",
    [
        np.arange(6, dtype=">f4").reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype="f4").reshape(2, 3)),
        np.arange(12, dtype="f4").reshape(2, 6)[:, ::2],
        np.arange(6, dtype=">i8").reshape(2, 3),
    ],
    ids=["big-endian", "Fortran order", "strided", "big-endian integers"],
)
@pytest.mark.parametrize("binary", [False, True])
def test_request_makes_a_round_trip_whatever_the_memory_layout(features, binary):
    got = GRID.decode(encode_request("d", 1, features, binary=binary)).features
    np.testing.assert_array_equal(got, features.astype("float32"))


def test_encode_request_writes_plain_json():
    assert json.loads(encode_request("d", 1, np.array([1.5, 2], "float32"))) == {
        "device_id": "d",
        "timestamp_us": 1,
        "features": [1.5, 2.0],
        "trace": False,
    }


def test_encode_request_of_what_json_cannot_hold_is_refused_by_the_decoder():
    refusal(F32, encode_request("d", 1, np.array([math.nan, 1, 2], "float32")))
    assert refusal(F32, encode_request("d", 1, np.array([math.nan, 1, 2], "float32"), binary=True)) == "not_finite"


def test_result_leaves_out_what_was_not_measured():
    result = messages.Result("d", 1, 0.5, 0.25)
    short = {"device_id": "d", "timestamp_us": 1, "prediction": 0.5, "inference_time_ms": 0.25}
    assert json.loads(encode(result)) == short
    result.cloud_latency_ms, result.trace = 3.0, messages.Clock(1, 2, 3, 4)
    clock = {"arrived_ns": 1, "started_ns": 2, "finished_ns": 3, "departed_ns": 4}
    assert json.loads(encode(result)) == short | {"cloud_latency_ms": 3.0, "trace": clock}


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        *((text, True) for text in ("d", " ", "a b", "é", "😀", "$SYS", "x" * 256)),
        *(
            (text, False)
            for text in (
                "",
                "a/b",
                "a+",
                "#",
                "a\x00",
                "\n",
                "a\x1f",
                "\x7f",
                "\x9f",
                "\ufffe",
                "\U0001ffff",
                "\ufdd0",
                "x" * 257,
                "\ud800",
                "a\udfff",
            )
        ),
        *((thing, False) for thing in (None, 1, b"d", ["d"], True)),
    ],
    ids=ascii,
)
def test_device_id_can_stand_in_a_topic(value, valid):
    assert is_device_id(value) is valid


@pytest.mark.parametrize(
    ("prefix", "base"),
    [
        ("", "ml/inference"),
        ("/", "ml/inference"),
        ("lab", "lab/ml/inference"),
        ("/lab/7/", "lab/7/ml/inference"),
        ("läb 1", "läb 1/ml/inference"),
    ],
)
def test_topics_stand_under_their_prefix(prefix, base):
    topics = Topics(prefix)
    assert topics.request == f"{base}/request"
    assert topics.result("d") == f"{base}/result/d"
    assert topics.error("d") == f"{base}/error/d"


@pytest.mark.parametrize("prefix", ["a/#", "+", "a+b", "$SYS", "$share/g", "a\x00"])
def test_topics_refuse_a_prefix_that_is_a_pattern(prefix):
    with pytest.raises(ConfigurationError, match="topic prefix"):
        Topics(prefix)


@pytest.mark.parametrize(
    ("payload", "timestamp_us"),
    [
        (body(features=None), 1),
        (body(timestamp_us=-5, features=[]), -5),
        (body(timestamp_us=2**63), None),
        (body(timestamp_us=10**40), None),
        (body(timestamp_us="1"), None),
        (body(timestamp_us=1.5), None),
        (body(timestamp_us=True), None),
        (b'{"device_id":"d"}', None),
        (HEAD + b"[NaN,1,2]}", 1),
        (packed(features=None), 1),
        (packed(timestamp_us=2**63), None),
    ],
    ids=lambda value: str(value[:70]) if isinstance(value, bytes) else str(value),
)
def test_error_answer_goes_to_the_device_that_can_be_read(payload, timestamp_us):
    answer = error_answer(payload, RequestError("wrong_type", "why"))
    assert answer == messages.ErrorAnswer("d", timestamp_us, "why", "wrong_type")
    assert json.loads(encode(answer))["reason"] == "wrong_type"


@pytest.mark.parametrize(
    "payload",
    [
        *(b"", b"hello", b"[]", b"null", b"\xff", body()[:-1], packed()[:-1], b'{"a":' * DEEP, b"\x81\xa1a" * DEEP),
        *(body(device_id=bad) for bad in ("", "a/b", "#", "+", "\x00", "\ud800", "x" * 257, 1, None, ["d"])),
        packed(device_id=b"d"),
    ],
    ids=lambda payload: str(payload[:40]),
)
def test_error_answer_is_none_where_no_device_can_be_read(payload):
    assert error_answer(payload, RequestError("wrong_type", "why")) is None


def test_error_answer_does_not_read_a_payload_that_is_too_large():
    assert error_answer(body(), RequestError("too_large", "why")) is None
