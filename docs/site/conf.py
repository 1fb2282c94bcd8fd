"""Sphinx's settings; `build.py` beside this stages the pages and calls Sphinx."""

import re
from typing import Any

import latex2mathml.converter
from docutils import nodes

import xedge

project, author = "xedge", "The xedge founders"
version = release = xedge.__version__
copyright = author  # noqa: A001 - Sphinx calls it so
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # the notebooks are shown as xedge's own runner left them
nb_merge_streams = True
nb_ipywidgets_js: dict[str, Any] = {}  # would be loaded from elsewhere
suppress_warnings = ["mystnb.unknown_mime_type"]  # the plain text beside it is shown

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"

html_theme = "furo"
html_title = "xedge"
html_show_sphinx = False
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"  # Sphinx's own renderers load scripts from elsewhere


def _formula(translator: Any, node: Any) -> None:
    display = "block" if isinstance(node, nodes.math_block) else "inline"
    translator.body.append(latex2mathml.converter.convert(node.astext(), display=display))
    raise nodes.SkipNode


def _as_rst(_app: Any, _what: str, _name: str, _thing: Any, _options: Any, lines: list[str]) -> None:
    """Let docstrings, which are plain text with `names`, mean the same in reStructuredText: a star is a star."""
    lines[:] = [re.sub(r"`([^`]+)`", r"``\1``", re.sub(r"(?<=[(, ])\*(?=\w)", r"\*", line)) for line in lines]


def _shorter(*described: Any) -> tuple[str | None, str | None]:
    """Leave the ranges out of a signature: the docstring says what may be given, and so does the error."""
    signature, returned = described[-2:]
    return signature and re.sub(r"Annotated\[(.+?), msgspec\.Meta\([^()]*\)\]", r"\1", signature), returned


def setup(app: Any) -> dict[str, bool]:
    """Make formulas MathML, which needs neither script nor font, and docstrings reStructuredText."""
    app.connect("autodoc-process-docstring", _as_rst, priority=100)  # before napoleon
    app.connect("autodoc-process-signature", _shorter)
    app.add_html_math_renderer("mathml", inline_renderers=(_formula, None), block_renderers=(_formula, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
