"""The figures of an executed notebook: numbered, so that a reader can save each as a file, and how much they weigh."""

import gzip
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from xedge.reports import fragments

PDF, SVG = "application/pdf", "image/svg+xml"
_PLAIN = " !$'()*+,-./:;=?@[]^_`{|}~"  # what may stand as it is inside an address inside a page


def number(notebook: Any, name: str) -> int:
    """Give every figure that can be saved from the page its file's name, NAME-figure-1, and return the bytes of all.

    A figure of xedge's brings a PDF beside its SVG, and an SVG for narrow screens; any other is shown as it is.
    """
    from xedge.results.canvas import NARROW  # with matplotlib, which reading a page does not need

    weight, place = 0, 0
    for output in _outputs(notebook):
        weight += sum(map(len, map(str, output.data.values()))) * 11 // 10
        if PDF in output.data and SVG in output.data:
            place += 1
            packed = fragments.as_base64(gzip.compress(output.data[SVG].encode(), mtime=0))
            about = {"file": f"{name}-figure-{place}", "pdf": output.data[PDF].replace("\n", ""), "svgz": packed}
            output.metadata["xedge_figure"] = about | {"narrow": output.data.get(NARROW, "")}
            weight += len(packed)
    return weight


def svg_uri(svg: str) -> str:
    """Return an SVG as the address of an image: a fourth shorter than in base64."""
    return f"data:image/svg+xml,{quote(svg, safe=_PLAIN)}"


def _outputs(notebook: Any) -> Iterator[Any]:
    for cell in notebook.cells:
        yield from (output for output in cell.get("outputs", []) if "data" in output)
