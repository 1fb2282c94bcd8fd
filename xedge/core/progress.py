"""One line that says how far a long step has come, and then what came of it."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from types import TracebackType
from typing import Any, Protocol

REFRESH_S = 0.25
"""The shortest time between two refreshes, seconds."""

_logger = logging.getLogger(__name__)


def in_jupyter() -> bool:
    """Return whether this process is a Jupyter kernel."""
    shell = sys.modules.get("IPython")
    return shell is not None and hasattr(shell.get_ipython(), "kernel")


class _Line(Protocol):
    def show(self, done: int) -> None: ...
    def note(self, sentence: str) -> None: ...
    def close(self, sentence: str) -> None: ...


class Progress:
    """A line for `total` steps: in Jupyter a display, in a terminal a tqdm bar on stderr, else nothing.

    What stays is one sentence: in the notebook's output, below the prompt of the terminal, or (where nobody
    watches) as a log record at INFO. Nothing here ever raises into the code that reports its progress, and an
    update between two refreshes (250 ms) costs less than a microsecond.

        with Progress(20_000, "requests", "edge") as progress:
            progress.update(1_000)
            progress.finish("20 000 requests in 41.2 s, 485/s, none lost")

    Args:
        total: the number of steps that make the whole.
        unit: what is counted, in the plural.
        label: what is going on.
        enabled: False for no line and no sentence.
    """

    def __init__(self, total: int, unit: str, label: str, enabled: bool = True) -> None:
        self.total, self.unit, self.label, self.enabled = total, unit, label, enabled
        self._done = 0
        self._began = time.monotonic()
        self._next = 0.0
        self._sentence: str | None = None
        self._line: _Line | None = None

    def __enter__(self) -> Progress:
        """Show the line."""
        if self.enabled:
            with contextlib.suppress(Exception):
                self._line = _line(self)
                self._began = time.monotonic()
                self._next = self._began + REFRESH_S
        return self

    def update(self, done: int) -> None:
        """Say that `done` steps are done; shown at most four times a second."""
        self._done = done
        now = time.monotonic()
        if self._line is not None and now >= self._next:
            self._next = now + REFRESH_S
            with contextlib.suppress(Exception):
                self._line.show(done)

    def note(self, sentence: str) -> None:
        """Say what came of one step: above the line in a terminal, as a log record where nobody watches."""
        if self._line is not None:
            with contextlib.suppress(Exception):
                self._line.note(sentence)

    def left(self, done: int) -> str:
        """Return the time left if the rest goes as what is done went, "about 3 min left"; "" before a step is done."""
        seconds = time.monotonic() - self._began
        if done < 1 or done >= self.total or seconds < 2:
            return ""
        left = seconds / done * (self.total - done)
        if left >= 5400:
            return f"about {left / 3600:.1f} h left"
        return f"about {left / 60:.0f} min left" if left >= 90 else f"about {left:.0f} s left"

    def finish(self, sentence: str) -> None:
        """Put `sentence` in the place of the line; it is what a reader of the notebook will see."""
        self._sentence = sentence

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the sentence, or how far it came."""
        if self._line is None:
            return
        sentence = self._sentence or f"{self.label}: {grouped(self._done)} {self.unit}"
        if kind is not None:
            count = f"{grouped(self._done)} of {grouped(self.total)} {self.unit}"
            sentence = f"{self.label}: stopped after {count} ({kind.__name__})"
        with contextlib.suppress(Exception):
            self._line.close(sentence)
        self._line = None


def grouped(number: int) -> str:
    """Return a whole number with its thousands set apart by no-break spaces: 20 000."""
    return f"{number:,}".replace(",", "\u00a0")


def _line(progress: Progress) -> _Line:
    if in_jupyter():
        return _Display(progress)
    if sys.stderr is not None and sys.stderr.isatty():
        return _Terminal(progress)
    return _Log()


class _Display:
    """One display of a notebook, changed in place; plain text, of which a saved notebook holds the last."""

    def __init__(self, progress: Progress) -> None:
        import IPython.display

        display: Any = IPython.display.display
        self._progress = progress
        self._handle = display(self._data(0), raw=True, display_id=True, metadata={"xedge": "progress"})

    def _data(self, done: int) -> dict[str, str]:
        progress = self._progress
        share = min(max(done / progress.total, 0.0), 1.0) if progress.total else 0.0
        bar = "█" * round(share * 24)
        count = f"{grouped(done)} of {grouped(progress.total)} {progress.unit}"
        return {"text/plain": f"{progress.label}  {bar:░<24}  {count}  {progress.left(done)}".rstrip()}

    def show(self, done: int) -> None:
        self._handle.update(self._data(done), raw=True, metadata={"xedge": "progress"})

    def note(self, sentence: str) -> None:
        """Stay silent: a notebook keeps the last sentence only."""

    def close(self, sentence: str) -> None:
        self._handle.update({"text/plain": sentence}, raw=True, metadata={"xedge": "progress"})


class _Terminal:
    """A tqdm bar on stderr, replaced by the sentence."""

    def __init__(self, progress: Progress) -> None:
        from tqdm import tqdm

        class Bar(tqdm):  # type: ignore[misc]
            monitor_interval = 0  # no thread of tqdm's beside a measurement

        self._bar: Any = Bar(
            total=progress.total, unit=f" {progress.unit}", desc=progress.label, leave=False, file=sys.stderr
        )

    def show(self, done: int) -> None:
        self._bar.n = done
        self._bar.refresh()

    def note(self, sentence: str) -> None:
        self._bar.write(sentence, file=sys.stderr)

    def close(self, sentence: str) -> None:
        self._bar.close()
        sys.stderr.write(sentence + "\n")
        sys.stderr.flush()


class _Log:
    """Nobody watches: only the sentence, as a log record."""

    def show(self, done: int) -> None:
        """Stay silent."""

    def note(self, sentence: str) -> None:
        _logger.info("%s", sentence)

    def close(self, sentence: str) -> None:
        _logger.info("%s", sentence)
