"""Sweeps really run notebooks; what is there is kept, what failed is tried again, and an index always tells."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from bs4 import BeautifulSoup
from filelock import FileLock
from helpers import wait_until

import xedge
from xedge.core.exceptions import ConfigurationError
from xedge.reports import conversion, notebooks, parameters, sweeps
from xedge.reports import run as report

PARAMETERS = """rate_hz: float = 200.0  # requests per second offered
network: str = "lte"  # the link
rates: list[int] = [1]  # a list
flags: str = ""  # what else to do"""

# Counts its runs in a file beside the sweep, so that a test can tell what was run; other files tell it what to do.
BODY = """import os, signal, time
from xedge.reports import run as report
out = report.data_dir().parents[1]
with (out.parent / "ran.txt").open("a") as file:
    print(f"{rate_hz:g} {network}", file=file)
if rate_hz == 2 and (out.parent / "broken").exists():
    raise RuntimeError("no broker")
if rate_hz == 2 and (out.parent / "wait").exists():
    time.sleep(60)
if rate_hz == 2 and (out.parent / "signal").exists():
    os.kill(os.getppid(), int((out.parent / "signal").read_text()))
    time.sleep(60)
report.record("verdict", "INVALID" if rate_hz == 3 else "VALID")
report.record("estimates", {"edge": {"p99_ms": {"value": rate_hz, "low": rate_hz / 2, "high": rate_hz * 1.5}}})
(report.data_dir() / "rows.csv").write_text("a")"""


def write(folder: Path, body: str = BODY, name: str = "03_probe") -> Path:
    new: Any = nbformat.v4
    tagged = new.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    path = folder / f"{name}.ipynb"
    nbformat.write(new.new_notebook(cells=[new.new_markdown_cell("# Probe"), tagged, new.new_code_cell(body)]), path)
    return path


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    return write(tmp_path)


def ran(folder: Path) -> list[str]:
    """What was run since the last call."""
    path = folder / "ran.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def states(folder: Path) -> list[str]:
    page = BeautifulSoup((folder / "index.html").read_text(encoding="utf-8"), "html.parser")
    return [one.get_text() for one in page.select(".runs .state")]


def go(notebook: Path, grid: dict[str, Any] | None = None, **options: Any) -> sweeps.Sweep:
    out = notebook.parent / "out"
    return xedge.sweep(notebook, grid or {"rate_hz": "1,2,3"}, out, progress=False, **options)


@pytest.mark.long
def test_sweep_keeps_what_is_there_and_tries_again_what_failed(notebook: Path) -> None:
    folder = notebook.parent
    (folder / "broken").touch()
    first = go(notebook)
    assert ran(folder) == ["1 lte", "2 lte", "3 lte"]  # the failed one did not lose the others
    assert [(run.folder.name[16:], run.status) for run in first.runs] == [
        ("rate_hz=1", "completed"),
        ("rate_hz=2", "failed"),
        ("rate_hz=3", "completed"),
    ]
    assert (first.ok, first.missing) == (False, [])
    assert first.sentence == f"03_probe, 3 runs: 1 VALID, 1 failed, 1 INVALID: {first.index}"
    assert states(folder / "out") == ["VALID", "failed", "INVALID"]
    (folder / "broken").unlink()
    assert go(notebook).ok
    assert ran(folder) == ["2 lte"]
    go(notebook)
    assert ran(folder) == []
    go(notebook, again="invalid")
    assert ran(folder) == ["3 lte"]
    kept = [json.loads(path.read_text()) for path in sorted((folder / "out" / "probe").glob("*/run.json"))]
    assert sorted((run["parameters"][0]["value"], run["status"]) for run in kept) == [
        (1.0, "completed"),
        (2.0, "completed"),
        (2.0, "failed"),
        (3.0, "completed"),
        (3.0, "completed"),
    ]  # nothing of what ran is gone
    table = first.table()
    assert list(table["rate_hz"]) == [1.0, 2.0, 3.0]
    assert list(table["edge p99_ms_high"]) == [1.5, 3.0, 4.5]


@pytest.mark.long
def test_sweep_opens_its_notebook_once(notebook: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, find = [], notebooks.find

    def counted(path: Path) -> Path:
        opened.append(path)
        return find(path)

    monkeypatch.setattr(notebooks, "find", counted)
    assert go(notebook, {"rate_hz": "1,2"}).ok
    assert opened == [notebook]


@pytest.mark.long
def test_sweep_runs_again_when_notebook_or_values_are_others(notebook: Path) -> None:
    folder = notebook.parent
    go(notebook, {"rate_hz": 1})
    assert ran(folder) == ["1 lte"]
    saved: Any = nbformat.read(notebook, as_version=4)
    saved.cells[2].outputs = [nbformat.v4.new_output("stream", text="opened and run in Jupyter")]
    saved.metadata["edited"] = True
    nbformat.write(saved, notebook)
    go(notebook, {"rate_hz": 1})
    assert ran(folder) == []
    go(notebook, {"rate_hz": 1, "flags": "x"})
    assert ran(folder) == ["1 lte"]
    write(folder, BODY + "\nprint('more')")
    go(notebook, {"rate_hz": 1, "flags": "x"})
    assert ran(folder) == ["1 lte"]


@pytest.mark.long
def test_sweep_extended_by_a_parameter_keeps_the_runs_it_has(notebook: Path) -> None:
    folder = notebook.parent
    go(notebook, {"rate_hz": "1,3"})
    ran(folder)
    extended = go(notebook, {"rate_hz": "1,3", "network": "lte,wifi"})
    assert ran(folder) == ["1 wifi", "3 wifi"]
    assert [run.folder.name[16:] for run in extended.runs] == [
        "rate_hz=1",
        "rate_hz=1,network=wifi",
        "rate_hz=3",
        "rate_hz=3,network=wifi",
    ]
    assert len(states(folder / "out")) == 4


@pytest.mark.long
def test_sweep_interrupted_says_what_is_missing_and_goes_on(notebook: Path) -> None:
    folder = notebook.parent
    (folder / "signal").write_text(str(int(signal.SIGINT)))
    with pytest.raises(KeyboardInterrupt):
        go(notebook)
    assert ran(folder) == ["1 lte", "2 lte"]
    assert states(folder / "out") == ["VALID", "interrupted", "missing"]
    page = BeautifulSoup((folder / "out" / "index.html").read_text(encoding="utf-8"), "html.parser")
    assert [one.get_text() for one in page.select(".others li")] == [
        "1 interrupted: rate_hz=2",
        "1 missing: rate_hz=3",
    ]
    (folder / "signal").unlink()
    go(notebook)
    assert ran(folder) == ["2 lte", "3 lte"]


@pytest.mark.long
def test_sweep_asked_to_repeat_all_and_interrupted_goes_on_with_the_rest(notebook: Path) -> None:
    folder, grid = notebook.parent, {"rate_hz": "2,3"}
    go(notebook, grid)
    ran(folder)
    (folder / "signal").write_text(str(int(signal.SIGINT)))
    with pytest.raises(KeyboardInterrupt):
        go(notebook, grid, again="all")
    assert states(folder / "out") == ["interrupted", "missing"]
    (folder / "signal").unlink()
    ran(folder)
    go(notebook, grid)
    assert ran(folder) == ["2 lte", "3 lte"]


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ({"rate_h": "1,2"}, "did you mean 'rate_hz'"),
        ({"rate_hz": "1,fast"}, "rate_hz is 'fast'"),
        ({"rate_hz": []}, "rate_hz has no value"),
        ({"rate_hz": "1,2,1.0"}, "rate_hz is to be 1.0 twice"),
        ({"network": "'a,b"}, 'network: "\'a,b" is not a list'),
    ],
)
def test_sweep_checks_every_value_before_it_starts(notebook: Path, grid: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        go(notebook, {"network": "lte,wifi"} | grid)
    assert not (notebook.parent / "out").exists()
    with pytest.raises(ConfigurationError, match="again is 'some'"):
        go(notebook, again="some")


def test_sweep_beside_another_in_one_folder_is_refused(notebook: Path) -> None:
    out = notebook.parent / "out"
    out.mkdir()
    with FileLock(out / ".lock"), pytest.raises(ConfigurationError, match=r"another sweep is at work in .*--out"):
        go(notebook)
    assert ran(notebook.parent) == []
    assert not list(out.glob("*.json"))


@pytest.mark.parametrize(
    "values",
    [[1.0, 2.5], [[50, 100], [200]], [[50, 100]], ["lte", "wifi"], ["a,b"], ["a,b", "c"], [True, False], ["it's"]],
)
def test_command_of_a_sweep_means_the_same_values(values: list[Any]) -> None:
    kind = list[int] if isinstance(values[0], list) else type(values[0])
    known = [parameters.Parameter("p", kind, values[0])]
    assert parameters.convert_several(known, {"p": conversion.as_texts(values)}) == {"p": values}


@pytest.mark.long
def test_sweep_says_what_came_of_each_run_and_how_long_it_will_take(
    notebook: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "xedge")
    xedge.sweep(notebook, {"rate_hz": "1,3"}, notebook.parent / "out")
    said = [record.getMessage() for record in caplog.records if record.name == "xedge.core.progress"]
    assert said[0].startswith("1 of 2, rate_hz=1: completed in ")
    assert said[1].startswith("2 of 2, rate_hz=3: completed in ")
    assert said[2].startswith("03_probe, 2 runs: 1 VALID, 1 INVALID: ")
    assert len(said) == 3  # and nothing of the single runs' own lines


def call(folder: Path, *arguments: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "xedge.cli", *map(str, arguments)]
    env = {**os.environ, "XEDGE_HOME": str(folder)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


@pytest.mark.long
def test_command_sweep_terminated_leaves_an_index_and_resumes(notebook: Path) -> None:
    folder = notebook.parent
    (folder / "wait").touch()
    out_dir = folder / "out"
    arguments = ("sweep", notebook, "-p", "rate_hz", "1,2", "-p", "network", "wifi", "--out", out_dir)
    process = call(folder, *arguments)
    log = folder / "ran.txt"
    wait_until(lambda: process.poll() is not None or (log.exists() and "2 wifi" in log.read_text()), "the second run")
    assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=180)
    assert (process.returncode, out) == (143, "")
    assert "1 of 2, rate_hz=1: completed in " in err
    assert states(out_dir) == ["VALID", "interrupted"]
    ran(folder)
    (folder / "wait").unlink()
    process = call(folder, *arguments)
    out, err = process.communicate(timeout=180)
    assert (process.returncode, ran(folder)) == (0, ["2 wifi"]), err
    assert out == f"{out_dir / 'index.html'}: 03_probe, 2 runs: 2 VALID\n"
    process = call(folder, *arguments, "--fail-if", "edge.p99_ms > 1.5")  # also of runs that were there before
    _, err = process.communicate(timeout=180)
    assert (process.returncode, ran(folder)) == (4, [])
    assert err.count("failed by") == 1
    assert "failed by edge.p99_ms > 1.5" in err


@pytest.mark.long
def test_command_report_of_several_files_compares_them(notebook: Path) -> None:
    folder = notebook.parent
    (folder / "a.yaml").write_text("rate_hz: 1\n")
    (folder / "b.yaml").write_text("- rate_hz: 3\n- network: wifi\n")
    process = call(folder, "report", notebook, "-f", folder / "a.yaml", "-f", folder / "b.yaml", "-p", "flags", "x")
    out, err = process.communicate(timeout=180)
    assert process.returncode == 3, err  # one of them is INVALID
    index = folder / "reports" / "probe_runs" / "index.html"
    assert out.startswith(f"{index}: 03_probe, 3 runs: ")
    page = BeautifulSoup(index.read_text(encoding="utf-8"), "html.parser")
    commands = page.select_one(".command").get_text().splitlines()
    assert commands[1] == f"xedge report {notebook} -p rate_hz 3 -p flags x"
    plan = json.loads((index.parent / "sweep.json").read_text())
    assert [one["label"] for one in plan["runs"]] == [
        "rate_hz=1,network=lte",
        "rate_hz=3,network=lte",
        "rate_hz=200,network=wifi",
    ]
    rebuilt = call(folder, "index", index.parent)
    assert rebuilt.communicate(timeout=180)[0] == f"{index}\n"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["sweep", "none", "-p", "a", "1"], "no notebook none"),
        (["sweep", "NOTEBOOK", "-p", "rate_hz", "1,x"], "rate_hz is 'x'"),
        (["sweep", "NOTEBOOK", "-f", "none.yaml"], "none.yaml"),
        (["index", "FOLDER"], "no runs in"),
    ],
)
def test_command_that_cannot_be_meant_is_one_line(notebook: Path, arguments: list[str], word: str) -> None:
    known = {"NOTEBOOK": str(notebook), "FOLDER": str(notebook.parent)}
    process = call(notebook.parent, *(known.get(one, one) for one in arguments))
    out, err = process.communicate(timeout=180)
    assert (process.returncode, out, len(err.splitlines())) == (2, "", 1), err
    assert word in err


def test_run_read_is_the_run_that_was_made(notebook: Path) -> None:
    made = report.run(notebook, {"rate_hz": 1}, out_dir=notebook.parent / "out", name="one", progress=False)
    assert made.top == notebook.parent.resolve() / "out" / "one.html"
    read = report.Run.read(made.folder)
    assert (read.name, read.status, read.verdict, read.html) == ("one", "completed", "VALID", made.html)
    assert read.sentence == made.sentence
