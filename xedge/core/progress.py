"""One line that says how far a long step has come, and then what came of it."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from typing import Any

from xedge.core import telling

REFRESH_S = 0.25  # the shortest time between two refreshes
_logger = logging.getLogger(__name__)


def in_jupyter() -> bool:
    """Return whether this process is a Jupyter kernel."""
    shell = sys.modules.get("IPython")
    return shell is not None and hasattr(shell.get_ipython(), "kernel")


class Progress:
    """A line for `total` steps: in Jupyter a display, in a terminal a tqdm bar on stderr, else log records.

    What stays is one sentence: in the notebook's output, below the prompt of the terminal, or (where nobody
    watches) as a log record at INFO, after one for each phase. Nothing here ever raises into the code that reports its
    progress, and an update between two refreshes (250 ms) costs less than a microsecond. In a notebook that `xedge
    report` runs, the line of the command shows all this too.

        with Progress(20_000, "requests", "edge") as progress:
            progress.phase("measuring 1 of 2")
            progress.update(1_000)
            progress.finish("20 000 requests in 41.2 s, 485/s, none lost")

    `unit` says what is counted, in the plural, `label` what is going on; without `enabled` there is neither line nor
    sentence.
    """

    def __init__(self, total: int, unit: str, label: str, enabled: bool = True) -> None:
        self.total, self.unit, self.label, self.enabled = total, unit, label, enabled
        self.doing, self.seen = label, ""
        self._done, self._began, self._next = 0.0, time.monotonic(), 0.0
        self._sentence: str | None = None
        self._lines: list[_Log] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Progress:
        """Show the line."""
        with contextlib.suppress(Exception):
            if telling.VARIABLE in os.environ:
                self._lines.append(_Teller(self))
            if self.enabled:
                terminal = sys.stderr is not None and sys.stderr.isatty()
                self._lines.append((_Display if in_jupyter() else _Terminal if terminal else _Log)(self))
        self._began = time.monotonic()
        self._next = self._began + REFRESH_S
        return self

    def phase(self, doing: str) -> None:
        """Say what is done now, "measuring 3 of 10 (edge)": at once, and where nobody watches as a log record."""
        if doing != self.doing:
            self.doing, self.seen = doing, ""
            if not self._done:  # what comes before the first step says nothing of how long the steps take
                self._began = time.monotonic()
            self._tell("phase", doing)

    def live(self, seen: str) -> None:
        """Show beside the line what is seen of the step while it lasts."""
        if seen != self.seen:
            self.seen = seen
            self._tell("show", self._done)

    def hear(self, news: telling.News) -> None:
        """Show what a process tells of the step that is under way here."""
        if news.share is not None:
            self._done = int(self._done) + min(max(news.share, 0.0), 0.999)
        if news.phase:
            self.phase(f"{self.label}: {news.phase}")
        self.seen = news.live
        self._tell("show", self._done)

    def update(self, done: int) -> None:
        """Say that `done` steps are done; shown at most four times a second."""
        self._done = done
        now = time.monotonic()
        if self._lines and now >= self._next:
            self._next = now + REFRESH_S
            self._tell("show", done)

    def note(self, sentence: str) -> None:
        """Say what came of one step: above the line in a terminal, as a log record where nobody watches."""
        self._tell("note", sentence)

    @property
    def share(self) -> float:
        """How much of it is done, from 0 to 1."""
        return min(max(self._done / self.total, 0.0), 1.0) if self.total else 0.0

    def left(self, done: float) -> str:
        """Return the time left if the rest goes as what is done went, "about 3 min left"; "" before a step is done."""
        seconds = time.monotonic() - self._began
        if done < 1 or done >= self.total or seconds < 2:
            return ""
        left = seconds / done * (self.total - done)
        if left >= 5400:
            return f"about {left / 3600:.1f} h left"
        return f"about {left / 60:.0f} min left" if left >= 90 else f"about {left:.0f} s left"

    def count(self, done: float) -> str:
        """Return how many of the steps `done` is, "10 of 20 000 requests"."""
        return f"{grouped(int(done))} of {grouped(self.total)} {self.unit}"

    def finish(self, sentence: str) -> None:
        """Put `sentence` in the place of the line; it is what a reader of the notebook will see."""
        self._sentence = sentence

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Leave the sentence, or how far it came."""
        sentence = self._sentence or f"{self.label}: {grouped(int(self._done))} {self.unit}"
        if kind is not None:
            sentence = f"{self.label}: stopped after {self.count(self._done)} ({kind.__name__})"
        elif self._sentence:
            self._done, self.seen = self.total, ""
            self._tell("show", self._done)
        self._tell("close", sentence)
        self._lines = []

    def _tell(self, what: str, about: Any) -> None:
        with self._lock:
            for line in self._lines:
                with contextlib.suppress(Exception):
                    getattr(line, what)(about)


def grouped(number: int) -> str:
    """Return a whole number with its thousands set apart by no-break spaces: 20 000."""
    return f"{number:,}".replace(",", "\u00a0")


class _Log:
    """Nobody watches: only the phases and sentences, as log records, and what is seen live where it was asked for."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._seen = progress, ""

    def show(self, done: float) -> None:  # noqa: ARG002 - others do
        if self._progress.seen not in ("", self._seen):
            self._seen = self._progress.seen
            _logger.info("%s: %s", self._progress.doing, self._seen)

    def phase(self, doing: str) -> None:
        _logger.info("%s", doing)

    def note(self, sentence: str) -> None:
        _logger.info("%s", sentence)

    def close(self, sentence: str) -> None:
        self.note(sentence)


class _Teller(_Log):
    """The process that runs this notebook watches; of a step that shows no line of its own it hears no share."""

    def show(self, done: float) -> None:  # noqa: ARG002 - others do
        share = self._progress.share if self._progress.enabled else None
        telling.tell(telling.News(share, self._progress.doing, self._progress.seen))

    def phase(self, doing: str) -> None:  # noqa: ARG002 - others do
        self.show(0)

    def note(self, sentence: str) -> None: ...

    def close(self, sentence: str) -> None: ...


class _Display(_Log):
    """One display of a notebook, changed in place; plain text, of which a saved notebook holds the last."""

    def __init__(self, progress: Progress) -> None:
        import IPython.display

        super().__init__(progress)
        display: Any = IPython.display.display
        self._how = {"raw": True, "metadata": {"xedge": "progress"}}
        self._handle = display({"text/plain": self._text(0)}, display_id=True, **self._how)

    def _text(self, done: float) -> str:
        of = self._progress
        bar = f"{'█' * round(of.share * 24):░<24}  {100 * of.share:3.0f} %"
        line = f"{of.doing}  {bar}  {of.count(done)}  {of.left(done)}".rstrip()
        return f"{line}\n{of.seen}" if of.seen else line

    def show(self, done: float) -> None:
        self._handle.update({"text/plain": self._text(done)}, **self._how)

    def phase(self, doing: str) -> None:  # noqa: ARG002 - the text has it
        self.show(self._progress._done)

    def note(self, sentence: str) -> None:
        """Stay silent: a notebook keeps the last sentence only."""

    def close(self, sentence: str) -> None:
        self._handle.update({"text/plain": sentence}, **self._how)


class _Terminal(_Log):
    """A tqdm bar on stderr, replaced by the sentence."""

    def __init__(self, progress: Progress) -> None:
        from tqdm import tqdm

        super().__init__(progress)
        bar: Any = type("Bar", (tqdm,), {"monitor_interval": 0})  # no thread of tqdm's beside a measurement
        form = "{desc}  {percentage:3.0f} %|{bar:20}|{postfix}"
        self._bar = bar(
            total=max(progress.total, 1), desc=progress.label, leave=False, file=sys.stderr, bar_format=form
        )

    def show(self, done: float) -> None:
        of = self._progress
        self._bar.total, self._bar.n = max(of.total, 1), min(done, of.total)
        self._bar.set_description_str(of.doing, refresh=False)
        parts = [of.count(done), of.left(done), of.seen]
        self._bar.set_postfix_str(" · ".join(filter(None, parts)), refresh=False)
        self._bar.refresh()

    def phase(self, doing: str) -> None:  # noqa: ARG002 - the bar has it
        self.show(self._progress._done)

    def note(self, sentence: str) -> None:
        self._bar.write(sentence, file=sys.stderr)

    def close(self, sentence: str) -> None:
        self._bar.close()
        sys.stderr.write(f"{sentence}\n")
        sys.stderr.flush()
