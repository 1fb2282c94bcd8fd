"""Both engines on files that are good, missing, damaged or foreign."""

from __future__ import annotations

import hashlib
import importlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from xedge.core.exceptions import ConfigurationError, ModelError, ModelNotFoundError
from xedge.models import architectures
from xedge.models.architectures import SimpleAnomalyDetector
from xedge.models.engines import Engine, OnnxEngine, TorchEngine
from xedge.models.export import export
from xedge.text.architecture import TextClassifier


def write_onnx(path: Path, shape: list[Any], inputs: int = 1, op: str = "Abs", kind: int = TensorProto.FLOAT) -> Path:
    """Write a model of one node by hand, as another tool than xedge would."""
    given = [helper.make_tensor_value_info(f"x{i}", kind, shape) for i in range(inputs)]
    made = helper.make_tensor_value_info("y", kind, None)
    graph = helper.make_graph([helper.make_node(op, [f"x{i}" for i in range(inputs)], ["y"])], "g", given, [made])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def write_pt(path: Path, **changes: Any) -> Path:
    saved = {
        "architecture": "SimpleAnomalyDetector",
        "init": {},
        "input_shape": [32],
        "input_dtype": "float32",
        "state_dict": SimpleAnomalyDetector().state_dict(),
    }
    torch.save({**saved, **changes}, path)
    return path


@pytest.fixture
def abs_onnx(tmp_path: Path) -> Path:
    return write_onnx(tmp_path / "abs.onnx", ["n", 3])


@pytest.fixture
def detector_pt(tmp_path: Path) -> Path:
    return write_pt(tmp_path / "detector.pt")


def test_onnx_predicts_batches_of_every_size(abs_onnx: Path) -> None:
    engine = OnnxEngine(abs_onnx)
    for n in (1, 2, 7):
        batch = -np.arange(3 * n, dtype=np.float32).reshape(n, 3)
        np.testing.assert_array_equal(engine.predict(batch), -batch)


def test_torch_predicts_what_the_module_computes(tmp_path: Path) -> None:
    torch.manual_seed(1)
    module = SimpleAnomalyDetector().eval()
    engine = TorchEngine(write_pt(tmp_path / "m.pt", state_dict=module.state_dict()))
    batch = np.random.default_rng(0).standard_normal((5, 32)).astype(np.float32)
    with torch.inference_mode():
        expected = module(torch.from_numpy(batch)).numpy()
    found = engine.predict(batch)
    assert isinstance(found, np.ndarray)
    assert found.shape == (5, 1)
    np.testing.assert_array_equal(found, expected)


def test_both_predict_from_read_only_memory(abs_onnx: Path, detector_pt: Path) -> None:
    small = np.frombuffer(np.ones(3, np.float32).tobytes(), np.float32).reshape(1, 3)
    assert OnnxEngine(abs_onnx).predict(small).shape == (1, 3)
    large = np.frombuffer(np.ones(32, np.float32).tobytes(), np.float32).reshape(1, 32)
    assert TorchEngine(detector_pt).predict(large).shape == (1, 1)


def test_both_describe_themselves(abs_onnx: Path, detector_pt: Path) -> None:
    for engine, path, name in (
        (OnnxEngine(abs_onnx, threads=2), abs_onnx, "onnxruntime"),
        (TorchEngine(detector_pt, threads=2), detector_pt, "torch"),
    ):
        told = engine.describe()
        assert (told["engine"], told["threads"], told["device"], told["spinning"]) == (name, 2, "cpu", False)
        assert told["version"] == engine.version
        assert told["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_torch_computes_with_its_own_threads_whatever_was_made_later_or_elsewhere(detector_pt: Path) -> None:
    two, one = TorchEngine(detector_pt, threads=2), TorchEngine(detector_pt, threads=1)
    batch, seen = np.zeros((2, 32), np.float32), []
    for engine in (two, one, two):
        engine.predict(batch)
        seen.append(torch.get_num_threads())
    other = threading.Thread(target=lambda: (one.predict(batch), seen.append(torch.get_num_threads())))
    other.start()
    other.join()
    assert seen == [2, 1, 2, 1]
    assert two.describe()["threads"] == 2
    torch.set_num_threads(1)


def test_onnx_session_does_not_spin_and_uses_the_threads_asked_for(abs_onnx: Path) -> None:
    options = OnnxEngine(abs_onnx, threads=2)._session.get_session_options()
    assert options.intra_op_num_threads == 2
    assert options.inter_op_num_threads == 1
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.get_session_config_entry("session.inter_op.allow_spinning") == "0"
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


@pytest.mark.parametrize(
    ("shape", "expected"), [(["n", 3], (3,)), (["n", 3, 4], (3, 4)), (["n", "length"], (-1,)), (["n"], ())]
)
def test_onnx_input_shape(tmp_path: Path, shape: list[Any], expected: tuple[int, ...]) -> None:
    assert OnnxEngine(write_onnx(tmp_path / "m.onnx", shape)).input_shape == expected


@pytest.mark.parametrize(
    ("kind", "dtype"), [(TensorProto.FLOAT, "float32"), (TensorProto.INT64, "int64"), (TensorProto.DOUBLE, "float64")]
)
def test_onnx_input_dtype(tmp_path: Path, kind: int, dtype: str) -> None:
    assert OnnxEngine(write_onnx(tmp_path / "m.onnx", ["n", 3], kind=kind)).input_dtype == np.dtype(dtype)


def test_onnx_free_length_is_served(tmp_path: Path) -> None:
    engine = OnnxEngine(write_onnx(tmp_path / "m.onnx", ["n", "length"]))
    assert engine.predict(np.ones((2, 9), np.float32)).shape == (2, 9)


@pytest.mark.parametrize("engine", [OnnxEngine, TorchEngine])
def test_missing_file(tmp_path: Path, engine: Callable[..., Engine]) -> None:
    with pytest.raises(ModelNotFoundError, match="nothing"):
        engine(tmp_path / "nothing.onnx")


@pytest.mark.parametrize("content", [b"", b"this is no model", b"\x00" * 100])
@pytest.mark.parametrize(("engine", "suffix"), [(OnnxEngine, ".onnx"), (TorchEngine, ".pt")])
def test_file_of_something_else(tmp_path: Path, engine: Callable[..., Engine], suffix: str, content: bytes) -> None:
    path = tmp_path / f"wrong{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=f"wrong{suffix} is not .*build or export it again") as caught:
        engine(path)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("keep", [0.3, 0.95])
def test_file_cut_short(abs_onnx: Path, detector_pt: Path, keep: float) -> None:
    for engine, path in ((OnnxEngine, abs_onnx), (TorchEngine, detector_pt)):
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * keep)])
        with pytest.raises(ModelError, match=path.name):
            engine(path)


def test_pt_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (os.fspath(tmp_path / "sprung"),)

    torch.save({"architecture": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(ModelError, match=r"trap\.pt"):
        TorchEngine(tmp_path / "trap.pt")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "Unheard"}, "unknown architecture 'Unheard'"),
        ({"architecture": "collections:OrderedDict"}, "in the module 'collections', which no file may have imported"),
        ({"architecture": "torch.nn.no.such.module:Net"}, "cannot be imported"),
        ({"architecture": "torch.nn:NoSuchLayer"}, "cannot be imported"),
        ({"architecture": "torch.nn:Parameter"}, "not a subclass"),
        ({"architecture": 3}, "weights do not fit"),
        ({"init": {"width": 3}}, "cannot be built with the arguments"),
        ({"state_dict": {}}, "weights do not fit"),
        ({"architecture": "torch.nn:Linear", "init": {"in_features": 2, "out_features": 2}}, "weights do not fit"),
    ],
)
def test_pt_that_cannot_be_rebuilt(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        TorchEngine(write_pt(tmp_path / "m.pt", **changes))


NET = """
import os, pathlib
from torch import nn

pathlib.Path(os.environ["NET_IMPORTED"]).touch()


class Net(nn.Module):
    def __init__(self, width=1):
        super().__init__()
        self.linear = nn.Linear(4, width)

    def forward(self, x):
        return self.linear(x)
"""
LOAD = "import sys; from xedge.models.engines import TorchEngine as T; print(T(sys.argv[1]).input_shape)"


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module of the user's own, which leaves `imported` behind when it is."""
    package = tmp_path / "path" / "my_nets"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "net.py").write_text(NET)
    monkeypatch.setenv("NET_IMPORTED", os.fspath(tmp_path / "imported"))
    monkeypatch.setenv("PYTHONPATH", os.fspath(package.parent))
    monkeypatch.setenv(architectures.VARIABLE, "")
    monkeypatch.syspath_prepend(package.parent)
    yield "my_nets.net"
    for name in ("my_nets", "my_nets.net"):
        sys.modules.pop(name, None)


def write_net(path: Path, name: str, width: int = 1) -> Path:
    weights = {"linear.weight": torch.ones(width, 4), "linear.bias": torch.zeros(width)}
    return write_pt(path, architecture=name, input_shape=[4], state_dict=weights)


def test_pt_cannot_have_a_module_imported(tmp_path: Path, net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_net(tmp_path / "m.pt", f"{net}:Net")
    for others in ("", "my_net,my_nets.net.deeper,my_nets.ne", " , "):
        monkeypatch.setenv(architectures.VARIABLE, others)
        with pytest.raises(ModelError, match=rf"m\.pt: .*'{net}:Net'.*set XEDGE_ARCHITECTURES='{net}'.*register\("):
            TorchEngine(path)
    with pytest.raises(ModelError, match="no file may have imported"):
        TorchEngine(path, architecture="other")
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize("allowed", ["my_nets.net", "my_nets", "other, my_nets.net"])
def test_pt_may_name_a_module_that_the_environment_allows(
    tmp_path: Path, net: str, monkeypatch: pytest.MonkeyPatch, allowed: str
) -> None:
    monkeypatch.setenv(architectures.VARIABLE, allowed)
    engine = TorchEngine(write_net(tmp_path / "m.pt", f"{net}:Net"))
    assert engine.predict(np.ones((2, 4), np.float32)).ravel().tolist() == [4.0, 4.0]


def test_pt_takes_a_module_or_a_class_that_is_passed(tmp_path: Path, net: str) -> None:
    assert TorchEngine(write_net(tmp_path / "m.pt", f"{net}:Net"), architecture=net).input_shape == (4,)
    cls = sys.modules[net].Net
    for name in ("nowhere:Net", "Net@notebook", f"{net}:Net"):
        assert TorchEngine(write_net(tmp_path / "m.pt", name), architecture=cls).input_shape == (4,)
    with pytest.raises(ModelError, match="weights do not fit"):
        TorchEngine(write_net(tmp_path / "m.pt", f"{net}:Net"), architecture=torch.nn.Identity)


@pytest.mark.long
def test_pt_of_a_class_exported_here_is_served_here_and_in_child_processes(tmp_path: Path, net: str) -> None:
    load = [sys.executable, "-c", LOAD, os.fspath(tmp_path / "m.pt")]
    files = export(importlib.import_module(net).Net(), np.ones((2, 4), np.float32), "m", models_dir=tmp_path)
    assert TorchEngine(files.pt).input_shape == (4,)
    (tmp_path / "imported").unlink()
    assert subprocess.run(load, check=True, text=True, capture_output=True, timeout=180).stdout == "(4,)\n"
    assert not (tmp_path / "imported").exists()
    assert os.environ[architectures.VARIABLE] == ""


def test_pt_of_a_registered_class_needs_no_import(tmp_path: Path, net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(architectures._FACTORIES, f"{net}:Net", lambda width=1: torch.nn.Sequential())
    with pytest.raises(ModelError, match="weights do not fit"):
        TorchEngine(write_net(tmp_path / "m.pt", f"{net}:Net"))
    assert not (tmp_path / "imported").exists()


def test_pt_of_xedges_own_kinds_and_of_layers_of_pytorch_needs_no_word(tmp_path: Path) -> None:
    init = {"in_features": 4, "out_features": 2}
    weights = torch.nn.Linear(4, 2).state_dict()
    for name in ("torch.nn:Linear", "torch.nn.modules.linear:Linear"):
        path = write_pt(tmp_path / "m.pt", architecture=name, init=init, input_shape=[4], state_dict=weights)
        assert TorchEngine(path).input_shape == (4,)
    init = {"buckets": 8, "dimensions": 2, "labels": 3}
    weights = TextClassifier(**init).state_dict()
    name = "xedge.text.architecture:TextClassifier"
    path = write_pt(tmp_path / "t.pt", architecture=name, init=init, input_shape=[-1], state_dict=weights)
    assert TorchEngine(path).input_shape == (-1,)
    with pytest.raises(ModelError, match=r"in the module 'xedge\.cli\.__main__'"):
        TorchEngine(write_pt(tmp_path / "m.pt", architecture="xedge.cli.__main__:main"))


def test_pt_of_bare_weights_is_refused(tmp_path: Path) -> None:
    torch.save(SimpleAnomalyDetector().state_dict(), tmp_path / "bare.pt")
    with pytest.raises(ModelError, match=r"not written by xedge\.export"):
        TorchEngine(tmp_path / "bare.pt")


def test_onnx_with_two_inputs_is_refused_by_their_names(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"takes 2 inputs, x0: float32 \(n, 3\); x1: float32 \(n, 3\)"):
        OnnxEngine(write_onnx(tmp_path / "m.onnx", ["n", 3], inputs=2, op="Add"))


def test_onnx_with_a_fixed_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"x0: float32 \(8, 3\): its first axis must be the batch"):
        OnnxEngine(write_onnx(tmp_path / "m.onnx", [8, 3]))


def test_onnx_for_batches_of_one_gets_its_inputs_one_after_the_other(tmp_path: Path) -> None:
    engine = OnnxEngine(write_onnx(tmp_path / "m.onnx", [1, 3]))
    batch = -np.arange(12, dtype=np.float32).reshape(4, 3)
    for rows in (batch, batch[:1], batch):
        np.testing.assert_array_equal(engine.predict(rows), -rows)
    assert engine.describe()["batch"] == 1


def test_onnx_that_cannot_take_a_free_length_says_how_to_fix_it(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "m.onnx", ["n", "height", "width"], op="Det")
    with pytest.raises(ModelError, match=r"any length: `xedge\.export\(path, example, name\)` fixes them"):
        OnnxEngine(path).predict(np.ones((1, 2, 3), np.float32))


@pytest.mark.parametrize(
    "call",
    [
        *("operator.attrgetter", "torch.load", "os.system", "aten", "", "aten.nothing.default"),
        *("aten.from_file.default", "aten.save.default", "aten.manual_seed.default"),
    ],
)
def test_pt_whose_program_calls_anything_else_is_refused(tmp_path: Path, call: str) -> None:
    program = {"calls": [["input"], ["call", call, [{"node": 0}], {}], ["output", {"node": 1}]], "constants": {}}
    with pytest.raises(ModelError, match=rf"m\.pt: the program in it cannot be used \(its program calls '{call}'"):
        TorchEngine(write_pt(tmp_path / "m.pt", program=program))


def test_pt_whose_program_is_damaged_is_refused(tmp_path: Path) -> None:
    for program in ({}, {"calls": [["weight", "none"]], "constants": {}}, {"calls": [["run", "x"]], "constants": {}}):
        with pytest.raises(ModelError, match=r"m\.pt: the program in it cannot be used"):
            TorchEngine(write_pt(tmp_path / "m.pt", program=program))


@pytest.mark.parametrize(
    "batch",
    [
        np.ones((2, 31), np.float32),
        np.ones((2, 32), np.float64),
        np.ones(32, np.float32),
        np.ones((2, 1, 32), np.float32),
    ],
)
def test_both_refuse_a_batch_that_does_not_fit(tmp_path: Path, detector_pt: Path, batch: np.ndarray) -> None:
    for engine in (OnnxEngine(write_onnx(tmp_path / "m.onnx", ["n", 32])), TorchEngine(detector_pt)):
        with pytest.raises(ConfigurationError, match=r"takes float32 of shape \(n, 32\), not"):
            engine.predict(batch)


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2"])
def test_both_refuse_threads_that_are_no_count(abs_onnx: Path, detector_pt: Path, threads: Any) -> None:
    for engine, path in ((OnnxEngine, abs_onnx), (TorchEngine, detector_pt)):
        with pytest.raises(ConfigurationError, match="threads is"):
            engine(path, threads=threads)


@pytest.mark.parametrize("device", ["gpu", "", "cuda:x", "mps"])
def test_torch_refuses_devices_it_does_not_know(detector_pt: Path, device: str) -> None:
    with pytest.raises(ConfigurationError, match="device is"):
        TorchEngine(detector_pt, device=device)


def test_torch_says_that_there_is_no_cuda(detector_pt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigurationError, match='no CUDA device here: use "cpu"'):
        TorchEngine(detector_pt, device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_torch_on_cuda_agrees_with_the_cpu(detector_pt: Path) -> None:
    batch = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)
    on_cuda = TorchEngine(detector_pt, device="cuda")
    assert on_cuda.describe()["device"].startswith("cuda (")
    np.testing.assert_allclose(on_cuda.predict(batch), TorchEngine(detector_pt).predict(batch), atol=1e-5)
