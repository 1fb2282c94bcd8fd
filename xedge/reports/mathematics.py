"""TeX formulas as MathML, which browsers show without a script, a font file or the network."""

import html
import re
from xml.etree import ElementTree as ET

_CHILDREN = {"mfrac": 2, "msub": 2, "msup": 2, "mover": 2, "munder": 2, "msubsup": 3, "munderover": 3, "mroot": 2}
_ALIGNED = re.compile(r"(\\(?:begin|end)\{)aligned\}")


def shown(tex: str, *, block: bool) -> str:
    """Return a formula as HTML: MathML, or its source in `code` where it cannot be converted.

    Args:
        tex: the formula, with or without its dollar signs.
        block: on lines of its own, not within a sentence.
    """
    tex = tex.strip()
    while len(tex) > 2 and tex[0] == tex[-1] == "$":
        tex = tex[1:-1].strip()
    mathml = _mathml(tex, block) or f'<code class="math">{html.escape(tex)}</code>'
    return f'<span class="formula">{mathml}</span>' if block else mathml


def _mathml(tex: str, block: bool) -> str | None:
    """Return MathML, None where the converter raised or passed on what it did not understand."""
    from latex2mathml.converter import convert

    try:
        mathml = convert(_ALIGNED.sub(r"\1align*}", tex), display="block" if block else "inline")
        mathml = mathml.replace("<mi>&#x000B1;</mi>", "<mo>&#x000B1;</mo>")  # ± is an operator, with room around it
        tree = ET.fromstring(mathml)
    except Exception:  # whatever a formula does to the converter, the page is written
        return None
    for element in tree.iter():
        name = element.tag.rpartition("}")[2]
        if len(element) != _CHILDREN.get(name, len(element)) or "\\" in (element.text or ""):
            return None
    return mathml
