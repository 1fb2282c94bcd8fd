"""Texts as feature ids: the same everywhere, whatever the text."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from xedge.core.exceptions import ConfigurationError, TextError
from xedge.text import features
from xedge.text.features import BUCKETS, FEATURE_SPEC, MAX_FEATURES, PADDED_TO, encode, encode_batch

ODD = {
    "empty": "",
    "blanks": " \t\r\n\u2003\u00a0",
    "NUL": "a\x00b\x00",
    "lone surrogates": "caf\ud83d \udc4d\udfff",
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈 great!!! 🎉",
    "right to left": "שלום עולם، مرحبا بالعالم",
    "Japanese": "これは日本語の文です。",
    "expands to eighteen": "ﷺ" * 5000,
    "combining": "e" + "\u0301" * 5000,
    "one long word": "a" * 1_000_000,
    "many words": "spam and eggs " * 100_000,
    "signs": "?!" * 10_000,
    "controls": "".join(map(chr, range(160))),
}
TEXTS = [
    "Shares of the chip maker rise after strong results",
    "It isn't GOOD, don't buy it!",
    "Straße, naïve ＦＵＬＬＷＩＤＴＨ",
    *list(ODD.values())[:7],
    "!!!",
    "one word after another " * 300,
]


#: Code points from everywhere, lone surrogates among them.
ANY_TEXT = st.text(st.characters(), max_size=400)


def odd(test):
    """Let a property test see every odd text by name as well."""
    for text in ODD.values():
        test = example(text)(test)
    return test


def checksum(texts):
    return hashlib.sha256(b"|".join(encode(text).astype("<i4").tobytes() for text in texts)).hexdigest()


def assert_encoded(text):
    ids = encode(text)
    assert ids.dtype == np.int32
    assert ids.ndim == 1
    assert len(ids) <= MAX_FEATURES
    assert ((ids > 0) & (ids < BUCKETS)).all()
    assert np.array_equal(ids, encode(text))


@odd
@given(ANY_TEXT)
def test_encode_any_text(text):
    assert_encoded(text)


@pytest.mark.long
@settings(max_examples=5000)
@given(ANY_TEXT)
def test_encode_any_of_many_texts(text):
    assert_encoded(text)


@pytest.mark.parametrize(("name", "length"), [("empty", 0), ("blanks", 0), ("many words", MAX_FEATURES), ("signs", 0)])
def test_encode_length(name, length):
    assert len(encode(ODD[name])) == length


@pytest.mark.parametrize("text", ["!!!", "?", "😍😍😍", "… — !?", "__", "\ud83d"])
def test_encode_of_a_text_without_letter_or_digit_is_empty(text):
    assert encode(text).shape == (0,)
    assert len(encode(f"{text} 1")) > 0


def test_encode_reads_articles_of_three_hundred_words():
    article = "the council met once again " * 60
    assert len(encode(f"{article} and agreed")) > len(encode(article)) > 45 * 11


def test_encode_is_as_documented():
    """Word, pair with the word before (none at first), pieces: computed here by the words of the docstring."""

    def crc(text, start=0):
        return zlib.crc32(text.encode(), start)

    def number(value):
        return value % (BUCKETS - 1) + 1

    def pieces(marked):
        return [marked[i : i + n] for n in (3, 4, 5) for i in range(len(marked) - n + 1)]

    first, second = crc("<hot>"), crc("<tea>")
    wanted = [first, *map(crc, pieces("<hot>")[:-1]), crc(str(first)), second, *map(crc, pieces("<tea>")[:-1])]
    wanted.append(crc(str(second), first))
    assert encode("Hot tea").tolist() == [number(value) for value in wanted]


def test_feature_spec_is_raised_when_an_id_changes():
    """A model works with the ids it was trained on: when this fails on purpose, raise FEATURE_SPEC, then this."""
    assert (FEATURE_SPEC, checksum(TEXTS)[:16]) == (2, "eacf31ce1beec54c")


@pytest.mark.parametrize("hash_seed", ["0", "1", "random"])
def test_encode_is_the_same_in_another_process(hash_seed):
    code = f"from xedge.text.features import encode\nprint([encode(text).tolist() for text in {TEXTS!r}])"
    command = [sys.executable, "-X", "utf8", "-c", code]
    env = {"PYTHONHASHSEED": hash_seed, "LC_ALL": "C"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=180, env=env)
    assert done.stdout.strip() == str([encode(text).tolist() for text in TEXTS])


@pytest.mark.parametrize(
    ("one", "other"), [("HELLO World", "hello world"), ("ｆｕｌｌ", "full"), ("don’t", "don’t"), ("a\n\tb", "a b")]
)
def test_encode_overlooks_case_width_and_blanks(one, other):
    assert np.array_equal(encode(one), encode(other))


def test_encode_sees_the_order_of_words():
    assert sorted(encode("dog bites man")) != sorted(encode("man bites dog"))
    assert set(encode("dog bites man")) & set(encode("man bites dog"))


@pytest.mark.parametrize("text", [None, 3, b"bytes", float("nan"), ["a"]])
def test_encode_refuses_what_is_no_str(text):
    with pytest.raises(TextError, match=f"not {type(text).__name__}"):
        encode(text)
    with pytest.raises(ConfigurationError):
        encode_batch(["fine", text])


def test_batch_holds_each_text_and_zeros():
    batch = encode_batch(TEXTS)
    assert batch.dtype == np.int32
    assert batch.shape[1] % PADDED_TO == 0
    assert batch.shape[1] - max(len(encode(text)) for text in TEXTS) < PADDED_TO
    for row, text in zip(batch, TEXTS, strict=True):
        ids = encode(text)
        assert np.array_equal(row[: len(ids)], ids)
        assert not row[len(ids) :].any()


@pytest.mark.parametrize(
    ("texts", "shape"), [([], (0, PADDED_TO)), ([""], (1, PADDED_TO)), (["", "a"], (2, PADDED_TO))]
)
def test_batch_of_little(texts, shape):
    assert encode_batch(texts).shape == shape


def test_cache_of_words_is_bounded_and_changes_nothing(monkeypatch):
    texts = [f"word{i} and sign{i}" for i in range(200)]
    before = [encode(text).tolist() for text in texts]
    monkeypatch.setattr(features, "_CACHED_WORDS", 10)
    features._words.clear()
    with ThreadPoolExecutor(8) as pool:
        after = list(pool.map(lambda text: encode(text).tolist(), texts * 5))
    assert after == before * 5
    assert len(features._words) <= 10 + 8
