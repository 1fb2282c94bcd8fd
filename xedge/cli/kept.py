"""The commands that look at runs which are kept: runs, compare, index."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xedge.cli.options import Adder

if TYPE_CHECKING:
    from xedge.reports.kept import Run


def add(command: Adder) -> None:
    """Add the commands."""
    sub = command("runs", runs, "xedge runs results --json")
    sub.add_argument("folder", nargs="?", metavar="DIR", help="by default the project's reports folder")
    sub.add_argument("--json", action="store_true", help="a list of objects instead of a table")
    example = "xedge compare reports/load/20261127-101500 reports/load/20261127-113000-rate_hz=500"
    sub = command("compare", compare, example)
    text = "folder, run.json or page of a run, or folder of a saved measurement"
    sub.add_argument("a", metavar="RUN", help=text)
    sub.add_argument("b", metavar="RUN", help="the same; the page above several runs means the run it shows")
    sub = command("index", index, "xedge index reports/edge_vs_cloud_sweep")
    sub.add_argument("folder", nargs="?", metavar="DIR", help="by default the project's reports folder")


def runs(arguments: argparse.Namespace) -> int:
    """List the runs in a folder and the folders in it, the newest last: when, what, how it came out."""
    from xedge.core import paths
    from xedge.core.tables import text_table
    from xedge.reports import kept

    folder = Path(arguments.folder or paths.reports_dir()).resolve()
    entries = kept.below(folder)
    if arguments.json:
        print(json.dumps([_facts(run) for run in entries], indent=1, ensure_ascii=False))
    elif entries:
        rows = [_row(run, folder) for run in entries]
        heads = ("started (UTC)", "notebook", "verdict", "parameters", "folder", "result")
        print(text_table([heads, *rows]))
    else:
        print(f"no runs in {folder}")
    return 0


def _row(run: Run, folder: Path) -> tuple[str, ...]:
    when = run.record["started_at"][:19].replace("T", " ")
    changed = " ".join(f"{name}={text}" for name, text in run.changed.items())
    where = str(run.folder.relative_to(folder))
    result = run.headline[0] if run.record.get("answer") else "; ".join(run.headline)
    return when, run.notebook.stem, run.state, changed or "defaults", where, run.failure or result


def _facts(run: Run) -> dict[str, Any]:
    return {
        "started_at": run.record["started_at"],
        "notebook": run.notebook.stem,
        "parameters": run.changed,
        "status": run.status,
        "verdict": run.verdict,
        "headline": run.headline,
        "error": run.failure or None,
        "folder": str(run.folder),
        "page": str(run.html),
    }


def compare(arguments: argparse.Namespace) -> int:
    """Say in what two runs differ, and for each number whether the difference is more than noise."""
    from xedge.reports.compare import compare

    print(compare(arguments.a, arguments.b))
    return 0


def index(arguments: argparse.Namespace) -> int:
    """Write the page that lists or compares the runs in a folder and the folders in it, from their run.json."""
    from xedge.core import paths
    from xedge.reports import index

    print(index.build(Path(arguments.folder or paths.reports_dir()).resolve()))
    return 0
