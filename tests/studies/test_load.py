"""The search for the highest rate: its steps as tables, the judgement on simulated queues, and one real search."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from queues import waits
from scipy.optimize import brentq

import xedge
from xedge.core.exceptions import ConfigurationError, MeasurementError
from xedge.reports import run as report
from xedge.results.figures import styled
from xedge.results.measurement import Measurement
from xedge.results.steadiness import Steadiness
from xedge.results.words import number
from xedge.runs.scenario import Scenario
from xedge.scenario.arrivals import Poisson, Trace
from xedge.scenario.placements import Edge
from xedge.scenario.service_times import Deterministic
from xedge.studies import load
from xedge.studies.load import LoadCurve, explore
from xedge.studies.load import figures as load_figures
from xedge.studies.load.limits import judge
from xedge.studies.load.pace import doubt_of_pace
from xedge.studies.load.search import Search, Tried, bracket, edge
from xedge.studies.queueing import MD1

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


def trial(rng, placement, replication, rate_hz, n, late=False, **queue):
    """The rows of one simulated trial."""
    due_s, response = response_ms(rng, rate_hz, n, **queue)
    due = np.round(due_s * 1e9).astype(np.int64)
    sent = due + (5_000_000_000 if late else 10_000)
    stamps = {"due_ns": due, "sent_ns": sent, "received_ns": due + np.round(response * 1e6).astype(np.int64)}
    blank = {name: pd.array([pd.NA] * n, dtype="Int64") for name in ("arrived_ns", "started_ns", "finished_ns")}
    return pd.DataFrame(
        {
            "placement": placement, "replication": replication, "request": np.arange(n),
            "warm_up": np.arange(n) < n // 2, **stamps, **blank, "departed_ns": blank["arrived_ns"], "status": "ok",
            "prediction": 0.5, "payload_bytes": 300, "error": None,
        }
    )  # fmt: skip


def measured(rate_hz, placements, seed=0, replications=5, n=1200, late=()):
    """A measurement of simulated queues: placement -> what `response_ms` takes; all rates share their draws."""
    rows = [
        trial(
            np.random.default_rng([seed, replication]), placement, replication, rate_hz, n, placement in late, **queue
        )
        for replication in range(replications)
        for placement, queue in placements.items()
    ]
    workload = {"kind": "poisson", "rate_hz": rate_hz, "duration_s": n / rate_hz}
    conditions = {
        "scenario": {"placements": {placement: {} for placement in placements}, "workload": workload, "seed": seed},
        "timeout_s": 5.0, "noise_floor": {"p50_ms": 0.2, "p95_ms": 0.3, "p99_ms": 0.4, "ceiling_hz": 10_000},
        "broker": {"kind": "mosquitto", "version": "mosquitto version 2.0.11", "qos": 0},
        "replications": replications, "services": {}, "link_check": {},
    }  # fmt: skip
    return Measurement(pd.concat(rows, ignore_index=True), conditions)


# The steps of the search


def answer(rate_hz, highest_hz, capacity_hz):
    """What a service answers that meets the deadline up to one rate and saturates from another."""
    outcome = "saturated" if rate_hz >= capacity_hz else "met" if rate_hz <= highest_hz else "missed"
    return Tried(outcome, power=max(rate_hz * (capacity_hz - rate_hz), 0.0))


def searched(search, respond):
    """Let a search run against `respond`: rate and how often it was tried -> Tried; return what it found, in order."""
    tried = {}
    while (step := search.next_step(tried)) is not None:
        times = tried[step].times + 1 if step in tried else 1
        tried[step] = replace(respond(search.rate_hz(step), times), times=times)
        assert sum(one.times for one in tried.values()) < 60, "the search does not end"
    return {search.rate_hz(step): one for step, one in tried.items()}


def outcomes(found):
    return {rate: one.outcome for rate, one in found.items()}


@example(50, 51, 500, 0.05)
@example(50, 499, 500, 0.02)
@example(400, 412, 500, 0.3)
@example(900, 200, 500, 0.1)
@example(50, 90, 90, 0.1)
@given(st.integers(50, 900), st.integers(120, 499), st.just(500), st.sampled_from([0.02, 0.05, 0.1, 0.3]))
def test_search_closes_in_on_the_highest_rate(first_hz, highest_hz, capacity_hz, resolution):
    search = Search(first_hz, resolution)
    found = searched(search, lambda rate, _: answer(rate, highest_hz, capacity_hz))
    met, failed = bracket(outcomes(found))
    assert met <= highest_hz < failed or (failed >= capacity_hz and met < capacity_hz)
    assert failed <= met * (1 + resolution) * 1.001
    assert {rate for rate, one in found.items() if one.times > 1} <= {met, failed}
    assert len(found) <= 6 + math.ceil(math.log2(search.octave)) + 8  # octaves, bisection, knee and edge


def test_search_does_not_believe_a_rate_that_met_the_deadline_only_once():
    def respond(rate, times):
        lucky = 300 < rate < 340 and times == 1
        return Tried("met", 1.0) if lucky else answer(rate, 300, 700)

    met, failed = bracket(outcomes(searched(Search(100, 0.05), respond)))
    assert met <= 300 < failed


def test_search_doubles_first_and_bisects_then():
    found = list(searched(Search(100, 0.1), lambda rate, _: answer(rate, 300, 700)))
    assert found[:4] == [100, 200, 400, 800]
    assert all(200 < rate < 400 for rate in found[4:7])


def test_search_begins_the_curve_at_half_of_the_first_rate():
    assert 50.0 in searched(Search(100, 0.1), lambda rate, _: answer(rate, 300, 700))


@pytest.mark.parametrize("resolution", [0.05, 0.2])
def test_search_finds_the_knee_of_mm1_to_a_quarter_of_an_octave(resolution):
    found = searched(Search(30, resolution), lambda rate, _: answer(rate, 80, 100))
    best = max(found, key=lambda rate: found[rate].power if found[rate].outcome != "saturated" else 0)
    assert 50 / 2**0.25 <= best <= 50 * 2**0.25


def test_search_narrows_the_edge_of_saturation():
    steady, stuck = edge(outcomes(searched(Search(100, 0.05), lambda rate, _: answer(rate, 120, 700))))
    assert steady < 700 <= stuck <= steady * 2**0.25 * 1.05


def test_search_tries_an_invalid_rate_once_more():
    def respond(rate, times):
        return Tried("invalid") if rate == 400 and times == 1 else answer(rate, 300, 700)

    found = searched(Search(100, 0.1), respond)
    assert (found[400].times, found[400].outcome) == (2, "missed")


def test_search_tries_the_rate_that_decides_once_more():
    """A busy host makes one rate miss: the limit must not stay below it."""

    def respond(rate, times):
        return Tried("missed", 1.0) if rate == 200 and times == 1 else answer(rate, 500, 700)

    met, failed = bracket(outcomes(searched(Search(100, 0.1), respond)))
    assert met <= 500 < failed <= 1.1 * met


def test_search_lets_a_rate_that_stays_invalid_decide_nothing():
    bad = Search(100, 0.1).rate_hz(12)
    found = searched(Search(100, 0.1), lambda rate, _: Tried("invalid") if rate == bad else answer(rate, 300, 700))
    met, failed = bracket(outcomes(found))
    assert found[bad].times == 2
    assert met <= 300 < failed
    assert bad not in (met, failed)


def test_search_gives_up_where_every_rate_is_invalid():
    found = searched(Search(100, 0.1), lambda *_: Tried("invalid"))
    assert outcomes(found) == {100: "invalid", 50: "invalid"}
    assert bracket(outcomes(found)) == (None, None)


@pytest.mark.parametrize("limit_hz", [150, 300, 900])
def test_search_never_goes_beyond_an_invalid_rate(limit_hz):
    """What a sender that is too slow for one rate says of a higher one is worth no more."""
    search = Search(100, 0.1)
    found = searched(search, lambda rate, _: Tried("invalid") if rate > limit_hz else answer(rate, 1e9, 1e9))
    invalid = [rate for rate, one in found.items() if one.outcome == "invalid"]
    assert [found[rate].times for rate in invalid] == [2] * len(invalid)
    assert invalid == sorted(invalid, reverse=True)  # each one lower than the one before it
    met, failed = bracket(outcomes(found))
    assert failed is None
    assert met <= limit_hz < min(invalid) <= 1.3 * met


def test_search_tries_an_undecided_rate_once_more_and_goes_on_above_it():
    def respond(rate, times):
        return Tried("undecided") if 500 < rate < 900 else answer(rate, 300, 700)

    found = searched(Search(100, 0.1), respond)
    assert found[800].times == 2
    assert found[1600].outcome == "saturated"
    met, failed = bracket(outcomes(found))
    assert met <= 300 < failed <= 1.1 * met
    steady, stuck = edge(outcomes(found))
    assert steady <= 500 < 900 <= stuck
    assert len(found) < 20


@pytest.mark.parametrize("times", [1, 2])
def test_an_undecided_rate_does_not_meet_the_deadline(times):
    def respond(rate, tries):
        return Tried("undecided") if rate == 400 and tries <= times else answer(rate, 500, 700)

    met, failed = bracket(outcomes(searched(Search(100, 0.1), respond)))
    assert (met < 400 <= failed) == (times == 2)


def test_search_halves_three_times_at_most():
    found = searched(Search(100, 0.1), lambda rate, _: answer(rate, 0, 150))
    assert min(found) == 12.5
    assert bracket(outcomes(found)) == (None, 12.5)


def test_search_does_not_halve_when_even_the_fastest_answer_is_late():
    found = searched(Search(100, 0.1), lambda rate, _: replace(answer(rate, 0, 150), hopeless=True))
    assert min(found) == 50  # where the curve begins


def test_search_ends_at_the_highest_rate_allowed():
    found = searched(Search(100, 0.1, top_hz=1000), lambda rate, _: answer(rate, 1e9, 1e9))
    assert max(found) == 800
    assert bracket(outcomes(found)) == (800, None)


@pytest.mark.parametrize(("again", "expected_met"), [("met", 200), ("missed", 100 / 2)])
def test_search_tries_a_failure_below_a_success_once_more(again, expected_met):
    def respond(rate, times):
        odd = "missed" if times == 1 else again
        return Tried(odd, 1.0) if rate == 100 else answer(rate, 200, 400)

    found = searched(Search(100, 0.5), respond)
    assert found[100].times == 2
    assert bracket(outcomes(found))[0] >= expected_met
    assert (bracket(outcomes(found))[1] == 100) == (again == "missed")


@pytest.mark.parametrize(("first_hz", "resolution"), [(0, 0.1), (-1, 0.1), (math.inf, 0.1), (1, 0), (1, 1.5)])
def test_search_refuses_invalid_arguments(first_hz, resolution):
    with pytest.raises(ConfigurationError, match="give a"):
        Search(first_hz, resolution)


def test_steps_and_rates_belong_together():
    search = Search(123, 0.02)
    assert all(search.step(search.rate_hz(step)) == step for step in range(-100, 300))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (None, None)),
        ({1: "met"}, (1, None)),
        ({1: "met", 2: "met", 4: "saturated"}, (2, 4)),
        ({1: "met", 2: "missed", 3: "met", 4: "saturated"}, (1, 2)),
        ({1: "invalid", 2: "missed"}, (None, 2)),
    ],
)
def test_bracket(given, expected):
    assert bracket(given) == expected


# The judgement on one rate


@pytest.mark.parametrize(
    ("rate_hz", "deadline_ms", "outcome", "reason"),
    [
        (250, 20, "met", r"^p99 \d"),
        (250, 4, "missed", r"^p99 \d"),
        (400, 19, "missed", "reaches over the deadline"),
        (700, 20, "saturated", "could not keep up"),
    ],
)
def test_judgement(rate_hz, deadline_ms, outcome, reason):
    probe = judge(measured(rate_hz, {"edge": {}}), "edge", deadline_ms, 0.99)
    assert probe.outcome == outcome
    assert re.search(reason, probe.reason)
    assert probe.rate_hz == rate_hz
    assert not probe.hopeless


BATCHES = {"batch": 64, "service_ms": 64 / 0.72}  # 720 requests/s at most, in batches of up to 64


@pytest.mark.parametrize("seed", range(6))
def test_trials_that_are_too_short_show_no_steady_state(seed):
    """Twice as many requests as can be answered, but in trials of two batches: nothing tells growth from chance."""
    measurement = measured(1400, {"edge": BATCHES}, seed=seed, n=270, replications=3)
    probe = judge(measurement, "edge", 400, 0.99)
    assert probe.answered_hz < 0.9 * 1400
    assert probe.outcome in ("undecided", "saturated")
    longer = judge(measured(1400, {"edge": BATCHES}, seed=seed, n=1200, replications=3), "edge", 400, 0.99)
    assert longer.outcome == "saturated"


def test_a_rate_that_answered_too_little_is_undecided_and_not_called_steady():
    """900/s offered, some 700/s answered, and valid by the rules of a measurement: not "steady up to 900/s"."""
    seeds = range(6)
    found = [measured(900, {"edge": BATCHES}, seed=seed, n=270, replications=3) for seed in seeds]
    unnoticed = [measurement for measurement in found if measurement.verdict.valid]
    assert unnoticed  # else this says nothing
    for measurement in unnoticed:
        probe = judge(measurement, "edge", 1000, 0.99)
        assert probe.tail.high < 1000
        assert (probe.outcome, probe.hopeless) == ("undecided", False)
        curve = LoadCurve((measurement,), 1000, 0.99, 0.1)
        assert curve.saturation("edge") == (None, None)
        assert curve.limit("edge").met_hz is None
        assert curve.verdict == "INVALID"
        assert "not decided at any of 1 rates tried" in curve.conclusion()
        assert curve.findings().headline[0].value == "not decided"
        assert curve.listing()["p50, ms"].tolist() == ["–"]


@pytest.mark.parametrize(("rate_hz", "n"), [(100, 270), (250, 270), (350, 600), (430, 6000)])
def test_a_service_that_keeps_pace_is_called_steady(rate_hz, n):
    seeds = range(10)
    found = [judge(measured(rate_hz, {"edge": {}}, seed=s, n=n, replications=3), "edge", 50, 0.99) for s in seeds]
    assert sum(probe.outcome in ("met", "missed") for probe in found) >= 9


def steady_trial(offered, answered, swing=1.0):
    return Steadiness((offered,) * 3, (answered,) * 3, (1.0,) * 3, (0.1,) * 3, (1.0,) * 3, swing)


@pytest.mark.parametrize(
    ("trials", "of", "says"),
    [
        ([], 3, "too short to tell"),
        ([steady_trial(100, 100)], 2, "too short to tell"),
        ([steady_trial(100, 100)] * 2, 3, ""),
        ([steady_trial(100, 99)] * 3, 3, ""),
        ([steady_trial(100, 97)] * 3, 3, "answered 873 of 900 requests"),
        ([steady_trial(100, 100), steady_trial(100, 80)], 2, "answered 540 of 600"),
        ([steady_trial(50, 50, swing=20.0)] * 3, 3, "by chance alone that may be off by 22 %"),
        ([steady_trial(500, 500, swing=20.0)] * 3, 3, ""),
    ],
)
def test_pace_is_shown_by_answers_in_trials_that_are_long_enough(trials, of, says):
    found = doubt_of_pace(trials, of)
    assert says in found
    assert bool(says) == bool(found)


def test_judgement_on_a_late_sender_decides_nothing():
    probe = judge(measured(250, {"edge": {}}, late=["edge"]), "edge", 20, 0.99)
    assert probe.outcome == "invalid"
    assert "late" in probe.reason


def test_judgement_on_too_few_requests_decides_nothing():
    probe = judge(measured(250, {"edge": {}}, replications=2, n=200), "edge", 20, 0.99)
    assert probe.outcome == "invalid"
    assert "too few" in probe.reason


def test_judgement_knows_when_no_rate_can_meet_the_deadline():
    probe = judge(measured(250, {"cloud": {"way_ms": 30}}), "cloud", 20, 0.99)
    assert (probe.outcome, probe.hopeless) == ("missed", True)


def test_judgement_does_not_take_a_queue_for_a_long_way():
    measurement = measured(505, {"edge": {}}, n=600, seed=2, replications=3)
    probe = judge(measurement, "edge", 20, 0.99)
    assert min(values.min() for values in measurement.latencies_ms("edge")) > 20
    assert (probe.outcome, probe.hopeless) == ("missed", False)
    assert probe.fastest_ms == pytest.approx(SERVICE_MS)


def test_power_is_throughput_over_mean_latency():
    measurement = measured(250, {"edge": {}})
    probe = judge(measurement, "edge", 20, 0.99)
    means = [values.mean() for values in measurement.latencies_ms("edge")]
    assert probe.power == pytest.approx([1e3 * probe.answered_hz / mean for mean in means])


def test_what_is_said_is_said_of_the_rate_offered():
    """By luck 10 % less than asked for arrived: that the rate asked for meets the deadline was not shown."""
    measurement = measured(520, {"edge": {}}, n=300, seed=0, replications=3)
    probe = judge(measurement, "edge", 500, 0.99)
    offered_hz = measurement.evidence["edge"].rates_hz["offered_hz"]
    assert offered_hz < 0.95 * 520  # more than the service can take was asked for, and less than that was offered
    assert (probe.rate_hz, probe.offered_hz, probe.outcome) == (520, offered_hz, "met")
    curve = LoadCurve((measurement,), 500, 0.99, 0.1)
    assert curve.limit("edge").met_hz == curve.saturation("edge")[0] == offered_hz
    assert curve.knee("edge") is None  # of one rate nothing is known to have less power
    assert "knee" not in curve.conclusion()
    assert f"meets 500 ms at p99 at {offered_hz:.0f}/s" in curve.conclusion()
    assert "520" not in curve.conclusion()
    assert curve.listing().reset_index().loc[0, ["asked, /s", "offered, /s"]].tolist() == ["520", f"{offered_hz:.0f}"]
    assert list(curve.table()[["rate_hz", "offered_hz"]].iloc[0]) == [520, offered_hz]


# The load curve of simulated queues

PLACEMENTS = {"edge, one by one": {}, "edge, batches": {"batch": 4}, "cloud": {"service_ms": 1.0, "way_ms": 10.0}}


def explored(placements=PLACEMENTS, deadline_ms=20, first_hz=240, most=math.inf, resolution=0.05, **how):
    """The curve of simulated queues and the rates and placements taken, in order."""
    log = []

    def take(rate_hz, together):
        if len(log) >= most:
            return None
        log.append((rate_hz, together))
        return measured(rate_hz, {placement: placements[placement] for placement in together}, **how)

    return explore(take, Search(first_hz, resolution), list(placements), deadline_ms, 0.99), log


@pytest.fixture(scope="module")
def curve():
    return explored(n=700, resolution=0.1)[0]


def test_placements_that_want_the_same_rate_are_measured_together():
    _, log = explored(n=600, resolution=0.2)
    assert log[0] == (240, list(PLACEMENTS))
    assert len(log) < sum(len(together) for _, together in log)


def test_limit_is_where_theory_has_it():
    placements = {"edge": {}}
    curve, _ = explored(placements, n=6000)
    limit = curve.limit("edge")
    expected_hz = brentq(lambda rate: MD1(rate_hz=rate, mean_service_ms=SERVICE_MS).quantile_ms(0.99) - 20, 10, 499)
    assert limit.resolved
    assert limit.failed_hz <= limit.met_hz * 1.051
    assert 0.85 * expected_hz <= limit.met_hz <= 1.05 * expected_hz


def test_knee_of_md1_is_where_theory_has_it():
    curve, _ = explored({"edge": {}}, n=6000)
    knee = curve.knee("edge")
    assert knee.low_hz < (2 - math.sqrt(2)) * 500 < knee.high_hz
    assert knee.low_hz < knee.rate_hz < knee.high_hz


def test_saturation_is_between_the_last_steady_and_the_first_saturated_rate(curve):
    steady, stuck = curve.saturation("edge, one by one")
    assert steady < 1.05 * 500
    assert 0.95 * 500 < stuck <= 2 * steady


def test_batching_raises_the_limit(curve):
    assert curve.limit("edge, batches").met_hz > 2 * curve.limit("edge, one by one").met_hz


def test_a_way_longer_than_the_deadline_is_told_and_not_searched():
    curve, log = explored({"cloud": {"way_ms": 30}})
    limit = curve.limit("cloud")
    assert limit.met_hz is None
    assert limit.resolved
    assert "even the fastest answer took 32 ms" in curve.conclusion()
    assert min(rate for rate, _ in log) == 120


def test_search_without_time_left_says_so():
    curve, log = explored({"edge": {}}, most=2)
    assert [rate for rate, _ in log] == [240, 480]
    assert not curve.limit("edge").resolved
    assert "the search ended early" in curve.conclusion()
    assert "edge: met and failed rate are further apart than 5 %" in curve.doubts()


def test_late_sender_everywhere_is_invalid():
    curve, log = explored({"edge": {}}, late=["edge"])
    assert len(log) == 4  # two rates, twice each
    assert curve.verdict == "INVALID"
    assert any("INVALID" in doubt for doubt in curve.doubts())
    assert "not decided at any of 2 rates" in curve.conclusion()


def test_rate_tried_again_counts_as_the_second_time():
    log = []

    def take(rate_hz, _):
        log.append(rate_hz)
        return measured(rate_hz, {"edge": {}}, n=600, late=["edge"] if log == [240] else ())

    curve = explore(take, Search(240, 0.2), ["edge"], 20, 0.99)
    assert log[:2] == [240, 240]
    (probe,) = [probe for probe in curve.latest("edge").values() if probe.rate_hz == 240]
    assert probe.outcome == "met"
    assert len(curve.table()) == len(log)
    assert not any("INVALID" in doubt for doubt in curve.doubts())


def test_saturated_rates_have_no_percentiles_in_the_table(curve):
    table = curve.table()
    stuck = table["outcome"] == "saturated"
    assert stuck.any()
    assert table.loc[stuck, ["p50_ms", "p99_ms", "p99_ms_high"]].isna().all(axis=None)
    assert table.loc[table["outcome"] == "met", ["p50_ms", "p99_ms", "p99_ms_high"]].notna().all(axis=None)
    assert (table.loc[table["outcome"] == "met", "p99_ms_high"] <= 20).all()


def test_listing_tells_every_probe_as_people_read_it(curve):
    listing = curve.listing()
    assert len(listing) == len(curve.probes)
    assert set(listing.loc[listing["outcome"] == "saturated", "p99, ms"]) == {"–"}
    assert listing.loc[listing["outcome"] == "met", "p99, ms"].str.contains(r"\d \([\d.]+–[\d.]+\)").all()


def test_conclusion_names_limit_knee_and_saturation(curve):
    said = curve.conclusion()
    for placement in curve.placements:
        assert placement.lower() in said.lower()
    limit = curve.limit("edge, one by one")
    assert f"up to {limit.met_hz:.0f}/s (at {limit.failed_hz:.0f}/s not shown to)" in said
    assert "its knee is near" in said
    assert "saturates between" in said
    assert "1\u202f750 requests a rate only" in said


@pytest.mark.long
def test_curve_comes_back_from_its_folder(curve, tmp_path):
    again = LoadCurve.load(curve.save(tmp_path / "load", format="csv"))
    pd.testing.assert_frame_equal(again.table(), curve.table())
    assert again.conclusion() == curve.conclusion()
    assert again.placements == curve.placements
    assert all(a.rows.equals(b.rows) for a, b in zip(again.measurements, curve.measurements, strict=True))


def test_load_refuses_the_folder_of_a_measurement(tmp_path):
    measured(250, {"edge": {}}, replications=1).save(tmp_path / "one", format="csv")
    with pytest.raises(MeasurementError, match="not a load curve"):
        LoadCurve.load(tmp_path / "one")


def test_unknown_placement_is_named(curve):
    with pytest.raises(MeasurementError, match="edge, batches"):
        curve.limit("fog")


# The figure


def test_figure_marks_saturated_rates_at_the_edge_and_draws_no_latency_there(curve):
    with styled():
        ax = Figure().add_subplot()
        load_figures.latency(ax, curve, "edge, one by one", (1, 100))
    stuck = [rate for rate, one in curve.latest("edge, one by one").items() if one.outcome == "saturated"]
    triangles = [line for line in ax.get_lines() if line.get_marker() == "^"]
    drawn = [line for line in ax.get_lines() if line.get_linestyle() in ("-", "--") and line.get_marker() == "o"]
    assert [list(line.get_xdata()) for line in triangles] == [stuck]
    assert all(y > 50 for y in triangles[0].get_ydata())
    assert len(drawn) == 2
    assert all(max(line.get_xdata()) < min(stuck) for line in drawn)
    assert "saturated" in [text.get_text() for text in ax.texts]


@pytest.mark.long
def test_figure_shows_every_placement_and_says_what_it_shows(curve):
    made = curve.plot()
    titles = [ax.get_title() or ax.get_title(loc="left") for ax in made.axes]
    assert set(PLACEMENTS) <= set(titles)
    assert curve.conclusion() in made.alt
    assert made.svg().startswith("<?xml")
    assert curve.plot().svg() == curve.plot().svg()


@pytest.mark.parametrize("placements", [["edge, one by one"], ["edge, one by one", "cloud"]])
def test_figure_of_fewer_placements(placements):
    curve, _ = explored({placement: PLACEMENTS[placement] for placement in placements}, n=600)
    assert curve.plot().svg()


def test_figure_of_a_search_that_found_nothing_says_so():
    curve, _ = explored({"edge": {}}, late=["edge"], n=600)
    said = [text.get_text() for ax in curve.plot().axes for text in ax.texts]
    assert any(text.startswith("nothing decided\nup to") for text in said)
    assert "every rate was INVALID" in said
    assert "INVALID" in curve._repr_html_()


# Behind a real broker


def scenario(workload=None, **placement):
    stub = {"service_time": Deterministic(mean_ms=SERVICE_MS), "max_batch": 1}
    workload = workload or Poisson(rate_hz=1, duration_s=1)
    return Scenario(
        model="anomaly_detector", workload=workload, placements={"edge": Edge(**{**stub, **placement})}, seed=5
    )


@pytest.mark.parametrize(
    ("given", "how", "said"),
    [
        (scenario(Trace(due_s=[0, 1])), {}, "a trace has one rate only"),
        (scenario(), {"deadline_ms": 5000}, "time-out"),
        (scenario(), {"deadline_ms": 0}, "time-out"),
        (scenario(), {"requests": 50}, "at least 100 requests a replication and 299 in all"),
        (scenario(), {"replications": 2, "requests": 120}, "299 in all"),
        (scenario(), {"resolution": 0}, "resolution"),
        (scenario(), {"first_hz": -1}, "positive rate"),
    ],
)
def test_measure_refuses_invalid_arguments(models, any_broker, given, how, said):
    with pytest.raises(ConfigurationError, match=said):
        load.measure(given, **{"deadline_ms": 20, "broker": any_broker, "progress": False, **how})


@pytest.mark.long
@pytest.mark.usefixtures("models")
def test_search_behind_a_real_broker_finds_what_theory_has(any_broker):
    """A service that takes 2 ms one by one: M/D/1 with a capacity of 500/s. A busy host can only answer less."""
    how = {"resolution": 0.5, "replications": 3, "requests": 110, "first_hz": 200, "budget_s": 300.0}
    curve = load.measure(scenario(), 20, **how, strict=False, progress=False, broker=any_broker)
    probes, capacity_hz = curve.latest("edge"), 1e3 / SERVICE_MS
    expected_hz = brentq(lambda rate: MD1(rate_hz=rate, mean_service_ms=SERVICE_MS).quantile_ms(0.99) - 20, 10, 499)
    limit = curve.limit("edge")
    assert all(one.answered_hz < 1.05 * capacity_hz for one in probes.values() if one.outcome == "saturated")
    assert all(one.outcome == "saturated" for rate, one in probes.items() if rate > 1.5 * capacity_hz)
    assert {probe.outcome for rate, probe in probes.items() if rate > 1.15 * expected_hz}.isdisjoint({"met", "invalid"})
    assert min(probes) <= 200 < max(probes)
    if limit.met_hz is None:  # then a rate failed below all that met: it was tried down to where the search gives up
        assert min(probes) < 200
        assert all(rate > limit.failed_hz for rate, probe in probes.items() if probe.outcome == "met")
    else:
        assert limit.met_hz < limit.failed_hz
        assert limit.met_hz <= 1.15 * expected_hz
    assert all(one.conditions["noise_floor"] for one in curve.measurements)
    assert len({one.conditions["calibrated_at"] for one in curve.measurements}) == 1


@pytest.mark.usefixtures("models")
def test_search_ends_with_its_budget(any_broker):
    curve = load.measure(
        scenario(), 60, replications=3, requests=110, budget_s=0.1, strict=False, progress=False, broker=any_broker
    )
    assert len(curve.measurements) == 1
    assert curve.ended


@pytest.mark.long
def test_publish_records_limits_and_saves_the_data(curve, tmp_path, monkeypatch):
    monkeypatch.setenv("XEDGE_REPORT_DIR", str(tmp_path))
    xedge.publish(curve)
    record = report.recorded()
    assert record["verdict"] == "VALID"
    assert record["conclusion"] == curve.conclusion()
    assert [one["value"] for one in record["headline"]] == [
        number(curve.limit(placement).met_hz) for placement in curve.placements
    ]
    assert record["estimates"]["cloud"]["highest_hz"]["value"] == curve.limit("cloud").met_hz
    assert LoadCurve.load(tmp_path / "load").conclusion() == curve.conclusion()
