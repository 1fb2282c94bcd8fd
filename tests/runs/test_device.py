"""The device tier: answers where the data is, with nothing sent; rows, queueing and errors as everywhere."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import children_of, unique_prefix, wait_until, write_lookup_model, xedge_threads

import xedge
from xedge import Constant, CsvReplay, Deterministic, Device, Edge, Measurement, Poisson, Trace
from xedge.core.exceptions import ConfigurationError, MeasurementError, ModelNotFoundError
from xedge.models.engines import OnnxEngine
from xedge.results.rows import STAMPS
from xedge.scenario.scenario import Replication
from xedge.serving.broker import Broker

pytestmark = pytest.mark.usefixtures("models")
MS = 1_000_000
NOWHERE = "mqtt://127.0.0.1:9"  # the port "discard": nothing listens


def on_device(device: Device, workload: Any, replications: int = 1, **scenario: Any) -> Measurement:
    """Measure one device, with no broker that could be reached."""
    scenario = {"model": "anomaly_detector"} | scenario
    given = xedge.Scenario(workload=workload, placements={"device": device}, **scenario)
    return given.measure(replications, strict=False, progress=False, broker=Broker(NOWHERE))  # on a busy machine too


@pytest.fixture(scope="module")
def alone() -> Measurement:
    return on_device(Device(), Poisson(rate_hz=200, duration_s=1), 2)


def test_devices_alone_need_no_broker_and_leave_nothing(alone: Measurement) -> None:
    assert (alone.rows["status"] == "ok").all()
    assert alone.conditions["broker"] == alone.conditions["noise_floor"] == alone.conditions["link_check"] == {}
    assert xedge_threads() == []
    assert "half of the requests answered within" in str(alone.answer())
    assert "broker" not in repr(alone)


def test_nothing_is_sent_so_the_time_is_lateness_queueing_and_inference(alone: Measurement) -> None:
    rows = alone.rows
    assert not rows[[*STAMPS, "prediction"]].isna().any().any()
    assert (rows["payload_bytes"] == 0).all()
    assert (rows["sent_ns"] >= rows["due_ns"]).all()
    assert (rows["sent_ns"] == rows["arrived_ns"]).all()
    assert (rows["arrived_ns"] <= rows["started_ns"]).all()
    assert (rows["started_ns"] < rows["finished_ns"]).all()
    assert (rows["finished_ns"] == rows["received_ns"]).all()
    parts = alone.breakdown().set_index("part")["mean_ms"]
    assert (parts[["broker in", "uplink", "downlink", "broker out"]] == 0).all()


def test_one_engine_takes_one_request_at_a_time(alone: Measurement) -> None:
    for _, trial in alone.rows.groupby("replication"):
        assert (trial["started_ns"].to_numpy()[1:] >= trial["finished_ns"].to_numpy()[:-1]).all()


def test_it_answers_what_the_engine_answers(alone: Measurement) -> None:
    scenario = xedge.Scenario.from_dict(alone.conditions["scenario"])
    engine = OnnxEngine("anomaly_detector")
    for number, trial in alone.rows.groupby("replication"):
        inputs = Replication.of(scenario, int(number)).inputs(scenario, engine.spec)
        expected = [float(engine.predict(inputs[k : k + 1])[0, 0]) for k in range(len(inputs))]
        assert trial["prediction"].tolist() == expected


def test_its_resources_are_recorded(alone: Measurement) -> None:
    facts = alone.conditions["services"]["device"]
    assert 0 < facts["cpu_ms"] < 1000
    assert 10 < facts["memory_mb"] < 10_000
    assert alone.summary().loc[0, ["cpu_ms", "memory_mb"]].tolist() == [facts["cpu_ms"], facts["memory_mb"]]
    assert facts["counts"] == {"received": len(alone.rows), "answered": len(alone.rows), "batches": len(alone.rows)}


def test_queueing_is_exact_whenever_the_process_looks(models: Path) -> None:
    """Eight requests at once at 20 ms each, then one that falls due while they are worked on."""
    workload = Trace(due_s=[0.0] * 8 + [0.1])
    rows = on_device(Device(service_time=Deterministic(mean_ms=20)), workload).rows
    started, arrived = rows["started_ns"].to_numpy(), rows["arrived_ns"].to_numpy()
    assert started[0] == arrived[0]
    assert (np.diff(started) == 20 * MS).all()
    assert arrived[8] == rows["due_ns"][8]  # the engine was busy: it waited from then on, nobody was late
    assert (rows["finished_ns"].to_numpy() - started >= 20 * MS).all()


def test_slower_hardware_takes_as_many_times_as_long() -> None:
    rows = on_device(Device(compute_scale=200), Constant(rate_hz=20, duration_s=0.5)).rows
    took = (rows["finished_ns"] - rows["started_ns"]).dropna().to_numpy()
    assert took.size
    assert (took > MS).all()  # the model itself takes over 5 µs of the processor


def test_one_that_cannot_keep_up_is_saturated_and_what_is_left_times_out() -> None:
    workload, slow = Constant(rate_hz=200, duration_s=1), Device(service_time=Deterministic(mean_ms=10))
    measurement = on_device(slow, workload, timeout_s=0.6)
    assert measurement.verdict.word == "SATURATED"
    assert set(measurement.rows["status"]) == {"ok", "timeout"}
    late = measurement.rows["status"] == "timeout"
    assert measurement.rows[late]["error"].isin(["no answer within the time-out", "answered after the time-out"]).all()
    counts = measurement.conditions["services"]["device"]["counts"]
    assert counts["received"] == 200 == counts["answered"] + counts["unanswered"]
    assert str(measurement.answer()).startswith("Device does not keep up with")


def test_beside_an_edge_it_has_the_same_schedule_and_contents(any_broker: Broker) -> None:
    scenario = xedge.Scenario(
        model="anomaly_detector",
        workload=Poisson(rate_hz=100, duration_s=0.5),
        placements={"device": Device(), "edge": Edge()},
        topic_prefix=unique_prefix(),
    )
    measurement = scenario.measure(1, progress=False, broker=any_broker)
    device, edge = (measurement.rows[measurement.rows["placement"] == name] for name in ("device", "edge"))
    assert device["due_ns"].tolist() == edge["due_ns"].tolist()
    np.testing.assert_allclose(device["prediction"], edge["prediction"], atol=1e-6)
    assert edge["payload_bytes"].min() > 100
    assert measurement.conditions["noise_floor"]["p50_ms"] > 0
    floor = [doubt for doubt in measurement.checks() if "noise floor" in doubt.text]
    assert all(doubt.placement != "device" for doubt in floor)  # it is no broker's
    assert "cannot be compared" not in str(measurement.compare("device", "edge")).split("p50")[1].split(";")[0]


def test_requests_the_engine_fails_on_are_errors(tmp_path: Path) -> None:
    model, table = write_lookup_model(tmp_path / "lookup.onnx"), tmp_path / "inputs.csv"
    table.write_text("x\n0\n3\n99\n1\n")
    workload, source = Constant(rate_hz=100, duration_s=0.4), CsvReplay(path=str(table))
    measurement = on_device(Device(), workload, model=str(model), source=source)
    assert measurement.rows["status"].tolist() == ["ok", "ok", "error", "ok"] * 10
    assert measurement.rows["error"].dropna().str.startswith("engine: ").all()
    assert measurement.conditions["services"]["device"]["refused"] == {"engine": 10}


def test_a_model_that_is_not_there_is_said_before_anything_is_measured() -> None:
    with pytest.raises(ModelNotFoundError, match="no_such_model"):
        on_device(Device(model="no_such_model"), Trace(due_s=[0.0]))


def test_a_sensor_that_is_killed_is_said() -> None:
    before = children_of(os.getpid())

    def kill() -> None:
        pids = wait_until(lambda: children_of(os.getpid()) - before, "a sensor")
        wait_until(lambda: b"sensor" in Path(f"/proc/{min(pids)}/cmdline").read_bytes(), "its module")
        os.kill(min(pids), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(MeasurementError, match="the sensor's process ended with status -9"):
        on_device(Device(), Constant(rate_hz=10, duration_s=5))
    killer.join()
    assert children_of(os.getpid()) == before


def test_as_yaml() -> None:
    data = {"tier": "device", "model": "small", "compute_scale": 20}
    workload = {"kind": "constant", "rate_hz": 10, "duration_s": 1}
    given = {"model": "large", "workload": workload, "placements": {"device": data}}
    scenario = xedge.Scenario.from_dict(given)
    assert scenario.placements["device"] == Device(model="small", compute_scale=20)
    assert xedge.Scenario.from_dict(scenario.as_dict()) == scenario
    with pytest.raises(ConfigurationError, match="there is no link; it takes model=, compute_scale=, service_time="):
        Device(link=xedge.Link())
    with pytest.raises(ConfigurationError, match="both say how long inference takes"):
        Device(compute_scale=2, service_time=Deterministic(mean_ms=1))
