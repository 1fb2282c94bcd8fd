"""The interpreter while trials run: nobody keeps it from the others for long."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

SWITCH_INTERVAL_S = 0.0005  # how long a busy thread may keep the interpreter; Python's default is 5 ms


@contextmanager
def undisturbed() -> Iterator[None]:
    """While trials run, no thread keeps the interpreter from the others for longer than `SWITCH_INTERVAL_S`."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
