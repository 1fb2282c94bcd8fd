"""axe-core finds nothing to complain of on a good and on a failed page, wide and narrow, light and dark."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import nbformat
import pytest
import saved_runs as runs
from browser import CHROMIUM, browser
from sample_rows import conditions, measurement

from xedge.reports.page import page
from xedge.results.measurement import Measurement
from xedge.results.showing import conclusion_html

AXE = "axe-core@4.10.3"
NPM = shutil.which("npm")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium to open the page with"),
    pytest.mark.skipif(NPM is None, reason="no npm to fetch axe-core with"),
]
VIOLATIONS = """axe.run(document, {resultTypes: ['violations']}).then(found => found.violations.map(
    each => each.id + ': ' + each.nodes.map(node => node.target.join(' ')).slice(0, 3).join(' | ')))"""


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core."""
    folder = tmp_path_factory.mktemp("axe")
    command = [str(NPM), "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), AXE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        pytest.skip(f"npm cannot fetch {AXE}: {done.stderr.strip()[-200:]}")
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


def report(folder: Path, *, failed: bool) -> Path:
    """A page with an answer, a figure, tables, code and, if asked for, a cell that failed."""
    scenario = {**conditions()["scenario"], "deadline_ms": 50.0}
    whole = measurement(replications=2, scenario=scenario, strict=False)
    new: Any = nbformat.v4
    bundle, metadata = whole.plot()._repr_mimebundle_()
    outputs = [
        new.new_output("display_data", data={"text/html": whole._repr_html_()}),
        new.new_output("display_data", data=bundle, metadata=metadata),
        new.new_output("stream", name="stdout", text="edge 1 ms\n"),
        new.new_output("stream", name="stderr", text="a warning\n"),
    ]
    error = new.new_output("error", ename="ValueError", evalue="no", traceback=["ValueError: no"])
    cells = [
        new.new_markdown_cell("# A page\nAbout it.\n\n## The measurement\n\n### Rows"),
        new.new_code_cell("measure()", outputs=outputs),
        new.new_markdown_cell("## Conclusion"),
        new.new_code_cell("publish()", outputs=[error] if failed else [published(new, whole)]),
        new.new_code_cell("later()"),
    ]
    answer = whole.answer()
    changes: dict[str, Any] = {
        "answer": answer.sentence,
        "conclusion": whole.conclusion(),
        "verdict": whole.verdict.word,
    }
    changes["doubts"] = [{"about": "", **asdict(doubt)} for doubt in whole.checks()]
    if failed:
        changes = {"status": "failed", "verdict": None, "headline": []}
        changes["error"] = {"type": "ValueError", "message": "no", "cell_index": 3, "traceback": "", "source": ""}
    facts = runs.facts("page", 50.0, "lte", **changes, files=[])
    path = folder / f"{'failed' if failed else 'good'}.html"
    path.write_text(page(new.new_notebook(cells=cells), facts, folder, 3 if failed else None), encoding="utf-8")
    return path


def published(new: Any, whole: Measurement) -> Any:
    return new.new_output("display_data", data={"text/html": conclusion_html(whole)})


@pytest.mark.parametrize("failed", [False, True], ids=["good", "failed"])
def test_axe_finds_nothing(axe: str, tmp_path: Path, failed: bool) -> None:
    path, found = report(tmp_path, failed=failed), {}
    with browser(tmp_path / "chromium") as window:
        for width, dark in ((1400, False), (1400, True), (390, False), (390, True)):
            window.look(width, dark=dark)
            window.open(path)
            window.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
            window.evaluate(f"{axe}; null")
            found[width, dark] = window.evaluate(VIOLATIONS)
    assert not any(found.values()), json.dumps([*found.values()], indent=1)
