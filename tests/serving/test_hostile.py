"""What strangers send, name and file: short refusals, nothing for a terminal to obey, sentences, not tracebacks."""

from __future__ import annotations

import io
import json
import logging
import threading

import msgspec
import numpy as np
import onnx
import pytest
from helpers import Client, Device
from onnx import TensorProto, helper

from xedge.cli.main import main
from xedge.core import logs
from xedge.core.exceptions import ConfigurationError, ModelError, ReportError, RequestError
from xedge.models.engines import OnnxEngine
from xedge.models.engines import onnx as onnx_engines
from xedge.reports.kept import Run
from xedge.reports.parameters import convert as convert_parameters
from xedge.reports.parameters import load_sets, of_cells
from xedge.scenario.scenario import Scenario
from xedge.serving.messages import RequestDecoder, error_answer
from xedge.serving.services import EdgeMLService
from xedge.serving.top import watch

MOST = 600
ESCAPE = "\x1b[2J\x1b]0;owned\x07"


def tensor(**fields):
    given = {"dtype": "float32", "shape": [32], "data": b"\0" * 128} | fields
    return msgspec.msgpack.encode({"device_id": "sensor", "timestamp_us": 1, "features": given})


@pytest.mark.parametrize(
    "payload",
    [
        tensor(shape=[1] * 300_000),
        tensor(dtype="f" * 900_000),
        json.dumps({"device_id": "d" * 900_000, "timestamp_us": 1, "features": [0] * 32}).encode(),
        json.dumps({"device_id": ESCAPE, "timestamp_us": 1, "features": [0] * 32}).encode(),
        json.dumps({"device_id": "sensor", "timestamp_us": 1, "features": {"k" * 900_000: 1}}).encode(),
        b"[" * 900_000,
        b"\xff" * 900_000,
    ],
)
def test_a_refusal_is_short_and_its_log_line_too(payload, caplog, models):
    service = EdgeMLService("anomaly_detector")
    service.load_model()
    assert service.accept(payload, 0) is None
    (record,) = caplog.records
    said = record.getMessage()
    assert len(said) < MOST
    assert said == logs.escaped(said)
    try:
        RequestDecoder((32,), np.dtype("float32")).decode(payload)
    except RequestError as error:
        answer = error_answer(payload, error)
        assert answer is None or len(msgspec.json.encode(answer)) < MOST


def test_log_lines_hold_nothing_that_a_terminal_obeys():
    record = logging.LogRecord("x", logging.WARNING, "", 0, "from %s", ("a" + ESCAPE,), None)
    for form in logs.FORMATS:
        line = logs.handler(form).format(record)
        assert "\x1b" not in line
        assert "\x07" not in line


def test_top_and_health_survive_nonsense_and_pass_no_escapes_on(any_broker, prefix, capsys, models):
    where = [any_broker.host, any_broker.port]
    fine = {"interval_s": 1, "uptime_s": 1, "received": 0, "answered": 0, "throughput_hz": 1}
    nonsense = [b"\xff\xfe", b'{"service": "\xff"}', b"[" * 100_000]
    hostile = json.dumps(fine | {"service": ESCAPE + "s" * 5000, "refused": {ESCAPE: 1}}).encode()
    out, told = io.StringIO(), f"{prefix}/ml/inference/metrics"
    ended = threading.Event()

    def publish():
        while not ended.wait(0.05):
            for payload in (*nonsense, hostile):
                client.publish(f"{told}/x", payload)

    with Client(any_broker) as client:
        publisher = threading.Thread(target=publish)
        publisher.start()
        try:
            watch(*where, prefix, out, updates=2, timeout_s=60)
        finally:
            ended.set()
            publisher.join()
    shown = out.getvalue()
    assert "\\x1b[2J" in shown
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines())) < 300

    asked = Client(any_broker, f"{prefix}/ml/inference/ping")
    with asked, Client(any_broker) as client:
        for number, answer in enumerate((b"\xff\xff", b'{"service": "\xff"}', b"{}")):

            def reply(answer=answer, number=number):
                device = json.loads(asked.wait(number + 1)[number][1])["device_id"]
                client.publish(f"{prefix}/ml/inference/pong/{device}", answer)

            thread = threading.Thread(target=reply)
            thread.start()
            command = ["health", "--broker-host", where[0], "--broker-port", str(where[1]), "--topic-prefix", prefix]
            assert main([*command, "--timeout", "60"]) == 1
            thread.join()
            assert "is no xedge service" in capsys.readouterr().err


SCENARIO = "model: m\nworkload: {kind: poisson, rate_hz: 1, duration_s: 1}\nplacements: {edge: {tier: edge}}\n"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x: " + "[" * 5000 + "]" * 5000, "nested over 50 deep"),
        ("\n".join("  " * k + "x:" for k in range(3000)), "nested over 50 deep"),
        (BOMB, "is an alias"),
    ],
)
def test_yaml_that_is_too_deep_or_multiplies_is_refused_at_once(tmp_path, text, said, capsys):
    file = tmp_path / "hostile.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=f"line .*{said}"):
        load_sets(file)
    file.write_text(SCENARIO + text)
    with pytest.raises(ConfigurationError, match=said):
        Scenario.from_yaml(file)
    assert main(["measure", str(file)]) == 2
    assert said in capsys.readouterr().err


def test_ordinary_yaml_is_read_as_before(tmp_path):
    file = tmp_path / "fine.yaml"
    file.write_text(SCENARIO)
    assert Scenario.from_yaml(file).placements.keys() == {"edge"}
    file.write_text("a: 1\nb: [1, [2]]\n")
    assert load_sets(file) == [{"a": 1, "b": [1, [2]]}]
    file.write_text("a: [1\n")
    with pytest.raises(ConfigurationError, match="not YAML"):
        load_sets(file)


def test_half_a_character_as_a_parameter_is_said(tmp_path):
    cell = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": 'name: str = "a"'}
    parameters = of_cells([cell], tmp_path / "n.ipynb")
    with pytest.raises(ConfigurationError, match="lone surrogate"):
        convert_parameters(parameters, {"name": "a\udcff"})
    assert convert_parameters(parameters, {"name": "ä \\ud800"}) == {"name": "ä \\ud800"}


def test_a_full_disk_is_a_sentence(models, monkeypatch, capsys):
    from xedge.cli import batch

    def full(_arguments):
        raise OSError(28, "No space left on device", "/data/rows.parquet")

    monkeypatch.setattr(batch, "build", full)
    assert main(["build"]) == 1
    assert capsys.readouterr().err == "xedge: No space left on device: /data/rows.parquet\n"


@pytest.mark.parametrize("record", ["{}", '{"name": "a"}', "[]", "no json"])
def test_a_run_json_without_its_keys_is_said(tmp_path, record, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text(record)
    with pytest.raises(ReportError, match="holds no run"):
        Run.read(folder)
    assert main(["index", str(tmp_path)]) in (0, 2)


# Model files


def write_model(path, nodes, shape=("n", 2), initializers=(), out_shape=("n", 2)):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, list(out_shape))
    graph = helper.make_graph(nodes, "g", [x], [y], list(initializers))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_an_onnx_model_with_an_enormous_input_is_refused_before_memory_is_taken(tmp_path):
    shape = ("n", 65536, 1048576)  # 256 GiB
    path = write_model(tmp_path / "big.onnx", [helper.make_node("Identity", ["x"], ["y"])], shape, (), shape)
    with pytest.raises(ModelError, match="at most 64 MiB"):
        OnnxEngine(path)


def write_endless_model(path):
    def value(name, kind, shape):
        return helper.make_tensor_value_info(name, kind, shape)

    go, array = TensorProto.BOOL, TensorProto.FLOAT
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Identity", ["v"], ["v2"])], "body",
        [value("i", TensorProto.INT64, []), value("c", go, []), value("v", array, ["n", 2])],
        [value("c2", go, []), value("v2", array, ["n", 2])],
    )  # fmt: skip
    loop = helper.make_node("Loop", ["", "go", "x"], ["y"], body=body)
    return write_model(path, [loop], initializers=[helper.make_tensor("go", go, [], [True])])


def test_an_onnx_model_that_loops_without_end_does_not_hang_loading(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_engines, "FIRST_ANSWER_S", 0.5)
    service = EdgeMLService(write_endless_model(tmp_path / "endless.onnx"))
    with pytest.raises(ModelError, match=r"did not answer within 0\.5 s"):
        service.load_model()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"input_dtype": "no such"}, "type 'no such'"),
        ({"input_dtype": 7}, "type '7'"),
        ({"input_dtype": "complex64"}, "complex64"),
        ({"input_shape": "32"}, "shape 32"),
        ({"input_shape": [-5]}, r"shape \[-5\]"),
        ({"input_shape": [1 << 20, 1 << 20]}, "at most 64 MiB"),
        ({"input_shape": None}, "shape None"),
    ],
)
def test_a_pt_file_with_a_bad_type_or_shape_is_said(models, tmp_path, changes, said):
    import torch

    from xedge.models.engines import TorchEngine

    saved = torch.load(models / "anomaly_detector.pt", weights_only=True)
    torch.save(saved | changes, tmp_path / "bad.pt")
    with pytest.raises(ModelError, match=said):
        TorchEngine(tmp_path / "bad.pt")


def test_an_answer_that_is_no_number_is_an_error_and_spares_the_batch(broker, prefix, tmp_path):
    """The square root of a negative feature is NaN; JSON has no number for it."""
    path = write_model(tmp_path / "root.onnx", [helper.make_node("Sqrt", ["x"], ["y"])])
    with (
        EdgeMLService(path, broker.host, broker.port, topic_prefix=prefix) as service,
        Device(broker, prefix) as device,
    ):
        for number in range(20):
            device.request([-1.0 if number % 5 == 0 else 4.0, 9.0], timestamp_us=number)
        answers = {answer["timestamp_us"]: answer for answer in (json.loads(body) for _, body in device.wait(20))}
    for number, answer in answers.items():
        if number % 5 == 0:
            assert answer["reason"] == "engine"
            assert "NaN" in answer["error"]
        else:
            assert answer["prediction"] == [2.0, 3.0]
    assert dict(service.refused) == {"engine": 4}
