"""Runs are kept: nothing that was measured is overwritten, mixed or lost, and the page on top is that of a good run."""

from __future__ import annotations

import base64
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import nbformat
import pytest
import saved_runs
from bs4 import BeautifulSoup
from helpers import wait_until

from xedge.core.exceptions import ConfigurationError, ReportError
from xedge.reports import kept
from xedge.reports import run as report

PARAMETERS = """number: int = 0  # which run this is
verdict: str = "VALID"  # what it says of itself
wait_for: str = ""  # a file to wait for"""

BODY = """import time
from pathlib import Path
from xedge.reports import run as report
(report.data_dir() / "began.txt").write_text(f"{number}")
while wait_for and not Path(wait_for).exists():
    time.sleep(0.02)
if number < 0:
    raise ValueError("number is below zero")
report.record("verdict", verdict)
report.record("headline", [{"label": "number", "value": number}])
report.record("estimates", {"edge": {"p99_ms": number}})
(report.data_dir() / "rows.csv").write_text(f"number\\n{number}\\n")
(report.data_dir() / "big.bin").write_bytes(bytes([number]) * 1_100_000)
print("this is run", number)"""


def write(folder: Path, body: str = BODY, stem: str = "probe") -> Path:
    new: Any = nbformat.v4
    tagged = new.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    path = folder / f"{stem}.ipynb"
    nbformat.write(new.new_notebook(cells=[new.new_markdown_cell("# Probe"), tagged, new.new_code_cell(body)]), path)
    return path


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    return write(tmp_path)


def go(notebook: Path, **parameters: Any) -> report.Run:
    return report.run(notebook, parameters, out_dir=notebook.parent / "out", progress=False)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def number_on(page: Path) -> int:
    """The number that the page's headline, data and output all give, and whose files beside it are there."""
    html = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    assert html.select_one("footer") is not None, "the page is not whole"
    numbers = {int(html.select_one(".headline b").get_text())}
    links = {link.get_text(): link["href"] for link in html.select(".files a")}
    numbers.add(int(base64.b64decode(links["rows.csv"].partition(",")[2]).split()[1]))
    numbers.add((page.parent / unquote(links["big.bin"])).read_bytes()[0])
    numbers.add(int(re.search(r"this is run (\d+)", html.select_one("pre.stdout").get_text())[1]))
    [number] = numbers
    return number


@pytest.mark.long
def test_a_later_run_leaves_the_earlier_as_it_was_and_goes_on_top_only_if_it_is_good(notebook: Path) -> None:
    out, top = notebook.parent / "out", notebook.parent / "out" / "probe.html"
    first = go(notebook, number=1, verdict="INVALID")
    stamp = f"{first.folder.name[:8]}{first.folder.name[9:15]}"
    assert stamp == re.sub(r"\D", "", first.record["started_at"][:19])
    assert number_on(top) == number_on(first.html) == 1  # none was ever good
    good = go(notebook, number=2)
    assert (number_on(top), good.record["on_top"]) == (2, good.folder.name)
    before = contents(out)
    failed, invalid = go(notebook, number=-1), go(notebook, number=3, verdict="SATURATED")
    write(notebook.parent, "1 / 0")  # another notebook of this name
    other = go(notebook, number=4)
    assert (failed.status, invalid.verdict, other.status) == ("failed", "SATURATED", "failed")
    after = contents(out)
    assert {name: after[name] for name in before} == before
    assert [run.folder for run in kept.below(out)] == [run.folder for run in (first, good, failed, invalid, other)]
    assert (number_on(top), number_on(invalid.html)) == (2, 3)
    assert invalid.record["on_top"] == good.folder.name
    assert other.top_sentence == f"{top} shows another run, the latest good one: {good.folder.name} (VALID)"
    assert good.top_sentence == f"{top} shows this run"
    write(notebook.parent)
    last = go(notebook, number=5)
    assert (number_on(top), number_on(good.html)) == (5, 2)
    assert last.on_top is not None
    assert last.on_top.folder == last.folder


def test_a_failed_run_is_on_top_with_its_error_while_there_is_no_better(notebook: Path) -> None:
    run = go(notebook, number=-1)
    for page in (run.html, run.top):
        bar = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser").select_one(".bar")
        assert "ValueError: number is below zero" in bar.get_text()


@pytest.mark.long
def test_a_run_in_the_layout_of_before_keeps_its_page(notebook: Path) -> None:
    out = notebook.parent / "out"
    old = saved_runs.facts("probe", 50.0, "lte", notebook=str(notebook), started_at="2026-11-20T00:00:00+00:00")
    (out / "probe" / "measurement").mkdir(parents=True)
    (out / "probe" / "measurement" / "rows.csv.gz").write_bytes(b"rows")
    (out / "probe" / "run.json").write_text(json.dumps(old))
    link = '<li><a href="probe/measurement/rows.csv.gz">rows</a>'
    (out / "probe.html").write_text(f"<title>old</title>{link}")
    before = contents(out / "probe")
    failed = go(notebook, number=-1)
    assert (out / "probe.html").read_text() == f"<title>old</title>{link.replace('<a', kept.BESIDE[:-7])}"
    after = contents(out / "probe")
    assert {name: after[name] for name in before} == before
    assert [run.folder for run in kept.below(out)] == [out / "probe", failed.folder]
    good = go(notebook, number=6)
    assert number_on(out / "probe.html") == 6
    [found] = [run for run in kept.below(out) if run.folder == out / "probe"]
    assert (found.html, found.top, found.state) == (out / "probe" / "probe.html", good.top, "VALID")
    link = BeautifulSoup(found.html.read_text(), "html.parser").a["href"]
    assert (found.html.parent / link).read_bytes() == b"rows"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, ""),
        ({"rate_hz": "500", "network": "lte"}, "-rate_hz=500,network=lte"),
        ({"path": "../a b/c"}, "-path=..-a-b-c"),
        ({"rates": "50,100", "x": "é"}, "-rates=50,100,x="),
        ({"text": "x" * 300}, "-text=" + "x" * 55),
    ],
)
def test_folders_have_names_that_every_file_system_takes(tmp_path: Path, changed: dict[str, str], words: str) -> None:
    made = [kept.new_folder(tmp_path, "load", changed, kept.now()) for _ in range(3)]
    assert len(set(made)) == 3
    for folder in made:
        assert re.fullmatch(r"\d{8}-\d{6}" + re.escape(words) + r"(-[23])?", folder.name)


def test_folders_made_at_once_are_all_others(tmp_path: Path) -> None:
    made: list[Path] = []
    threads = [
        threading.Thread(target=lambda: made.append(kept.new_folder(tmp_path, "load", {}, kept.now())))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({*made}) == 20


def test_a_place_that_cannot_be_written_is_found_before_the_first_cell(notebook: Path) -> None:
    file = notebook.parent / "file"
    file.write_text("mine")
    for place in (file, file / "below", Path("/proc/xedge")):
        with pytest.raises(ConfigurationError, match=r"cannot write in .*--out"):
            report.run(notebook, out_dir=place, progress=False)
    assert file.read_text() == "mine"


@pytest.mark.long
def test_a_report_that_cannot_be_written_at_the_end_is_written_elsewhere(
    notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    write(notebook.parent, BODY + "\nfolder = report.data_dir()\n(folder / 'probe.html').mkdir()")
    with pytest.raises(ReportError, match=r"could not be written in .*: probe: completed in .*scratch") as error:
        go(notebook, number=7)
    [page] = (tmp_path / "scratch").glob("xedge-reports/probe/*/probe.html")
    assert str(page) in str(error.value)
    assert "this is run 7" in page.read_text(encoding="utf-8")


def test_what_is_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="holds no run"):
        kept.Run.read(tmp_path)


class Started:
    """`xedge report` in a process group of its own that waits at its first cell, to be killed at one of its stages."""

    def __init__(self, notebook: Path, number: int, gate: Path) -> None:
        self.number, self.out = number, notebook.parent / "out"
        command = [sys.executable, "-m", "xedge.cli", "report", str(notebook), "--out", str(self.out)]
        command += ["-p", "number", str(number), "-p", "wait_for", str(gate)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )

    def file(self, name: str) -> Path | None:
        """The file of this name in the folder of this run, once it is there."""
        return next(iter(self.out.glob(f"probe/*-number={self.number},wait_for*/{name}")), None)

    def ended(self) -> bool:
        return self.process.poll() is not None

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)


@pytest.mark.long
def test_twenty_reports_at_once_of_which_half_are_killed_do_not_mix(notebook: Path) -> None:
    chance, gate, out = random.Random(7), notebook.parent / "gate", notebook.parent / "out"
    stages = ["", "run.json", "began.txt", "rows.csv", "probe.ipynb", "probe.html"]
    doomed = dict(zip(chance.sample(range(1, 21), 10), [*stages, *chance.choices(stages, k=4)], strict=True))
    alive: list[Started] = []
    everyone: list[Started] = []

    def step() -> None:
        """Kill those that have come to their stage, and forget those that have ended."""
        for one in [*alive]:
            stage = doomed.get(one.number)
            if not one.ended() and stage is not None and (not stage or one.file(stage)):
                one.kill()
                one.process.wait()
            if one.ended():
                alive.remove(one)

    def room(most: int) -> bool:
        step()
        return len(alive) <= most

    for number in chance.sample(range(1, 21), 20):
        most = chance.randrange(2, 6)
        wait_until(lambda most=most: room(most), "some of the reports end")
        alive.append(Started(notebook, number, gate))
        everyone.append(alive[-1])
        if len(everyone) == 3:
            gate.touch()  # the first wait for each other
    wait_until(lambda: room(0), "all reports end", timeout_s=600)

    printed = {one.number: one.process.communicate()[0] for one in everyone}
    codes = {one.number: one.process.returncode for one in everyone}
    assert {number for number, code in codes.items() if code == 0} >= {*range(1, 21)} - doomed.keys(), printed
    runs = kept.below(out)
    numbers = [run.record["parameters"][0]["value"] for run in runs]
    assert len(numbers) == len(set(numbers)) == len({run.folder for run in runs})
    finished = [run for run in runs if run.ok]
    assert {run.record["parameters"][0]["value"] for run in finished} >= {*range(1, 21)} - doomed.keys()
    for run in finished:
        number = run.record["parameters"][0]["value"]
        assert number_on(run.html) == number
        assert run.record["estimates"]["edge"]["p99_ms"]["value"] == number
        executed: Any = nbformat.read(run.folder / "probe.ipynb", as_version=4)
        assert executed.cells[-1].outputs[0]["text"] == f"this is run {number}\n"
        assert f"{run.html}" in printed[number] or codes[number] != 0
    on_top = number_on(out / "probe.html")
    assert on_top in [run.record["parameters"][0]["value"] for run in finished]
    [shown] = [run for run in finished if run.record["parameters"][0]["value"] == on_top]
    later = [run for run in finished if run.record["started_at"] > shown.record["started_at"]]
    assert all(codes[run.record["parameters"][0]["value"]] != 0 for run in later)  # killed before it could go on top
