"""What stands in a page: fragments that can do no harm, formulas, then anchors, contents and tables that scroll."""

import base64
import html
import re
from typing import Any
from xml.etree import ElementTree as ET

import nh3

from xedge.reports import glossary
from xedge.results.showing import ON_TOP

_INLINE_SVG = re.compile(r"<svg\b(.*?</svg\s*>)", re.IGNORECASE | re.DOTALL)
_PANDAS_STYLE = re.compile(r"<style scoped>.*?</style>", re.DOTALL)  # pandas frames its tables; the page does not
_MATHML = """math menclose mfrac mi mn mo mover mpadded mphantom mroot mrow mspace msqrt mstyle msub msubsup msup mtable
mtd mtext mtr munder munderover"""
_MATHML_LOOKS = """accent columnalign columnlines columnspacing display displaystyle fence form height linethickness
lspace mathcolor mathsize mathvariant maxsize minsize movablelimits notation rowlines rowspacing rspace scriptlevel
separator stretchy voffset width"""
_CHILDREN = {"mfrac": 2, "msub": 2, "msup": 2, "mover": 2, "munder": 2, "msubsup": 3, "munderover": 3, "mroot": 2}
_ALIGNED = re.compile(r"(\\(?:begin|end)\{)aligned\}")
_URLS = {"src": ("data:image/",), "href": ("http:", "https:", "mailto:", "#")}  # relative ones lead nowhere from a copy


def _attribute(_tag: str, name: str, value: str) -> str | None:
    return value if value.lower().startswith(_URLS.get(name, ("",))) else None


_CLEANER = nh3.Cleaner(
    tags={*nh3.ALLOWED_TAGS, *_MATHML.split(), "input", "style", "tfoot"},
    clean_content_tags={"script"},
    attributes=nh3.ALLOWED_ATTRIBUTES
    | {tag: set(_MATHML_LOOKS.split()) for tag in _MATHML.split()}
    | {"*": {"class", "id", "style", "title"}, "details": {"open"}, "input": {"type", "disabled", "checked"}},
    attribute_filter=_attribute,
    url_schemes={"http", "https", "mailto", "data"},
)


def fragment(source: str) -> str:
    """Return the HTML of one cell with its tags closed and without what runs, loads or leads away by itself.

    The page's content policy stops scripts and requests in any case; a policy does not stop `<meta refresh>`.
    """
    return _CLEANER.clean(_INLINE_SVG.sub(_as_image, _PANDAS_STYLE.sub("", source)))


def _as_image(svg: re.Match[str]) -> str:
    """Return a drawing as an image: there it runs no script, loads nothing, and keeps its identifiers to itself."""
    source = svg[0] if "xmlns=" in svg[0] else f'<svg xmlns="http://www.w3.org/2000/svg"{svg[1]}'
    return f'<img alt="Figure without a description" src="data:image/svg+xml;base64,{as_base64(source)}">'


def as_base64(content: str | bytes) -> str:
    """Return bytes, or text in UTF-8, as base64."""
    return base64.b64encode(content.encode() if isinstance(content, str) else content).decode("ascii")


def formula(tex: str, *, block: bool) -> str:
    """Return TeX, with or without its dollar signs, as MathML, or its source in `code` where that is not possible.

    A `block` stands on lines of its own, not within a sentence.
    """
    from latex2mathml.converter import convert

    tex = tex.strip()
    while len(tex) > 2 and tex[0] == tex[-1] == "$":
        tex = tex[1:-1].strip()
    try:
        mathml = convert(_ALIGNED.sub(r"\1align*}", tex), display="block" if block else "inline")
        mathml = mathml.replace("<mi>&#x000B1;</mi>", "<mo>&#x000B1;</mo>")  # ± is an operator, with room around it
        whole = all(map(_is_understood, ET.fromstring(mathml).iter()))
    except Exception:  # whatever a formula does to the converter, the page is written
        whole = False
    if not whole:
        mathml = f'<code class="math">{html.escape(tex)}</code>'
    return f'<span class="formula">{mathml}</span>' if block else mathml


def _is_understood(element: ET.Element) -> bool:
    """Return False where the converter passed on what it did not know, such as a command as text."""
    children = _CHILDREN.get(element.tag.rpartition("}")[2], len(element))
    return len(element) == children and "\\" not in (element.text or "")


def finished(page: str) -> str:
    """Return the page with anchors at its headings, the contents list, and tables that scroll."""
    from bs4 import BeautifulSoup

    soup: Any = BeautifulSoup(page, "html.parser")
    if soup.select_one("#answer .answer"):  # what stands at the top is not said again
        for twice in soup.select(f"article .{ON_TOP}"):
            twice.decompose()
    contents, headings = soup.select_one("#contents ol"), soup.select(".md h1, .md h2, .md h3")
    used = {tag["id"] for tag in soup.find_all(id=True)}
    for heading in headings:
        slug = re.sub(r"\W+", "-", heading.get_text().lower()).strip("-") or "part"
        heading["id"] = next(a for a in (slug, *(f"{slug}-{n}" for n in range(2, 9999))) if a not in used)
        used.add(heading["id"])
        item, link = (
            soup.new_tag("li", attrs={"class": f"of-{heading.name}"}),
            soup.new_tag("a", href=f"#{heading['id']}"),
        )
        link.string = heading.get_text()
        item.append(link)
        contents.append(item)
    if len(headings) > 10:
        contents["class"] = "long"
    if not headings:
        contents.parent.decompose()
    _explain(soup)
    for table in soup.select("main table"):
        table.wrap(soup.new_tag("div", attrs={"class": "scroll", "tabindex": "0"}))
    for image in soup.select("img:not([src])"):
        image.name, image.attrs = "em", {"class": "missing"}
        image.string = "[an image that is not part of this page]"
    return str(soup)


def _explain(soup: Any) -> None:
    """Fill the glossary with the words that occur on the page, in figures too, or take it away."""
    alts = (image.get("alt", "") for image in soup.select("img"))
    words = glossary.words_in(" ".join([soup.main.get_text(" "), *alts]) if soup.main else "")
    for section in soup.select(".glossary"):
        for word in words:
            for name, text in (("dt", word.word), ("dd", word.meaning)):
                tag = soup.new_tag(name)
                tag.string = text
                section.append(tag)
        if not words:
            section.find_parent("section").decompose()
