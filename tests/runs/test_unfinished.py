"""What was measured outlives what ends a measurement: the broker, Ctrl-C, kill -9, a full disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from helpers import Client, unique_prefix, wait_until

import xedge
from xedge import Cloud, Constant, Edge, Measurement, Scenario
from xedge.core.exceptions import BrokerError, ConfigurationError, MeasurementError
from xedge.results.unfinished import Unfinished
from xedge.runs import measured
from xedge.runs.calibration import DEVICE
from xedge.serving.broker import Broker, _free_port

pytestmark = pytest.mark.usefixtures("models")
SCENARIO = Scenario(
    model="anomaly_detector",
    workload=Constant(rate_hz=100, duration_s=0.3),
    placements={"edge": Edge(), "cloud": Cloud()},
    seed=11,
)
TRIALS = [("edge", 0), ("cloud", 0), ("cloud", 1), ("edge", 1), ("edge", 2), ("cloud", 2)]


@pytest.fixture
def kept(tmp_path, monkeypatch, models) -> Path:
    """Where a measurement keeps its trials: a project of its own with the session's models."""
    monkeypatch.setenv("XEDGE_HOME", str(tmp_path))
    (tmp_path / "models").symlink_to(models)
    return tmp_path / "reports" / "unfinished"


def before_trial(monkeypatch, number, happen):
    """Let something happen just before a trial begins."""
    fly, begun = measured.fly, []

    def fly_after(*args):
        if len(begun) == number:
            happen()
        begun.append(1)
        return fly(*args)

    monkeypatch.setattr(measured, "fly", fly_after)


def flown(measurement):
    names = measurement.rows[["placement", "replication"]].drop_duplicates()
    return [(str(placement), int(replication)) for placement, replication in names.itertuples(index=False)]


def interrupted(broker=None):
    return SCENARIO.measure(3, progress=False, broker=broker)


def test_a_broker_that_goes_away_leaves_the_trials_that_had_ended_and_the_rest_can_be_taken(kept, monkeypatch):
    with Broker(name="goes") as broker:
        before_trial(monkeypatch, 3, broker.stop)
        with pytest.raises(BrokerError) as caught:
            interrupted(broker)
    (folder,) = kept.iterdir()
    (note,) = caught.value.__notes__
    assert note.startswith(f"3 of 6 trials had ended and are kept in {folder}: ")

    part = Measurement.load(folder)
    assert flown(part) == TRIALS[:3]
    text = "interrupted: 3 of 6 trials are missing (BrokerError: no MQTT broker answers at"
    assert any(text in str(doubt) for doubt in part.checks())
    assert [trial["placement"] for trial in part.conditions["trials"]] == ["edge", "cloud", "cloud"]

    monkeypatch.undo()
    monkeypatch.setenv("XEDGE_HOME", str(kept.parents[1]))
    whole = SCENARIO.measure(3, progress=False, resume=folder)
    assert flown(whole) == TRIALS
    assert "interrupted" not in whole.conditions
    assert len(whole.conditions["resumed_at"]) == 1
    assert whole.conditions["noise_floor"] == part.conditions["noise_floor"]
    first = whole.rows.iloc[: len(part.rows)]
    assert first.equals(part.rows)  # the very rows that were kept, not new ones
    again = SCENARIO.measure(3, progress=False)
    assert np.array_equal(whole.rows["due_ns"], again.rows["due_ns"])  # the schedule of an uninterrupted one
    assert list(kept.iterdir()) == []


@pytest.mark.long
def test_ctrl_c_in_mid_trial_keeps_the_trials_before(kept, monkeypatch):
    before_trial(monkeypatch, 2, lambda: threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start())
    with pytest.raises(KeyboardInterrupt) as caught:
        interrupted()
    (folder,) = kept.iterdir()
    assert f"2 of 6 trials had ended and are kept in {folder}" in caught.value.__notes__[0]
    assert flown(Measurement.load(folder)) == TRIALS[:2]


@pytest.mark.long
def test_kill_9_keeps_the_trials_before(kept, tmp_path):
    (tmp_path / "scenario.yaml").write_text(SCENARIO.to_yaml())
    command = [sys.executable, "-m", "xedge.cli", "measure", str(tmp_path / "scenario.yaml"), "--replications", "12"]
    with subprocess.Popen(command, env=os.environ | {"XEDGE_HOME": str(tmp_path)}) as process:
        wait_until(lambda: list(kept.glob("*/0001.json")), "two trials have ended")
        process.kill()
    (folder,) = kept.iterdir()
    part = Measurement.load(folder)
    assert flown(part)[:2] == TRIALS[:2]
    assert part.conditions["interrupted"]["reason"] == "it ended without a word"
    command += ["--resume", str(folder), "--out", str(tmp_path / "whole")]
    done = subprocess.run(command, env=os.environ | {"XEDGE_HOME": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode in (0, 3), done.stderr
    whole = Measurement.load(tmp_path / "whole")
    assert len(flown(whole)) == 24
    assert whole.rows.iloc[: len(part.rows)].equals(part.rows)


@pytest.mark.long
def test_the_command_says_where_the_trials_are_when_it_is_interrupted(kept, tmp_path):
    (tmp_path / "scenario.yaml").write_text(SCENARIO.to_yaml())
    command = [sys.executable, "-m", "xedge.cli", "measure", str(tmp_path / "scenario.yaml"), "--replications", "500"]
    with subprocess.Popen(
        command, env=os.environ | {"XEDGE_HOME": str(tmp_path)}, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_until(lambda: list(kept.glob("*/0000.json")), "a trial has ended")
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert f"kept in {next(kept.iterdir())}" in said


@pytest.mark.long
def test_where_trials_cannot_be_written_the_measurement_is_whole_all_the_same(kept, tmp_path, monkeypatch, caplog):
    (tmp_path / "reports").write_text("a file where the folder should be")
    elsewhere = tmp_path / "temporary"
    elsewhere.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    (elsewhere / "xedge-unfinished").write_text("here too")
    assert flown(interrupted()) == TRIALS
    assert "trials that have ended cannot be kept in" in caplog.text


@pytest.mark.long
def test_a_disk_that_fills_up_during_the_measurement_loses_nothing(kept, monkeypatch, caplog):
    def fill():
        (folder,) = kept.iterdir()
        for name in ("0001.parquet", "0001.csv.gz"):
            (folder / name).symlink_to("/dev/full")

    before_trial(monkeypatch, 1, fill)
    assert flown(interrupted()) == TRIALS
    assert "a trial could not be written to" in caplog.text


@pytest.mark.long
def test_nothing_but_the_same_can_be_resumed(kept, monkeypatch, tmp_path):
    before_trial(monkeypatch, 1, lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    (folder,) = kept.iterdir()
    with pytest.raises(MeasurementError, match="rate_hz"):
        xedge.Scenario.from_dict(
            SCENARIO.as_dict() | {"workload": {"kind": "constant", "rate_hz": 50, "duration_s": 0.3}}
        ).measure(3, progress=False, resume=folder)
    with pytest.raises(ConfigurationError, match="seed=11, not 12"):
        xedge.Scenario.from_dict(SCENARIO.as_dict() | {"seed": 12}).measure(3, progress=False, resume=folder)
    with pytest.raises(ConfigurationError, match="replications=3, not 4"):
        SCENARIO.measure(4, progress=False, resume=folder)
    with pytest.raises(MeasurementError, match="no interrupted measurement"):
        SCENARIO.measure(3, progress=False, resume=tmp_path)


def test_one_that_stopped_before_a_trial_had_ended_keeps_nothing(kept, monkeypatch):
    before_trial(monkeypatch, 0, lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt) as caught:
        interrupted()
    assert caught.value.__notes__ == ["0 of 6 trials had ended; nothing is kept"]
    assert list(kept.iterdir()) == []


@pytest.mark.long
def test_a_model_file_that_changes_between_trials_ends_the_measurement(kept):
    plan = {"trials": [{"placement": "edge"}, {"placement": "edge"}]}
    new = Unfinished.begin(plan)
    new.add(0, SCENARIO.measure(1, progress=False).rows, {"sha256": "a"})
    with pytest.raises(MeasurementError, match="no longer the one"):
        new.add(1, Measurement.load(new.folder).rows, {"sha256": "b"})


@pytest.mark.long
def test_what_a_service_counted_in_every_replication_is_kept(kept):
    """A broker that is killed and comes back in replication 0 is said, also when the others went well."""
    prefix = unique_prefix()
    patient = Scenario.from_dict(
        SCENARIO.as_dict() | {"timeout_s": 10, "topic_prefix": prefix, "placements": {"edge": Edge().as_dict()}}
    )
    with (
        Broker(port=_free_port(), name="restarts") as broker,
        Client(broker, f"{prefix}/+/ml/inference/result/+", without=DEVICE) as listener,
    ):

        def restart():
            listener.wait(5)
            broker.stop()
            broker.start()

        restarting = threading.Thread(target=restart)
        restarting.start()
        measurement = patient.measure(2, progress=False, broker=broker)
        restarting.join()
    first, second = measurement.conditions["trials"]
    assert first["counts"]["reconnects"] == 1
    assert first["sender_reconnects"] == 1
    assert second["sender_reconnects"] == 0
    assert measurement.conditions["services"]["edge"]["counts"]["reconnects"] == 1
    assert any("made again in replication 0" in str(doubt) for doubt in measurement.checks())
    assert len(measurement.rows) == 2 * 30  # each scheduled request is a row with a status
