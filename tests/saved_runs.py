"""Saved runs as a sweep leaves them, for what is built from them without running a notebook."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np

RATES, NETWORKS = [50.0, 100.0, 1000.0], ["lte", "wifi"]


def facts(name: str, rate_hz: float, network: str, **changes: Any) -> dict[str, Any]:
    """What run.json says of a completed run; `changes` replaces some of it."""
    rng = np.random.default_rng(int(rate_hz))
    shares = np.linspace(0.02, 1, 50)
    samples = {"edge": rng.gamma(2, rate_hz / 800, 500), "cloud": 10 + rng.gamma(2, 5, 500)}
    found: dict[str, Any] = {
        "name": name,
        "notebook": "03_probe",
        "notebook_sha256": "0",
        "status": "completed",
        "verdict": "VALID",
        "error": None,
        "parameters": [
            {"name": key, "value": value, "default": default, "changed": value != default, "help": "about it"}
            for key, value, default in (("rate_hz", rate_hz, 200.0), ("network", network, "lte"), ("seed", 7, 7))
        ],
        "command": f"xedge report 03_probe -p rate_hz {rate_hz:g} -p network {network}",
        "started_at": f"2026-11-21T00:00:{len(name):02}+00:00",
        "duration_s": rate_hz / 10,
        "versions": {"python": "3.11"},
        "host": {"cpu": "x", "cores": 2, "os": "x"},
        "git": None,
        "files": ["measurement/rows.csv.gz"],
        "conditions": {"broker": "mosquitto 2", "noise floor": f"{rate_hz / 1000} ms"},
        "estimates": {of: estimates(values) for of, values in samples.items()},
        "distributions": {
            of: {"latency_ms": np.quantile(values, shares).tolist(), "share": shares.tolist()}
            for of, values in samples.items()
        },
    }
    return found | changes


def estimates(values: Any) -> dict[str, dict[str, Any]]:
    """p50, p95 and p99 of the values as a run records them."""
    found = {}
    for level in (50, 95, 99):
        value = float(np.quantile(values, level / 100))
        text = f"{value:.2f} ± {value / 10:.2f}"
        found[f"p{level}_ms"] = {"value": value, "low": 0.9 * value, "high": 1.1 * value, "text": text}
    return found


def saturated(values: dict[str, Any]) -> dict[str, Any]:
    """Estimates without a value."""
    none = {"value": None, "low": None, "high": None, "text": "saturated"}
    return {of: dict.fromkeys(numbers, none) for of, numbers in values.items()}


def write(folder: Path, changes: dict[int, dict[str, Any] | None] | None = None, rates: list[float] = RATES) -> Path:
    """Write a sweep over rates and networks; `changes` changes a run, None leaves it out. Returns the folder."""
    plan = []
    for place, (rate_hz, network) in enumerate(itertools.product(rates, NETWORKS)):
        name = f"rate_hz={rate_hz:g},network={network}"
        plan.append({"label": name, "parameters": {"rate_hz": rate_hz, "network": network, "seed": 7}})
        change = (changes or {}).get(place, {})
        if change is not None:
            put(folder, facts(name, rate_hz, network, **change))
    command = "xedge sweep 03_probe -p rate_hz 50,100,1000 -p network lte,wifi"
    about = {"notebook": "03_probe", "notebook_sha256": "0", "command": command, "runs": plan}
    (folder / "sweep.json").write_text(json.dumps(about), encoding="utf-8")
    return folder


def put(folder: Path, run: dict[str, Any]) -> None:
    """Write one run as it is kept: `folder`/probe/NAME with its page, run.json and a file of data."""
    own = folder / "probe" / run["name"]
    (own / "measurement").mkdir(parents=True)
    (own / "measurement" / "rows.csv.gz").write_bytes(bytes(2000))
    (own / "probe.html").write_text("<title>a report</title>", encoding="utf-8")
    facts = run | {"name": "probe", "run": run["name"]}
    (own / "run.json").write_text(json.dumps(facts), encoding="utf-8")
