"""Short real measurements: complete rows, common schedules, honest fates, full conditions, nothing left behind."""

from __future__ import annotations

import itertools
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from helpers import Client, Device, children_of, unique_prefix, write_lookup_model, xedge_threads

import xedge
from xedge import Cloud, Constant, CsvReplay, Edge, Link, Measurement, Poisson, Scenario, Trace
from xedge.core.exceptions import BrokerError, ConfigurationError, ModelNotFoundError
from xedge.models.reference import reference_inputs
from xedge.results.rows import PARTS, STAMPS, milliseconds_between
from xedge.runs.calibration import DEVICE
from xedge.scenario.sources import Noise
from xedge.serving.broker import Broker, _free_port

pytestmark = pytest.mark.usefixtures("models")
SHORT = Poisson(rate_hz=100, duration_s=0.5)


def quick(
    broker: Broker | None = None, replications: int = 1, calibration: Measurement | None = None, **changes: Any
) -> Measurement:
    told = {"model": "anomaly_detector", "workload": SHORT, "placements": {"edge": Edge()}} | changes
    told.setdefault("topic_prefix", unique_prefix())
    return Scenario(**told).measure(replications, progress=False, broker=broker, calibration=calibration)


def counts(measurement: Measurement) -> dict[str, int]:
    return measurement.rows["status"].value_counts().to_dict()


def results_of(prefix: str) -> str:
    """The results of a measurement, which puts a level of its own below the scenario's prefix; some are echoes."""
    return f"{prefix}/+/ml/inference/result/+"


class Taken(NamedTuple):
    measurement: Measurement
    tiers_on_the_wire: list[str]
    children_before: set[int]
    children_after: set[int]
    threads_after: list[str]
    switch_interval_before: float
    switch_interval_after: float


@pytest.fixture(scope="module")
def taken(models: Path, any_broker: Broker) -> Taken:
    """Edge and cloud behind a broker that is passed in, two replications, watched from outside."""
    prefix = unique_prefix()
    before, interval = children_of(os.getpid()), sys.getswitchinterval()
    with Client(any_broker, results_of(prefix), without=DEVICE) as listener:
        measurement = quick(
            any_broker, 2, workload=Poisson(rate_hz=150, duration_s=1), topic_prefix=prefix, seed=5,
            placements={"edge": Edge(), "cloud": Cloud(link=Link(delay_ms=10))},
        )  # fmt: skip
        answers = [json.loads(payload) for _, payload in listener.wait(len(measurement.rows))]
    tiers = ["cloud" if "cloud_latency_ms" in answer else "edge" for answer in answers]
    return Taken(
        measurement, tiers, before, children_of(os.getpid()), xedge_threads(), interval, sys.getswitchinterval()
    )


def trials(measurement: Measurement) -> dict[tuple[str, int], pd.DataFrame]:
    return dict(iter(measurement.rows.groupby(["placement", "replication"])))


def test_every_scheduled_request_is_a_row_and_answered(taken: Taken) -> None:
    rows = taken.measurement.rows
    assert counts(taken.measurement) == {"ok": len(rows)}
    assert not rows[[*STAMPS, "prediction"]].isna().any().any()
    assert rows["error"].isna().all()
    assert rows["prediction"].between(0, 1).all()
    assert (rows["payload_bytes"] > 100).all()
    for trial in trials(taken.measurement).values():
        assert trial["request"].tolist() == list(range(len(trial)))
        assert trial["due_ns"].is_monotonic_increasing
        assert 75 < len(trial) < 225


def test_clock_readings_follow_each_other(taken: Taken) -> None:
    rows = taken.measurement.rows
    for earlier, later in itertools.pairwise(STAMPS):
        assert (rows[later] >= rows[earlier]).all(), (earlier, later)


def test_links_take_at_least_their_delay(taken: Taken) -> None:
    rows = taken.measurement.rows
    cloud = rows[rows["placement"] == "cloud"]
    assert (cloud["arrived_ns"] - cloud["read_ns"] >= 10_000_000).all()
    assert (cloud["departed_ns"] - cloud["finished_ns"] >= 10_000_000).all()
    assert (cloud["received_ns"] - cloud["due_ns"] >= 20_000_000).all()


def test_parts_add_up_to_the_latency(taken: Taken) -> None:
    rows = taken.measurement.rows
    assert (sum(rows[b] - rows[a] for a, b in itertools.pairwise(STAMPS)) == rows["received_ns"] - rows["due_ns"]).all()
    parts = taken.measurement.breakdown()
    for name in ("edge", "cloud"):
        mean = parts[parts["placement"] == name].set_index("part")["mean_ms"]
        assert mean[list(PARTS)].sum() == pytest.approx(mean["latency"], rel=1e-9)
        own = rows[(rows["placement"] == name) & ~rows["warm_up"]]
        assert mean["latency"] == pytest.approx(milliseconds_between(own, "due_ns", "received_ns").mean(), rel=1e-9)


def test_warm_up_is_the_beginning_of_every_trial(taken: Taken) -> None:
    for trial in trials(taken.measurement).values():
        cold = int(trial["warm_up"].sum())
        assert 0.05 * len(trial) <= cold <= len(trial) / 2
        assert trial["warm_up"].tolist() == [True] * cold + [False] * (len(trial) - cold)


def test_placements_share_schedule_and_contents(taken: Taken) -> None:
    of = trials(taken.measurement)
    for replication in (0, 1):
        edge, cloud = of["edge", replication], of["cloud", replication]
        assert edge["due_ns"].tolist() == cloud["due_ns"].tolist()
        np.testing.assert_allclose(edge["prediction"], cloud["prediction"], atol=1e-5)
        assert edge["prediction"].nunique() > 10
    assert of["edge", 0]["due_ns"].tolist() != of["edge", 1]["due_ns"].tolist()
    assert of["edge", 0]["prediction"].tolist()[:20] != of["edge", 1]["prediction"].tolist()[:20]


def test_trials_go_there_and_back(taken: Taken) -> None:
    order = taken.measurement.rows[["placement", "replication"]].drop_duplicates().to_records(index=False).tolist()
    assert order == [("edge", 0), ("cloud", 0), ("cloud", 1), ("edge", 1)]
    assert [tier for tier, _ in itertools.groupby(taken.tiers_on_the_wire)] == ["edge", "cloud", "edge"]


def test_conditions_say_how_it_was_measured(taken: Taken, any_broker: Broker) -> None:
    said = taken.measurement.conditions
    assert said["noise_floor"].keys() == {"p50_ms", "p95_ms", "p99_ms", "n", "ceiling_hz"}
    assert 0 < said["noise_floor"]["p50_ms"] <= said["noise_floor"]["p95_ms"] <= said["noise_floor"]["p99_ms"]
    assert said["noise_floor"]["n"] > 75
    assert said["noise_floor"]["ceiling_hz"] > 0
    assert said["link_check"].keys() == {"cloud"}
    assert said["link_check"]["cloud"]["requested_ms"] == {"p50_ms": 20.0, "p95_ms": 20.0, "p99_ms": 20.0}
    assert said["link_check"]["cloud"]["measured_ms"]["p50_ms"] > 10
    assert said["link_check"]["cloud"]["n"] == 400
    assert {level["effective_ms"] for level in said["link_check"]["cloud"]["by_level"]} == {20.0}
    assert said["broker"]["kind"] == any_broker.kind
    assert said["broker"]["version"] == any_broker.version
    assert said["broker"]["qos"] == 0
    assert said["replications"] == 2
    assert said["scenario"]["seed"] == 5
    assert said["services"]["edge"]["engine"] == "onnxruntime"
    assert said["services"]["cloud"]["counts"]["answered"] > 75
    assert said["versions"].keys() >= {"xedge", "python", "torch", "onnxruntime", "paho-mqtt"}
    assert said["host"]["cores"] >= 1
    assert said["switch_interval_s"] < said["timeout_s"] == 5.0
    assert {(trial["placement"], trial["replication"]) for trial in said["trials"]} == trials(taken.measurement).keys()


def test_nothing_is_left_and_nothing_taken_away(taken: Taken, any_broker: Broker, prefix: str) -> None:
    assert taken.children_after == taken.children_before
    assert taken.threads_after == []
    assert taken.switch_interval_after == taken.switch_interval_before
    assert any_broker.is_running
    with Client(any_broker, prefix) as client:
        client.publish(prefix, b"still here")
        client.wait(1)


def test_saved_and_loaded_it_is_the_same(taken: Taken, tmp_path: Path) -> None:
    loaded = Measurement.load(taken.measurement.save(tmp_path / "run"))
    pd.testing.assert_frame_equal(loaded.rows, taken.measurement.rows)
    assert loaded.conditions == taken.measurement.conditions


def test_its_own_broker_ends_with_the_measurement() -> None:
    before = children_of(os.getpid())
    measurement = quick()
    assert counts(measurement).keys() == {"ok"}
    assert measurement.conditions["broker"]["kind"] in {"mosquitto", "embedded", "external"}
    assert children_of(os.getpid()) == before
    assert xedge_threads() == []


def test_embedded_broker_measures_too(prefix: str) -> None:
    with Broker(kind="embedded", name=prefix) as broker:
        measurement = quick(broker)
    assert counts(measurement) == {"ok": len(measurement.rows)}
    assert measurement.conditions["broker"]["kind"] == "embedded"


@pytest.mark.long
def test_seed_decides_schedule_contents_and_loss(any_broker: Broker) -> None:
    lossy = {"timeout_s": 3.0, "placements": {"edge": Edge(uplink=Link(loss=0.3))}}
    measurement = quick(any_broker, seed=1, **lossy)
    first, again = measurement.rows, quick(any_broker, seed=1, calibration=measurement, **lossy).rows
    assert first["due_ns"].tolist() == again["due_ns"].tolist()
    np.testing.assert_allclose(first["prediction"], again["prediction"], atol=1e-6)
    assert first["status"].tolist() == again["status"].tolist()
    assert set(first["status"]) >= {"ok", "lost"}


def test_requests_on_a_lossy_link_are_lost(any_broker: Broker) -> None:
    measurement = quick(
        any_broker, workload=Constant(rate_hz=300, duration_s=1), timeout_s=1.0,
        placements={"edge": Edge(link=Link(loss=0.3))},
    )  # fmt: skip
    rows, found = measurement.rows, counts(measurement)
    assert len(rows) == 300
    assert found.keys() <= {"ok", "lost", "timeout"}
    assert 75 < found["lost"] < 225
    lost = rows[rows["status"] == "lost"]
    assert not lost["sent_ns"].isna().any()
    assert lost["received_ns"].isna().all()
    assert lost["prediction"].isna().all()
    last_answered = rows.loc[rows["status"] == "ok", "request"].max()
    assert (lost["request"] < last_answered).all()
    assert (rows.loc[rows["status"] == "timeout", "request"] > last_answered).all()
    counted = measurement.conditions["services"]["edge"]["counts"]
    assert counted["lost"] + counted["answered"] == 300
    assert counted["answered"] == found["ok"]


def test_requests_to_a_swamped_service_time_out(any_broker: Broker) -> None:
    measurement = quick(
        any_broker, workload=Constant(rate_hz=100, duration_s=1), timeout_s=0.5,
        placements={"edge": Edge(compute_scale=50_000, max_batch=1)},
    )  # fmt: skip
    found = counts(measurement)
    assert found["timeout"] > 50
    assert found.keys() <= {"ok", "timeout", "lost"}
    assert not measurement.verdict.valid
    assert measurement.rows["warm_up"].sum() == 50


def test_requests_the_engine_fails_on_are_errors(any_broker: Broker, tmp_path: Path) -> None:
    model = write_lookup_model(tmp_path / "lookup.onnx")
    table = tmp_path / "inputs.csv"
    table.write_text("x\n0\n3\n99\n1\n")
    measurement = quick(
        any_broker, model=str(model), source=CsvReplay(path=str(table)), workload=Constant(rate_hz=100, duration_s=0.4)
    )
    rows = measurement.rows
    assert rows["status"].tolist() == ["ok", "ok", "error", "ok"] * 10
    assert rows["prediction"].dropna().tolist() == [0.5, 3.5, 1.5] * 10
    failed = rows[rows["status"] == "error"]
    assert failed["error"].str.startswith("engine: ").all()
    assert failed["prediction"].isna().all()
    assert not failed["received_ns"].isna().any()
    assert measurement.conditions["services"]["edge"]["refused"] == {"engine": 10}


def test_requests_while_the_broker_is_away_are_not_sent(prefix: str) -> None:
    own = Broker(name=prefix)
    with own, Client(own, results_of(prefix), without=DEVICE) as listener:

        def stop_the_broker() -> None:
            try:
                listener.wait(20)
            finally:
                own.stop()

        stopper = threading.Thread(target=stop_the_broker)
        stopper.start()
        measurement = quick(own, topic_prefix=prefix, workload=Constant(rate_hz=100, duration_s=1.5), timeout_s=3.0)
        stopper.join()
    rows = measurement.rows
    assert len(rows) == 150
    assert (rows["status"][:10] == "ok").all()
    assert rows["status"].iloc[-1] == "not_sent"
    away = rows[rows["status"] == "not_sent"]
    assert away["sent_ns"].isna().all()
    assert away["received_ns"].isna().all()
    assert not measurement.verdict.valid
    assert xedge_threads() == []


def test_waveforms_in_messagepack(any_broker: Broker) -> None:
    measurement = quick(
        any_broker, model="vibration_cnn", encoding="msgpack", workload=Poisson(rate_hz=50, duration_s=0.5),
        placements={"edge": Edge(), "cloud": Cloud(link=Link())},
    )  # fmt: skip
    rows = measurement.rows
    assert counts(measurement) == {"ok": len(rows)}
    assert rows["payload_bytes"].between(4096, 4300).all()
    of = trials(measurement)
    np.testing.assert_allclose(of["edge", 0]["prediction"], of["cloud", 0]["prediction"], atol=1e-5)


def test_replay_of_a_csv_sends_its_rows_in_order(any_broker: Broker, tmp_path: Path) -> None:
    inputs = reference_inputs("anomaly_detector", 3, 8)
    table = tmp_path / "inputs.csv"
    pd.DataFrame(inputs).to_csv(table, index=False)
    measurement = quick(
        any_broker, source=CsvReplay(path=str(table)), workload=Trace(due_s=[0.0, 0.01, 0.02, 0.1, 0.2, 0.3, 0.31])
    )
    expected = [xedge.EdgeMLService("anomaly_detector").run_inference(row).prediction for row in inputs]
    assert measurement.rows["prediction"].tolist() == pytest.approx((expected * 3)[:7], abs=1e-5)
    assert measurement.rows["due_ns"].tolist()[3:5] == [100_000_000, 200_000_000]


def test_noise_fits_every_model(any_broker: Broker) -> None:
    measurement = quick(any_broker, source=Noise())
    assert counts(measurement) == {"ok": len(measurement.rows)}


@pytest.mark.parametrize("own_broker", [True, False])
def test_source_that_does_not_fit_the_model(any_broker: Broker, tmp_path: Path, own_broker: bool) -> None:
    before, interval = children_of(os.getpid()), sys.getswitchinterval()
    model = write_lookup_model(tmp_path / "lookup.onnx")
    with pytest.raises(ConfigurationError, match="give a file, as source="):
        quick(None if own_broker else any_broker, model=str(model), workload=Trace(due_s=[0.0, 0.1]))
    assert children_of(os.getpid()) == before
    assert sys.getswitchinterval() == interval
    assert xedge_threads() == []
    assert any_broker.is_running


def test_csv_that_does_not_fit_the_model(any_broker: Broker, tmp_path: Path) -> None:
    table = tmp_path / "inputs.csv"
    table.write_text("a,b\n1,2\n")
    with pytest.raises(ConfigurationError, match="2 values; the model takes"):
        quick(any_broker, source=CsvReplay(path=str(table)), workload=Trace(due_s=[0.0, 0.1]))


@pytest.mark.parametrize("replications", [0, -1])
def test_replications_that_cannot_be_meant(any_broker: Broker, replications: int) -> None:
    with pytest.raises(ConfigurationError, match="replications"):
        quick(any_broker, replications)


def test_workload_in_which_nothing_is_due(any_broker: Broker) -> None:
    with pytest.raises(ConfigurationError, match="make the workload longer"):
        quick(any_broker, workload=Poisson(rate_hz=0.001, duration_s=0.001))


def test_model_that_is_not_there(any_broker: Broker) -> None:
    with pytest.raises(ModelNotFoundError, match="no_such_model"):
        quick(any_broker, model="no_such_model", workload=Trace(due_s=[0.0, 0.1]))


def test_broker_that_is_not_there(prefix: str) -> None:
    port = _free_port()
    with pytest.raises(BrokerError, match=str(port)):
        quick(Broker(f"mqtt://127.0.0.1:{port}", name=prefix))
    assert xedge_threads() == []


def test_broker_passed_in_ends_with_its_own_block(prefix: str) -> None:
    broker = Broker(name=prefix)
    try:
        with broker:
            quick(broker, workload=Trace(due_s=[0.0, 0.1]))
            assert broker.is_running
        assert not broker.is_running
    finally:
        broker.stop()


def test_a_live_service_of_the_same_broker_is_left_running(any_broker: Broker) -> None:
    prefix = unique_prefix()
    with xedge.EdgeMLService("anomaly_detector", any_broker.host, any_broker.port, topic_prefix=prefix) as mine:
        measurement = quick(any_broker, workload=Trace(due_s=[0.0, 0.1]), topic_prefix=prefix)
        assert counts(measurement) == {"ok": 2}
        assert mine.counts["received"] == 0
        assert mine.is_running
        with Device(any_broker, prefix) as device:
            assert device.ask([0.0] * 32)["timestamp_us"] == 1


@pytest.mark.long
def test_calibration_is_taken_over_and_only_from_its_like(taken: Taken, any_broker: Broker) -> None:
    placements = {"edge": Edge(), "cloud": Cloud(link=Link(delay_ms=10))}
    told = Scenario(model="anomaly_detector", workload=SHORT, placements=placements)
    again = told.measure(1, progress=False, broker=any_broker, calibration=taken.measurement)
    for key in ("noise_floor", "link_check"):
        assert again.conditions[key] == taken.measurement.conditions[key]
    assert again.conditions["calibrated_at"] == taken.measurement.conditions["started_at"]
    with Broker(kind="embedded", name="another") as other, pytest.raises(ConfigurationError, match="another kind"):
        told.measure(1, progress=False, broker=other, calibration=taken.measurement)
    further = Scenario(model="anomaly_detector", workload=SHORT, placements={"cloud": Cloud()})
    with pytest.raises(ConfigurationError, match="links of cloud"):
        further.measure(1, progress=False, broker=any_broker, calibration=taken.measurement)
    sure = Scenario(model="anomaly_detector", workload=SHORT, placements=placements, qos=1)
    with pytest.raises(ConfigurationError, match="QoS 0, not 1"):
        sure.measure(1, progress=False, broker=any_broker, calibration=taken.measurement)
    before = {**again.conditions, "started_at": "later than its calibration"}
    third = told.measure(1, progress=False, broker=any_broker, calibration=Measurement(again.rows, before))
    assert third.conditions["calibrated_at"] == taken.measurement.conditions["started_at"]
