"""The rules of the house: which room imports which, how long a module may be, and what tests may not do."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LONGEST = 300


def test_rooms_import_downwards_only():
    """The layers are in pyproject.toml; no import circle can be drawn through them.

    In a process of its own: import-linter disables the loggers of the one it runs in.
    """
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Contracts: 1 kept, 0 broken" in done.stdout


def test_no_module_is_longer_than_it_may_be():
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in (ROOT / "xedge").rglob("*.py")}
    assert {path.name: length for path, length in lengths.items() if length > LONGEST} == {}


def sleeping(source):
    """Yield the lines on which a module calls a function named `sleep`; what a string holds is not looked at."""
    for node in ast.walk(ast.parse(source)):
        is_sleep = isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "sleep"
        if is_sleep and ast.unparse(node.args[0]) != "0":  # that hands over and waits for nothing
            yield node.lineno


def test_no_test_sleeps():
    """Scripts in strings may: those that a test interrupts."""
    paths = (ROOT / "tests").rglob("*.py")
    assert [f"{path.name}:{line}" for path in paths for line in sleeping(path.read_text("utf-8"))] == []
    assert list(sleeping("import time\nf('time.sleep(1)')\ntime.sleep(1)\nx = lambda: sleep(2)")) == [3, 4]
