"""Accuracy in a measurement: exactly that of the same rows offline, whatever the tier, encoding and source."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import unique_prefix

import xedge
from xedge import Cloud, Device, Edge, External, Link, Measurement, Noise, Poisson
from xedge.core.exceptions import ConfigurationError
from xedge.models.engines import OnnxEngine
from xedge.models.reference import reference_inputs
from xedge.models.training import roc_auc
from xedge.scenario import vibration
from xedge.scenario.scenario import Replication
from xedge.serving.broker import Broker

pytestmark = pytest.mark.usefixtures("models")
SHORT = Poisson(rate_hz=150, duration_s=1)


def measure(broker: Broker | None, placements: dict[str, Any], replications: int = 1, **changes: Any) -> Measurement:
    calibration = changes.pop("calibration", None)
    given = {"model": "anomaly_detector", "workload": SHORT, "topic_prefix": unique_prefix()} | changes
    return xedge.Scenario(placements=placements, **given).measure(
        replications, progress=False, broker=broker, calibration=calibration
    )


@pytest.fixture(scope="module")
def taken(models: Path, any_broker: Broker) -> Measurement:
    """Both models, near and far, of the same windows; the large one takes them raw, the small one features."""
    placements = {
        "device": Device(),
        "edge": Edge(),
        "cloud": Cloud(model="vibration_cnn", link=Link(delay_ms=1)),
    }
    return measure(any_broker, placements, 2, encoding="msgpack", seed=3)


def offline(measurement: Measurement, placement: str, model: str) -> tuple[list[bool], np.ndarray[Any, Any]]:
    """Of every answered request whether the engine, asked directly, is right, and its score."""
    scenario, engine = xedge.Scenario.from_dict(measurement.conditions["scenario"]), OnnxEngine(model)
    right, scores = [], []
    for number, trial in measurement.evidence[placement].judged.groupby("replication"):
        of = Replication.of(scenario, int(number))
        inputs, labels = of.inputs(scenario, engine.spec), of.labels(scenario, engine.spec)
        assert labels is not None
        for k in trial["request"]:
            scores.append(float(engine.predict(inputs[k : k + 1])[0, 0]))
            right.append(str(int(scores[-1] > 0.5)) == labels[k])
    return right, np.array(scores)


@pytest.mark.parametrize(
    ("placement", "model"), [("device", "anomaly_detector"), ("edge", "anomaly_detector"), ("cloud", "vibration_cnn")]
)
def test_accuracy_is_exactly_that_of_the_same_rows_offline(taken: Measurement, placement: str, model: str) -> None:
    right, scores = offline(taken, placement, model)
    summary = taken.summary().set_index("placement").loc[placement]
    assert summary["accuracy"] == np.mean(right)
    assert taken.evidence[placement].judged["right"].tolist() == right
    truth = (taken.evidence[placement].judged["label"] == "1").to_numpy(int)
    assert summary["roc_auc"] == pytest.approx(roc_auc(truth, scores), abs=1e-6)
    assert 0.6 < summary["accuracy_low"] < summary["accuracy"] < summary["accuracy_high"] <= 1


def test_all_models_were_asked_about_the_same_windows(taken: Measurement) -> None:
    rows = taken.rows.sort_values(["replication", "request"])
    labels = [rows[rows["placement"] == name]["label"].tolist() for name in taken.placements]
    assert labels[0] == labels[1] == labels[2]
    assert set(labels[0]) == {"0", "1"}
    assert not rows[["label", "answer", "content"]].isna().any().any()
    assert rows[rows["placement"] == "cloud"]["content"].nunique() == len(rows) / 3
    gap = taken.compare("edge", "cloud").accuracy
    assert gap is not None
    assert 100 < gap.n <= min(len(taken.evidence[name].judged) for name in ("edge", "cloud"))


def test_each_placement_served_its_own_model(taken: Measurement) -> None:
    services = taken.conditions["services"]
    assert services["edge"]["file"] == services["device"]["file"] == "anomaly_detector.onnx"
    assert services["cloud"]["file"] == "vibration_cnn.pt"
    assert services["cloud"]["threshold"] == 0.5
    assert services["cloud"]["positive"] == "1"
    assert (taken.rows.groupby("placement")["payload_bytes"].max() > [4000, -1, 100]).all()


def test_a_column_of_labels_and_a_card_s_names_and_threshold(any_broker: Broker, models: Path, tmp_path: Path) -> None:
    shutil.copy(models / "anomaly_detector.onnx", tmp_path / "net.onnx")
    (tmp_path / "net.json").write_text(json.dumps({"threshold": 0.3, "labels": ["healthy", "damaged"]}))
    inputs = reference_inputs("anomaly_detector", 40, 8)
    truth = np.where(vibration.windows(40, 8)[1] == 1, "damaged", "healthy")
    pd.DataFrame(inputs).assign(state=truth).to_csv(tmp_path / "rows.csv", index=False)
    measurement = measure(
        any_broker, {"edge": Edge()}, model=str(tmp_path / "net.onnx"), source=f"{tmp_path / 'rows.csv'}#label=state"
    )
    judged = measurement.evidence["edge"].judged
    assert (judged["answer"] == np.where(judged["prediction"] > 0.3, "damaged", "healthy")).all()
    assert judged["content"].nunique() == 40
    share = measurement.evidence["edge"].accuracy
    assert share is not None
    assert re.search("(39|40) distinct inputs' worth", share.method)  # the last of them are asked once less


def test_labels_that_the_model_never_answers(any_broker: Broker) -> None:
    inputs = reference_inputs("anomaly_detector", 4, 8)
    with pytest.raises(ConfigurationError, match=r"labels bad or good, the model answers 0 or 1. Which class is bad\?"):
        measure(any_broker, {"edge": Edge()}, source=(inputs, ["good", "bad", "good", "bad"]))


@pytest.mark.parametrize("placement", [Edge(), Device(), Cloud(link=Link())])
def test_a_threshold_outside_the_scores(any_broker: Broker, models: Path, tmp_path: Path, placement: Any) -> None:
    shutil.copy(models / "anomaly_detector.onnx", tmp_path / "net.onnx")
    (tmp_path / "net.json").write_text(json.dumps({"threshold": 5, "input_made_by": "bearing_features"}))
    with pytest.raises(ConfigurationError, match="here: the threshold 5 lies outside of the model's scores, 0"):
        measure(any_broker, {"here": placement}, model=str(tmp_path / "net.onnx"))


def test_a_label_that_is_missing_is_an_error_before_anything_is_measured(any_broker: Broker, tmp_path: Path) -> None:
    inputs = reference_inputs("anomaly_detector", 3, 8)
    pd.DataFrame(inputs).assign(y=[1, None, 0]).to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(ConfigurationError, match=r"rows\.csv, column y, data row 2: the label is missing"):
        measure(any_broker, {"edge": Edge()}, source=f"{tmp_path / 'rows.csv'}#label=y")


@pytest.mark.long
def test_without_labels_it_is_absent(any_broker: Broker, models: Path, tmp_path: Path) -> None:
    shutil.copy(models / "anomaly_detector.onnx", tmp_path / "mine.onnx")  # no card: nobody says that it knows bearings
    mine = measure(any_broker, {"edge": Edge(model=str(tmp_path / "mine.onnx"))})
    noise = measure(any_broker, {"edge": Edge()}, source=Noise(), calibration=mine)
    for measurement in (mine, noise):
        assert "label" not in measurement.rows
        assert "accuracy" not in measurement.summary()


def test_an_external_service_is_judged_by_the_scenario_s_model(any_broker: Broker, prefix: str) -> None:
    with xedge.EdgeMLService("anomaly_detector", any_broker.host, any_broker.port, topic_prefix=prefix):
        measurement = measure(any_broker, {"there": External(topic_prefix=prefix)})
    right, _ = offline(measurement, "there", "anomaly_detector")
    assert measurement.summary()["accuracy"][0] == np.mean(right)
