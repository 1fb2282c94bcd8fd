"""What a process does that is killed while it saves; on its own, so that a process that does it starts at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sample_rows import trial

from xedge.results import storage

ROWS = trial(n=200)


def save(folder: Path, mark: int) -> None:
    """Save a measurement in which rows and conditions have the same mark."""
    storage.write(folder, ROWS.assign(payload_bytes=mark), {"mark": mark}, {"word": "VALID"}, None)


def save_for_ever(folder: Path, first: int, begun: Any) -> None:
    """Save again and again, each time with another mark; set `begun` after the first time."""
    mark = first
    while True:
        save(folder, mark)
        begun.set()
        mark += 1
