"""The instrument's check: exact queues on the same draws, outcomes, and a short run behind a real broker."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import xedge
from xedge.core.exceptions import ConfigurationError
from xedge.reports import run as report
from xedge.results.measurement import Measurement
from xedge.results.rows import STAMPS
from xedge.results.statistics import Estimate
from xedge.scenario.routes import random_routes
from xedge.scenario.service_times import Deterministic, Exponential
from xedge.studies.instrument import Check, InstrumentCheck, figures, measure
from xedge.studies.instrument.result import SERVICE_TIMES, same_draws_ms
from xedge.studies.queueing import MD1, MMc, responses

BOXES, MEAN_MS, FLOOR_MS = 4, 30.0, 0.5


def schedule_ms(utilisation, n, seed):
    return np.cumsum(np.random.default_rng(seed).exponential(MEAN_MS / utilisation / BOXES, n))


def rows(queue, utilisation, replication, n, distort):
    """One trial of an exact queue, distorted, behind a floor of `FLOOR_MS`."""
    due_ms = schedule_ms(utilisation, n, 100 + replication)
    exact = same_draws_ms(due_ms, 7 + replication, BOXES, SERVICE_TIMES[queue](mean_ms=MEAN_MS))
    noise = np.random.default_rng(replication).exponential(0.05, n)
    received = due_ms + distort(exact) + FLOOR_MS + noise
    table = pd.DataFrame({"placement": queue, "replication": replication, "request": np.arange(n)})
    table = table.assign(warm_up=table["request"] < 50, status="ok", prediction=0.0, payload_bytes=1, error=None)
    for name in STAMPS:
        table[name] = np.round((received if name == "received_ns" else due_ms) * 1e6).astype(np.int64)
    return table


def checked(distort=lambda ms: ms, n=400, replications=4, **changed):
    tables, trials = [], []
    for queue in SERVICE_TIMES:
        for replication in range(replications):
            tables.append(rows(queue, 0.5, replication, n, distort))
            trials.append({"placement": queue, "replication": replication, "link_seed": 7 + replication})
    conditions = {"noise_floor": {"p50_ms": FLOOR_MS}, "trials": trials, "timeout_s": 60.0}
    table = pd.concat(tables, ignore_index=True).assign(**changed)
    return InstrumentCheck(BOXES, MEAN_MS, {0.5: Measurement(table, conditions)})


def test_responses_of_one_server_by_hand():
    assert responses([0, 1, 2, 10], [3, 1, 4, 2]).tolist() == [3, 3, 6, 2]
    assert responses([], []).size == 0


@pytest.mark.parametrize(("kind", "theory"), [(Deterministic, MD1), (Exponential, MMc)])
def test_exact_queues_on_the_draws_have_the_theoretical_distribution(kind, theory):
    due_ms = schedule_ms(0.5, 60_000, 3)
    found = same_draws_ms(due_ms, 5, BOXES, kind(mean_ms=MEAN_MS))[500:]
    expected = theory(rate_hz=0.5e3 / MEAN_MS, mean_service_ms=MEAN_MS)
    assert found.mean() == pytest.approx(expected.mean_ms, rel=0.04)
    for p in (0.6, 0.9, 0.95):
        assert np.mean(found <= expected.quantile_ms(p)) == pytest.approx(p, abs=0.02)


def test_exact_queues_take_each_box_by_itself():
    due_ms = schedule_ms(0.9, 500, 4)
    found = same_draws_ms(due_ms, 5, BOXES, Deterministic(mean_ms=MEAN_MS))
    box = random_routes(5, BOXES, 500)
    assert set(box) == set(range(BOXES))
    for number in range(BOXES):
        own = responses(due_ms[box == number], np.full(np.sum(box == number), MEAN_MS))
        np.testing.assert_allclose(found[box == number], own)
    alone = same_draws_ms(due_ms, 5, 1, Deterministic(mean_ms=MEAN_MS))
    np.testing.assert_allclose(alone, responses(due_ms, np.full(500, MEAN_MS)))


def test_a_right_instrument_passes():
    found = checked()
    assert found.outcome == "within"
    assert [check.outcome for check in found.checks] == ["within"] * 6
    assert found.conclusion().startswith("Passed")
    for check in found.checks:
        assert check.off.value == pytest.approx(0.05, abs=0.5)
        assert check.measured.value == pytest.approx(check.exact.value + check.off.value, abs=0.5)


@pytest.mark.parametrize(
    ("distort", "outcome"),
    [
        (lambda ms: 1.15 * ms, "off"),  # a service that stretches everything
        (lambda ms: ms + 8, "off"),  # or adds what the floor does not have
        (lambda ms: ms * np.where(np.arange(ms.size) % 400 < 200, 1.0, 1.1), "not decided"),
    ],
)
def test_a_wrong_instrument_does_not_pass(distort, outcome):
    found = checked(distort)
    means = [check for check in found.checks if check.statistic == "mean"]
    assert outcome in {check.outcome for check in means} or found.outcome == outcome
    assert found.outcome != "within"
    assert not found.conclusion().startswith("Passed")


def test_a_measurement_that_is_invalid_decides_nothing():
    found = checked()
    (measurement,) = found.measurements.values()
    late = measurement.rows.assign(sent_ns=measurement.rows["due_ns"] + 5_000_000)
    found = replace(found, measurements={0.5: Measurement(late, measurement.conditions)})
    assert found.outcome == "not decided"
    assert "Utilisation 0.5: INVALID: M/D/1: up to 5 ms of the p50" in found.conclusion()
    assert {check.outcome for check in found.checks if check.queue == "M/D/1"} == {"not decided"}


def test_requests_without_an_answer_leave_it_undecided():
    found = checked(status="timeout")
    assert {check.outcome for check in found.checks} == {"not decided"}
    assert "not known" in found._repr_html_()
    assert "not known" in found.conclusion()


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [(-4, 4, "within"), (-4, 6, "not decided"), (5.1, 7, "off"), (-8, -5.1, "off"), (-20, 20, "not decided")],
)
def test_the_whole_interval_decides(low, high, outcome):
    off = Estimate((low + high) / 2, low, high, 100, 4, "t")
    assert Check("M/M/1", 0.5, "mean", 100.0, off, off, off).outcome == outcome
    unknown = Estimate(1.0, None, None, 100, 1, "none")
    assert Check("M/M/1", 0.5, "mean", 100.0, off, off, unknown).outcome == "not decided"


def test_the_figure_draws_every_check_and_says_it_in_words():
    found = checked()
    figure = figures.figure(found)
    assert "Passed" in figure.alt
    above, below = figure.axes
    assert "latency less noise floor, ms" in above.get_xlabel()
    assert "error, % of theory" in below.get_ylabel()
    assert [tick.get_text() for tick in below.get_xticklabels()] == ["mean", "p50", "p95"]
    assert len(found.table()) == 6
    assert figures.figure(checked(status="timeout")).axes


def test_publish_puts_the_largest_errors_on_top(tmp_path, monkeypatch):
    monkeypatch.setenv("XEDGE_REPORT_DIR", str(tmp_path))
    result = checked(lambda ms: 1.15 * ms)
    assert xedge.publish(result) == result.conclusion()
    record = report.recorded()
    means = [number for number in record["headline"] if number["label"].endswith("error of the mean")]
    assert len(record["headline"]) == 4
    for number in means:
        (check,) = (c for c in result.checks if number["label"].startswith(f"{c.queue} at") and c.statistic == "mean")
        estimate = record["estimates"][f"{check.queue} at utilisation 0.5"]["error of the mean_percent"]
        assert estimate["value"] == pytest.approx(100 * check.error.value)
        assert float(number["value"]) == pytest.approx(estimate["value"], abs=0.5)  # no more digits than its interval
        assert (number["unit"], number["detail"].partition("; ")[2]) == ("%", f"limit 5 %: {check.outcome}")
    assert means
    assert len(record["instrument"]) == 6
    assert (tmp_path / "utilisation-0.5" / "rows.csv.gz").is_file()


def test_invalid_utilisations_are_refused():
    with pytest.raises(ConfigurationError, match=r"utilisation 1\.2"):
        measure([0.5, 1.2], 30, 2, 1, progress=False)
    with pytest.raises(ConfigurationError, match="at least one"):
        measure([], 30, 2, 1, progress=False)


@pytest.mark.usefixtures("models")
def test_stubs_behind_the_broker_are_never_faster_than_exact_queues():
    """Were one draw or box mistaken for another, half of the requests would be."""
    found = measure([0.7], 20, 2, 1.0, 2, seed=3, progress=False)
    for queue in SERVICE_TIMES:
        for measured, exact in zip(*found.sections(queue, 0.7), strict=True):
            assert math.isfinite(measured.max())
            assert measured.size > 20
            assert (measured >= exact - 0.01).all()
