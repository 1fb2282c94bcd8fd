"""Text from elsewhere as it may be shown: no control characters, which a terminal would obey, and not without end."""

import re

_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
MOST = 400


def printable(text: str, most: int = MOST) -> str:
    r"""Return `text` with control characters and marks of direction as escapes, cut after `most` characters.

    >>> printable("\x1b[2J" + "a" * 5000, 10)
    '\\x1b[2Jaaa… (5004 characters)'
    """
    end = "" if len(text) <= most else f"… ({len(text)} characters)"
    return escaped(text[:most])[:most] + end


def escaped(text: str) -> str:
    """Return `text` with the same characters as escapes, however long; tabs and line ends stay."""
    return _OBEYED.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)
