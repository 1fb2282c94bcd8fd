"""Loads the models of an application in the background, and says what stands in the way until they are there."""

import logging
import os
import threading
from collections.abc import Sequence
from time import perf_counter
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from xedge import __version__
from xedge.text import get_model

log = logging.getLogger(__name__)
FIRST_LOAD_S = 8.0  # a worker waits so long for its models, deaf to signals; docker stop kills after 10 s
RETRY_S = 5.0  # from a failed load to the next


class Loader:
    """Loads the models of `tasks` in a thread of its own, again and again until it succeeds."""

    def __init__(self, tasks: Sequence[str]) -> None:
        self.tasks = tuple(tasks)
        self.problems = dict.fromkeys(self.tasks, "the model is being loaded")
        self._tried, self._ended = threading.Event(), threading.Event()
        self._created_s = perf_counter()
        self._began_s: float | None = None

    def start(self) -> None:
        """Begin to load, if that has not begun."""
        if self._began_s is None:
            self._began_s = perf_counter()
            threading.Thread(target=self.run, name="xedge-http-load", daemon=True).start()

    async def first_try(self) -> None:
        """Begin to load if nobody has, and wait for the first try to end; at most 8 s from when it began.

        An application that is mounted in another gets no word when that starts up: its first request begins it.
        """
        self.start()
        if not self._tried.is_set() and self._began_s is not None:
            left_s = self._began_s + FIRST_LOAD_S - perf_counter()
            if left_s > 0:
                await run_in_threadpool(self._tried.wait, left_s)

    def stop(self) -> None:
        """Try no further."""
        self._ended.set()

    def check(self, task: str) -> None:
        """Refuse with status 503 and the reason while there is no model for `task`."""
        if task in self.problems:
            raise HTTPException(503, f"no model for {task}: {self.problems[task]}", {"Retry-After": f"{RETRY_S:.0f}"})

    def health(self) -> dict[str, Any]:
        """Return what `GET /health` answers."""
        problems = dict(self.problems)
        facts = {
            "status": "unavailable" if problems else "ok",
            "models": {task: get_model(task).version for task in self.tasks if task not in problems},
            "uptime_s": round(perf_counter() - self._created_s, 3),
            "process": os.getpid(),
            "xedge": __version__,
        }
        return facts | (
            {"error": "; ".join(f"{task}: {words}" for task, words in problems.items())} if problems else {}
        )

    def run(self) -> None:
        """Load until there is a model for each task, or `stop` is called; what `start` runs in its thread."""
        while self.problems and not self._ended.is_set():
            for task in list(self.problems):
                try:
                    get_model(task)
                except Exception as exc:  # whatever it was, the next try may find the registry well again
                    if self.problems[task] != str(exc):
                        log.warning("no model for %s, trying again every %g s: %s", task, RETRY_S, exc)
                    self.problems[task] = str(exc)
                else:
                    del self.problems[task]
            self._tried.set()
            if self.problems:
                self._ended.wait(RETRY_S)
