"""Versions of text models for tests: whole folders that load and answer, made without training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from xedge.core.files import file_sha256, sealed
from xedge.models.engines import OnnxEngine
from xedge.text.features import BUCKETS, FEATURE_SPEC, encode_batch
from xedge.text.labels import TASKS
from xedge.text.model import FILES


def write_text_version(folder: Path, task: str = "topic", seed: int = 0) -> Path:
    """Write a version of a text model as a plain folder, untrained: other answers for every `seed`, in an instant."""
    labels, rng = TASKS[task], np.random.default_rng(seed)
    table = rng.normal(size=(BUCKETS, len(labels))).astype(np.float32) / 8
    table[0] = 0  # padding counts for nothing
    given = helper.make_tensor_value_info("features", TensorProto.INT32, ["n", "length"])
    made = helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n", len(labels)])
    nodes = [
        helper.make_node("Gather", ["table", "features"], ["rows"]),
        helper.make_node("ReduceSum", ["rows", "axis"], ["scores"], keepdims=0),
        helper.make_node("Softmax", ["scores"], ["probability"], axis=1),
    ]
    constants = [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([1]), "axis")]
    graph = helper.make_graph(nodes, "g", [given], [made], constants)
    folder.mkdir(parents=True)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx"
    )
    texts = ["The council votes.", "A late goal wins the cup."]
    answers = OnnxEngine(folder / "model.onnx").predict(encode_batch(texts))
    facts = {
        "labels.json": {"task": task, "labels": labels, "feature_spec": FEATURE_SPEC},
        "golden.json": {"texts": texts, "probabilities": answers.tolist()},
    }
    (folder / "model.pt").write_bytes(b"no weights for PyTorch")
    for name, value in facts.items():
        (folder / name).write_text(json.dumps(value))
    sums = {name: file_sha256(folder / name) for name in FILES[:-1]}
    card = {"task": task, "held_out": {"accuracy": 0.5 + seed / 100}, "sha256": sums}
    (folder / "card.json").write_text(json.dumps(sealed(card)))
    return folder
