"""A folder that is replaced is there at every moment, whole, and what a killed save leaves is cleared by the next."""

from __future__ import annotations

import multiprocessing
import os
import random
import threading
from pathlib import Path
from time import perf_counter

import pytest
from helpers import counted, wait_until
from saving import ROWS, save, save_for_ever

from xedge.core import files
from xedge.results import storage

KILLS = counted(1000)
PRELOADED = ["xedge.results.measurement", "pyarrow.parquet", "pandas.io.parquet"]


def whole(folder: Path) -> int:
    """The mark of the measurement in a folder, which must be whole."""
    rows, conditions = storage.read(folder)
    assert set(rows["payload_bytes"]) == {conditions["mark"]}
    assert len(rows) == len(ROWS)
    return int(conditions["mark"])


def test_measurement_that_is_saved_again_and_again_is_there_at_every_moment(tmp_path: Path) -> None:
    save(target := tmp_path / "m", 0)
    ended, missing = threading.Event(), []

    def look() -> None:
        while not ended.is_set():
            if not (target / "conditions.json").is_file():
                missing.append(perf_counter())

    watcher = threading.Thread(target=look)
    watcher.start()
    for mark in range(1, 60):
        save(target, mark)
    ended.set()
    watcher.join()
    assert missing == []
    assert (whole(target), list(tmp_path.iterdir())) == (59, [target])


@pytest.mark.parametrize("fails", [AttributeError, OSError])
def test_where_names_cannot_be_exchanged_two_renames_do_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: type[Exception]
) -> None:
    def exchange(*_: Path) -> None:
        raise fails

    monkeypatch.setattr(files, "_exchange", exchange)
    for mark in (1, 2, 3):
        save(tmp_path / "m", mark)
    assert (whole(tmp_path / "m"), list(tmp_path.iterdir())) == (3, [tmp_path / "m"])


def test_what_a_killed_save_left_is_cleared_by_the_next_and_others_are_let_be(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=print)
    process.start()
    process.join()
    node, target = os.uname().nodename, tmp_path / "m"
    dead, living = (tmp_path / f".m-{node}-{pid}-abc" for pid in (process.pid, os.getppid()))
    foreign, mine = tmp_path / f".m-elsewhere-{process.pid}-abc", tmp_path / ".m-notes"
    for folder in (dead, living, foreign, mine):
        folder.mkdir()
    save(tmp_path / "before", 5)
    (tmp_path / "before").rename(dead / "new.old")  # killed between two renames
    with files.scratch_beside(target):
        assert whole(target) == 5
    save(target, 6)
    assert whole(target) == 6
    assert sorted(tmp_path.iterdir()) == sorted([target, living, foreign, mine])


@pytest.mark.long
def test_a_thousand_kills_while_saving_leave_a_whole_measurement_each_time(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    rng, target, seen = random.Random(3), tmp_path / "m", set[int]()
    save(target, 0)
    began = perf_counter()
    for _ in range(10):
        save(target, 0)
    save_s = (perf_counter() - began) / 10
    for number in range(1, KILLS + 1):
        begun = context.Event()
        process = context.Process(target=save_for_ever, args=(target, 1000 * number, begun))
        process.start()
        wait_until(begun.is_set, "the first save of the process")
        process.join(rng.random() * 2 * save_s)  # it goes on for ever: this is when it is killed
        process.kill()
        process.join()
        seen.add(whole(target))
    assert len(seen) == KILLS
    save(target, 1)
    assert list(tmp_path.iterdir()) == [target]
