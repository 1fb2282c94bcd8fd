"""Rows in, figures out: latency from the due time, tables, comparisons, files, merging, and how it shows itself."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sample_rows import MS, conditions, measurement, trial, with_status

from xedge.core import files
from xedge.core.exceptions import MeasurementError, MissingExtraError
from xedge.results import statistics, words
from xedge.results.measurement import Measurement
from xedge.results.rows import PARTS, milliseconds_between, parts_ns, typed


def test_latency_counts_from_the_due_time_not_from_sending():
    """HdrHistogram's coordinated omission: 100 s of 1 ms answers every 10 ms, then one stall of 100 s."""
    rows = trial(n=20_000)
    due = np.arange(20_000) * 10 * MS
    received = np.where(due < 100_000 * MS, due + MS, 200_000 * MS)
    sent = np.where(due <= 100_000 * MS, due, 200_000 * MS - MS)  # a closed loop cannot send during the stall
    rows["warm_up"] = False
    for name, values in (("due_ns", due), ("sent_ns", sent), ("received_ns", received)):
        rows[name] = pd.array(values, dtype="Int64")
    (latency,) = Measurement(rows, conditions()).latencies_ms("edge")
    uncorrected = milliseconds_between(rows, "sent_ns", "received_ns")
    assert np.mean(latency <= 1) == pytest.approx(0.5, abs=1e-3)
    assert np.mean(uncorrected <= 1) >= 0.9999
    assert statistics.quantile(latency, 0.99) == pytest.approx(98_000, rel=0.001)


def test_parts_add_up_to_the_latency_to_the_nanosecond():
    rows = typed(trial(n=500))
    rows.loc[3:90, ["arrived_ns", "departed_ns"]] = pd.NA
    rows.loc[91, "status"] = "error"
    parts = parts_ns(rows)
    assert list(parts.columns) == list(PARTS)
    assert 91 not in parts.index
    assert (parts.sum(axis=1) == (rows["received_ns"] - rows["due_ns"])[parts.index]).all()
    assert parts.loc[10, "uplink"] == 0
    assert parts.loc[10, "queueing"] == rows.loc[10, "started_ns"] - rows.loc[10, "read_ns"]


@pytest.mark.parametrize(("status", "shown"), [(pd.NA, "missing"), ("late", "late")])
def test_typed_refuses_an_unknown_or_missing_status_by_name(status, shown):
    rows = trial(n=20)
    rows.loc[3, "status"] = status
    with pytest.raises(MeasurementError, match=f"unknown status {shown}: every row is one of ok, error"):
        typed(rows)


def test_breakdown_says_where_the_time_goes():
    table = measurement().breakdown().set_index(["placement", "part"])
    assert table.loc[("edge", "inference"), "mean_ms"] == pytest.approx(0.7, rel=0.02)
    assert table.loc[("cloud", "uplink"), "median_ms"] == pytest.approx(50, rel=0.02)
    assert table.loc[("cloud", "broker in"), "median_ms"] == pytest.approx(0.1, rel=0.02)
    cloud = table.loc["cloud"]
    assert cloud.loc[list(PARTS), "mean_ms"].sum() == pytest.approx(cloud.loc["latency", "mean_ms"])


def test_latencies_are_sections_with_the_warm_up_apart_and_time_outs_infinite():
    sections = with_status("timeout").latencies_ms("cloud")
    assert [len(section) for section in sections] == [950] * 3
    assert np.isinf(sections[0]).sum() == 95
    assert [len(section) for section in with_status("error").latencies_ms("cloud")] == [855] * 3
    assert [len(section) for section in with_status("not_sent").latencies_ms("cloud")] == [855] * 3


def test_a_late_answer_keeps_its_time_but_counts_as_timed_out():
    rows = trial(n=100)
    rows.loc[50, "status"] = "timeout"
    whole = Measurement(rows, conditions())
    assert np.isinf(whole.latencies_ms("edge")[0]).sum() == 1
    assert whole.rows["received_ns"].notna().all()


def test_summary_has_rates_counts_and_intervals():
    table = measurement().summary().set_index("placement")
    edge = table.loc["edge"]
    assert (edge["requests"], edge["ok"], edge["lost"]) == (2850, 2850, 0)
    for rate in ("offered_hz", "sent_hz", "answered_hz"):
        assert table[rate].to_numpy() == pytest.approx([100, 100], rel=0.05)
    for level in ("p50", "p90", "p95", "p99"):
        assert edge[f"{level}_ms_low"] <= edge[f"{level}_ms"] <= edge[f"{level}_ms_high"]
    assert table.loc["cloud", "p50_ms"] == pytest.approx(101, rel=0.01)


def test_utilisation_is_the_busy_share_of_one_server_with_batches_counted_once():
    whole = measurement()
    assert whole.summary().set_index("placement").loc["edge", "utilisation"] == pytest.approx(0.07, rel=0.05)
    facts = {"cloud": {"servers": 2, "boxes": 3}}
    shared = Measurement(whole.rows, {**whole.conditions, "services": facts}).summary().set_index("placement")
    assert shared.loc["cloud", "utilisation"] == pytest.approx(0.07 / 6, rel=0.05)
    rows = whole.rows.copy()
    for stamp in ("started_ns", "finished_ns"):  # two requests a batch
        rows[stamp] = rows.groupby(["placement", "replication", rows["request"] // 2])[stamp].transform("first")
    assert Measurement(rows, {}).evidence["edge"].utilisation == pytest.approx(0.035, rel=0.05)
    assert np.isnan(Measurement(rows.assign(started_ns=pd.NA), {}).evidence["edge"].utilisation)


def test_summary_gives_no_number_below_the_floor_and_inf_beyond_the_time_out():
    few = measurement(replications=1, n=200).summary().set_index("placement").loc["edge"]
    assert few["p95_ms"] > 0
    assert np.isnan(few["p99_ms"])
    lossy = conditions()["scenario"]
    lossy["placements"]["cloud"]["link"] = {"loss": 0.05}
    censored = with_status("lost", scenario=lossy).summary().set_index("placement").loc["cloud"]
    assert (np.isfinite(censored["p50_ms"]), censored["p95_ms"]) == (True, np.inf)
    text = repr(with_status("lost", scenario=lossy))
    assert "> 5000 (timed out)" in text
    assert "too few (n < 299)" in repr(measurement(replications=1, n=200))


def test_saturated_placements_have_no_percentiles():
    whole = with_status("timeout")
    assert whole.verdict.saturated == ("cloud",)
    assert np.isnan(whole.summary().set_index("placement").loc["cloud", "p50_ms"])
    assert "saturated" in str(whole.compare("edge", "cloud"))
    assert whole.compare("edge", "cloud").differences == {}


def test_comparison_is_paired_and_says_who_is_faster():
    whole = measurement()
    comparison = whole.compare("edge", "cloud")
    difference = comparison.differences[0.5]
    assert (difference.value, difference.sections) == (pytest.approx(100, rel=0.01), 3)
    assert difference.low < difference.value < difference.high
    assert re.search(r"at p50 edge is [\d.]+ \([\d.]+–[\d.]+\) ms faster than cloud", str(comparison))
    assert re.search(r"at p50 edge is [\d.]+ \([\d.]+–[\d.]+\) ms faster", str(whole.compare("cloud", "edge")))
    assert "<table>" in comparison._repr_html_()
    assert list(comparison.table()["level"]) == ["p50", "p95", "p99"]


def test_comparison_of_a_placement_with_its_twin_shows_no_difference():
    rows = pd.concat([trial("edge", r, spread=0.3) for r in range(5)])
    other = pd.concat([trial("gate", r, spread=0.3, seed=2) for r in range(5)])
    comparison = Measurement(pd.concat([rows, other]), conditions()).compare("edge", "gate")
    assert "at p50 no difference is shown" in str(comparison)


def test_comparison_of_a_single_replication_uses_batches():
    comparison = measurement(replications=1).compare("edge", "cloud")
    assert comparison.differences[0.5].sections == 10
    assert comparison.differences[0.99].sections == 9


def test_goodput_counts_every_scheduled_request():
    whole = with_status("lost")
    assert whole.goodput("edge", 50).value == 1
    assert whole.goodput("cloud", 50).value == 0
    share = whole.goodput("cloud", 200)
    assert share.value == pytest.approx(0.9)
    assert share.low < 0.9 < share.high


def test_unknown_placement_is_named_with_those_there_are():
    with pytest.raises(MeasurementError, match=r"no placement 'moon'.*edge, cloud"):
        measurement().latencies_ms("moon")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda rows: rows.drop(columns=["due_ns", "status"]), "due_ns, status"),
        (lambda rows: rows.head(0), "no rows"),
        (lambda rows: rows.assign(status="fine"), "fine"),
        (lambda rows: rows.assign(payload_bytes="many"), "not of its kind"),
    ],
)
def test_rows_that_are_no_measurement_are_refused(spoil, message):
    with pytest.raises(MeasurementError, match=message):
        Measurement(spoil(trial(n=10)), conditions())


def test_measurement_is_frozen_and_keeps_its_own_copies():
    rows, given = trial(n=50), conditions()
    whole = Measurement(rows, given)
    rows.loc[0, "status"] = "lost"
    given["scenario"]["seed"] = 8
    assert (whole.rows.loc[0, "status"], whole.conditions["scenario"]["seed"]) == ("ok", 7)
    with pytest.raises(dataclasses.FrozenInstanceError):
        whole.conditions = {}
    assert Measurement(trial(n=50), {"n": np.int64(3)}).conditions == {"n": 3}
    with pytest.raises(MeasurementError, match="JSON"):
        Measurement(trial(n=50), {"n": object()})


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_saved_measurement_comes_back_exactly(tmp_path, kind):
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    rows = trial(n=60)
    rows.loc[5, ["sent_ns", "received_ns"]] = pd.NA
    rows.loc[5, ["status", "prediction"]] = ["not_sent", np.nan]
    rows.loc[6, "prediction"] = 0.1 + 0.2
    rows["error"] = rows["error"].astype(object)
    for place, text in enumerate(["", "NA", "nan", 'a "quote", a comma\nand a line', "ä"]):
        rows.loc[10 + place, "error"] = text
    whole = Measurement(rows, conditions())
    path = whole.save(tmp_path / "run", format=kind)
    back = Measurement.load(path)
    pd.testing.assert_frame_equal(back.rows, whole.rows, check_exact=True)
    assert back.conditions == whole.conditions
    assert json.loads((path / "verdict.json").read_text())["verdict"] == whole.verdict.word
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


def test_saving_replaces_a_measurement_but_nothing_else(tmp_path):
    whole = measurement(replications=1, n=100)
    path = whole.save(tmp_path / "run", format="csv")
    measurement(replications=2, n=100).save(path, format="csv")
    assert Measurement.load(path).rows["replication"].nunique() == 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(MeasurementError, match="is not a measurement"):
        whole.save(tmp_path / "mine")
    with pytest.raises(MeasurementError, match=r"conditions\.json"):
        Measurement.load(tmp_path / "mine")


def test_saving_into_an_empty_folder_is_fine(tmp_path):
    (tmp_path / "empty").mkdir()
    assert Measurement.load(measurement().save(tmp_path / "empty")).placements == ["edge", "cloud"]


def test_without_pyarrow_parquet_names_the_extra_and_the_default_is_csv(tmp_path, monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    whole = measurement(replications=1, n=100)
    assert (whole.save(tmp_path / "run") / "rows.csv.gz").is_file()
    with pytest.raises(MissingExtraError, match=r"xedge\[parquet\]"):
        whole.save(tmp_path / "other", format="parquet")
    assert not (tmp_path / "other").exists()


def test_merging_renumbers_the_replications_and_the_trials():
    trials = [{"placement": "edge", "replication": 0, "schedule_seed": 1}]
    one = Measurement(trial(), conditions(trials=trials))
    scenario = {**conditions()["scenario"], "seed": 8}
    broker = {**conditions()["broker"], "port": 50002}
    two = Measurement(trial(seed=2), conditions(trials=trials, scenario=scenario, broker=broker))
    both = one.merge(two)
    assert both.conditions["replications"] == 2
    assert [entry["replication"] for entry in both.conditions["trials"]] == [0, 1]
    assert both.conditions["merged"][0]["scenario"]["seed"] == 8
    assert np.array_equal(both.latencies_ms("edge")[1], two.latencies_ms("edge")[0])


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"versions": {"python": "3.11.9", "numpy": "1.26.0"}}, r"versions \(numpy: 2\.4\.6 and 1\.26\.0\)"),
        ({"broker": {"kind": "embedded"}}, "broker .kind: mosquitto and embedded"),
        ({"host": {"cpu": "another"}}, "host .cpu: a CPU and another"),
        ({"timeout_s": 1.0}, r"timeout_s \(5.0 and 1.0\)"),
    ],
)
def test_unlike_measurements_do_not_merge(changes, named):
    with pytest.raises(MeasurementError, match=named):
        Measurement(trial(), conditions()).merge(Measurement(trial(seed=2), conditions(**changes)))


def test_a_measurement_does_not_merge_with_itself():
    whole = measurement(replications=1, n=100)
    with pytest.raises(MeasurementError, match="twice"):
        whole.merge(Measurement(whole.rows, whole.conditions))


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        ((1.2134, 1.1924, 1.2344), "1.213 (1.192–1.234) ms"),
        ((101.2345, 100.0, 102.469), "101.2 (100.0–102.5) ms"),
        ((101.2345, None, None), "101.2 ms"),
        ((0.04567, None, None), "0.046 ms"),
        ((1234.5, None, None), "1234 ms"),
        ((1.5, 1.5, 1.5), "1.500 (1.500–1.500) ms"),
        ((float("inf"), None, None), "> 5000 ms (timed out)"),
        ((0.4, 0.0, 1.2), "0.40 (0.00–1.20) ms"),
        ((-0.1, -0.3, 0.1), "−0.10 (−0.30 to 0.10) ms"),
    ],
)
def test_numbers_read_with_the_digits_they_deserve(estimate, text):
    assert words.milliseconds(statistics.Estimate(*estimate, 1000, 5, ""), 5.0) == text


def test_html_names_verdict_doubts_floor_and_conditions_and_escapes_them():
    shown = measurement(replications=1, host={"cpu": "<script>", "cores": 2})._repr_html_()
    assert shown.index("Run it at the edge") < shown.index("VALID") < shown.index("one replication only")
    assert "Noise floor (echo): p50 0.2" in shown
    assert "&lt;script&gt;" in shown
    assert "<script>" not in shown
    assert "mosquitto 2.0.11" in shown
    assert "anomaly_detector · poisson · 100 requests/s" in shown


def test_repr_and_html_do_without_any_conditions():
    bare = Measurement(trial(), {})
    assert repr(bare).startswith("Edge: half of the requests answered within ")
    assert "VALID" in bare._repr_html_()
    assert bare.conclusion()


def test_conclusion_tells_who_is_faster_and_where_the_time_goes():
    text = measurement().conclusion()
    assert re.search(r"edge is [\d.]+ \([\d.]+–[\d.]+\) ms faster than cloud", text)
    assert "At cloud the time goes to uplink (50 %), downlink" in text
    assert text.endswith("No check raised a doubt.")
    saturated = with_status("timeout").conclusion()
    assert "; cloud cannot keep up with the rate. SATURATED. " in saturated
    assert saturated.count("could not keep up") == 1


def test_a_placement_that_went_silent_is_shown_and_saved(tmp_path):
    """Answers until a third of the trial, then none: its medians are infinite, and it is said, drawn and saved."""
    whole = measurement()
    rows = whole.rows.copy()
    silent = (rows["placement"] == "cloud") & (rows["request"] > 330)
    rows.loc[silent, "status"] = "timeout"
    rows.loc[silent, "received_ns"] = pd.NA
    silenced = Measurement(rows, whole.conditions)
    assert "∞" in str(silenced.verdict)
    assert silenced.verdict.placements == {"edge": "VALID", "cloud": "SATURATED"}
    assert all(text for text in (repr(silenced), silenced._repr_html_(), silenced.conclusion(), silenced.plot().svg()))
    assert Measurement.load(silenced.save(tmp_path / "silent")).rows.equals(silenced.rows)


def test_a_save_that_fails_at_the_end_leaves_the_measurement_that_was_there(tmp_path, monkeypatch):
    before = measurement(replications=2)
    before.save(tmp_path / "kept")
    rename = Path.rename

    def full(path, target):
        if path.name == "new":
            raise OSError(28, "No space left on device")
        return rename(path, target)

    def refused(one, other):
        raise OSError(22, "not on this disk")

    monkeypatch.setattr(Path, "rename", full)
    monkeypatch.setattr(files, "_exchange", refused)
    with pytest.raises(OSError, match="No space"):
        measurement(replications=3).save(tmp_path / "kept")
    monkeypatch.undo()
    assert Measurement.load(tmp_path / "kept").rows.equals(before.rows)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
