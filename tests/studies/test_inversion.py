"""The performance inversion: crossings of simulated queues with a known answer, and one short real measurement."""

from __future__ import annotations

import math
import re
from functools import cache

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from queues import mm1, mmc

import xedge
from xedge.core.exceptions import ConfigurationError
from xedge.reports import run as report
from xedge.results.measurement import Measurement
from xedge.results.statistics import Estimate
from xedge.studies.inversion import Inversion, figures, measure
from xedge.studies.inversion.result import STATISTICS, Threshold, _zero

SERVICE_MS, EXTRA_MS, BOXES = 10.0, 10.0, 4
INF = math.inf


def rows(placement, replication, latency_ms, rate_hz):
    due = np.arange(len(latency_ms)) / rate_hz * 1e9
    received = due + latency_ms * 1e6
    table = pd.DataFrame({"placement": placement, "replication": replication, "request": np.arange(len(due))})
    table["warm_up"], table["due_ns"], table["sent_ns"] = False, due.astype(np.int64), due.astype(np.int64)
    for name in ("arrived_ns", "started_ns", "finished_ns", "departed_ns", "received_ns"):
        table[name] = received.astype(np.int64)
    return table.assign(status="ok", prediction=0.5, payload_bytes=500, error=pd.NA)


@cache
def simulated(utilisation, seed, replications=5, n=20_000):
    """A measurement whose latencies are those of simulated queues."""
    rng = np.random.default_rng(seed)
    found = []
    for replication in range(replications):
        edge = SERVICE_MS * mm1(rng, utilisation, n)
        cloud = SERVICE_MS * mmc(rng, utilisation, BOXES, n) + EXTRA_MS
        found += [rows("edge", replication, edge, 100), rows("cloud", replication, cloud, 100)]
    return Measurement(pd.concat(found, ignore_index=True), {"timeout_s": 30.0})


@pytest.fixture(scope="module")
def simulation():
    taken = {level: simulated(level, k) for k, level in enumerate((0.1, 0.25, 0.4, 0.55, 0.7))}
    return Inversion(BOXES, SERVICE_MS, EXTRA_MS, taken)


@pytest.mark.long
@pytest.mark.parametrize("statistic", list(STATISTICS))
def test_crossing_of_simulated_queues_is_the_theoretical_one(simulation, statistic):
    threshold = simulation.threshold(statistic)
    assert threshold.measured.low <= threshold.theory <= threshold.measured.high
    assert abs(threshold.measured.value - threshold.theory) < 0.06


def test_tails_invert_earlier(simulation):
    crossings = [simulation.threshold(statistic).measured.value for statistic in ("mean", "p95", "p99")]
    assert crossings == sorted(crossings, reverse=True)


@pytest.mark.parametrize("placement", ["edge", "cloud"])
def test_theory_agrees_with_the_simulated_queues(simulation, placement):
    for utilisation in (0.25, 0.55):
        for statistic in STATISTICS:
            theory = simulation.theory_ms(placement, utilisation, statistic)
            assert simulation.measured_ms(placement, utilisation, statistic).value == pytest.approx(theory, rel=0.06)


@pytest.mark.parametrize(
    ("gains", "crossing"),
    [
        ([-2.0, -1.0, 1.0], 2.5),
        ([-1.0, 3.0, 5.0], 1.25),
        ([-1.0, 2.0, -1.0, 1.0], 3.5),  # above 0 for good
        ([1.0, 2.0, 3.0], -math.inf),
        ([-3.0, -2.0, 0.0], math.inf),
        ([], None),
        ([-math.inf, 1.0], 2.0),  # the end of an interval that there is not: as far off as can be
        ([-1.0, math.inf], 1.0),
    ],
)
def test_zero_is_where_the_gains_rise_above_it_for_good(gains, crossing):
    assert _zero(list(range(1, len(gains) + 1)), gains) == crossing


def test_conclusion_says_what_was_not_reached():
    taken = {level: simulated(level, k, n=4000) for k, level in enumerate((0.6, 0.7))}
    far = Inversion(BOXES, SERVICE_MS, EXTRA_MS, taken).conclusion()
    assert "p99: the cloud wins already below 0.6 as measured, from utilisation 0.18 on by theory, which agrees" in far
    near = Inversion(BOXES, SERVICE_MS, 1e4, taken)
    assert "mean: the cloud wins already below 0.6" in near.conclusion()
    assert near.expected("mean") > 0.99


def spoilt(placement, change, level=0.7):
    """The simulated measurements at 0.25, 0.4, 0.55 and one whose requests at a placement are changed."""
    taken = {one: simulated(one, k, n=4000) for k, one in enumerate((0.25, 0.4, 0.55, level))}
    table = taken[level].rows.copy()
    change(table, table["placement"].isin([placement] if placement else ["edge", "cloud"]))
    return Inversion(BOXES, SERVICE_MS, EXTRA_MS, taken | {level: Measurement(table, {"timeout_s": 30.0})})


def unanswered(table, hit):
    hit &= table["request"] % 80 == 7
    table.loc[hit, "status"], table.loc[hit, "received_ns"] = "timeout", pd.NA


def growing(table, hit):
    table.loc[hit, "received_ns"] += table.loc[hit, "due_ns"] // 4


def late(table, hit):
    table.loc[hit, "sent_ns"] += 20_000_000


@pytest.mark.long
def test_a_saturated_point_is_named_and_costs_no_more_than_itself():
    found = spoilt("edge", growing)
    assert found.measurements[0.7].verdict.saturated == ("edge",)
    assert found.verdict == "VALID"
    assert found.measured_ms("edge", 0.7, "p95").value is found.gain_ms(0.7, "mean").value is None
    assert found.measured_ms("cloud", 0.7, "p95").value > 0
    assert found.threshold("mean").decided == [0.25, 0.4, 0.55]
    assert found.threshold("mean").measured.value == pytest.approx(found.expected("mean"), abs=0.06)
    assert "Utilisation 0.7: SATURATED: edge: could not keep up" in found.conclusion()
    assert found._repr_html_().count("<td>saturated</td>") == 2 * len(STATISTICS)  # its latency, the gain
    assert figures.figure(found).axes
    alone = Inversion(BOXES, SERVICE_MS, EXTRA_MS, {0.7: found.measurements[0.7]})
    assert alone.verdict == "SATURATED"
    assert "mean: not decided" in alone.conclusion()


def test_requests_without_an_answer_leave_a_point_out():
    found = spoilt(None, unanswered)
    assert found.threshold("mean").decided == found.threshold("p99").decided == [0.25, 0.4, 0.55]
    assert found.gain_ms(0.7, "mean").method == "both censored"
    assert found.threshold("mean").measured.value == pytest.approx(found.expected("mean"), abs=0.06)
    assert "mean: the cloud wins from somewhere above 0." in found.conclusion()  # of 0.55 it is not sure


def test_a_crossing_outside_the_points_has_its_interval_too():
    """At 0.15 the cloud is ahead at p95, but not by more than chance: the crossing may as well lie above."""
    gains = {0.15: [-9.0, 2.0, 13.0], 0.4: [7.0, 8.0, 9.0]}
    taken = {}
    for level, shifts in gains.items():
        parts = []
        for number, shift in enumerate(shifts):
            times = np.linspace(5, 50, 400)[np.random.default_rng(number).permutation(400)]
            parts += [rows("edge", number, times + shift + 10, 100), rows("cloud", number, times + 10, 100)]
        taken[level] = Measurement(pd.concat(parts, ignore_index=True), {"timeout_s": 30.0})
    found = Inversion(BOXES, SERVICE_MS, EXTRA_MS, taken)
    assert found.threshold("p95").measured.value == -math.inf
    assert 0.15 < found.threshold("p95").measured.high < 0.4
    high = found.threshold("p95").measured.high
    assert f"p95: the cloud wins from somewhere below {high:.2f} on as measured" in found.conclusion()
    assert found.threshold("p95").value == f"below {high:.2f}"
    assert found.threshold("p95").interval == ""


@pytest.mark.parametrize(
    ("measured", "theory", "value", "interval", "says"),
    [
        ((0.41, 0.35, 0.48), 0.45, "0.41", "0.35 to 0.48", "from 0.41 on as measured (95 % interval 0.35 to 0.48), "),
        ((0.41, 0.35, 0.48), 0.52, "0.41", "0.35 to 0.48", "on by theory, which is outside the interval"),
        ((0.41, -INF, INF), 0.45, "not decided", "", "not decided as measured (from 0.15 to 0.7 chance could turn"),
        ((INF, -INF, INF), 0.45, "not decided", "", "not decided as measured"),
        ((0.2, -INF, 0.3), 0.25, "below 0.30", "", "from somewhere below 0.30 on as measured, from utilisation 0.25"),
        ((-INF, -INF, 0.3), 0.52, "below 0.30", "", "which is outside the interval"),
        ((0.6, 0.5, INF), 0.55, "above 0.50", "", "wins from somewhere above 0.50 on, if at all, as meas"),
        ((INF, 0.5, INF), None, "above 0.50", "", "never by theory, which agrees"),
        (
            (INF, INF, INF),
            0.9,
            "above 0.7",
            "",
            "wins not up to 0.7 as measured, from utilisation 0.90 on by theory, whi",
        ),
        (
            (-INF, -INF, -INF),
            0.5,
            "below 0.15",
            "",
            "already below 0.15 as measured, from utilisation 0.50 on by theory, ",
        ),
        ((None, None, None), 0.5, "not decided", "", "not decided as measured (too few answers, or saturated)"),
    ],
)
def test_a_threshold_never_says_more_than_its_interval(measured, theory, value, interval, says):
    threshold = Threshold("p95", Estimate(*measured, 100, 3, ""), theory, [0.15, 0.4, 0.7])
    assert (threshold.value, threshold.interval) == (value, interval)
    assert says in str(threshold)
    recorded = threshold.recorded()
    assert recorded["text"] == value + (f" ({interval})" if interval else "")
    assert recorded["value"] == (None if value == "not decided" else measured[0])


@pytest.mark.long
def test_publish_records_the_crossings_and_why_a_point_is_invalid(tmp_path, monkeypatch):
    monkeypatch.setenv("XEDGE_REPORT_DIR", str(tmp_path))
    found = spoilt("edge", late, level=0.7)
    text = xedge.publish(found)
    assert "Utilisation 0.7: INVALID: edge: up to" in text
    recorded = report.recorded()
    assert recorded["verdict"] == "INVALID"
    measured, theory = recorded["estimates"].values()
    for statistic in STATISTICS:
        assert theory[statistic]["value"] == found.expected(statistic)
        threshold = found.threshold(statistic)
        finite = math.isfinite(threshold.measured.value)
        assert measured[statistic]["value"] == (threshold.measured.value if finite else None)
        assert measured[statistic]["text"].startswith(threshold.value)
        assert measured[statistic]["text"].endswith(
            f"({threshold.interval})" if threshold.interval else threshold.value
        )
    assert re.fullmatch(r"0\.\d\d", found.threshold("mean").value)
    assert re.fullmatch(r"below 0\.2\d", found.threshold("p99").value)
    assert [one["value"] for one in recorded["headline"]] == [found.threshold(name).value for name in STATISTICS]
    assert set(recorded["distributions"]) == {
        f"utilisation-{level:g}: {name}" for level in found.measurements for name in ("edge", "cloud")
    }
    assert (tmp_path / "utilisation-0.25" / "rows.csv.gz").is_file()


def test_figure_shows_every_measured_point_and_says_it_in_words(simulation):
    made = figures.figure(simulation)
    assert isinstance(made, Figure)
    assert "4 edge boxes" in made.alt
    for statistic in STATISTICS:
        ax = next(one for one in made.axes if one.get_title(loc="left") == statistic)
        assert ax.get_xlabel() == "utilisation"
        assert ax.get_ylabel() == "latency, ms"
        points = [line.get_ydata() for line in ax.get_lines() if line.get_marker() in ("o", "s")]
        expected = [simulation.measured_ms("edge", level, statistic).value for level in sorted(simulation.measurements)]
        assert any(np.allclose(one, expected) for one in points if len(one) == len(expected))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"boxes": 1}, "boxes=1"),
        ({"utilisations": [0.5]}, "at least two"),
        ({"utilisations": [0.5, 1.0]}, "utilisation 1.0"),
        ({"utilisations": [0.0, 0.5]}, "utilisation 0.0"),
    ],
)
def test_invalid_arguments_are_refused_before_anything_is_measured(changes, words):
    arguments = {"boxes": 2, "mean_service_ms": 5, "extra_rtt_ms": 5, "utilisations": [0.2, 0.4], "duration_s": 1}
    with pytest.raises(ConfigurationError, match=words):
        measure(**arguments | changes)


@pytest.mark.usefixtures("models")
def test_real_measurement_has_both_placements_at_every_utilisation():
    found = measure(2, 5.0, 5.0, [0.2, 0.6], 0.5, replications=2, seed=1, progress=False)
    table = found.table()
    assert sorted(set(table["utilisation"])) == [0.2, 0.6]
    for utilisation, measurement in found.measurements.items():
        assert measurement.placements == ["edge", "cloud"]
        assert (measurement.rows["status"] == "ok").all()
        services = measurement.conditions["services"]
        assert (services["edge"]["boxes"], services["cloud"]["servers"]) == (2, 2)
        offered = measurement.conditions["scenario"]["workload"]["rate_hz"]
        assert offered == pytest.approx(utilisation * 2 / 0.005)
    floors = [one.conditions["noise_floor"] for one in found.measurements.values()]
    assert floors[0] == floors[1]  # calibrated once
