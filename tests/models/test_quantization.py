"""A model in eight bits: as right as before, smaller, its card beside the original's; and what cannot be quantised."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from helpers import write_lookup_model
from torch import nn

import xedge
from xedge.core import machine, paths
from xedge.core.exceptions import ConfigurationError, ModelError, ParityError
from xedge.core.files import file_sha256, sealed
from xedge.models.engines import OnnxEngine
from xedge.models.listing import list_models
from xedge.models.lookup import cloud_file
from xedge.models.quantization import Quantized
from xedge.models.reference import build, reference_inputs
from xedge.scenario import vibration


@pytest.fixture(scope="module")
def smaller(models: Path) -> Quantized:
    return xedge.quantize("vibration_cnn")


def test_it_lies_beside_the_original_and_is_served_by_its_name(smaller: Quantized, models: Path) -> None:
    assert (smaller.name, smaller.onnx) == ("vibration_cnn.int8", models / "vibration_cnn.int8.onnx")
    assert smaller.card.is_intact()
    assert cloud_file("vibration_cnn.int8") == smaller.onnx
    engine = OnnxEngine("vibration_cnn.int8")
    assert engine.predict(reference_inputs("vibration_cnn", 3, 1)).shape == (3, 1)  # the batch stays free
    assert "vibration_cnn.int8" in [each.name for each in list_models()]
    operations = {node.op_type for node in onnx.load(smaller.onnx).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operations


def test_its_card_holds_both_side_by_side(smaller: Quantized, models: Path) -> None:
    facts, original = smaller.card.facts, json.loads((models / "vibration_cnn.json").read_text())
    before, after = facts["original"], facts["quantized"]
    assert before["bytes"] == (models / "vibration_cnn.onnx").stat().st_size > 3 * after["bytes"]
    assert after["bytes"] == smaller.onnx.stat().st_size
    assert before["metrics"]["accuracy"] == pytest.approx(original["metrics"]["accuracy"], abs=0.002)
    assert abs(before["metrics"]["accuracy"] - after["metrics"]["accuracy"]) < 0.01  # within one point
    assert abs(before["metrics"]["roc_auc"] - after["metrics"]["roc_auc"]) < 0.01
    assert 0 < facts["parity"]["max_abs_difference"] < 0.3
    assert min(before["inference_ms"], after["inference_ms"]) > 0
    assert after["cpu"] == machine.host()["cpu"]
    assert (facts["origin"], facts["threshold"], facts["input_shape"]) == ("quantized", 0.5, [1024])
    assert before["sha256"] == file_sha256(models / "vibration_cnn.onnx")
    table = smaller._repr_html_()
    assert all(word in table for word in ("vibration_cnn.int8", "accuracy, %", "one inference here, ms"))
    assert "vibration_cnn.int8" in repr(smaller)


def test_its_answers_are_those_of_the_original_almost_everywhere(smaller: Quantized) -> None:
    inputs = vibration.windows(300, 4711)[0]
    large, small = (OnnxEngine(name).predict(inputs) for name in ("vibration_cnn", "vibration_cnn.int8"))
    assert np.mean((large > 0.5) != (small > 0.5)) < 0.05
    assert np.abs(large - small).mean() < 0.05


def test_once_more_replaces_it_but_not_a_model_of_another_origin(smaller: Quantized) -> None:
    own = paths.models_dir() / "precious.onnx"
    own.write_bytes(smaller.onnx.read_bytes())
    try:
        with pytest.raises(ConfigurationError, match=r"precious\.onnx is there: give another name="):
            xedge.quantize("vibration_cnn", name="precious")
        with pytest.raises(ConfigurationError, match="give another name"):
            xedge.quantize("vibration_cnn", name="vibration_cnn", overwrite=True)
    finally:
        own.unlink()


@pytest.mark.long
def test_a_model_of_one_s_own_with_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(400, 8)).astype(np.float32)
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1), nn.Sigmoid()).eval()
    scores = net(torch.from_numpy(inputs)).detach().numpy()[:, 0]
    meaning = {"threshold": float(np.median(scores)), "labels": ["low", "high"]}
    files = xedge.export(net, inputs[:16], "mine", models_dir=tmp_path, card=meaning)
    truth = np.where(scores > np.median(scores), "high", "low")
    with caplog.at_level(logging.WARNING):
        made = xedge.quantize(str(files.onnx), calibrate=(inputs, truth), tolerance=0.2)
    assert made.card.facts["quantized"]["calibrated_on"] == 300
    assert made.card.facts["quantized"]["held_out"] == 100
    assert made.card.facts["original"]["metrics"] == {"accuracy": 1.0, "roc_auc": 1.0}
    assert made.card.metrics["accuracy"] > 0.8
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]  # its tools advise the root
    with pytest.raises(ParityError, match="get another label in eight bits, over 0 %; nothing was written"):
        xedge.quantize(str(files.onnx), calibrate=inputs * 50, held_out=inputs, tolerance=0.0, name="other")
    assert not (tmp_path / "other.onnx").exists()


def test_what_cannot_be_quantised(tmp_path: Path, models: Path) -> None:
    with pytest.raises(ModelError, match="takes int64: models that take floating-point numbers are quantised"):
        xedge.quantize(str(write_lookup_model(tmp_path / "lookup.onnx")), calibrate=np.zeros((4, 1)))
    copied = tmp_path / "net.onnx"
    copied.write_bytes((models / "anomaly_detector.onnx").read_bytes())
    with pytest.raises(ConfigurationError, match="give calibrate=, a few hundred inputs"):
        xedge.quantize(str(copied))
    with pytest.raises(ConfigurationError, match="3 values; the model takes"):
        xedge.quantize(str(copied), calibrate=np.zeros((4, 3)))


def test_an_older_card_of_a_reference_model_learns_what_its_answers_mean(models: Path, tmp_path: Path) -> None:
    for name in ("anomaly_detector", "vibration_cnn"):
        for suffix in (".onnx", ".pt", ".json"):
            (tmp_path / f"{name}{suffix}").write_bytes((models / f"{name}{suffix}").read_bytes())
    file = tmp_path / "anomaly_detector.json"
    facts = json.loads(file.read_text())
    for word in ("threshold", "input_made_by", "card_sha256"):  # before there were any of them
        facts.pop(word, None)
    file.write_text(json.dumps(facts))
    card = build("anomaly_detector", models_dir=tmp_path, quick=True)[0]
    if card.facts["created_utc"] == facts["created_utc"]:  # of the present code: not made again
        learnt = {"threshold": 0.5, "input_made_by": "bearing_features"}
        assert card.facts == sealed(facts | learnt)
    assert card.facts["input_made_by"] == json.loads(file.read_text())["input_made_by"] == "bearing_features"
