"""What stands in a page: fragments that can do no harm, then anchors, contents and tables that scroll."""

import re
from typing import Any

_UNSAFE = ["script", "meta", "base", "link", "iframe", "object", "embed", "form", "frame", "applet"]
_UNSAFE_ATTRIBUTES = {"srcset", "ping", "background", "border", "poster"}  # border: pandas frames its tables
_LINKS = re.compile(r"https?:|mailto:|data:|#")  # a relative link leads nowhere once the page is passed on


def finished(html: str) -> str:
    """Return the page with anchors at its headings, the contents list, and tables that scroll."""
    from bs4 import BeautifulSoup

    soup: Any = BeautifulSoup(html, "html.parser")
    _list_contents(soup)
    for table in soup.select("main table"):
        table.wrap(soup.new_tag("div", attrs={"class": "scroll", "tabindex": "0"}))
    return str(soup)


def fragment(html: str) -> str:
    """Return the HTML of one cell with its tags closed and without what runs, loads or leads away by itself.

    The page's content policy stops scripts and requests in any case; a policy does not stop `<meta refresh>`.
    """
    from bs4 import BeautifulSoup

    cell: Any = BeautifulSoup(html, "html.parser")
    for tag in cell.find_all(_UNSAFE) + cell.select("style[scoped]"):
        tag.decompose()
    for tag in cell.find_all(True):
        for name in [name for name in tag.attrs if name.lower().startswith("on") or name in _UNSAFE_ATTRIBUTES]:
            del tag[name]
        if tag.name in ("a", "area") and not _LINKS.match(tag.get("href", "#")):
            del tag["href"]
        if tag.name == "img" and not tag.get("src", "").startswith("data:"):
            tag.name, tag.attrs = "em", {"class": "missing"}
            tag.string = "[an image that is not part of this page]"
    return str(cell)


def _list_contents(soup: Any) -> None:
    contents = soup.select_one("#contents ol")
    used = {tag["id"] for tag in soup.find_all(id=True)}
    for heading in soup.select(".md h1, .md h2, .md h3"):
        slug = re.sub(r"\W+", "-", heading.get_text().lower()).strip("-") or "part"
        anchor = next(a for a in (slug, *(f"{slug}-{n}" for n in range(2, 9999))) if a not in used)
        used.add(anchor)
        heading["id"] = anchor
        item = soup.new_tag("li", attrs={"class": f"of-{heading.name}"})
        link = soup.new_tag("a", href=f"#{anchor}")
        link.string = heading.get_text()
        item.append(link)
        contents.append(item)
    count = len(contents.find_all("li"))
    if count > 10:
        contents["class"] = "long"
    if not count:
        soup.select_one("#contents").decompose()
