"""The commands that do something and end: build, measure, report, sweep."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xedge
from xedge.cli.options import Adder, add_broker_url, url_options
from xedge.core.exceptions import ConfigurationError
from xedge.serving.endpoint import VARIABLE, Endpoint

if TYPE_CHECKING:
    from xedge.reports.run import Run
    from xedge.reports.sweeps import Sweep

EXIT_FAILED, EXIT_USAGE, EXIT_INVALID, EXIT_CROSSED = 1, 2, 3, 4


def add(command: Adder) -> None:
    """Add the commands."""
    sub = command("build", build, "xedge build anomaly_detector --quick")
    sub.add_argument("models", nargs="*", metavar="MODEL", help="which reference models; by default all")
    sub.add_argument("--force", action="store_true", help="train again even if the files are good")
    sub.add_argument("--quick", action="store_true", help="less data and fewer epochs, for a trial")
    sub = command("measure", measure, "xedge measure scenario.yaml --out first")
    sub.add_argument("scenario", metavar="FILE.yaml", help="the scenario")
    sub.add_argument("--replications", type=int, default=5, help="trials a placement (default 5)")
    sub.add_argument("--no-strict", action="store_true", help="a late sender is a doubt, not INVALID")
    sub.add_argument("--out", metavar="DIR", help="folder to save the measurement in")
    add_broker_url(sub)
    _add_watch(sub)
    sub.add_argument("--resume", metavar="DIR", help="take the trials that an interrupted measurement lacks")
    _add_limits(sub)
    sub = command("report", report, "xedge report 02_edge_vs_cloud -p rate_hz 200 -p encoding msgpack")
    sub.add_argument("notebook", nargs="*", metavar="NOTEBOOK", help="by default 02_edge_vs_cloud")
    text = "parameters from a file; -p goes before it; several compare runs, as does a list of sets in one file"
    sub.add_argument("-f", "--file", action="append", default=[], metavar="FILE.yaml", help=text)
    _add_run(sub, "VALUE", "set a parameter", "the project's reports folder")
    _add_limits(sub)
    sub = command("sweep", sweep, "xedge sweep 02_edge_vs_cloud -p rate_hz 50,100,200 -p cloud_latency_ms 10,50")
    sub.set_defaults(again="failed")
    sub.add_argument("notebook", metavar="NOTEBOOK", help="path, stem or name")
    text = "values from a file, several as a list, of lists as a list of lists; -p goes before it"
    sub.add_argument("-f", "--file", metavar="FILE.yaml", help=text)
    text = "values between commas; lists between semicolons"
    _add_run(sub, "VALUES", text, "NAME_sweep in the project's reports folder")
    _add_limits(sub)
    which = sub.add_mutually_exclusive_group()
    text = "run again what is INVALID or SATURATED, not only what failed"
    which.add_argument("--again-invalid", action="store_const", const="invalid", dest="again", help=text)
    which.add_argument("--again", action="store_const", const="all", dest="again", help="run everything again")


def _add_run(sub: argparse.ArgumentParser, value: str, about: str, default: str) -> None:
    pair = {"nargs": 2, "action": "append", "default": [], "metavar": ("NAME", value)}
    sub.add_argument("-p", "--parameter", **pair, help=about)  # type: ignore[arg-type]
    sub.add_argument("--out", metavar="DIR", help=f"by default {default}")
    sub.add_argument("--timeout", type=float, default=1800.0, metavar="S", help="longest a cell may take (1800)")
    _add_watch(sub)


def _add_watch(sub: argparse.ArgumentParser) -> None:
    """Give a command --watch; without a terminal its progress is a log line a phase."""
    text = "show rate, latency and fates while it measures; or XEDGE_WATCH=1"
    sub.add_argument("--watch", action="store_true", help=text)
    sub.set_defaults(usual_level="warning" if sys.stderr is not None and sys.stderr.isatty() else "info")


def _watch(arguments: argparse.Namespace) -> None:
    if arguments.watch:
        os.environ["XEDGE_WATCH"] = "1"  # for the kernels of notebooks too


def _add_limits(sub: argparse.ArgumentParser) -> None:
    text = "exit status 4 if a number crosses a limit, as in 'edge.p99_ms > 20'; may be given several times"
    sub.add_argument("--fail-if", action="append", default=[], metavar="LIMIT", help=text)


def build(arguments: argparse.Namespace) -> int:
    """Train, export and check the reference models."""
    print(xedge.build(arguments.models or None, force=arguments.force, quick=arguments.quick))
    return 0


def measure(arguments: argparse.Namespace) -> int:
    """Measure a scenario from a YAML file and save the measurement."""
    from xedge.core import files
    from xedge.reports import estimates, publish
    from xedge.runs.scenario import Scenario
    from xedge.scenario import thresholds

    _watch(arguments)
    out, scenario = Path(arguments.out) if arguments.out else None, Scenario.from_yaml(arguments.scenario)
    limits = thresholds.read([*(scenario.thresholds or ()), *arguments.fail_if])
    if unknown := [limit.name for limit in limits if limit.name.rpartition(".")[0] not in scenario.placements]:
        there = ", ".join(scenario.placements)
        raise ConfigurationError(
            f"the limit on {unknown[0]}: a number is PLACEMENT.NAME, and the placements are {there}"
        )
    if out is not None:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            what = "a measurement" if (out / "conditions.json").is_file() else "something else"
            raise ConfigurationError(
                f"--out {out} holds {what} already, which is kept: give a folder that is not there"
            )
        files.check_writable(out.parent)
    further, url = url_options(arguments), arguments.broker or os.environ.get(VARIABLE)
    broker = xedge.Broker(Endpoint.read(url or "", **further).url) if arguments.broker or further else None
    how = {"strict": not arguments.no_strict, "resume": arguments.resume, "broker": broker}
    measurement = scenario.measure(arguments.replications, **how)
    print(measurement)
    if out is not None:
        print(f"saved in {files.saved(measurement.save, out)}", flush=True)
    numbers = estimates.checked(publish.findings(measurement).estimates)
    checked = [limit.checked({"estimates": numbers}) for limit in limits]
    return _crossed(checked) or (0 if measurement.verdict.valid else EXIT_INVALID)


def report(arguments: argparse.Namespace) -> int:
    """Run notebooks with parameters and export each as one HTML page; several files, or a list in one, compare runs."""
    from xedge.reports import parameters, run, sweeps

    _watch(arguments)
    from_files = [values for file in arguments.file for values in parameters.load_sets(file)] or [{}]
    limits = [texts for file in arguments.file for texts in parameters.load_thresholds(file)] or [[]]
    sets = [values | dict(arguments.parameter) for values in from_files]
    fail_if = [[*texts, *arguments.fail_if] for texts in limits]
    notebooks = arguments.notebook or run.DEFAULT_NOTEBOOKS
    if len(sets) == 1:
        options: dict[str, Any] = {"timeout_s": arguments.timeout, "fail_if": fail_if[0]}
        runs = run.run_many(notebooks, sets[0], arguments.out, **options)
        for each in runs:
            _show(each.html, each.sentence)
            print(each.top_sentence)
        return _status(runs)
    if len(notebooks) > 1:
        raise ConfigurationError("several notebooks with several sets of parameters: run them one notebook at a time")
    options = {"timeout_s": arguments.timeout, "fail_if": fail_if}
    return _swept(sweeps.run_sets(notebooks[0], sets, arguments.out, **options))


def sweep(arguments: argparse.Namespace) -> int:
    """Run a notebook with every combination of values and compare the runs on one page; what is there is kept."""
    from xedge.reports import parameters, sweeps

    _watch(arguments)
    grid = (parameters.load_file(arguments.file) if arguments.file else {}) | dict(arguments.parameter)
    options = {"again": arguments.again, "timeout_s": arguments.timeout, "fail_if": arguments.fail_if}
    return _swept(sweeps.sweep(arguments.notebook, grid, arguments.out, **options), arguments.fail_if)


def _swept(result: Sweep, fail_if: Sequence[str] = ()) -> int:
    _show(result.index, result.sentence)
    return EXIT_FAILED if result.missing else _status(result.runs, fail_if)


def _show(page: Path, sentence: str) -> None:
    """Print the page; with its sentence where no progress line on a terminal has said that."""
    print(page if sys.stderr.isatty() else f"{page}: {sentence.removesuffix(f': {page}')}")


def _status(runs: Sequence[Run], fail_if: Sequence[str] = ()) -> int:
    """Return the exit status of some runs; `fail_if` are limits that also hold for runs that were there before."""
    from xedge.scenario import thresholds

    if not all(run.ok for run in runs):
        return EXIT_FAILED
    limits = thresholds.read(fail_if)
    own = [[limit.checked(run.record) for limit in limits] or run.record.get("thresholds", []) for run in runs]
    crossed = _crossed([checked for each in own for checked in each])
    return crossed or (EXIT_INVALID if any(not run.good for run in runs) else 0)


def _crossed(checked: Sequence[dict[str, Any]]) -> int:
    """Say which limits were crossed and return the exit status, 0 if none was."""
    for limit in checked:
        if limit["state"] != "met":
            print(f"xedge: {limit['said']}", file=sys.stderr)
    states = {limit["state"] for limit in checked}
    return EXIT_USAGE if "unknown" in states else EXIT_CROSSED if "crossed" in states else 0
