"""One line that says how far a long step has come, and then what came of it."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from typing import Any

REFRESH_S = 0.25  # the shortest time between two refreshes
_logger = logging.getLogger(__name__)


def in_jupyter() -> bool:
    """Return whether this process is a Jupyter kernel."""
    shell = sys.modules.get("IPython")
    return shell is not None and hasattr(shell.get_ipython(), "kernel")


class Progress:
    """A line for `total` steps: in Jupyter a display, in a terminal a tqdm bar on stderr, else nothing.

    What stays is one sentence: in the notebook's output, below the prompt of the terminal, or (where nobody
    watches) as a log record at INFO. Nothing here ever raises into the code that reports its progress, and an
    update between two refreshes (250 ms) costs less than a microsecond.

        with Progress(20_000, "requests", "edge") as progress:
            progress.update(1_000)
            progress.finish("20 000 requests in 41.2 s, 485/s, none lost")

    `unit` says what is counted, in the plural, `label` what is going on; without `enabled` there is neither line nor
    sentence.
    """

    def __init__(self, total: int, unit: str, label: str, enabled: bool = True) -> None:
        self.total, self.unit, self.label, self.enabled = total, unit, label, enabled
        self._done, self._began, self._next = 0, time.monotonic(), 0.0
        self._sentence: str | None = None
        self._line: _Log | None = None

    def __enter__(self) -> Progress:
        """Show the line."""
        if self.enabled:
            with contextlib.suppress(Exception):
                terminal = sys.stderr is not None and sys.stderr.isatty()
                self._line = (_Display if in_jupyter() else _Terminal if terminal else _Log)(self)
                self._began = time.monotonic()
                self._next = self._began + REFRESH_S
        return self

    def update(self, done: int) -> None:
        """Say that `done` steps are done; shown at most four times a second."""
        self._done = done
        now = time.monotonic()
        if self._line is not None and now >= self._next:
            self._next = now + REFRESH_S
            self._tell("show", done)

    def note(self, sentence: str) -> None:
        """Say what came of one step: above the line in a terminal, as a log record where nobody watches."""
        self._tell("note", sentence)

    def left(self, done: int) -> str:
        """Return the time left if the rest goes as what is done went, "about 3 min left"; "" before a step is done."""
        seconds = time.monotonic() - self._began
        if done < 1 or done >= self.total or seconds < 2:
            return ""
        left = seconds / done * (self.total - done)
        if left >= 5400:
            return f"about {left / 3600:.1f} h left"
        return f"about {left / 60:.0f} min left" if left >= 90 else f"about {left:.0f} s left"

    def count(self, done: int) -> str:
        """Return how many of the steps `done` is, "10 of 20 000 requests"."""
        return f"{grouped(done)} of {grouped(self.total)} {self.unit}"

    def finish(self, sentence: str) -> None:
        """Put `sentence` in the place of the line; it is what a reader of the notebook will see."""
        self._sentence = sentence

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Leave the sentence, or how far it came."""
        sentence = self._sentence or f"{self.label}: {grouped(self._done)} {self.unit}"
        if kind is not None:
            sentence = f"{self.label}: stopped after {self.count(self._done)} ({kind.__name__})"
        self._tell("close", sentence)
        self._line = None

    def _tell(self, what: str, about: Any) -> None:
        if self._line is not None:
            with contextlib.suppress(Exception):
                getattr(self._line, what)(about)


def grouped(number: int) -> str:
    """Return a whole number with its thousands set apart by no-break spaces: 20 000."""
    return f"{number:,}".replace(",", "\u00a0")


class _Log:
    """Nobody watches: only the sentences, as log records."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def show(self, done: int) -> None: ...

    def note(self, sentence: str) -> None:
        _logger.info("%s", sentence)

    def close(self, sentence: str) -> None:
        self.note(sentence)


class _Display(_Log):
    """One display of a notebook, changed in place; plain text, of which a saved notebook holds the last."""

    def __init__(self, progress: Progress) -> None:
        import IPython.display

        super().__init__(progress)
        display: Any = IPython.display.display
        self._how = {"raw": True, "metadata": {"xedge": "progress"}}
        self._handle = display({"text/plain": self._text(0)}, display_id=True, **self._how)

    def _text(self, done: int) -> str:
        share = min(max(done / self._progress.total, 0.0), 1.0) if self._progress.total else 0.0
        bar, told = "█" * round(share * 24), self._progress.count(done)
        return f"{self._progress.label}  {bar:░<24}  {told}  {self._progress.left(done)}".rstrip()

    def show(self, done: int) -> None:
        self.close(self._text(done))

    def note(self, sentence: str) -> None:
        """Stay silent: a notebook keeps the last sentence only."""

    def close(self, sentence: str) -> None:
        self._handle.update({"text/plain": sentence}, **self._how)


class _Terminal(_Log):
    """A tqdm bar on stderr, replaced by the sentence."""

    def __init__(self, progress: Progress) -> None:
        from tqdm import tqdm

        bar: Any = type("Bar", (tqdm,), {"monitor_interval": 0})  # no thread of tqdm's beside a measurement
        total, unit = progress.total, f" {progress.unit}"
        self._bar = bar(total=total, unit=unit, desc=progress.label, leave=False, file=sys.stderr)

    def show(self, done: int) -> None:
        self._bar.n = done
        self._bar.refresh()

    def note(self, sentence: str) -> None:
        self._bar.write(sentence, file=sys.stderr)

    def close(self, sentence: str) -> None:
        self._bar.close()
        sys.stderr.write(f"{sentence}\n")
        sys.stderr.flush()
