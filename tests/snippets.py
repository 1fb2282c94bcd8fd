"""The examples in docs/text.md, so that tests run what the page shows."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "text.md"


def snippets(language: str, heading: str | None = None) -> list[str]:
    """Return the blocks of a language, of the whole page or of one section."""
    text = PAGE.read_text(encoding="utf-8")
    if heading is not None:
        [text] = [part for part in re.split(r"^## ", text, flags=re.MULTILINE) if part.startswith(f"{heading}\n")]
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
