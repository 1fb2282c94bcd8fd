"""The search for the highest rate: its steps as tables, the judgement on simulated queues, and one real search."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from queues import waits

from xedge.measurement import Measurement

SERVICE_MS = 2.0


def response_ms(rng, rate_hz, n, service_ms=SERVICE_MS, batch=1, way_ms=0.0):
    """Due times in s and response times in ms of n Poisson requests at a service that takes up to `batch` at once."""
    due_s = np.cumsum(rng.exponential(size=n)) / rate_hz
    if batch == 1:
        gaps = np.diff(due_s, prepend=0.0) * 1e3
        return due_s, waits(gaps, np.full(n, service_ms)) + service_ms + way_ms
    due_ms, done, free, place = 1e3 * due_s, np.empty(n), 0.0, 0
    while place < n:
        begin = max(free, due_ms[place])
        upto = min(max(int(np.searchsorted(due_ms, begin, "right")), place + 1), place + batch)
        free = begin + service_ms
        done[place:upto] = free
        place = upto
    return due_s, done - due_ms + way_ms


def trial(rng, arm, replication, rate_hz, n, late=False, **queue):
    """The rows of one simulated trial."""
    due_s, response = response_ms(rng, rate_hz, n, **queue)
    due = np.round(due_s * 1e9).astype(np.int64)
    sent = due + (5_000_000 if late else 10_000)
    stamps = {"due_ns": due, "sent_ns": sent, "received_ns": due + np.round(response * 1e6).astype(np.int64)}
    blank = {name: pd.array([pd.NA] * n, dtype="Int64") for name in ("arrived_ns", "started_ns", "finished_ns")}
    return pd.DataFrame(
        {
            "placement": arm, "replication": replication, "request": np.arange(n), "warm_up": np.arange(n) < n // 2,
            **stamps, **blank, "departed_ns": blank["arrived_ns"], "status": "ok", "prediction": 0.5,
            "payload_bytes": 300, "error": None,
        }
    )  # fmt: skip


def measured(rate_hz, arms, seed=0, replications=5, n=1200, late=()):
    """A measurement of simulated queues: arm -> what `response_ms` takes; all rates share their random numbers."""
    rows = [
        trial(np.random.default_rng([seed, replication]), arm, replication, rate_hz, n, arm in late, **queue)
        for replication in range(replications)
        for arm, queue in arms.items()
    ]
    workload = {"kind": "poisson", "rate_hz": rate_hz, "duration_s": n / rate_hz}
    conditions = {
        "scenario": {"placements": dict.fromkeys(arms, {}), "workload": workload, "seed": seed},
        "timeout_s": 5.0, "noise_floor": {"p50_ms": 0.2, "p95_ms": 0.3, "p99_ms": 0.4, "ceiling_hz": 10_000},
        "broker": {"kind": "mosquitto", "version": "mosquitto version 2.0.11", "qos": 0},
        "replications": replications, "services": {}, "link_check": {},
    }  # fmt: skip
    return Measurement(pd.concat(rows, ignore_index=True), conditions)
