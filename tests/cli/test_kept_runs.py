"""The commands around runs that are kept, as people and CI call them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
import saved_runs as runs

PARAMETERS = "p99: float = 10.0  # what it measures\nverdict: str = 'VALID'  # what it says of it"
BODY = """from xedge.reports import run as report
report.record("verdict", verdict)
report.record("headline", [{"label": "edge, p99", "value": p99, "unit": "ms"}])
number = {"value": p99, "low": p99 - 1, "high": p99 + 1} if p99 else {"value": None, "text": "saturated"}
report.record("estimates", {"edge": {"p99_ms": number}})"""


def call(*arguments: Any, home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "xedge.cli", *map(str, arguments)]
    env = {**os.environ, "XEDGE_HOME": str(home)}
    return subprocess.run(command, capture_output=True, text=True, timeout=180, env=env, check=False)


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    new: Any = nbformat.v4
    cells = [new.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}), new.new_code_cell(BODY)]
    nbformat.write(new.new_notebook(cells=cells), tmp_path / "03_probe.ipynb")
    return tmp_path / "03_probe.ipynb"


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (
            ["--fail-if", "edge.p99_ms > 20", "--fail-if", "edge.p99_ms > 9"],
            4,
            "10.0 (9.0–11.0); failed by edge.p99_ms > 9",
        ),
        *(
            pytest.param(*case, marks=pytest.mark.long)
            for case in (
                (["--fail-if", "edge.p99_ms > 20"], 0, ""),
                (["-f", "limits.yaml"], 4, "failed by edge.p99_ms > 5"),
                (["-p", "p99", "0", "--fail-if", "edge.p99_ms > 20"], 4, "edge.p99_ms has no value (saturated)"),
                (["--fail-if", "cloud.p99_ms > 20"], 2, "no number cloud.p99_ms in this run: it has edge.p99_ms"),
                (["-p", "verdict", "INVALID", "--fail-if", "edge.p99_ms > 20"], 3, ""),
                (["-p", "verdict", "INVALID", "--fail-if", "edge.p99_ms > 9"], 4, "failed by"),
            )
        ),
    ],
)
def test_report_fails_at_a_limit(notebook: Path, arguments: list[str], status: int, words: str) -> None:
    (notebook.parent / "limits.yaml").write_text("p99: 6\nthresholds:\n  - edge.p99_ms > 5\n  - edge.p99_ms > 7\n")
    given = [str(notebook.parent / one) if one.endswith(".yaml") else one for one in arguments]
    done = call("report", notebook, *given, home=notebook.parent)
    assert done.returncode == status, done
    assert words in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("xedge:")]) == bool(words)
    [path] = (notebook.parent / "reports" / "probe").glob("*/run.json")
    assert len(json.loads(path.read_text())["thresholds"]) == max(
        1, arguments.count("--fail-if"), 2 * ("-f" in arguments)
    )


def test_report_with_a_limit_that_cannot_be_read_runs_nothing(notebook: Path) -> None:
    done = call("report", notebook, "--fail-if", "p99", home=notebook.parent)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert not (notebook.parent / "reports").exists()


@pytest.mark.long
def test_report_names_its_page_and_says_which_is_on_top(notebook: Path) -> None:
    top = notebook.parent / "reports" / "probe.html"
    first, shown = call("report", notebook, home=notebook.parent).stdout.splitlines()
    [good] = top.parent.glob("probe/*/probe.html")
    assert first.startswith(f"{good}: 03_probe: completed in ")
    assert shown == f"{top} shows this run"
    page = top.read_text()
    first, shown = call("report", notebook, "-p", "verdict", "INVALID", home=notebook.parent).stdout.splitlines()
    assert Path(first.partition(": ")[0]).is_file()
    assert first.partition(": ")[0].endswith("-verdict=INVALID/probe.html")
    assert shown == f"{top} shows another run, the latest good one: {good.parent.name} (VALID)"
    assert top.read_text() == page


@pytest.mark.long
def test_runs_lists_what_is_kept_newest_last(tmp_path: Path) -> None:
    number = [{"label": "edge, p99", "value": 3.21, "unit": "ms"}]
    runs.put(tmp_path, runs.facts("later", 50.0, "lte", headline=number, started_at="2026-11-21T00:00:02+00:00"))
    error = {"type": "ValueError", "message": "no broker", "cell_index": 3, "source": ""}
    changes = {"status": "failed", "verdict": None, "error": error, "started_at": "2026-11-21T00:00:01+00:00"}
    runs.put(tmp_path / "sweep", runs.facts("first", 200.0, "lte", **changes))
    done = call("runs", tmp_path, home=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    heads, *rows = [[part.strip() for part in line.split("  ") if part.strip()] for line in done.stdout.splitlines()]
    assert heads == ["started (UTC)", "notebook", "verdict", "parameters", "folder", "result"]
    assert rows == [
        ["2026-11-21 00:00:01", "03_probe", "failed", "defaults", "sweep/probe/first", "ValueError: no broker"],
        ["2026-11-21 00:00:02", "03_probe", "VALID", "rate_hz=50", "probe/later", "edge, p99: 3.21 ms"],
    ]
    listed = json.loads(call("runs", tmp_path, "--json", home=tmp_path).stdout)
    assert [one["status"] for one in listed] == ["failed", "completed"]
    assert listed[1]["parameters"] == {"rate_hz": "50"}
    assert Path(listed[1]["page"]).is_file()
    (tmp_path / "empty").mkdir()
    assert call("runs", tmp_path / "empty", home=tmp_path).stdout == f"no runs in {tmp_path / 'empty'}\n"


def test_compare_and_index_of_kept_runs(tmp_path: Path) -> None:
    for name, rate_hz in (("a", 50.0), ("b", 100.0)):
        runs.put(tmp_path / "reports", runs.facts(name, rate_hz, "lte"))
    home = tmp_path / "reports" / "probe"
    done = call("compare", home / "a", home / "b" / "probe.html", home=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "rate_hz: 50 and 100" in done.stdout
    refused = call("compare", home / "a", home / "c", home=tmp_path)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert call("index", home=tmp_path).stdout == f"{tmp_path / 'reports' / 'index.html'}\n"
