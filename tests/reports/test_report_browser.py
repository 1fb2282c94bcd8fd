"""A browser opens the pages: nothing is fetched, nothing foreign runs, and what a reader can press does its work."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import nbformat
import pytest
import saved_runs as runs
from browser import CHROMIUM, FLAGS, Page, browser
from bs4 import BeautifulSoup
from hostile_fragments import HOSTILE, HOSTILE_TEX, PLAIN, hostile

from xedge.reports.index import build
from xedge.reports.page import page as rendered

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium to open the page with")


class Listener:
    """A server that remembers what was asked of it."""

    def __init__(self) -> None:
        asked = self.asked = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_error(404)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    thread = threading.Thread(target=listener.server.serve_forever, args=(0.05,), name="listener")
    thread.start()
    yield listener
    listener.server.shutdown()
    listener.server.server_close()
    thread.join(5)


def opened(path: Path, folder: Path) -> str:
    """Return the page's DOM after two seconds in a browser of its own."""
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={folder}", "--virtual-time-budget=2000", "--dump-dom"]
    done = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def page(folder: Path, *fragments: str, tex: str = "") -> str:
    """A report whose notebook holds each fragment as markdown and as an output, and a formula."""
    new: Any = nbformat.v4
    show = [new.new_output("display_data", data={"text/html": html}) for html in fragments]
    cells = [
        new.new_markdown_cell("# Hostile"),
        *(new.new_markdown_cell(html) for html in fragments),
        new.new_code_cell("show()", outputs=[*show, new.new_output("display_data", data={"text/latex": tex})]),
        new.new_markdown_cell(f"${tex}$\n\n## After it"),
    ]
    changes = {"parameters": [], "conclusion": "<script>document.title = 'script ran'</script>", "files": []}
    facts = runs.facts("hostile", 50.0, "lte", headline=[], **changes)
    return rendered(new.new_notebook(cells=cells), facts, folder)


def test_page_of_a_hostile_notebook_stays_runs_and_fetches_nothing(tmp_path: Path, listener: Listener) -> None:
    path = tmp_path / "hostile.html"
    html = page(tmp_path, *hostile(HOSTILE, listener.url), tex=HOSTILE_TEX.replace("URL", listener.url))
    path.write_text(html, encoding="utf-8")
    dom = opened(path, tmp_path / "browser")
    assert "<title>Hostile</title>" in dom
    assert dom.count("Harmless words</h2>") == 2
    assert '<a href="#after-it">After it</a>' in dom
    assert dom.index("After it</h2>") < dom.index("</article>")
    article = BeautifulSoup(dom, "html.parser").article
    assert article.find_all(["meta", "script", "base", "svg", "iframe", "form", "object", "embed", "link"]) == []
    assert not [tag for tag in article.find_all(True) if any(name.startswith("on") for name in tag.attrs)]
    assert "javascript:" not in str(article)
    assert listener.asked == []


def test_policy_alone_stops_scripts_and_requests(tmp_path: Path, listener: Listener) -> None:
    html = page(tmp_path).replace("<footer>", "\n".join([*hostile(PLAIN, listener.url), "<footer>"]), 1)
    guarded, bare = tmp_path / "guarded.html", tmp_path / "bare.html"
    guarded.write_text(html, encoding="utf-8")
    bare.write_text(html.replace("Content-Security-Policy", "X-Nothing"), encoding="utf-8")
    assert "<title>Hostile</title>" in opened(guarded, tmp_path / "browser")
    assert listener.asked == []
    assert "ran</title>" in opened(bare, tmp_path / "browser")  # the same page does harm without its policy
    assert {"/image.png", "/script.js", "/style.css"} <= set(listener.asked)


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("chromium")) as window:
        yield window


def shown(window: Page, path: Path) -> Page:
    """The window with the page in it, whatever was there before."""
    window.said.clear()
    window.asked.clear()
    window.look(1280)
    window.open(path)
    return window


def asked_for_itself_only(window: Page, path: Path) -> bool:
    return window.said == [] and window.asked == [path.as_uri()]


def column(window: Page, place: int) -> list[str]:
    script = f"[...document.querySelectorAll('.runs tbody tr')].map(row => row.cells[{place}].textContent)"
    return list(window.evaluate(script))


RATE, P99, DURATION = 1, 5, 8


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six runs whose order differs as text and as numbers, one of them without a p99, one missing."""
    numbers = runs.saturated(runs.facts("", 50.0, "lte")["estimates"])
    return build(runs.write(tmp_path_factory.mktemp("sweep"), {0: {"estimates": numbers}, 3: None}))


def test_index_sorts_by_click_and_by_keyboard(window: Page, index: Path) -> None:
    shown(window, index)
    planned = ["50", "50", "100", "100", "1000", "1000"]
    assert column(window, RATE) == planned
    window.click("th[data-column='8'] button")
    assert column(window, DURATION) == ["5.0", "5.0", "10.0", "100.0", "100.0", ""]  # as numbers; what is missing last
    window.press("Enter")
    assert column(window, DURATION) == ["100.0", "100.0", "10.0", "5.0", "5.0", ""]
    assert window.evaluate("document.querySelector('th[data-column=\"8\"]').ariaSort") == "descending"
    window.click("th[data-column='5'] button")
    assert column(window, P99)[-2:] in (["saturated", ""], ["", "saturated"])
    window.evaluate("document.querySelector('th[data-column=\"0\"] button').focus()")
    window.press("Tab")
    window.press(" ")
    assert column(window, RATE) == planned
    window.press(" ")
    assert column(window, RATE) == planned[::-1]
    assert window.evaluate("document.querySelectorAll('[aria-sort]').length") == 1
    assert asked_for_itself_only(window, index)


def test_index_without_scripts_is_a_plain_table(window: Page, index: Path) -> None:
    window.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        shown(window, index)
        assert column(window, RATE) == ["50", "50", "100", "100", "1000", "1000"]
        assert window.evaluate("document.querySelectorAll('.runs button').length") == 0
    finally:
        window.call("Emulation.setScriptExecutionDisabled", value=False)


def test_index_fits_a_phone(window: Page, index: Path) -> None:
    shown(window, index)
    window.look(390)
    assert window.evaluate("document.documentElement.scrollWidth") <= 390


def test_index_of_hostile_runs_runs_and_fetches_nothing(window: Page, listener: Listener, tmp_path: Path) -> None:
    fragments = "\n".join(hostile(HOSTILE, listener.url))
    error = {"type": fragments, "message": fragments, "cell_index": 1, "source": fragments}
    changes = {
        0: {"error": error, "status": "failed", "files": [fragments]},
        1: {"conditions": {fragments: fragments}},
        2: {"estimates": {fragments: {"p99_ms": {"value": 1, "low": None, "high": None, "text": fragments}}}},
    }
    path = build(runs.write(tmp_path, changes))
    shown(window, path)
    assert window.evaluate("document.title") == "Probe: 6 runs compared"
    assert "Harmless words" in window.evaluate("document.body.textContent")
    assert asked_for_itself_only(window, path)
    assert listener.asked == []


def test_index_policy_stops_a_script_that_is_not_ours(window: Page, index: Path, tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    foreign = "<script>document.title = 'script ran'</script>"
    path.write_text(index.read_text(encoding="utf-8").replace("</main>", f"{foreign}</main>"), encoding="utf-8")
    shown(window, path)
    assert window.evaluate("document.title") == "Probe: 6 runs compared"
    assert any("Content Security Policy" in said for said in window.said)
    assert window.evaluate("document.querySelectorAll('.runs button').length") > 3  # ours did


FORMULAS = r"""# A page

The cloud wins if $\rho < \frac{1}{c\mu}$, and $x = 3 \pm 1$.

$$W = \frac{C(k,\rho)}{k\mu(1-\rho)}$$

\begin{aligned} a &= b \\ c &= d \end{aligned}

No TeX: $\nonsense{1}$"""


def report_page(folder: Path) -> Path:
    new: Any = nbformat.v4
    latex = new.new_output("display_data", data={"text/latex": r"$\displaystyle \sqrt{2}$", "text/plain": "sqrt(2)"})
    cells = [new.new_markdown_cell(FORMULAS), *(new.new_code_cell(f"show({k})", outputs=[latex]) for k in range(2))]
    facts = runs.facts("probe", 50.0, "lte", headline=[], conclusion="First.\n\nSecond.", files=[])
    path = folder / "page.html"
    path.write_text(rendered(new.new_notebook(cells=cells), facts, folder), encoding="utf-8")
    return path


def test_report_unfolds_all_code_by_one_switch(window: Page, tmp_path: Path) -> None:
    path = report_page(tmp_path)
    shown(window, path)
    code = "[...document.querySelectorAll('details.code .highlight')]"
    seen = f"{code}.map(e => e.checkVisibility({{contentVisibilityAuto: true}}))"
    assert window.evaluate(seen) == [False, False]
    window.click("#all-code")
    assert window.evaluate(seen) == [True, True]
    window.press(" ")
    assert window.evaluate(seen) == [False, False]
    window.click("details.code summary")
    assert window.evaluate(seen) == [True, False]
    assert asked_for_itself_only(window, path)


def test_report_shows_formulas_without_script_or_network(window: Page, tmp_path: Path) -> None:
    path = report_page(tmp_path)
    shown(window, path)
    heights = window.evaluate("[...document.querySelectorAll('math')].map(e => e.getBoundingClientRect().height)")
    assert len(heights) == 6
    fraction = "document.querySelector('.formula mfrac').getBoundingClientRect().height"
    numerator = "document.querySelector('.formula mfrac').firstChild.getBoundingClientRect().height"
    assert window.evaluate(fraction) > 1.5 * window.evaluate(numerator)  # one above the other, not side by side
    assert window.evaluate("document.querySelector('code.math').textContent") == r"\nonsense{1}"
    assert asked_for_itself_only(window, path)


def test_report_prints_code_only_when_it_is_unfolded(window: Page, tmp_path: Path) -> None:
    shown(window, report_page(tmp_path))
    window.look(1280, media="print")
    printed = "[...document.querySelectorAll('details.code')].map(e => e.getBoundingClientRect().height > 0)"
    assert window.evaluate(printed) == [False, False]
    window.evaluate("document.querySelector('#all-code').checked = true")
    assert window.evaluate(printed) == [True, True]
    assert window.pdf().startswith(b"%PDF")
