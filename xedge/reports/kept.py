"""Runs as they are kept: each in a folder of its own that no later run touches, and the page of one of them on top."""

from __future__ import annotations

import datetime
import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from xedge.core import files
from xedge.core.exceptions import ReportError
from xedge.reports import conversion, page

GOOD = ("VALID", "completed")
BESIDE = '<a data-beside="" href="'  # begins a page's links to files in its own folder; no cell can have one
_WORDS_LENGTH = 60
_OLD_BESIDE = '<li><a href="'


@dataclass(frozen=True)
class Run:
    """One run of a notebook and where its results are: `record` is what run.json says, `error` what ended it early.

    `name` is the report's, which all runs of the notebook share; `html` is the page of this run in its own `folder`.
    """

    name: str
    notebook: Path
    status: str
    duration_s: float
    html: Path
    folder: Path
    record: dict[str, Any]
    error: dict[str, Any] | None = None

    @property
    def ok(self) -> bool:
        """Return whether every cell ran."""
        return self.status == "completed"

    @property
    def verdict(self) -> str | None:
        """Return what the notebook says of its own measurement: VALID, INVALID, SATURATED or None."""
        return self.record.get("verdict")

    @property
    def state(self) -> str:
        """Return the verdict of a completed run, else "completed", "failed", "interrupted" or "unfinished"."""
        return state(self.record)

    @property
    def good(self) -> bool:
        """Return whether it completed, and is VALID or has no verdict."""
        return self.state in GOOD

    @property
    def changed(self) -> dict[str, str]:
        """Return the parameters that are not the notebook's defaults, as one types them."""
        return changed(self.record["parameters"])

    @property
    def headline(self) -> list[str]:
        """Return what its page begins with: the answer in one sentence, then numbers such as "edge, p99: 3.2 ms"."""
        entries = [page.headline(**number) for number in self.record.get("headline") or []]
        numbers = [f"{entry['label']}: {entry['value']} {entry['unit']}".rstrip() for entry in entries]
        return [answer, *numbers] if (answer := self.record.get("answer")) else numbers

    @property
    def failure(self) -> str:
        """Return the first line of the error that ended it, "" without one."""
        return f"{self.error['type']}: {self.error['message']}".splitlines()[0] if self.error else ""

    @property
    def top(self) -> Path:
        """Return the page above all runs of this report, which shows the latest good one."""
        return _home(self.folder, self.record).with_name(f"{self.name}.html")

    @property
    def on_top(self) -> Run | None:
        """Return the run that the page on top shows now, None before any has ended."""
        return latest(_home(self.folder, self.record))

    @property
    def outcome(self) -> str:
        """Return how it ended: "completed in 20.1 s, VALID" or "failed in cell 4 (ValueError: …)"."""
        if self.error is None:
            return f"{self.status} in {self.duration_s:.1f} s{f', {self.verdict}' if self.verdict else ''}"
        index = self.error["cell_index"]
        where = "before the first cell" if index is None else f"in cell {index + 1}"
        return f"{self.status} {where} ({self.failure})"

    @property
    def sentence(self) -> str:
        """Return the run in one sentence."""
        return f"{self.notebook.stem}: {self.outcome}: {self.html}"

    @property
    def top_sentence(self) -> str:
        """Return in one sentence which run the page on top shows, and why if it is not this one."""
        shown = self.on_top
        if shown is None or shown.folder == self.folder:
            return f"{self.top} shows this run"
        why = "the latest good one" if shown.good else "a later one"
        return f"{self.top} shows another run, {why}: {shown.folder.name} ({shown.state})"

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Return the run whose run.json is in `folder`.

        Raises:
            ReportError: there is none that can be read.
        """
        return cls.of(folder, files.read_json(folder / "run.json"))

    @classmethod
    def of(cls, folder: Path, facts: dict[str, Any]) -> Run:
        """Return the run in `folder` whose run.json says `facts`."""
        if not {"name", "notebook", "status", "parameters", "started_at"} <= facts.keys():
            raise ReportError(f"{folder} holds no run: it has no run.json as `xedge report` writes it")
        own, before = folder / f"{facts['name']}.html", folder.with_name(f"{folder.name}.html")
        return cls(
            name=facts["name"],
            notebook=Path(facts["notebook"].removesuffix(".ipynb") + ".ipynb"),
            status=facts["status"],
            duration_s=facts.get("duration_s") or 0.0,
            html=own if "run" in facts or own.is_file() else before,
            folder=folder,
            record=facts,
            error=facts.get("error"),
        )

    def raise_for_status(self) -> Run:
        """Return this run, or raise ReportError if a cell failed."""
        if not self.ok:
            raise ReportError(self.sentence)
        return self


def state(facts: Mapping[str, Any]) -> str:
    """Return how the run came out whose run.json says `facts`: its verdict if it completed and has one, else a word."""
    status = str(facts.get("status", "missing"))
    return {"completed": facts.get("verdict") or status, "running": "unfinished"}.get(status, status)


def changed(parameters: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return which of run.json's `parameters` are not the notebook's defaults, and their values as one types them."""
    return {row["name"]: conversion.as_text(row["value"]) for row in parameters if row["changed"]}


def now() -> str:
    """Return the time as run.json has it; such texts sort as the times do."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def new_folder(out: Path, name: str, changed: Mapping[str, str], started_at: str) -> Path:
    """Make and return `out`/`name`/TIMESTAMP-parameters, which nobody else has, for a run started then (as `now`).

    Raises:
        ConfigurationError: it cannot be written there.
    """
    home = out / name
    files.check_writable(home)
    _adopt(home)
    words = re.sub(r"[^\w.,=+-]+", "-", ",".join(f"{n}={text}" for n, text in changed.items()), flags=re.ASCII)
    stamp = f"{datetime.datetime.fromisoformat(started_at):%Y%m%d-%H%M%S}"
    stem = "-".join(filter(None, (stamp, words[:_WORDS_LENGTH].strip("-. ,"))))
    for number in itertools.count(1):
        folder = home / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError("unreachable")


def below(folder: Path) -> list[Run]:
    """Return all runs in `folder` and the folders in it, in the order in which they started."""
    pairs = [(path.parent, files.read_json(path)) for path in folder.rglob("run.json")]
    runs = [Run.of(where, facts) for where, facts in pairs if {"name", "notebook", "parameters"} <= facts.keys()]
    return sorted(runs, key=_order)


def best(*runs: Run) -> Run | None:
    """Return the run that belongs on top of these: the latest good one, else the latest."""
    return max(runs, key=lambda run: (run.good, *_order(run)), default=None)


def latest(home: Path) -> Run | None:
    """Return the run that belongs on top of a report's runs, of those that ended and have a page."""
    places = [home, *home.glob("*/")]
    pairs = [(place, facts) for place in places if (facts := files.read_json(place / "run.json"))]
    ended = [run for run in (Run.of(*pair) for pair in pairs) if run.status != "running" and run.html.is_file()]
    return best(*ended)


def put_on_top(home: Path) -> None:
    """Write the page on top of the runs in `home`, `home`.html: that of the latest good run, its links from there.

    Whoever writes looks again afterwards, so that of several runs ending at once the right one stays, without a lock.
    """
    shown = None
    while (run := latest(home)) is not None and run != shown:
        links = quote(f"{run.folder.relative_to(home.parent)}/")
        html = run.html.read_text(encoding="utf-8").replace(BESIDE, f"{BESIDE}{links}")
        files.write_text(home.with_name(f"{home.name}.html"), html)
        shown = run


def _home(folder: Path, facts: Mapping[str, Any]) -> Path:
    return folder.parent if "run" in facts else folder


def _order(run: Run) -> tuple[str, str]:
    return str(run.record["started_at"]), run.folder.name


def _adopt(home: Path) -> None:
    """Give a run in the layout of before, `home` itself with its page beside it, a page within: the other goes."""
    facts, page, own = files.read_json(home / "run.json"), home.with_name(f"{home.name}.html"), f"{home.name}.html"
    if facts and "run" not in facts and page.is_file() and not (home / own).is_file():
        links = f"{_OLD_BESIDE}{quote(home.name)}/"
        text = page.read_text(encoding="utf-8")
        files.write_text(home / own, text.replace(links, f"<li>{BESIDE}"))
