"""From a notebook's kernel to the process that runs it: how far a long step is, over a socket of this machine."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

from xedge.core.plain import printable

VARIABLE = "XEDGE_PROGRESS_SOCKET"
MOST_BYTES = 4096


@dataclass(frozen=True)
class News:
    """How far a step is: `share` of it (0 to 1; None is not known), what is being done, what is seen of it live."""

    share: float | None = None
    phase: str = ""
    live: str = ""


def tell(news: News) -> None:
    """Send the news to whom `VARIABLE` names, if anybody; never waits and never raises."""
    if (path := os.environ.get(VARIABLE)) and hasattr(socket, "AF_UNIX"):
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mouth:
            mouth.setblocking(False)
            mouth.sendto(json.dumps(asdict(news)).encode()[:MOST_BYTES], path)


@contextmanager
def listening(hear: Callable[[News], None]) -> Iterator[dict[str, str]]:
    """Call `hear`, in a thread of its own, with what processes tell whose environment has the variables yielded.

    Where a system has no such sockets nothing is heard.
    """
    with tempfile.TemporaryDirectory(prefix="xedge-") as folder:
        path = os.path.join(folder, "progress")  # noqa: PTH118 - an address, of at most 104 characters
        try:
            ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            ear.bind(path)
        except (AttributeError, OSError):
            yield {}
            return
        with ear:
            thread = threading.Thread(target=_hear, args=(ear, hear), name="xedge-telling", daemon=True)
            thread.start()
            try:
                yield {VARIABLE: path}
            finally:
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mouth:
                    mouth.settimeout(5)
                    mouth.sendto(b"", path)  # the end
                thread.join(5)


def _hear(ear: socket.socket, hear: Callable[[News], None]) -> None:
    while said := ear.recv(MOST_BYTES):
        with suppress(ValueError, TypeError):
            news = News(**json.loads(said))
            hear(News(news.share, printable(news.phase), printable(news.live)))
