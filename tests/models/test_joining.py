"""An .onnx file of several inputs answers the same with their elements side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from xedge.core.exceptions import ConfigurationError, ModelError, ParityError
from xedge.models.engines import OnnxEngine
from xedge.models.export import export
from xedge.models.reference import read_card

RNG = np.random.default_rng(4)
IMAGES = RNG.normal(size=(5, 2, 3)).astype(np.float32)
WORDS = RNG.integers(0, 1000, (5, 4))


def write(path: Path, kind: int = TensorProto.INT64, opset: int = 17, batch: int | str = "n") -> Path:
    """Write a model by hand that adds the mean of an image to the rest of each word after division by seven."""
    inputs = [
        helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 2, "width"]),
        helper.make_tensor_value_info("words", kind, [batch, 4]),
    ]
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("ReduceMean", ["flat"], ["mean"], axes=[1]),
        helper.make_node("Mod", ["words", "seven"], ["rest"]),
        helper.make_node("Cast", ["rest"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["numbers", "mean"], ["answer"]),
    ]
    outputs = [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [batch, 4])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(np.array(7), "seven")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


def test_rows_of_all_inputs_get_the_answers_of_the_file(tmp_path: Path) -> None:
    source = write(tmp_path / "two.onnx")
    with pytest.raises(ModelError, match=r'takes 2 inputs, image: .*xedge.export\("two.onnx", \(first, second\)'):
        OnnxEngine(source)
    files = export(source, (IMAGES, WORDS), "joined", models_dir=tmp_path / "models")
    engine, card = OnnxEngine(files.onnx), read_card(files.card)
    assert (engine.input_shape, engine.input_dtype) == ((10,), np.float32)
    assert card.facts["made_of"] == "two.onnx"
    rows = np.concatenate([IMAGES.reshape(5, -1), WORDS], axis=1, dtype=np.float32)
    expected = WORDS % 7 + IMAGES.reshape(5, -1).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(engine.predict(rows), expected, rtol=1e-6)
    np.testing.assert_allclose(engine.predict(rows[2:3]), expected[2:3], rtol=1e-6)


def test_a_file_for_batches_of_one_stays_one(tmp_path: Path) -> None:
    files = export(write(tmp_path / "two.onnx", batch=1), (IMAGES, WORDS), "joined", models_dir=tmp_path)
    rows = np.concatenate([IMAGES.reshape(5, -1), WORDS], axis=1, dtype=np.float32)
    assert OnnxEngine(files.onnx).predict(rows).shape == (5, 4)


@pytest.mark.parametrize(
    ("examples", "error", "says"),
    [
        ((IMAGES,), ConfigurationError, "takes image, words: give one example of each, in this order, not 1"),
        ((IMAGES, WORDS[:3]), ConfigurationError, r"\(5, 2, 3\) and \(3, 4\): give as many rows of each"),
        ((IMAGES[:, :1], WORDS), ModelError, "fails on the examples"),
        ((IMAGES, WORDS + 2**24), ParityError, "whole numbers beyond"),
    ],
)
def test_what_cannot_be_joined_is_said(tmp_path: Path, examples: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        export(write(tmp_path / "two.onnx"), examples, "joined", models_dir=tmp_path / "models")
    assert not list((tmp_path / "models").glob("joined*"))


def test_text_and_old_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"takes text beside other inputs \(image, words\)"):
        export(write(tmp_path / "a.onnx", TensorProto.STRING), (IMAGES, WORDS), "joined", models_dir=tmp_path)
    with pytest.raises(ModelError, match="is of opset 9: export it again with 10 or newer"):
        export(write(tmp_path / "b.onnx", opset=9), (IMAGES, WORDS), "joined", models_dir=tmp_path)
