"""The reference pages: public names from their docstrings, commands from their help; nothing is written twice."""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Iterator
from pathlib import Path

import xedge
from xedge.cli.main import parser

#: The rooms of the public names, from a question to its answer, and what is imported from a room by its own name.
ROOMS = {
    "xedge.scenario": "What is asked",
    "xedge.runs": "Measuring",
    "xedge.results": "What comes out",
    "xedge.models": "Models",
    "xedge.serving": "Brokers and services",
    "xedge.reports": "Notebooks and reports",
}
FURTHER = {
    "xedge.studies.load": "How much load a placement takes",
    "xedge.studies.networks": "What networks do",
    "xedge.studies.inversion": "When a pooled cloud beats edge boxes",
    "xedge.studies.instrument": "The instrument against theory",
    "xedge.text": "Topic and sentiment",
}
PLUMBING = "check, written_out"


def write(stage: Path) -> None:
    """Write `reference.md` and `commands.md` to `stage`."""
    os.environ["COLUMNS"] = "100"  # as wide as argparse makes its help
    (stage / "reference.md").write_text(_reference(), encoding="utf-8")
    parts = [f"## {one.prog}\n\n```text\n{one.format_help().strip()}\n```" for one in _parsers(parser())]
    (stage / "commands.md").write_text("\n\n".join(["# Commands", *parts]) + "\n", encoding="utf-8")


def _reference() -> str:
    where = {name: getattr(xedge, name).__module__ for name in xedge.__all__}
    parts = ["# Python reference", "What `import xedge` offers; nothing is imported before it is used."]
    for room in sorted({_room(module) for module in where.values()}, key=[*ROOMS].index):
        parts += [f"## {ROOMS[room]}", importlib.import_module(room).__doc__ or ""]
        parts += [_directive(f"xedge.{name}") for name, module in where.items() if _room(module) == room]
    parts.append("## Studies and text models")
    for module, title in FURTHER.items():
        loaded = importlib.import_module(module)
        names = getattr(loaded, "__all__", None) or [n for n in vars(loaded) if _is_public(module, n)]
        parts += [f"### {title}: `{module}`", *(_directive(f"{module}.{name}") for name in names)]
    parts += ["## Exceptions", "```{eval-rst}\n.. automodule:: xedge.core.exceptions\n   :members:\n```"]
    return "\n\n".join(parts) + "\n"


def _room(module: str) -> str:
    return ".".join(module.split(".")[:2])


def _is_public(module: str, name: str) -> bool:
    value = getattr(importlib.import_module(module), name)
    return not name.startswith("_") and getattr(value, "__module__", "").startswith(f"{module}.")


def _directive(path: str) -> str:
    module, _, name = path.rpartition(".")
    value = getattr(importlib.import_module(module), name)
    if isinstance(value, type):
        base = "Struct" if name == "Scenario" else "Config"  # what all data has in common is shown there
        text = f".. autoclass:: {path}\n   :members:\n   :inherited-members: {base}\n   :exclude-members: {PLUMBING}"
    else:
        text = f".. auto{'function' if callable(value) else 'data'}:: {path}"
    return f"```{{eval-rst}}\n{text}\n```"


def _parsers(of: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield of
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from _parsers(sub)
