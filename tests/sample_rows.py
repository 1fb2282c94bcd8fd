"""Rows made by hand: steady trials with known parts, their conditions, and what the rules say of them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from xedge.results.measurement import Measurement
from xedge.results.rows import STAMPS

MS = 1_000_000


def trial(placement="edge", replication=0, n=1000, rate_hz=100.0, away_ms=0.0, spread=0.3, seed=1):
    """One trial of a steady placement: Poisson arrivals, a way of `away_ms`, about a millisecond of service."""
    schedule = np.random.default_rng([seed, replication])
    noise = np.random.default_rng([seed, replication, len(placement)])
    due = np.cumsum(schedule.exponential(1e9 / rate_hz, n)).astype(np.int64)
    steps = [8e3, 0.1 * MS, away_ms / 2 * MS + 3e4, 2e4, 0.7 * MS, away_ms / 2 * MS + 3e4, 0.1 * MS]
    readings = due + np.cumsum([step * noise.lognormal(0, spread, n) for step in steps], axis=0).astype(np.int64)
    rows = pd.DataFrame({"placement": placement, "replication": replication, "request": np.arange(n)})
    rows["warm_up"] = rows["request"] < n // 20
    for name, values in zip(STAMPS, [due, *readings], strict=True):
        rows[name] = pd.array(values, dtype="Int64")
    return rows.assign(status="ok", prediction=noise.random(n), payload_bytes=300, error=None)


def conditions(**changes):
    return {
        "scenario": {
            "model": "anomaly_detector",
            "workload": {"kind": "poisson", "rate_hz": 100.0, "duration_s": 10.0},
            "placements": {"edge": {"tier": "edge"}, "cloud": {"tier": "cloud"}},
            "seed": 7,
        },
        "timeout_s": 5.0,
        "strict": True,
        "versions": {"python": "3.11.9", "numpy": "2.4.6"},
        "host": {"cpu": "a CPU", "cores": 2, "os": "Linux", "load_average_before": 0.5},
        "broker": {"kind": "mosquitto", "version": "2.0.11", "port": 40001},
        "noise_floor": {"p50_ms": 0.2, "p95_ms": 0.3, "p99_ms": 0.5, "n": 1000, "ceiling_hz": 12000},
        **changes,
    }


def measurement(replications=3, n=1000, **changes):
    away = {"edge": 0.0, "cloud": 100.0}
    tables = [trial(name, r, n, away_ms=away[name], spread=0.05) for r in range(replications) for name in away]
    return Measurement(pd.concat(tables, ignore_index=True), conditions(**changes))


def with_status(status, share=0.1, **changes):
    """The measurement with a share of the cloud's requests ended otherwise and unanswered."""
    whole = measurement()
    rows = whole.rows.copy()
    hit = (rows["placement"] == "cloud") & (rows["request"] % round(1 / share) == 7)
    rows.loc[hit, "status"] = status
    rows.loc[hit, "received_ns"] = pd.NA
    return Measurement(rows, {**whole.conditions, **changes})


def texts(rows, **changes):
    return [str(doubt) for doubt in Measurement(rows, conditions(**changes)).checks()]


def judged(rows, **changes):
    return Measurement(rows, conditions(**changes)).verdict


def replicated(count=3, **kwargs):
    return pd.concat([trial(replication=r, **kwargs) for r in range(count)], ignore_index=True)
