"""A browser opens the page: nothing runs, nothing is fetched, whatever a cell put out."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import nbformat
import pytest

from xedge import _export

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium to open the page with")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

HOSTILE = """</div></section></article><h2 id="x">Harmless words</h2>
<script>document.title = "script ran"; fetch("URL/fetched")</script>
<script src="URL/script.js"></script><link rel="stylesheet" href="URL/style.css">
<meta http-equiv="refresh" content="0; url=URL/away"><base href="URL/">
<img src="URL/image.png" onerror="document.title = 'handler ran'">
<img src="data:image/png;base64,AAAA" onerror="document.title = 'handler ran'">
<iframe src="URL/frame.html"></iframe><object data="URL/object"></object>
<svg onload="document.title = 'handler ran'"></svg><a href="javascript:alert(1)">a link</a>
<style>body { background: url(URL/background.png) } @import "URL/import.css";</style>
<form action="URL/form"><input autofocus onfocus="document.title = 'handler ran'"></form>"""


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


def page(folder: Path, html: str) -> str:
    new: Any = nbformat.v4
    data = {"text/html": html}
    cells = [
        new.new_markdown_cell("# Hostile\n\n" + html.replace("\n", "")),
        new.new_code_cell("show()", outputs=[new.new_output("display_data", data=data)]),
        new.new_markdown_cell("## After it"),
    ]
    facts: dict[str, Any] = {
        "name": "hostile",
        "notebook": "hostile",
        "status": "completed",
        "error": None,
        "parameters": [],
        "command": "xedge report hostile",
        "started_at": "2026-11-21T00:00:00+00:00",
        "duration_s": 1.0,
        "versions": {"xedge": "0"},
        "host": {"cpu": "x", "cores": 1, "os": "x"},
        "git": None,
        "conclusion": "<script>document.title = 'script ran'</script>",
    }
    return _export.page(new.new_notebook(cells=cells), facts, folder)


def test_page_of_a_hostile_notebook_runs_and_fetches_nothing(tmp_path: Path, listener: Listener) -> None:
    hostile = HOSTILE.replace("URL", listener.url)
    path = tmp_path / "hostile.html"
    path.write_text(page(tmp_path, hostile), encoding="utf-8")
    dom = opened(path, tmp_path / "browser")
    assert "<title>Hostile</title>" in dom
    assert "Harmless words" in dom
    assert '<a href="#after-it">After it</a>' in dom
    assert dom.index("After it</h2>") < dom.index("</article>")
    assert "javascript:" not in dom
    assert listener.asked == []


def test_policy_alone_stops_scripts_and_requests(tmp_path: Path, listener: Listener) -> None:
    lines = HOSTILE.replace("URL", listener.url).splitlines()
    hostile = "\n".join(line for line in lines if "refresh" not in line)  # what no policy stops
    html = page(tmp_path, "").replace("<footer>", hostile + "<footer>", 1)
    guarded, bare = tmp_path / "guarded.html", tmp_path / "bare.html"
    guarded.write_text(html, encoding="utf-8")
    bare.write_text(html.replace("Content-Security-Policy", "X-Nothing"), encoding="utf-8")
    assert "<title>Hostile</title>" in opened(guarded, tmp_path / "browser")
    assert listener.asked == []
    assert "ran</title>" in opened(bare, tmp_path / "browser")  # the same page does harm without its policy
    assert {"/image.png", "/script.js", "/style.css"} <= set(listener.asked)
