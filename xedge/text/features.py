"""A text as numbers: hashed words, pairs of words and pieces of words, the same in every process."""

import re
import unicodedata
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xedge.core.exceptions import TextError

FEATURE_SPEC = 2  # a model says which spec it was trained on: raise this when an id of any text changes
BUCKETS = 1 << 15  # ids are 1 to BUCKETS - 1; 0 is padding
MAX_FEATURES = 4096  # ids of one text, about 370 words of English; what comes later in it is not looked at
MAX_CHARACTERS = 16_384  # of one text are looked at; English reaches MAX_FEATURES after about 2300
PADDED_TO = 32  # lengths of batches are multiples of it, so that an engine meets few shapes

_MAX_WORD = 24  # characters of a word that count: a run without blanks is no reason to be slow
_PIECES = (3, 4, 5)  # characters in a piece of a word
_CACHED_WORDS = 1 << 14  # at most 8 MB
_TOKEN = re.compile(r"[^\W_]+(?:['’][^\W_]+)*|[^\w\s]")
_WORD = re.compile(r"[^\W_]")
_words: dict[str, tuple[bytes, int]] = {}


def encode(text: str) -> NDArray[np.int32]:
    """Return the feature ids of `text`, shape (m,) with m ≤ `MAX_FEATURES`; of a text without words, none.

    The text is brought to Unicode's compatibility form (NFKC) and to lower case and cut into words and single signs.
    Each gives an id for itself, for itself with the one before it, and for its pieces of 3 to 5 characters with the
    word's ends marked (Bojanowski et al. 2017, doi:10.1162/tacl_a_00051). An id is crc32 mod (BUCKETS − 1) + 1, so it
    needs no vocabulary and is the same on every machine. Nothing in a str is an error (anything else is a TextError):
    lone surrogates and NUL are characters like any other. A text without a letter or digit, such as "!!!" or an emoji,
    gives no ids: its signs alone say nothing that the models have learnt.

    >>> encode("Rain again").shape, encode("!!!").shape
    ((25,), (0,))
    """
    if not isinstance(text, str):
        raise TextError(f"a text must be a str, not {type(text).__name__}: {text!r:.60}")
    text = text[:MAX_CHARACTERS]
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)[:MAX_CHARACTERS]
    if _WORD.search(text) is None:
        return np.empty(0, np.int32)
    parts: list[bytes] = []
    before = length = 0
    for token in _TOKEN.findall(text.lower()):
        ids, checksum = _words.get(token) or _of_word(token)
        parts.append(ids)
        parts.append(_id(zlib.crc32(b"%d" % checksum, before)))
        before = checksum
        length += len(ids) + 4
        if length >= 4 * MAX_FEATURES:
            break
    return np.frombuffer(b"".join(parts), "<i4", min(length // 4, MAX_FEATURES)).astype(np.int32, copy=False)


def encode_batch(texts: Sequence[str]) -> NDArray[np.int32]:
    """Return the ids of each text as `padded` gives them; TextError if one of them is not a str."""
    return padded([encode(text) for text in texts])


def padded(rows: Sequence[NDArray[np.int32]]) -> NDArray[np.int32]:
    """Return rows of ids as one batch (n, L), padded with 0; L is a multiple of `PADDED_TO`, at least one."""
    longest = max((len(row) for row in rows), default=0)
    batch = np.zeros((len(rows), max(1, -(-longest // PADDED_TO)) * PADDED_TO), np.int32)
    for target, row in zip(batch, rows, strict=True):
        target[: len(row)] = row
    return batch


def _of_word(word: str) -> tuple[bytes, int]:
    """Return the ids of a word and its pieces, as little-endian int32, and the word's checksum."""
    marked = f"<{word[:_MAX_WORD]}>"
    pieces = [marked[i : i + n] for n in _PIECES for i in range(len(marked) - n + 1)] if len(word) > 1 else []
    checksum = _checksum(marked)
    ids = b"".join([_id(checksum), *(_id(_checksum(piece)) for piece in pieces if piece != marked)])
    if len(word) <= _MAX_WORD:
        if len(_words) >= _CACHED_WORDS:
            _words.clear()
        _words[word] = ids, checksum
    return ids, checksum


def _checksum(text: str) -> int:
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))


def _id(checksum: int) -> bytes:
    return (checksum % (BUCKETS - 1) + 1).to_bytes(4, "little")
