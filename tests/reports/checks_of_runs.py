"""What must hold of a notebook's run on any machine, however busy: whole rows, lower bounds, numbers that agree."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from xedge.reports.run import VERDICTS, Run
from xedge.results.measurement import Measurement

#: A verdict that is not VALID must say that this machine was too busy, and may have no other reason.
OF_A_BUSY_MACHINE = re.compile(r"late|keep up|grow|stall|busy", re.IGNORECASE)
LINKS = ("link", "uplink", "downlink")


def assert_sound(run: Run) -> None:
    """Fail unless the run's saved data, its run.json and its conclusion tell one story."""
    measurements = [Measurement.load(path.parent) for path in sorted(run.folder.rglob("rows.*"))]
    assert (run.verdict is None) == (not measurements)
    for measurement in measurements:
        assert_whole(measurement)
        assert_links_delay(measurement)
        assert_parity(measurement)
    if measurements:
        assert_verdict(run, measurements)
    if len(measurements) == 1:
        assert_numbers(run, measurements[0])


def assert_whole(measurement: Measurement) -> None:
    """Every placement has every replication's schedule: the same due times, each request once, some answered."""
    rows = measurement.rows
    for _, replication in rows.groupby("replication"):
        schedules = [sorted(own["due_ns"]) for _, own in replication.groupby("placement")]
        assert len(schedules) == rows["placement"].nunique()
        assert all(one == other for one, other in pairwise(schedules))
        assert len(schedules[0]) >= 5
    keys = ["placement", "replication", *(["worker"] if "worker" in rows else []), "request"]
    assert not rows.duplicated(keys).any()
    asked = bool(measurement.conditions.get("scenario", {}).get("faults"))
    unsent = {"not_sent", "overloaded"} if asked or not measurement.verdict.valid else set()
    assert set(rows["status"]) <= {"ok", "timeout", "lost"} | unsent
    assert set(rows.loc[rows["status"] == "ok", "placement"]) == set(rows["placement"])


def assert_links_delay(measurement: Measurement) -> None:
    """No answer is back before its links' constant delays are over."""
    answered = measurement.rows[measurement.rows["status"] == "ok"]
    took_ms = (answered["received_ns"] - answered["due_ns"]) / 1e6
    assert took_ms.min() > 0
    for name, placement in measurement.conditions.get("scenario", {}).get("placements", {}).items():
        if isinstance(placement, dict):
            delays = {way: (placement.get(way) or {}).get("delay_ms") or 0.0 for way in LINKS}
            least_ms = delays["uplink"] + delays["downlink"] + 2 * delays["link"]
            assert took_ms[answered["placement"] == name].min() >= least_ms, name


def assert_parity(measurement: Measurement) -> None:
    """Where the rows hold predictions, all placements of a model gave one answer to a request."""
    answered = measurement.rows[measurement.rows["status"] == "ok"].dropna(subset="prediction")
    if "worker" not in answered:
        placements = measurement.conditions.get("scenario", {}).get("placements", {})
        own = {name: str((placements.get(name) or {}).get("model")) for name in measurement.placements}
        models = answered["placement"].map(own)
        spread = answered.groupby([models, "replication", "request"])["prediction"].agg(np.ptp)
        assert spread.max() < 1e-4


def assert_verdict(run: Run, measurements: list[Measurement]) -> None:
    """The verdict on top is that of the data, and a bad one has the machine for its reason and is said in words."""
    assert run.verdict in VERDICTS
    said = run.record["conclusion"]
    for measurement in measurements:
        for reason in measurement.verdict.reasons:
            assert OF_A_BUSY_MACHINE.search(reason.text), reason
    [first, *others] = measurements
    if not others and all("p50_ms" in run.record["estimates"].get(name, {}) for name in first.placements):
        assert run.verdict == first.verdict.word
    if run.verdict != "VALID":
        assert run.verdict in said


def assert_numbers(run: Run, measurement: Measurement) -> None:
    """The numbers in run.json are those of the rows saved beside it, and the conclusion quotes them."""
    known: dict[str, Any] = run.record["estimates"]
    for placement in measurement.placements:
        recorded = known.get(placement, {}).get("p50_ms")
        if recorded and placement not in measurement.verdict.saturated:
            value = measurement.estimate(placement, 0.5).value
            assert recorded["value"] == pytest.approx(value)
            said = [float(number) for number in re.findall(r"(?<![\w.-])\d+(?:\.\d+)?", run.record["conclusion"])]
            written = float(recorded["text"].split()[0])  # as rounded for the reader
            assert min(abs(number - near) for number in said for near in (value, written)) <= 0.03 * value
