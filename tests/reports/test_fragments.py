"""What the HTML of a cell becomes before it is put into a page."""

from __future__ import annotations

import base64
import re

import pandas as pd
import pytest
from bs4 import BeautifulSoup
from hostile_fragments import HOSTILE, HOSTILE_TEX, hostile

from xedge.reports.fragments import finished, formula, fragment

HARMFUL = """script meta base link iframe object embed form frame svg foreignobject use animate set mglyph
annotation-xml noscript xmp title textarea video source template button"""


@pytest.mark.parametrize("html", hostile(HOSTILE))
def test_fragment_keeps_nothing_that_runs_loads_or_leads_away(html: str) -> None:
    soup = BeautifulSoup(fragment(html), "html.parser")
    assert soup.find_all(HARMFUL.split()) == []
    for tag in soup.find_all(True):
        assert not [name for name in tag.attrs if name.startswith("on")]
        assert set(tag.attrs) <= {"class", "id", "title", "alt", "src", "href", "rel", "open", "style"}
        assert tag.get("src", "data:image/").startswith("data:image/")
        assert re.match("https?:|mailto:|#", tag.get("href", "#"))


@pytest.mark.parametrize(
    ("html", "clean"),
    [
        ("<b>open", "<b>open</b>"),
        ("a</div></section>b", "ab"),
        ('<a href="#x">a</a>', '<a href="#x" rel="noopener noreferrer">a</a>'),
        ('<a href="mailto:a@b.c">a</a>', '<a href="mailto:a@b.c" rel="noopener noreferrer">a</a>'),
        ('<a href="docs/x.md">a</a>', '<a rel="noopener noreferrer">a</a>'),
        ('<input type="checkbox" disabled checked>', '<input type="checkbox" disabled="" checked="">'),
        ('<i style="color:#fff;padding:1px 8px">VALID</i>', '<i style="color:#fff;padding:1px 8px">VALID</i>'),
    ],
)
def test_fragment_keeps_what_people_write(html: str, clean: str) -> None:
    assert fragment(html) == clean


def test_fragment_keeps_tables_of_pandas_and_their_styles() -> None:
    frame = pd.DataFrame({"p99_ms": [1.5, 2.5]}, index=["edge", "<cloud>"])
    table = BeautifulSoup(fragment(frame._repr_html_()), "html.parser")
    assert table.find("style") is None  # the scoped one that pandas gives every table
    assert [cell.get_text() for cell in table.select("td, tbody th")] == ["edge", "1.5", "<cloud>", "2.5"]
    assert "border" not in table.table.attrs
    styled = (
        frame.reset_index(drop=True).style.set_properties(**{"text-align": "left"}).set_caption("Latency").to_html()
    )
    kept, given = (BeautifulSoup(html, "html.parser") for html in (fragment(styled), styled))
    assert kept.style.string == given.style.string
    assert [tag.get("id") for tag in kept.find_all(True)] == [tag.get("id") for tag in given.find_all(True)]
    assert [tag.get("class") for tag in kept.find_all(True)] == [tag.get("class") for tag in given.find_all(True)]


@pytest.mark.parametrize(
    "tex",
    [r"\frac{C(k,\rho)}{k\mu} \left( \sum_{i=1}^n x_i \right)", r"\begin{aligned} a &= b \\ c &= d \end{aligned}"],
)
def test_fragment_keeps_formulas(tex: str) -> None:
    shown = formula(tex, block=True).replace(' xmlns="http://www.w3.org/1998/Math/MathML"', "")
    before, after = (BeautifulSoup(html, "html.parser") for html in (shown, fragment(shown)))
    assert [(tag.name, tag.attrs) for tag in after.find_all(True)] == [
        (tag.name, tag.attrs) for tag in before.find_all(True)
    ]
    assert after.get_text() == before.get_text()


def test_fragment_keeps_nothing_that_hides_in_a_formula() -> None:
    shown = formula(HOSTILE_TEX, block=True)
    assert "<meta" in shown
    assert "javascript:" in shown
    assert fragment(shown).count("<mtext></mtext><mrow><mrow><mi>x</mi></mrow></mrow>") == 1


def test_fragment_makes_an_image_of_a_drawing() -> None:
    image = BeautifulSoup(fragment('<p>a <svg viewBox="0 0 9 9"><path id="p"/></svg> b</p>'), "html.parser").img
    drawn = base64.b64decode(image["src"].removeprefix("data:image/svg+xml;base64,")).decode()
    assert drawn == '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><path id="p"/></svg>'


def test_page_says_where_an_image_is_missing() -> None:
    page = f'<nav id="contents"><ol></ol></nav>{fragment("<img src=a.png><img src=data:image/png;base64,AAAA>")}'
    assert finished(page) == (
        '<em class="missing">[an image that is not part of this page]</em><img src="data:image/png;base64,AAAA"/>'
    )
