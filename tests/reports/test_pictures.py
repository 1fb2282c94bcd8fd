"""Figures in a page: saved as files from there, one for narrow screens, and their weight."""

from __future__ import annotations

import base64
import gzip
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import nbformat
import pytest
from browser import CHROMIUM, browser
from bs4 import BeautifulSoup
from sample_rows import measurement

from xedge.reports import page, pictures
from xedge.results.canvas import ReportFigure


def notebook(*figures: ReportFigure) -> Any:
    """An executed notebook that shows these."""
    outputs = []
    for figure in figures:
        data, metadata = figure._repr_mimebundle_()
        outputs.append(nbformat.v4.new_output("display_data", data=data, metadata=metadata))
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("measurement.plot()", outputs=outputs)])


FACTS = {
    "name": "probe", "notebook": "probe", "parameters": [], "status": "completed", "verdict": None, "error": None,
    "started_at": "2026-11-27T00:00:00+00:00", "duration_s": 1.0, "versions": {"xedge": "0"}, "git": None,
    "host": {"cpu": "x", "cores": 2, "os": "x"}, "command": "xedge report probe", "conditions": {},
}  # fmt: skip


@pytest.fixture(scope="module")
def figures() -> list[ReportFigure]:
    whole = measurement()
    return [whole.plot(), whole.plot("tail", size=(3.4, 2.6))]


@pytest.fixture(scope="module")
def html(figures: list[ReportFigure], tmp_path_factory: pytest.TempPathFactory) -> str:
    return page.page(notebook(*figures), FACTS, tmp_path_factory.mktemp("probe"))


def test_every_figure_can_be_saved_from_the_page(html: str, figures: list[ReportFigure]) -> None:
    shown = BeautifulSoup(html, "html.parser").select("article figure")
    assert len(shown) == len(figures)
    for place, figure in enumerate(shown, 1):
        pdf, svg = figure.select("figcaption a[download]")
        assert [pdf["download"], svg["download"]] == [f"probe-figure-{place}.pdf", f"probe-figure-{place}.svgz"]
        assert base64.b64decode(pdf["href"].partition(",")[2]).startswith(b"%PDF-")
        drawn = gzip.decompress(base64.b64decode(svg["href"].partition(",")[2])).decode()
        assert unquote(figure.img["src"].partition(",")[2]) == drawn
        assert ElementTree.fromstring(drawn).tag.endswith("svg")
    assert [len(figure.select("img")) for figure in shown] == [2, 1]  # one panel alone is narrow already
    assert all(image["alt"] for image in BeautifulSoup(html, "html.parser").select("figure img"))


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_a_telephone_shows_whole_figures_that_can_be_read(html: str, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(html, encoding="utf-8")
    images = "[...document.querySelectorAll('figure img')]"
    seen = f"{images}.filter(i => i.offsetWidth).map(i => [i.naturalWidth, i.offsetWidth])"
    with browser(tmp_path / "profile") as window:
        window.look(390)
        window.open(file)
        narrow = window.evaluate(seen)
        assert window.evaluate("[...document.querySelectorAll('figure')].every(f => f.scrollWidth <= f.clientWidth)")
        window.look(1400)
        wide = window.evaluate(seen)
        assert not window.said
    assert len(narrow) == len(wide) == 2
    assert all(width >= 0.8 * natural > 0 for natural, width in narrow)  # hardly smaller than it was drawn
    assert wide[0][0] == pytest.approx(2 * narrow[0][0], rel=0.01)


def test_the_page_stays_below_a_megabyte_with_its_data(figures: list[ReportFigure], tmp_path: Path) -> None:
    folder = tmp_path / "probe"
    folder.mkdir()
    files = ["large.bin", "rows.csv.gz", "summary.csv"]
    for name, size in zip(files, (700_000, 400_000, 1000), strict=True):
        (folder / name).write_bytes(bytes(size))
    html = page.page(notebook(*figures), {**FACTS, "files": files}, folder)
    links = {link.get_text(): link["href"] for link in BeautifulSoup(html, "html.parser").select(".files a")}
    assert len(html.encode()) < page.PAGE_BYTES
    assert not links["large.bin"].startswith("data:")
    assert links["rows.csv.gz"].startswith("data:")
    assert links["summary.csv"].startswith("data:")


def test_figures_that_are_not_xedges_stay_as_they_are() -> None:
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="4" height="2"><text>"50 %" #1 & é</text></svg>'
    output = nbformat.v4.new_output("display_data", data={"image/svg+xml": svg})
    plain = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("plot()", outputs=[output])])
    pictures.number(plain, "probe")
    assert "xedge_figure" not in plain.cells[0].outputs[0].metadata
    address = pictures.svg_uri(svg)
    assert not set(address) & set('"<>#\n&')
    assert unquote(address.partition(",")[2]) == svg
