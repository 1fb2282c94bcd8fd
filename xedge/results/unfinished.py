"""A measurement while it is taken: each trial is written when it has ended, so that a failure loses only its own."""

from __future__ import annotations

import logging
import secrets
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from xedge.core import files, paths
from xedge.core.exceptions import MeasurementError
from xedge.results import storage

log = logging.getLogger(__name__)
_PLAN, _STOPPED = "plan.json", "stopped.json"


class Unfinished:
    """The trials that have ended so far, in memory and in a folder that `Measurement.load` reads.

    A trial is known by its place in `conditions["trials"]`, which lists all that are planned. The folder is a new one
    below `reports/unfinished`, or below the temporary folder where that cannot be written.
    """

    def __init__(self, conditions: Mapping[str, Any]) -> None:
        self.conditions = dict(conditions)
        self._tables: dict[int, pd.DataFrame] = {}
        self._facts: dict[int, dict[str, Any]] = {}
        self.folder: Path | None = None
        self._stopped_by = "it ended without a word"

    @classmethod
    def begin(cls, conditions: Mapping[str, Any]) -> Unfinished:
        """Return one without trials, its folder made."""
        new = cls(conditions)
        name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        for parent in (paths.reports_dir() / "unfinished", Path(tempfile.gettempdir()) / "xedge-unfinished"):
            try:
                files.write_json(parent / name / _PLAN, new.conditions)
            except OSError as error:
                log.warning("trials that have ended cannot be kept in %s: %s", parent, error)
            else:
                new.folder = parent / name
                break
        return new

    @classmethod
    def read(cls, folder: str | Path) -> Unfinished:
        """Return what is kept in `folder`.

        Raises:
            MeasurementError: the folder holds no interrupted measurement.
        """
        folder = Path(folder)
        if not is_unfinished(folder):
            raise MeasurementError(f"{folder} holds no interrupted measurement: it has no {_PLAN}")
        kept = cls(files.read_json(folder / _PLAN))
        kept.folder, kept._stopped_by = folder, files.read_json(folder / _STOPPED).get("reason", kept._stopped_by)
        for number in range(len(kept.conditions["trials"])):
            if facts := files.read_json(folder / f"{number:04d}.json"):
                kept._tables[number], kept._facts[number] = storage.read_rows(folder / facts.pop("rows")), facts
        return kept

    def __contains__(self, number: object) -> bool:
        return number in self._tables

    @property
    def requests(self) -> int:
        """How many requests the trials that have ended had."""
        return sum(map(len, self._tables.values()))

    def add(self, number: int, table: pd.DataFrame, facts: Mapping[str, Any]) -> None:
        """Keep a trial's rows and what its service said; where they cannot be written they stay in memory alone.

        Raises:
            MeasurementError: earlier trials of the placement measured another model file.
        """
        names = [trial["placement"] for trial in self.conditions["trials"]]
        before = {known.get("sha256") for other, known in self._facts.items() if names[other] == names[number]}
        if before - {facts.get("sha256")}:
            raise MeasurementError(f"{names[number]}: the model file is no longer the one that earlier trials measured")
        self._tables[number], self._facts[number] = table, dict(facts)
        if self.folder is None:
            return
        try:
            rows = storage.write_rows(table, self.folder / f"{number:04d}")
            files.write_json(self.folder / f"{number:04d}.json", {**facts, "rows": rows.name})
        except OSError as error:
            log.warning("a trial could not be written to %s (%s): it is in memory only", self.folder, error)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Remove the folder if the block ends well; else write why there, and into the error what is kept where."""
        try:
            yield
        except BaseException as error:
            error.add_note(self._stopped(f"{type(error).__name__}: {error}".removesuffix(": ")))
            raise
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def result(self) -> tuple[pd.DataFrame, dict[str, Any]]:
        """Return all rows, and the conditions: each trial with its counts, each placement with their sums.

        Raises:
            MeasurementError: no trial has ended.
        """
        if not self._tables:
            raise MeasurementError(f"no trial had ended when this measurement stopped: {self._stopped_by}")
        trials = [dict(trial) for trial in self.conditions["trials"]]
        services: dict[str, Any] = {}
        for number, facts in sorted(self._facts.items()):
            name = trials[number]["placement"]
            kept = ("counts", "refused", "sender_reconnects", "failure", "known_by", "foreign", "faults", "outages")
            trials[number] |= {key: facts[key] for key in kept if key in facts}
            before = services.get(name, {})
            sums = {key: dict(Counter(before.get(key)) + Counter(facts.get(key))) for key in ("counts", "refused")}
            services[name] = {key: fact for key, fact in facts.items() if key not in ("faults", "outages")} | sums
        conditions = self.conditions | {"services": services, "trials": trials}
        if len(self._tables) < len(trials):
            conditions["trials"] = [trial for number, trial in enumerate(trials) if number in self]
            conditions["interrupted"] = {"ended": len(self._tables), "planned": len(trials), "reason": self._stopped_by}
        rows = pd.concat([self._tables[number] for number in sorted(self._tables)], ignore_index=True)
        return rows, conditions

    def _stopped(self, reason: str) -> str:
        """Write why it ended early and return in a sentence what is kept."""
        done = f"{len(self._tables)} of {len(self.conditions['trials'])} trials had ended"
        if self.folder is None or not self._tables:
            shutil.rmtree(self.folder or "", ignore_errors=True)
            return f"{done}; nothing is kept"
        try:
            files.write_json(self.folder / _STOPPED, {"reason": reason})
        except OSError as error:
            log.warning("%s: %s", self.folder, error)
        rest = "scenario.measure(resume=folder) or `xedge measure FILE.yaml --resume FOLDER` takes the rest"
        return f"{done} and are kept in {self.folder}: Measurement.load(folder) reads them, {rest}"


def is_unfinished(folder: Path) -> bool:
    """Return whether `folder` holds the trials of a measurement that was interrupted."""
    return (folder / _PLAN).is_file()
