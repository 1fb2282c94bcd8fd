"""Recovery by tables of numbers, and what doubts, verdict and answer make of faults and of a broker that was away."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from sample_rows import MS, conditions, trial

from xedge.results import figures as plots
from xedge.results.conditions import FaultFacts, Trial
from xedge.results.disruptions import WINDOW, disruptions_of, recovered_s, without
from xedge.results.measurement import Measurement

DUE = np.arange(0, 10, 0.01)  # 1000 requests at 100/s


def recovered(latency_ms, begin_s=4.0, end_s=5.0, until_s=math.inf, quiet=None):
    quiet = np.ones(len(DUE), bool) if quiet is None else quiet
    return recovered_s(DUE, np.broadcast_to(np.asarray(latency_ms, float), DUE.shape), quiet, begin_s, end_s, until_s)


def between(low, high, inside, outside=1.0):
    return np.where((low - 1e-9 <= DUE) & (high - 1e-9 > DUE), inside, outside)


def test_nothing_that_changed_is_recovered_at_once():
    assert recovered(1.0) == (pytest.approx(3.99), 5.0)


@pytest.mark.parametrize("slow", [math.inf, 900.0, 1.5])
def test_recovered_is_when_the_first_request_is_due_that_begins_a_window_as_before(slow):
    last_s, again_s = recovered(between(4, 5.5, slow))
    assert again_s == pytest.approx(5.5)
    assert last_s == pytest.approx(3.99)


def test_what_was_on_its_way_when_it_began_is_not_before():
    """Ten requests due in the last 100 ms before were answered only after it: they do not make the limit."""
    last_s, again_s = recovered(between(3.9, 4.2, 1500.0, 10.0))
    assert last_s == pytest.approx(3.89)
    assert again_s == 5.0


def test_a_window_may_have_two_slow_requests_of_twenty_but_not_first():
    latency_ms = between(4, 5.3, 50.0)
    latency_ms[[535, 545]] = 50.0
    assert recovered(latency_ms)[1] == pytest.approx(5.3)
    latency_ms[[531, 532]] = 50.0  # four of twenty
    assert recovered(latency_ms)[1] == pytest.approx(5.33)


def test_what_never_comes_back_within_the_trial_or_before_the_next_fault_is_infinite():
    assert recovered(between(4, 10, 50.0))[1] == math.inf
    assert recovered(between(4, 6, 50.0), until_s=6.0 + (WINDOW - 2) / 100)[1] == math.inf
    assert recovered(between(4, 6, 50.0), until_s=6.5)[1] == pytest.approx(6.0)


def test_too_few_requests_before_say_nothing():
    assert math.isnan(recovered(1.0, begin_s=0.1)[1])
    assert math.isnan(recovered(1.0, quiet=DUE > 3.9)[1])


def test_a_link_that_always_loses_some_is_as_before_with_the_same_loss():
    rng = np.random.default_rng(5)
    latency_ms = np.where(rng.random(len(DUE)) < 0.15, math.inf, 1.0)
    latency_ms[400:550] = math.inf
    assert 5.5 <= recovered(latency_ms)[1] < 5.8


def test_time_without_the_disrupted_requests_moves_together():
    due, received = np.arange(6.0), np.arange(6.0) + 0.5
    hit = np.array([False, False, True, True, False, False])
    assert [list(times) for times in without(due, received, hit)] == [[0, 1, 2, 3], [0.5, 1.5, 2.5, 3.5]]
    assert [list(times) for times in without(due, received, np.zeros(6, bool))] == [list(due), list(received)]


def failing(table, since_s, until_s, status="timeout"):
    """The trial with the requests due in a span of time unanswered."""
    due_s = table["due_ns"].to_numpy(float) / 1e9
    hit = (due_s >= since_s) & (due_s < until_s)
    table.loc[hit, "status"] = status
    table.loc[hit, ["received_ns", *(["sent_ns"] if status == "not_sent" else [])]] = pd.NA
    return table


FAULT = {"kind": "stall", "at_s": 4.0, "begin_s": 4.0, "end_s": 5.0}


def measured(status="timeout", until_s=5.5, replications=3, facts=(), **changes):
    """Three trials of ten seconds; in each the requests due from 4 s on fail for a while."""
    tables = [failing(trial(replication=r, spread=0.05), 4.0, until_s, status) for r in range(replications)]
    trials = [{"placement": "edge", "replication": r, **dict(facts)} for r in range(replications)]
    return Measurement(pd.concat(tables, ignore_index=True), conditions(trials=trials, **changes))


def said(measurement):
    return "; ".join(f"{doubt.severity} {doubt}" for doubt in measurement.checks())


@pytest.mark.parametrize("status", ["timeout", "not_sent", "lost", "overloaded"])
def test_a_fault_that_was_asked_for_makes_nothing_saturated_or_invalid(status):
    as_it_came, asked = measured(status), measured(status, facts={"faults": [FAULT]})
    assert as_it_came.verdict.word in ("SATURATED", "INVALID")
    assert asked.verdict.word == "VALID"
    assert not [doubt for doubt in asked.checks() if doubt.severity == "severe"]
    assert "faults that were asked for are in the numbers: service stalled (3); of " in said(asked)
    assert str(asked.answer()).startswith("With the faults that were asked for: ")


def test_recovery_and_availability_have_intervals_over_the_replications():
    whole = measured(facts={"faults": [FAULT]})
    recovery = whole.recovery("edge", "stall")
    assert recovery.value == pytest.approx(0.5, abs=0.05)
    assert recovery.low <= recovery.value <= recovery.high < 0.7
    assert whole.recovery("edge", "link_down").value is None
    rows = whole.rows[~whole.rows["warm_up"]]
    available = whole.availability("edge")
    assert available.value == pytest.approx((rows["status"] == "ok").mean(), abs=0.002)
    assert available.low < available.value < available.high <= 1
    assert available.sections == 3
    assert whole.availability("edge", 0.001).value == 0
    assert whole.availability("edge", 1e4).value == pytest.approx(available.value)
    events = whole.faults()
    assert events["fault"].tolist() == ["stall"] * 3
    assert events["requests"].sum() == pytest.approx(450, abs=60)
    assert (events["failed"] == events["requests"]).all()


def test_a_fault_without_recovery_is_said_and_its_recovery_infinite():
    whole = measured(until_s=99, facts={"faults": [FAULT]})
    assert whole.recovery("edge", "stall").value == math.inf
    assert "warning edge: no answers as fast as before" in said(whole)
    assert whole.verdict.word == "VALID"


def test_a_fault_that_could_not_be_mended_is_severe():
    whole = measured(facts={"faults": [FAULT | {"failure": "BrokerError: the port is taken"}]})
    assert "severe edge: not done or not mended: service stalled in replication 0 (BrokerError" in said(whole)


def test_a_late_sender_is_invalid_with_faults_too():
    whole = measured(facts={"faults": [FAULT]})
    rows = whole.rows.copy()
    late = rows["request"] % 20 == 0
    for stamp in rows.columns[rows.columns.str.endswith("_ns")].drop("due_ns"):
        rows.loc[late, stamp] += 200 * MS
    late_one = Measurement(rows, whole.conditions)
    assert late_one.verdict.word == "INVALID"
    assert "sender's lateness" in str(late_one.verdict)


def test_what_saturates_apart_from_the_fault_is_saturated_still():
    whole = measured(facts={"faults": [FAULT]})
    rows = whole.rows.copy()
    slower_ms = np.clip(rows["due_ns"].to_numpy(float) / 1e9 - 6, 0, None) * 100
    for stamp in ("started_ns", "finished_ns", "departed_ns", "received_ns"):
        rows[stamp] += (slower_ms * MS).astype(np.int64)
    assert Measurement(rows, whole.conditions).verdict.word == "SATURATED"


@pytest.mark.parametrize("status", ["timeout", "not_sent", "lost"])
def test_a_broker_that_was_away_unasked_is_said_and_nobody_called_saturated(status):
    gone = {"counts": {"reconnects": 1}, "sender_reconnects": 1, "outages": [(4.0, 5.1), (4.0, 5.2)]}
    whole = measured(status, facts=gone)
    assert whole.verdict.word == "INVALID"
    text = "the connection to the broker was lost and made again in replication 0 from 4.00 to 5.20 s, 1 from"
    assert text in str(whole.verdict)
    assert "could not keep up" not in str(whole.verdict)
    assert "not sent" not in str(whole.verdict).replace("tell of the broker", "")
    assert "the broker was away while edge was measured" in str(whole.answer())
    assert whole.faults()["asked"].tolist() == [False] * 3


def test_a_broker_that_was_away_and_cost_next_to_nothing_is_a_doubt():
    whole = measured(until_s=4.02, facts={"sender_reconnects": 1, "outages": [(4.0, 4.02)]})
    assert whole.verdict.word == "VALID"
    assert "severe edge: the connection to the broker was lost and made again in replication 0 from" in said(whole)


def test_a_restart_that_was_asked_for_explains_the_lost_connections():
    restart = FAULT | {"kind": "broker_restart"}
    whole = measured("not_sent", facts={"faults": [restart], "outages": [(4.01, 5.4)], "sender_reconnects": 1})
    assert whole.verdict.word == "VALID"
    assert "made again" not in said(whole)
    assert whole.faults()["fault"].tolist() == ["broker_restart"] * 3


def test_a_fault_that_is_not_recovered_from_ends_where_the_next_begins():
    facts = Trial(
        placement="edge",
        faults=(FaultFacts(kind="stall", at_s=2, begin_s=2, end_s=2.5), FaultFacts(**FAULT | {"kind": "link_down"})),
    )
    known, hit = disruptions_of(failing(trial(spread=0.05), 2.0, 5.2), facts)
    assert math.isinf(known[0].recovered_s)
    assert known[0].until_s == 4.0
    assert known[1].recovered_s == pytest.approx(5.2, abs=0.1)
    due_s = trial()["due_ns"].to_numpy() / 1e9
    assert hit.tolist() == ((due_s > known[0].last_s) & (due_s < known[1].recovered_s)).tolist()


def test_a_link_is_judged_by_the_requests_that_no_fault_disrupted():
    """A link of 40 ms that is down for a second: requests due then cross it that much later."""
    tables = [trial(replication=r, away_ms=40.0, spread=0.01) for r in range(3)]
    for table in tables:
        wait_ns = np.clip(5.0e9 - table["due_ns"].to_numpy(float), 0, None) * (table["due_ns"] >= 4_000_000_000)
        for stamp in ("arrived_ns", "started_ns", "finished_ns", "departed_ns", "received_ns"):
            table[stamp] += wait_ns.astype(np.int64)
    by_level = [{"p": p, "drawn_ms": 40.0, "effective_ms": 40.0} for p in (0.5, 0.99)]
    check = {"edge": {"by_level": by_level}}
    trials = [{"placement": "edge", "replication": r, "faults": [FAULT | {"kind": "link_down"}]} for r in range(3)]
    rows = pd.concat(tables, ignore_index=True)
    assert "the link's p99" in said(Measurement(rows, conditions(link_check=check)))
    assert "the link's" not in said(Measurement(rows, conditions(link_check=check, trials=trials)))


def test_the_figure_over_time_shades_and_names_each_fault_once():
    ax = Figure().subplots()
    plots.over_time(ax, measured(facts={"faults": [FAULT]}))
    assert [text.get_text() for text in ax.texts] == ["service stalled"]
    (span,) = ax.patches
    assert (span.get_x(), span.get_x() + span.get_width()) == (4.0, 5.0)
    quiet = Figure().subplots()
    plots.over_time(quiet, measured())
    assert not quiet.texts
