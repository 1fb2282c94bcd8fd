"""Notebooks really run in kernels, and what is left of each run."""

from __future__ import annotations

import base64
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import nbformat
import pytest
from bs4 import BeautifulSoup

from xedge.core.exceptions import ConfigurationError, ReportError
from xedge.reports import notebooks
from xedge.reports import run as report

PARAMETERS = """rate_hz: float = 200.0  # requests per second offered
name: str = "edge"
rates: list[int] = [50, 100]  # the sweep"""

MEASURE = """import json, sys, time
from xedge.reports import run as report
from xedge.core.progress import Progress
with Progress(2000, "requests", "edge") as line:
    for done in range(0, 2000, 500):
        line.update(done)
        time.sleep(0.3)
    line.finish("2 000 requests in 1.2 s, none lost")"""

SAVE = """import os, numpy
print("values", rate_hz, name, rates, os.environ["MPLBACKEND"] == "agg", sys.executable)
print("10 %|#   |\\r100 %|####|", file=sys.stderr)
folder = report.data_dir()
(folder / "rows.csv").write_text("latency_ms\\n2.0\\n")
(folder / "parts").mkdir(exist_ok=True)
(folder / "parts" / "big.bin").write_bytes(bytes(1_100_000))
report.record("verdict", "VALID")
report.record("headline", [{"label": "p99", "value": numpy.float64(4.123), "unit": "ms", "detail": "3.9 to 4.4"}])
report.record("conclusion", "The edge is <faster>.")
report.record("conditions", {"broker": "mosquitto 2", "noise": {"p50_ms": 0.4}})
report.record("own", [1, 2])"""

PLOT = """%matplotlib inline
%config InlineBackend.figure_format = "svg"
import matplotlib.pyplot as plt
from IPython.display import display
plt.plot([1, 2]);"""

SVG = """svg = '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20"><rect width="40" height="20"/></svg>'
metadata = {"image/svg+xml": {"alt": 'Latency of "edge" & cloud'}}
display({"image/svg+xml": svg, "text/plain": "figure"}, raw=True, metadata=metadata)"""


def code(source: str, *tags: str) -> Any:
    return nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)})


def write(folder: Path, stem: str, *cells: Any) -> Path:
    title = nbformat.v4.new_markdown_cell("# Edge *or* cloud?\n\nAn introduction with $t_{due}$.")
    notebook = nbformat.v4.new_notebook(cells=[title, code(PARAMETERS, "parameters"), *cells])
    path = folder / f"{stem}.ipynb"
    nbformat.write(notebook, path)
    return path


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("project {x}")
    (root / "notebooks").mkdir()
    markdown = nbformat.v4.new_markdown_cell
    write(
        root / "notebooks",
        "02_edge_vs_cloud",
        code("import xedge\nxedge.check_parameters(globals())"),
        markdown("## Method\n\n[how](docs/x.md), [more](https://example.org)\n\n![local](nothing.png)"),
        code(MEASURE),
        code(SAVE),
        markdown("## Method\n\n### The tail"),
        code(PLOT),
        code(SVG),
        markdown("## Conclusion\n\nAs it stands."),
    )
    write(root / "notebooks", "03_broken", code("1 + 1"), code("rate_hz / 0"), code("'never'"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XEDGE_HOME", str(root))
        patch.setenv("MPLBACKEND", "agg")
        yield root


@pytest.fixture(scope="module")
def good(project: Path) -> report.Run:
    return report.run("edge_vs_cloud", {"rate_hz": "5e2", "rates": (50, 75)}, progress=False)


@pytest.fixture(scope="module")
def page(good: report.Run) -> Any:
    return BeautifulSoup(good.html.read_text(encoding="utf-8"), "html.parser")


@pytest.fixture(scope="module")
def facts(good: report.Run) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((good.folder / "run.json").read_text(encoding="utf-8"))
    return loaded


def outputs(run: report.Run) -> list[Any]:
    notebook: Any = nbformat.read(run.folder / f"{run.name}.ipynb", as_version=4)
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def test_run_completes_with_the_values_given(good: report.Run, project: Path) -> None:
    assert (good.status, good.ok, good.verdict, good.error) == ("completed", True, "VALID", None)
    assert good.raise_for_status() is good
    home = project.resolve() / "reports" / "edge_vs_cloud"
    assert good.folder.parent == home
    assert re.fullmatch(r"\d{8}-\d{6}-rate_hz=500,rates=50,75", good.folder.name)
    assert (good.html, good.top) == (good.folder / "edge_vs_cloud.html", home.with_name("edge_vs_cloud.html"))
    assert good.on_top is not None
    assert (good.on_top.folder, good.record["on_top"]) == (good.folder, good.folder.name)
    assert good.top_sentence == f"{good.top} shows this run"
    printed = next(one.text for one in outputs(good) if one.get("name") == "stdout")
    assert printed == f"values 500.0 edge [50, 75] False {sys.executable}\n"
    assert good.sentence.startswith("02_edge_vs_cloud: completed in ")


def test_run_leaves_one_clean_sentence_of_progress(good: report.Run) -> None:
    shown = [one for one in outputs(good) if one.get("metadata", {}).get("xedge") == "progress"]
    assert [one.data for one in shown] == [{"text/plain": "2 000 requests in 1.2 s, none lost"}]


def test_run_json_holds_parameters_conditions_and_record(facts: dict[str, Any]) -> None:
    assert facts["status"] == "completed"
    assert facts["command"] == "xedge report 02_edge_vs_cloud -p rate_hz 500 -p rates 50,75"
    assert facts["parameters"][0] == {
        "name": "rate_hz",
        "value": 500.0,
        "default": 200.0,
        "changed": True,
        "help": "requests per second offered",
    }
    assert [row["changed"] for row in facts["parameters"]] == [True, False, True]
    assert facts["files"] == ["parts/big.bin", "rows.csv"]
    assert facts["headline"][0]["value"] == 4.123
    assert (facts["verdict"], facts["own"], facts["error"], facts["git"]) == ("VALID", [1, 2], None, None)
    assert facts["host"]["cores"] >= 1
    assert {"python", "xedge", "papermill", "nbconvert"} <= set(facts["versions"])


def test_page_puts_the_result_first(page: Any) -> None:
    text = page.get_text(" ", strip=True)
    order = ["Edge or cloud?", "VALID", "4.12", "The edge is <faster>.", "rate_hz", "Contents", "An introduction"]
    order += ["As it stands.", "broker mosquitto 2", "xedge report 02", "rows.csv 15 bytes"]
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    assert page.title.string == "Edge or cloud?"
    assert page.select_one(".bar") is None


def test_page_marks_changed_parameters_and_hides_their_cells(page: Any) -> None:
    changed = [row.td.get_text() for row in page.select("table.parameters tr.changed")]
    assert changed == ["rate_hz", "rates"]
    assert "name: str" not in page.select_one("article").get_text()
    assert "# Parameters" not in page.select_one("article").get_text()


def test_page_contents_lead_to_headings(page: Any) -> None:
    links = [link["href"] for link in page.select("#contents a")]
    assert links == ["#method", "#method-2", "#the-tail", "#conclusion"]
    assert all(page.find(id=link[1:]).name in ("h2", "h3") for link in links)


def test_page_folds_code_and_keeps_alt_texts(page: Any) -> None:
    assert not page.select("details[open]")
    assert [image["alt"] for image in page.select("figure img")] == [
        "Figure without a description",
        'Latency of "edge" & cloud',
    ]
    assert [one.get_text() for one in page.select("details.stderr pre")] == ["100 %|####|"]
    assert page.select_one(".note").get_text() == "2 000 requests in 1.2 s, none lost"


def test_page_is_self_contained_and_small(page: Any, good: report.Run) -> None:
    assert not page.select("script, link, iframe, [srcset]")
    assert all(tag["src"].startswith("data:") for tag in page.select("[src]"))
    assert "default-src 'none'" in page.select_one("meta[http-equiv]")["content"]
    assert [a["href"] for a in page.select("article a[href]")] == ["https://example.org"]
    html = re.sub(r'"data:[^"]*"', "", good.html.read_text(encoding="utf-8"))
    assert len(html) < 40_000
    assert "url(" not in html
    assert page.select_one("p math msub").get_text() == "tdue"


def test_pages_embed_small_data_and_link_large(page: Any, good: report.Run, facts: dict[str, Any]) -> None:
    links = {link.get_text(): link for link in page.select(".files a")}
    assert links["rows.csv"]["href"] == "data:text/csv;base64,bGF0ZW5jeV9tcwoyLjAK"
    assert links["rows.csv"]["download"] == "rows.csv"
    assert json.loads(base64.b64decode(links["run.json"]["href"].partition(",")[2])) == facts
    for where in (good.html, good.top):
        html = BeautifulSoup(where.read_text(encoding="utf-8"), "html.parser")
        beside = [link["href"] for link in html.select(".files a:not([download])")]
        assert [Path(link).name for link in beside] == ["big.bin", "edge_vs_cloud.ipynb"]
        assert all((where.parent / unquote(link)).is_file() for link in beside)


def test_run_failing_cell_still_leaves_a_page(project: Path) -> None:
    run = report.run("03_broken", progress=False)
    assert (run.status, run.ok) == ("failed", False)
    assert run.error is not None
    assert (run.error["type"], run.error["cell_index"], run.error["source"]) == (
        "ZeroDivisionError",
        3,
        "rate_hz / 0",
    )
    assert "\x1b" not in run.error["traceback"]
    with pytest.raises(ReportError, match=r"03_broken: failed in cell 4 \(ZeroDivisionError: .*broken\.html"):
        run.raise_for_status()
    page = BeautifulSoup(run.html.read_text(encoding="utf-8"), "html.parser")
    assert page.select_one(".bar").get_text(" ", strip=True).endswith("ZeroDivisionError: float division by zero")
    assert "rate_hz / 0" in page.select_one("#failing-cell details[open]").get_text()
    assert page.select_one(".late").get_text(strip=True).startswith("Code, not run")


@pytest.mark.parametrize(
    ("source", "kind", "words"),
    [
        ("import os\nos._exit(0)", "DeadKernelError", "the kernel died while this cell ran"),
        ("import os\nos.kill(os.getpid(), 9)", "DeadKernelError", "out of memory"),
        ("import sys\nsys.exit(0)", "SystemExit", "the cells after it did not run"),
        ("import time\ntime.sleep(60)", "CellTimeoutError", "longer than the 2 s allowed"),
        ("rate_hz = 'fast'\nimport xedge\nxedge.check_parameters(globals())", "ConfigurationError", "expected float"),
    ],
)
def test_run_ends_early_in_other_ways(tmp_path: Path, source: str, kind: str, words: str) -> None:
    path = write(tmp_path, "ends", code("1 + 1"), code(source), code("'never'"))
    run = report.run(path, {"name": "x"}, out_dir=tmp_path, timeout_s=1.5, progress=False)
    facts = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))
    assert (run.status, facts["status"]) == ("failed", "failed")
    assert (facts["error"]["type"], facts["error"]["cell_index"]) == (kind, 3)
    assert words in facts["error"]["message"]
    page = BeautifulSoup(run.html.read_text(encoding="utf-8"), "html.parser")
    assert words in page.select_one(".bar").get_text()
    assert kind in "".join(one.get_text() for one in page.select("#failing-cell pre.error"))


@pytest.mark.long
@pytest.mark.parametrize(("signal", "raised"), [("SIGTERM", SystemExit), ("SIGINT", KeyboardInterrupt)])
def test_run_interrupted_stops_the_kernel_and_raises(tmp_path: Path, signal: str, raised: type[BaseException]) -> None:
    source = (
        "import os, signal, time\nfrom xedge.reports import run as report\nreport.record('pid', os.getpid())\n"
        f"os.kill(os.getppid(), signal.{signal})\ntime.sleep(60)"
    )
    path = write(tmp_path, "ends", code(source))
    with pytest.raises(raised):
        report.run(path, out_dir=tmp_path, progress=False)
    [path] = tmp_path.glob("ends/*/run.json")
    facts = json.loads(path.read_text(encoding="utf-8"))
    assert facts["status"] == "interrupted"
    assert "This run was interrupted" in " ".join((tmp_path / "ends.html").read_text(encoding="utf-8").split())
    with pytest.raises(ProcessLookupError):
        os.kill(facts["pid"], 0)


@pytest.mark.parametrize(
    ("given", "words"),
    [({"rate_h": 1}, "did you mean 'rate_hz'"), ({"rate_hz": "fast"}, "02_edge_vs_cloud.ipynb: parameter rate_hz")],
)
def test_run_many_checks_everything_before_it_starts(project: Path, given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        report.run_many(None, given, project / "elsewhere")
    with pytest.raises(ConfigurationError, match="two notebooks for one report"):
        report.run_many(["02_edge_vs_cloud", "edge_vs_cloud"], {}, project / "elsewhere")
    assert not (project / "elsewhere").exists()


def test_run_many_goes_on_after_a_failed_notebook(tmp_path: Path) -> None:
    first = write(tmp_path, "01_first", code("1 / 0"))
    second = write(tmp_path, "02_second", code("1"))
    runs = report.run_many([first, second], {"rate_hz": 1}, tmp_path / "out", progress=False)
    assert [(run.name, run.status) for run in runs] == [("first", "failed"), ("second", "completed")]


def test_find_by_path_stem_and_name(project: Path) -> None:
    path = project.resolve() / "notebooks" / "02_edge_vs_cloud.ipynb"
    for notebook in (path, "02_edge_vs_cloud", "edge_vs_cloud", "02_edge_vs_cloud.ipynb"):
        assert notebooks.find(notebook) == path
    with pytest.raises(ConfigurationError, match=r"did you mean edge_vs_cloud\? In .*: 02_edge_vs_cloud, 03_broken"):
        notebooks.find("edge_vs_clod")
    with pytest.raises(ConfigurationError, match="no notebook"):
        notebooks.find("missing/02_edge_vs_cloud.ipynb")


def test_record_when_interactive_checks_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XEDGE_REPORT_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    assert report.data_dir() is None
    report.record("verdict", "INVALID")
    assert list(tmp_path.iterdir()) == []
    for key, value in [
        ("verdict", "GOOD"),
        ("headline", {"label": "p99", "value": 1}),
        ("headline", [{"label": "p99"}]),
        ("headline", [{"label": "p99", "value": 1}] * 5),
        ("conditions", "mosquitto"),
    ]:
        with pytest.raises(ConfigurationError, match=f"record: .*{key}"):
            report.record(key, value)
