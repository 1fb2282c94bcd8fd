"""Who may ask over HTTP, and how often: API keys, of which only digests are kept, and a rate for each."""

import hashlib
import hmac
import math
import os
from collections.abc import Iterable
from pathlib import Path
from time import monotonic

from xedge.core.exceptions import ConfigurationError

VARIABLE = "XEDGE_HTTP_KEYS"
LEAST_CHARACTERS = 16
ADVICE = (
    f"put one into {VARIABLE} or a file (--key-file FILE, a key a line); "
    "`python -c 'import secrets; print(secrets.token_urlsafe(32))'` makes one"
)


class Keys:
    """API keys. Nothing here can show one: only their SHA-256 is kept.

    Args:
        keys: at least 16 visible ASCII characters each.
        where: what an error calls the place they are from.

    Raises:
        ConfigurationError: there is none, or one cannot be used; it names the place, never the key.
    """

    def __init__(self, keys: Iterable[str], where: str = "keys") -> None:
        self._digests: list[bytes] = []
        for number, key in enumerate(keys, 1):
            if len(key) < LEAST_CHARACTERS or not all("!" <= character <= "~" for character in key):
                raise ConfigurationError(
                    f"{where}, key {number}: a key has at least {LEAST_CHARACTERS} characters, all of them visible "
                    f"ones of ASCII; {ADVICE}"
                )
            self._digests.append(_digest(key.encode()))
        if not self._digests:
            raise ConfigurationError(f"{where}: there is no key; {ADVICE}")

    def number(self, authorization: bytes) -> int | None:
        """Return which key the header `Authorization: Bearer KEY` has, 0 for the first, or None if it has none of them.

        It takes the same time whichever key that is, and however much of it is right.
        """
        scheme, _, key = authorization.partition(b" ")
        digest = _digest(key.strip())
        equal = [hmac.compare_digest(digest, known) for known in self._digests]
        return equal.index(True) if scheme.lower() == b"bearer" and any(equal) else None

    def __len__(self) -> int:
        return len(self._digests)

    def __repr__(self) -> str:
        return f"<{len(self)} API key{'s' * (len(self) > 1)}>"


def find_keys(file: str | os.PathLike[str] | None = None) -> Keys | None:
    """Return the keys in `file`, a line each (`#` begins a comment), else those in `XEDGE_HTTP_KEYS`, else None.

    Raises:
        ConfigurationError: the file cannot be read, there is no key in it, or one cannot be used.
    """
    if file is None:
        value = os.environ.get(VARIABLE, "")
        return Keys(value.split(), VARIABLE) if value.strip() else None
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as exc:
        reason = getattr(exc, "strerror", None) or "it is no text in UTF-8"
        raise ConfigurationError(f"--key-file {file} cannot be read: {reason}") from None
    return Keys((key for line in lines if (key := line.strip()) and not key.startswith("#")), f"--key-file {file}")


class Rates:
    """Lets `rate_hz` requests a second through for each caller, and after a pause as many as a second has at once."""

    def __init__(self, rate_hz: float) -> None:
        if not 0 < rate_hz < math.inf:
            raise ConfigurationError(f"--rate {rate_hz:g}: give a number of requests a second above 0")
        self.rate_hz, self._room = rate_hz, max(1.0, rate_hz)
        self._left: dict[int, tuple[float, float]] = {}  # caller -> requests it may send, and when that was so

    def wait_s(self, caller: int, now_s: float | None = None) -> float:
        """Count one request of `caller`, and return 0; or in how many seconds it may send this one again."""
        now_s = monotonic() if now_s is None else now_s
        left, at_s = self._left.get(caller, (self._room, now_s))
        left = min(self._room, left + (now_s - at_s) * self.rate_hz)
        self._left[caller] = left - (left >= 1), now_s
        return max(0.0, 1 - left) / self.rate_hz


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
