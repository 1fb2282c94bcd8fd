"""The site that `make docs` builds: whole, without a warning, and nothing on a page comes from outside."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from browser import CHROMIUM, browser

import xedge
from xedge.reports import run
from xedge.reports.notebooks import Notebook

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "docs" / "site"
LOADING = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "embed": "src",
    "object": "data",
    "use": "href",
}
OUTSIDE = re.compile(r"^\s*(?:[a-z]+:)?//", re.IGNORECASE)


def module(name: str) -> ModuleType:
    """One of the site's modules, imported as `make docs` does."""
    sys.path.insert(0, str(SITE))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(SITE))


class Loads(HTMLParser):
    """What a page loads by itself, where its links lead, the places it has, and its pictures without words."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.places: set[str] = set()
        self.wordless: list[str] = []
        text = path.read_text("utf-8")
        self.loaded += styles(re.sub(r"<(code|pre|span)\b.*?</\1>", "", text, flags=re.DOTALL))
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.places.add(given.get("id") or "")
        if tag in LOADING:
            self.loaded.append(given.get(LOADING[tag]) or "")
        if tag == "link" and not {"next", "prev", "index", "search", "author"} & set((given.get("rel") or "").split()):
            self.loaded.append(given.get("href") or "")
        self.loaded += [part.split()[0] for part in (given.get("srcset") or "").split(",") if part.strip()]
        if tag == "a" and given.get("href"):
            self.links.append(given["href"] or "")
        if tag == "img" and not (given.get("alt") or "").strip():
            self.wordless.append(given.get("src") or "")


def styles(text: str) -> list[str]:
    """What style sheets load: `url(…)` and `@import`."""
    return re.findall(r"url\(\s*['\"]?([^'\")]+)", text) + re.findall(r"@import\s+['\"]([^'\"]+)", text)


@pytest.mark.parametrize(
    "page",
    [
        '<script src="https://cdn.example/x.js">',
        '<link rel="stylesheet" href="//cdn.example/x.css">',
        '<link rel="preconnect" href="https://fonts.example">',
        "<style>@font-face { src: url( 'http://fonts.example/x.woff') }</style>",
        '<style>@import "https://fonts.example/x.css";</style>',
        '<img alt="a" srcset="x.png 1x, HTTPS://cdn.example/y.png 2x">',
    ],
)
def test_what_comes_from_outside_would_be_found(page: str, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(page)
    assert any(map(OUTSIDE.match, Loads(path).loaded))
    path.write_text('<a href="https://example.org"><img src="data:image/png;base64,AA==" alt="a">')
    assert not any(map(OUTSIDE.match, Loads(path).loaded))


@pytest.fixture(scope="module")
def ran(models: Path, tmp_path_factory: pytest.TempPathFactory) -> run.Run:
    folder = tmp_path_factory.mktemp("runs")
    return run.run("00_quickstart", {"duration_s": 1}, out_dir=folder, progress=False).raise_for_status()


@pytest.fixture(scope="module")
def built(ran: run.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site with one run, built as `make docs` does: a warning would fail here."""
    out = tmp_path_factory.mktemp("site") / "docs"
    command = [sys.executable, SITE / "build.py", "--runs", ran.html.parent, "--run", "--out", out]
    done = subprocess.run(command, capture_output=True, text=True, timeout=540, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return out


@pytest.fixture(scope="module")
def pages(built: Path) -> dict[str, Loads]:
    return {str(path.relative_to(built)): Loads(path) for path in sorted(built.rglob("*.html"))}


@pytest.mark.long
def test_site_has_all_its_pages(pages: dict[str, Loads]) -> None:
    names = {f"{path.stem}.html" for path in (ROOT / "docs").glob("*.md")}
    assert names | {"quickstart.html", "gallery.html", "00_quickstart.html", "commands.html"} <= pages.keys()
    assert {f"xedge.{name}" for name in xedge.__all__} <= pages["reference.html"].places


@pytest.mark.long
def test_no_page_loads_anything_from_outside(built: Path, pages: dict[str, Loads]) -> None:
    assert {
        name: found for name, page in pages.items() if (found := [x for x in page.loaded if OUTSIDE.match(x)])
    } == {}
    sheets = {path.name: styles(path.read_text("utf-8")) for path in built.rglob("*.css")}
    assert {"furo.css", "site.css"} <= sheets.keys()
    assert [x for found in sheets.values() for x in found if OUTSIDE.match(x)] == []


@pytest.mark.long
def test_links_within_the_site_lead_somewhere(built: Path, pages: dict[str, Loads]) -> None:
    broken = []
    for name, page in pages.items():
        for target in {*page.links, *page.loaded}:
            parts = urlsplit(target)
            if parts.scheme or OUTSIDE.match(target):
                continue
            path = (built / name).parent / unquote(parts.path) if parts.path else built / name
            there = pages.get(os.path.relpath(path, built))
            if not path.is_file() or (parts.fragment and there and unquote(parts.fragment) not in there.places):
                broken.append((name, target))
    assert broken == []


@pytest.mark.long
def test_gallery_shows_the_run_with_its_picture_in_words_too(
    pages: dict[str, Loads], built: Path, ran: run.Run
) -> None:
    gallery, page = ((built / name).read_text("utf-8") for name in ("gallery.html", "00_quickstart.html"))
    assert f"<strong>{ran.verdict}</strong>" in gallery
    assert "03_load<" in gallery  # has no run here
    assert f"{ran.record['host']['cores']} cores" in page
    assert {name: page.wordless for name, page in pages.items() if page.wordless} == {}


@pytest.mark.long
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_browser_asks_for_nothing_from_outside(built: Path, tmp_path: Path) -> None:
    with browser(tmp_path) as page:
        for name in ("index", "gallery", "00_quickstart", "reference", "search"):
            page.open(built / f"{name}.html")
        assert [url for url in page.asked if not url.startswith("file://")] == []
        assert page.said == []


def sphinx(folder: Path, text: str) -> tuple[int, str]:
    """The exit status and the page of a site of one page."""
    (folder / "pages").mkdir()
    (folder / "pages" / "index.md").write_text(text, encoding="utf-8")
    code = "import sys, pathlib; sys.path.insert(0, sys.argv[1]); import build; "
    code += "sys.exit(build.sphinx(*map(pathlib.Path, sys.argv[2:])))"
    command = [sys.executable, "-c", code, SITE, folder / "pages", folder / "out"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, (folder / "out" / "index.html").read_text("utf-8")


@pytest.mark.long
def test_formulas_are_mathml(tmp_path: Path) -> None:
    status, page = sphinx(tmp_path, "# Formulas\n\nA rate $\\lambda / c$ and\n\n$$T = \\frac{s}{1 - \\rho}$$\n")
    assert status == 0
    assert page.count("<math") == 2
    assert page.count("<mfrac>") == 1
    assert not any(map(OUTSIDE.match, Loads(tmp_path / "out" / "index.html").loaded))


@pytest.mark.long
def test_warning_fails_the_build(tmp_path: Path) -> None:
    assert sphinx(tmp_path, "# Page\n\n[nowhere](nowhere.md)\n")[0] != 0


def saved(folder: Path, notebook: Notebook, day: int, **changes: str) -> Path:
    facts = {"name": "n", "notebook_sha256": notebook.sha256, "status": "completed", "verdict": "VALID"}
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(facts | {"started_at": f"2026-11-{day}"} | changes))
    (folder / "n.ipynb").touch()
    return folder / "n.ipynb"


def test_newest_run_is_a_completed_one_of_this_source_and_valid_if_there_is_any(tmp_path: Path) -> None:
    notebook, newest_run = Notebook.open("00_quickstart"), module("gallery").newest_run
    assert newest_run(notebook, [tmp_path]) is None
    invalid = saved(tmp_path / "c", notebook, 30, verdict="INVALID")
    assert newest_run(notebook, [tmp_path]).path == invalid
    saved(tmp_path / "deep/er/a", notebook, 10)
    newer = saved(tmp_path / "deep/er/b", notebook, 20)
    saved(tmp_path / "d", notebook, 30, notebook_sha256="another")
    saved(tmp_path / "e", notebook, 30, status="failed")
    assert newest_run(notebook, [tmp_path]).path == newer


def test_lab_runs_as_root_in_a_container() -> None:
    done = subprocess.run(
        ["make", "-n", "lab", "LAB=--ip=0.0.0.0"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    [line] = [line for line in done.stdout.splitlines() if "jupyter lab" in line]
    assert ("--allow-root" in line) == (os.getuid() == 0)
    assert line.endswith("--ip=0.0.0.0 notebooks")


def test_citation_is_of_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert cited["version"] == xedge.__version__
    assert {"cff-version", "message", "title", "authors", "license"} <= cited.keys()
