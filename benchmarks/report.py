"""Reports: the page that compares thirty saved runs, and the thirty pages themselves, made from what is on disk."""

from __future__ import annotations

import itertools
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import nbformat

from benchmarks.harness import Table
from xedge.models.reference import ready
from xedge.reports import index, page, run_table
from xedge.reports import run as report

RATES_HZ = (50, 75, 100, 150, 200, 300, 400, 500, 600, 800)
DELAYS_MS = (5, 20, 50)


def saved(out: Path, run: report.Run) -> None:
    """Save one real run thirty times, as a sweep over rate and delay would have left it."""
    facts = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))
    plan = []
    for rate_hz, delay_ms in itertools.product(RATES_HZ, DELAYS_MS):
        name = f"rate_hz={rate_hz},cloud_latency_ms={delay_ms}"
        values = {row["name"]: row["value"] for row in facts["parameters"]}
        values |= {"rate_hz": float(rate_hz), "cloud_latency_ms": float(delay_ms)}
        rows = [{**row, "value": values[row["name"]]} for row in facts["parameters"]]
        shutil.copytree(run.folder, out / run.name / name)
        changed = {**facts, "run": name, "parameters": rows}
        (out / run.name / name / "run.json").write_text(json.dumps(changed), encoding="utf-8")
        plan.append({"label": name, "parameters": values})
    sha256 = facts["notebook_sha256"]
    about = {"notebook": "00_quickstart", "notebook_sha256": sha256, "command": "xedge sweep …", "runs": plan}
    (out / run_table.PLAN).write_text(json.dumps(about), encoding="utf-8")


def export(folder: Path) -> None:
    """Make one run's page again from its executed notebook and run.json."""
    facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    notebook = nbformat.read(folder / f"{facts['name']}.ipynb", as_version=4)
    (folder / f"{facts['name']}.html").write_text(page.page(notebook, facts, folder), encoding="utf-8")


def main() -> list[str]:
    table = Table()
    print("report: thirty saved runs of a real measurement (00_quickstart), compared and exported")
    ready("anomaly_detector", quick=True)
    with tempfile.TemporaryDirectory() as scratch:
        run = report.run("00_quickstart", {"quick": True}, out_dir=Path(scratch) / "one", progress=False)
        out = Path(scratch) / "sweep"
        out.mkdir()
        saved(out, run.raise_for_status())
        began = time.perf_counter()
        page = index.build(out)
        table.row("index page over 30 saved runs", time.perf_counter() - began, "s", 30)
        table.row("size of the index page", page.stat().st_size / 1e6, "MB", 3)
        table.row(
            "size of the largest report page", max(p.stat().st_size for p in out.glob("*/*/*.html")) / 1e6, "MB", 3
        )
        began = time.perf_counter()
        for folder in sorted(out.glob("*/*/")):
            export(folder)
        index.build(out)
        table.row("30 report pages and the index, made again", time.perf_counter() - began, "s", 30)
    return table.missed


if __name__ == "__main__":
    sys.exit(bool(main()))
