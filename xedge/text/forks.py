"""Holds off `os.fork` while a lock is held that a child would inherit for ever: in sqlite, MLflow or an import."""

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

WAIT_S = 5.0  # longest that a fork waits for what hangs

_condition = threading.Condition()
_holders: Counter[int] = Counter()  # thread -> how deep it is inside `held_off`
_forks = 0  # that wait or are under way


@contextmanager
def held_off() -> Iterator[None]:
    """Return a context during which no other thread forks this process, unless it takes longer than `WAIT_S`.

    While a fork waits, no thread enters anew: however many threads take turns, the fork gets its own.
    """
    me = threading.get_ident()
    with _condition:
        if me not in _holders:
            _condition.wait_for(lambda: not _forks)
        _holders[me] += 1
    try:
        yield
    finally:
        with _condition:
            _holders[me] -= 1
            if _holders[me] <= 0:
                del _holders[me]
            _condition.notify_all()


def _before() -> None:
    global _forks
    me, end_s = threading.get_ident(), monotonic() + WAIT_S
    _condition.acquire()
    _forks += 1
    while _holders.keys() - {me} and (left_s := end_s - monotonic()) > 0:
        _condition.wait(left_s)


def _in_parent() -> None:
    global _forks
    _forks -= 1
    _condition.notify_all()
    _condition.release()


def _in_child() -> None:
    global _condition, _forks
    _condition, _forks = threading.Condition(), 0
    for thread in _holders.keys() - {threading.get_ident()}:
        del _holders[thread]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
