"""What docs/extending.md and the docstrings show is what happens."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import xedge
from xedge.core import config

PAGE = Path(__file__).resolve().parents[1] / "docs" / "extending.md"


@pytest.fixture
def registered():
    """The kinds as they were: what an example registers is forgotten after it."""
    assert xedge.Scenario  # loaded: xedge's own kinds are registered
    before = {protocol: dict(kinds) for protocol, kinds in config._KINDS.items()}
    yield
    config._KINDS.clear()
    config._KINDS.update(before)


@pytest.mark.usefixtures("models", "registered")
def test_extending_page_does_what_it_says(capsys):
    """All blocks in one namespace, from the top to the bottom, as a reader would type them."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 6
    names: dict[str, object] = {}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"{PAGE.name}, block {number}", "exec"), names)
    printed = capsys.readouterr().out
    assert re.search(r"^50 sensors at once are answered within [\d.]+ ms at the median\.$", printed, re.MULTILINE)
    findings = names["fleet"].findings()  # type: ignore[attr-defined]
    assert [headline.label[:2] for headline in findings.headline] == ["5 ", "50"]
    assert findings.verdict in ("VALID", "INVALID", "SATURATED")


def test_modules_named_on_the_extending_page_are_there():
    files = set(re.findall(r"`((?:xedge|tests)/[\w/]+\.\w+)`", PAGE.read_text(encoding="utf-8")))
    assert len(files) >= 6
    assert [name for name in files if not (PAGE.parents[1] / name).is_file()] == []


def test_examples_in_docstrings_are_true():
    tried = 0
    for found in pkgutil.walk_packages(xedge.__path__, "xedge."):
        if "__main__" in found.name:
            continue
        source = Path(found.module_finder.path) / f"{found.name.rpartition('.')[2]}.py"  # type: ignore[union-attr]
        if source.is_file() and ">>> " in source.read_text(encoding="utf-8"):
            result = doctest.testmod(importlib.import_module(found.name))
            assert result.failed == 0, found.name
            tried += result.attempted
    assert tried >= 15
