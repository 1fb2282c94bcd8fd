"""The sheet that xedge's figures are drawn on: its style, how it is saved, and how it shows itself in a notebook."""

from __future__ import annotations

import base64
import io
import re
import textwrap
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from xedge.core.exceptions import ConfigurationError

STYLE = Path(__file__).with_name("xedge.mplstyle")
FORMATS = ("pdf", "svg", "png")
NARROW = "application/vnd.xedge.narrow+svg"  # the same figure for a narrow screen, beside the wide one
PANEL_INCHES = (4.5, 3.3)
PRINT_DPI, PAGE_DPI = 300, 150  # of what is an image inside a PDF: when saved for print, and in a notebook
LOOKS: list[dict[str, Any]] = list(mpl.rc_params_from_file(STYLE, use_default_template=False)["axes.prop_cycle"])


def styled() -> AbstractContextManager[None]:
    """Apply xedge's style inside the block only; nothing global changes."""
    return style.context(STYLE)


_PLACES = re.compile(rb' (?:d|x|y|points|transform)="[^"<]*"')
_DECIMALS = re.compile(rb"(\.\d\d)\d+")


def _rounded(svg: bytes) -> bytes:
    """Cut what says where something is drawn to hundredths of a point, with a space where a line ends."""
    return _PLACES.sub(lambda place: _DECIMALS.sub(rb"\1", place[0].replace(b" \n", b" ")), svg)


class ReportFigure(Figure):
    """A figure that shows itself in a notebook as one small SVG with an alternative text, the same every time.

    Beside the SVG the notebook keeps a PDF, which is what `jupyter nbconvert --to pdf` takes, and, of a figure with
    panels beside each other, an SVG with one below the other, for a telephone.
    """

    alt: str = ""
    caption: str = ""

    def note(self, text: str) -> None:
        """Print a warning below the panels, in red, in three lines at most."""
        self.caption = text
        self._place_note()

    def save(self, path: str | Path, dpi: int = PRINT_DPI) -> Path:
        """Write the figure as PDF, SVG or PNG, as the end of its name says, and return the file.

        The text of a PDF is text in embedded TrueType fonts, as publishers ask for. The same rows make the same
        file. `dpi` is the resolution of a PNG, and of what is an image inside the others: clouds of many marks.

        Raises:
            ConfigurationError: the name ends otherwise.
        """
        file = Path(path)
        if (kind := file.suffix.lower().removeprefix(".")) not in FORMATS:
            raise ConfigurationError(f"{file}: a figure is saved as .{', .'.join(FORMATS)}; end the name with one")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(self._written(kind, dpi))
        return file

    def svg(self) -> str:
        """Return the figure as SVG: text as text, no date, identifiers that depend on the content only."""
        return self._written("svg", 72).decode()

    def narrow_svg(self) -> str | None:
        """Return the figure as SVG with one panel below the other; None where no panels stand beside each other."""
        panels = [(ax, spec) for ax in self.axes if ax.axison and (spec := ax.get_subplotspec()) is not None]
        shapes = [spec.get_gridspec() for _, spec in panels]
        if len(panels) < len([ax for ax in self.axes if ax.axison]) or not any(shape.ncols > 1 for shape in shapes):
            return None
        width, height = self.get_size_inches()
        heights = [height * len(spec.rowspan) / spec.get_gridspec().nrows for _, spec in panels]
        below = GridSpec(len(panels), 1, figure=self, height_ratios=heights)
        try:
            self.set_size_inches(PANEL_INCHES[0], sum(heights))
            for (ax, _), spec in zip(panels, [below[k] for k in range(len(panels))], strict=True):
                ax.set_subplotspec(spec)
            self._place_note()
            return self.svg()
        finally:
            self.set_size_inches(width, height)
            for ax, spec in panels:
                ax.set_subplotspec(spec)
            self._place_note()

    def _place_note(self) -> None:
        if self.caption:
            width = int(16 * self.get_size_inches()[0])
            text = textwrap.fill(textwrap.shorten(self.caption, 3 * width - 20, placeholder=" …"), width)
            self.supxlabel(text, fontsize=8, color="#b42318", ha="left", x=0.01)

    def _written(self, kind: str, dpi: int) -> bytes:
        """The file's content; nothing in it says when or where it was made."""
        unsaid = {"svg": ("Date", "Creator"), "pdf": ("CreationDate", "Creator", "Producer"), "png": ("Software",)}[
            kind
        ]
        buffer = io.BytesIO()
        with styled():
            metadata = {"Title": self.alt, **dict.fromkeys(unsaid)}
            self.savefig(buffer, format=kind, dpi=dpi, metadata=metadata)
        return _rounded(buffer.getvalue()) if kind == "svg" else buffer.getvalue()

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
        pdf = base64.b64encode(self._written("pdf", PAGE_DPI)).decode()
        data = {"image/svg+xml": self.svg(), "application/pdf": pdf, "text/plain": self.alt}
        if (narrow := self.narrow_svg()) is not None:
            data[NARROW] = narrow
        return data, {"image/svg+xml": {"alt": self.alt}}
