"""What faults cost: numbers of the study are those of the rows, and its words and figures say them."""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd
import pytest
from sample_rows import conditions, trial

import xedge
from xedge.core.exceptions import ConfigurationError
from xedge.reports import run as report
from xedge.results.measurement import Measurement
from xedge.studies.faults import Resilience, figures, in_turn

PLANNED = {"stall": 3.0, "link_down": 6.0}


def measured(lasting=None, replications=3):
    """Both meet a stall at 3 s; at 6 s the cloud alone loses its link, for 1 s and as long again as `lasting` says."""
    lasting = {"stall": 0.5, "link_down": 0.3} | (lasting or {})
    tables, trials = [], []
    for r in range(replications):
        for name, away_ms in (("edge", 0.0), ("cloud", 40.0)):
            table = trial(name, r, away_ms=away_ms, spread=0.05)
            due_s = table["due_ns"].to_numpy(float) / 1e9
            kinds = [kind for kind in PLANNED if name == "cloud" or kind != "link_down"]
            for kind in kinds:
                hit = (due_s >= PLANNED[kind]) & (due_s < PLANNED[kind] + 1 + lasting[kind] + 0.02 * r)
                table.loc[hit, "status"] = "timeout"
                table.loc[hit, "received_ns"] = pd.NA
            faults = [{"kind": k, "at_s": PLANNED[k], "begin_s": PLANNED[k], "end_s": PLANNED[k] + 1} for k in kinds]
            tables.append(table)
            trials.append({"placement": name, "replication": r, "faults": faults})
    return Measurement(pd.concat(tables, ignore_index=True), conditions(trials=trials))


@pytest.fixture(scope="module")
def resilience():
    return Resilience(measured(), 100.0)


def test_faults_in_turn_leave_calm_before_and_after_each():
    faults, duration_s = in_turn(["link_down", "stall"], 0.5, 2.0, only={"link_down": "cloud"})
    assert [(f.kind, f.at_s, f.duration_s, f.placement) for f in faults] == [
        ("link_down", 2.0, 0.5, "cloud"),
        ("stall", 4.5, 0.5, None),
    ]
    assert duration_s == 7.0
    with pytest.raises(ConfigurationError, match="link_down"):
        in_turn(["link_dwon"], 1, 1)


def test_shares_are_those_of_the_rows_faults_included(resilience):
    rows = resilience.measurement.rows[~resilience.measurement.rows["warm_up"]]
    in_time = (rows["received_ns"] - rows["due_ns"]).fillna(10**12) <= 100e6
    for name, share in in_time.groupby(rows["placement"]):
        available = resilience.available(name)
        assert available.value == pytest.approx(100 * share.mean(), abs=0.3)
        assert available.low < available.value < available.high
    assert resilience.available("edge").low > resilience.available("cloud").high
    assert resilience.shares()["placement"].tolist() == ["edge", "cloud"]


def test_the_table_has_a_row_a_placement_and_fault_with_its_recovery(resilience):
    table = resilience.table().set_index(["placement", "fault"])
    assert table.index.tolist() == [
        ("edge", "service stalled"),
        ("cloud", "service stalled"),
        ("cloud", "link down"),
    ]
    assert table["recovery_s"].tolist() == pytest.approx([0.52, 0.52, 0.32], abs=0.05)
    assert (table["recovery_s_low"] <= table["recovery_s"]).all()
    assert table["recovered"].tolist() == ["3 of 3"] * 3
    assert table["lasted_s"].tolist() == [1.0] * 3
    assert (table["of these failed"] <= table["requests met"]).all()
    assert "0.52" in resilience._repr_html_()


def test_the_conclusion_says_who_answered_more_and_whom_a_fault_spared(resilience):
    said = resilience.conclusion()
    assert "Answered within 100 ms with these faults: edge " in said
    assert "edge answered more than cloud" in said
    assert re.search(
        r"After “link down” answers were as fast as before: cloud after 0\.3\d* \(.*\) s; edge did not", said
    )
    assert re.search(r"“service stalled” .*: edge after 0\.5\d* \(.*\) s, cloud after 0\.5", said)
    assert "VALID" not in said


def test_what_does_not_recover_is_said_in_words_and_has_no_number():
    never = Resilience(measured({"link_down": 9.0}), 100.0)
    assert math.isinf(never.measurement.recovery("cloud", "link_down").value)
    assert "cloud not within the trial; edge did not meet it" in never.conclusion()
    line = never.table().set_index(["placement", "fault"]).loc[("cloud", "link down")]
    assert np.isnan(line["recovery_s"])
    assert line["recovered"] == "0 of 3"
    assert "not within the trial" in figures.figure(never).svg()


def test_the_figure_marks_the_faults_and_has_a_text(resilience):
    made = figures.figure(resilience)
    svg = made.svg()
    for text in (
        "link down (cloud)",
        "service stalled",
        "deadline",
        "s after the fault was mended",
        "share of all req",
    ):
        assert text in svg
    assert "edge answered more than cloud" in made.alt


def test_one_replication_shows_no_difference():
    one = Resilience(measured(replications=1), 100.0)
    assert one.available("edge").low is None
    assert "without intervals no difference is shown" in one.conclusion()
    assert figures.figure(one).svg()


def test_publish_puts_both_shares_on_top(tmp_path, monkeypatch, resilience):
    monkeypatch.setenv("XEDGE_REPORT_DIR", str(tmp_path))
    assert xedge.publish(resilience) == resilience.conclusion()
    record = report.recorded()
    assert [number["label"] for number in record["headline"][:2]] == [
        "edge, answered within 100 ms",
        "cloud, answered within 100 ms",
    ]
    assert record["estimates"]["cloud"]["link_down_recovery_s"]
    assert (tmp_path / "faults.csv").is_file()
    assert Measurement.load(tmp_path / "measurement").faults().equals(resilience.measurement.faults())
