"""Text models behind MQTT: the same answers at both tiers, what is refused, names of models, texts as a source."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from helpers import Device

from xedge.core.exceptions import ConfigurationError, ModelError, ModelNotFoundError, RegistryError, RequestError
from xedge.models.engines import OnnxEngine, TorchEngine
from xedge.models.lookup import model_path
from xedge.models.reference import ready
from xedge.runs.scenario import Scenario
from xedge.scenario.arrivals import Poisson
from xedge.scenario.link import Link
from xedge.scenario.placements import Cloud, Edge, External
from xedge.scenario.placements import Device as OnDevice
from xedge.scenario.replay import CsvReplay
from xedge.scenario.sources import Texts
from xedge.serving.broker import Broker
from xedge.serving.external import IsolatedService, ping
from xedge.serving.inference import MLService
from xedge.serving.messages import Request, RequestDecoder, Tensor
from xedge.serving.services import CloudMLService, EdgeMLService
from xedge.text import TOPICS, predict_topic
from xedge.text.features import BUCKETS, MAX_FEATURES, encode
from xedge.text.kind import TextRequestDecoder, encode_request

TEXTS = [
    "The striker scored twice in the final.",
    "Shares fell after the bank warned of losses",
    "A new vaccine protects against malaria",
    "",
    "¿Dónde está el parlamento?",
    "💶 " * 300,
    "long " * 5000,
]


@pytest.fixture(scope="module")
def folder(text_registry: Any) -> Path:
    return text_registry.resolve("topic").folder


@pytest.fixture(params=["edge", "cloud"])
def service(request: pytest.FixtureRequest, any_broker: Broker, prefix: str, folder: Path) -> Any:
    where = {"broker_host": any_broker.host, "broker_port": any_broker.port, "topic_prefix": prefix}
    made = (
        EdgeMLService(folder, **where)
        if request.param == "edge"
        else CloudMLService(folder, cloud_latency_ms=1, **where)
    )
    with made as running:
        yield running


def send(device: Device, **fields: Any) -> dict[str, Any]:
    """Return the answer to a request written without xedge."""
    before = len(device.messages)
    device.send(json.dumps({"device_id": "sensor", "timestamp_us": 7} | fields).encode())
    return json.loads(device.wait(before + 1)[before][1])


def test_both_tiers_answer_as_predict_topic_does(broker: Broker, folder: Path, prefix: str) -> None:
    where = {"broker_host": broker.host, "broker_port": broker.port}
    with (
        EdgeMLService(folder, topic_prefix=f"{prefix}/e", **where),
        CloudMLService(folder, topic_prefix=f"{prefix}/c", cloud_latency_ms=1, **where),
        Device(broker, f"{prefix}/e") as at_edge,
        Device(broker, f"{prefix}/c") as in_cloud,
    ):
        for text in TEXTS:
            edge, cloud = send(at_edge, text=text), send(in_cloud, text=text)
            ids = send(at_edge, features=encode(text).tolist())
            expected = {one["topic"]: one["confidence"] for one in predict_topic(text, top_k=8)["predictions"]}
            wanted = [expected[label] for label in TOPICS]
            np.testing.assert_allclose(edge["prediction"], wanted, atol=1e-5)
            np.testing.assert_allclose(cloud["prediction"], wanted, atol=1e-5)
            np.testing.assert_allclose(ids["prediction"], wanted, atol=1e-6)
            assert sum(edge["prediction"]) == pytest.approx(1, abs=1e-5)
            if max(wanted) - sorted(wanted)[-2] > 1e-4:
                assert edge["label"] == cloud["label"] == max(expected, key=expected.get)
            assert "cloud_latency_ms" in cloud
            assert "cloud_latency_ms" not in edge


def test_texts_of_unlike_lengths_are_answered_together(any_broker: Broker, folder: Path, prefix: str) -> None:
    with (
        EdgeMLService(folder, any_broker.host, any_broker.port, topic_prefix=prefix, compute_scale=50) as running,
        Device(any_broker, prefix) as device,
    ):
        for number in range(60):
            device.send(encode_request("sensor", number, TEXTS[number % len(TEXTS)], binary=number % 2 == 0))
        answers = device.results(60)
    assert running.counts["batches"] < 60
    for answer in answers:
        alone = running.run_inference(TEXTS[answer["timestamp_us"] % len(TEXTS)]).prediction
        np.testing.assert_allclose(answer["prediction"], alone, atol=1e-5)


BAD = {
    "neither": ({}, "wrong_type"),
    "both": ({"text": "a", "features": [1]}, "wrong_type"),
    "a_number": ({"text": 3}, "wrong_type"),
    "null": ({"text": None}, "wrong_type"),
    "a_list": ({"text": ["a"]}, "wrong_type"),
    "fractions": ({"features": [1.5]}, "wrong_type"),
    "words_as_features": ({"features": ["a"]}, "wrong_type"),
    "negative_id": ({"features": [-1]}, "not_finite"),
    "id_beyond": ({"features": [BUCKETS]}, "not_finite"),
    "too_many_ids": ({"features": [1] * (MAX_FEATURES + 1)}, "wrong_shape"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_request_is_counted_and_answered(service: MLService, any_broker: Broker, prefix: str, case: str) -> None:
    fields, reason = BAD[case]
    with Device(any_broker, prefix) as device:
        answer = send(device, **fields)
        assert answer["reason"] == reason
        assert answer["timestamp_us"] == 7
        assert answer["error"]
        assert send(device, text="still there")["label"] in TOPICS
    assert service.refused == {reason: 1}
    assert (service.counts["received"], service.counts["answered"]) == (2, 1)


def test_text_too_long_for_a_message_is_counted(any_broker: Broker, folder: Path, prefix: str) -> None:
    where = {"topic_prefix": prefix, "max_payload_bytes": 20_000}
    with (
        EdgeMLService(folder, any_broker.host, any_broker.port, **where) as running,
        Device(any_broker, prefix) as device,
    ):
        device.send(encode_request("sensor", 1, "a" * 20_001))
        assert send(device, text="a" * 19_000)["label"] in TOPICS
    assert running.refused == {"too_large": 1}


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.arange(4.0), "wrong_type"),
        (np.zeros((2, 2), np.int32), "wrong_shape"),
        (np.array([-1]), "not_finite"),
        (np.array([BUCKETS]), "not_finite"),
        (np.array([2**40]), "not_finite"),
        (np.zeros(MAX_FEATURES + 1, np.int32), "wrong_shape"),
    ],
)
def test_bad_ids_in_messagepack(array: np.ndarray, reason: str) -> None:
    tensor = Tensor(array.dtype.name, list(array.shape), array.tobytes())
    with pytest.raises(RequestError) as caught:
        TextRequestDecoder(TOPICS).decode(msgspec.msgpack.encode(Request("sensor", 1, tensor)))
    assert caught.value.reason == reason


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("text", TEXTS)
def test_text_makes_a_round_trip(text: str, binary: bool) -> None:
    request = TextRequestDecoder(TOPICS).decode(encode_request("sensor", 5, text, binary=binary, trace=True))
    assert (request.device_id, request.timestamp_us, request.trace) == ("sensor", 5, True)
    np.testing.assert_array_equal(request.features, encode(text))


def test_numeric_model_with_a_free_axis_takes_any_length() -> None:
    decoder = RequestDecoder((-1,), np.dtype(np.float32))
    assert decoder.decode(b'{"device_id":"a","timestamp_us":1,"features":[1,2,3]}').features == [1, 2, 3]
    assert decoder.sample().shape == (1, 1)
    nested = RequestDecoder((2, -1), np.dtype(np.float32))
    assert nested.decode(b'{"device_id":"a","timestamp_us":1,"features":[[1,2,3],[4,5,6]]}').features.shape == (2, 3)
    with pytest.raises(RequestError) as caught:
        nested.decode(b'{"device_id":"a","timestamp_us":1,"features":[[1,2,3]]}')
    assert caught.value.reason == "wrong_shape"


def test_direct_inference_takes_a_text_or_its_ids(folder: Path) -> None:
    running = EdgeMLService(folder)
    by_text, by_ids = running.run_inference(TEXTS[0]), running.run_inference(encode(TEXTS[0]))
    np.testing.assert_array_equal(by_text.prediction, by_ids.prediction)
    with pytest.raises(RequestError) as caught:
        running.run_inference([BUCKETS])
    assert caught.value.reason == "not_finite"


def test_service_says_what_its_outputs_are_called(service: MLService, any_broker: Broker, prefix: str) -> None:
    description = ping(any_broker.host, any_broker.port, prefix).description
    assert description["labels"] == list(TOPICS)
    assert description["input_shape"] == [-1]


def test_engines_know_a_text_model(folder: Path, models: Path) -> None:
    assert OnnxEngine(folder / "model.onnx").spec.kind == "text"
    assert TorchEngine(folder / "model.pt").spec.kind == "text"
    assert OnnxEngine(models / "anomaly_detector.onnx").spec.kind == "numbers"


def test_damaged_text_model_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "labels.json").write_text((copy / "labels.json").read_text().replace("sports", "sport"))
    for made in (EdgeMLService(copy), CloudMLService(copy)):
        with pytest.raises(ModelError, match=r"labels\.json"):
            made.load_model()


# Names of models


def test_names_of_text_models(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("xedge-topic", "xedge-topic@production", "xedge-topic/Production", "models:/xedge-topic@production"):
        assert model_path(name, ".onnx") == folder / "model.onnx"
    assert model_path(folder, ".pt") == folder / "model.pt"
    assert model_path(folder / "model.onnx", ".pt") == folder / "model.pt"
    assert model_path("xedge-topic", ".json") == folder / "card.json"
    number = folder_version(folder)
    assert model_path(f"xedge-topic/{number}", ".onnx") == folder / "model.onnx"
    monkeypatch.setenv("XEDGE_HOME", str(tmp_path))
    kept = shutil.copytree(folder, tmp_path / "models" / "mine")
    assert model_path("mine", ".onnx") == kept / "model.onnx"
    monkeypatch.setenv("XEDGE_TOPIC_MODEL", str(kept))
    assert model_path("xedge-topic", ".onnx") == kept / "model.onnx"
    monkeypatch.setenv("XEDGE_TOPIC_MODEL", "mine@canary")
    assert model_path("xedge-topic@production", ".onnx") == folder / "model.onnx"


def folder_version(folder: Path) -> str:
    from xedge.text.registry.registry import Registry

    return next(one.version for one in Registry().versions("topic") if "production" in one.aliases)


def test_names_that_are_not_there(text_registry: Any) -> None:
    with pytest.raises(RegistryError, match="xedge-topic@nobody"):
        model_path("xedge-topic@nobody", ".onnx")
    with pytest.raises(ModelNotFoundError):
        model_path("xedge-topical", ".onnx")


def test_text_model_without_weights_is_told_as_one(folder: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(folder, tmp_path / "v")
    (damaged / "model.pt").unlink()
    with pytest.raises(ModelNotFoundError, match="the text model in this folder is not whole"):
        model_path(damaged, ".pt")


def test_card_of_a_text_model(folder: Path) -> None:
    assert ready("xedge-topic").name == "xedge-topic"
    assert ready(str(folder)).facts["task"] == "topic"


# Measuring


def measured(broker: Broker, **fields: Any) -> Any:
    usual = {"workload": Poisson(rate_hz=60, duration_s=0.5), "seed": 3, "placements": {"edge": Edge()}}
    return Scenario(**{**usual, "model": "xedge-topic", **fields}).measure(
        1, strict=False, progress=False, broker=broker
    )


@pytest.mark.parametrize("encoding", ["json", pytest.param("msgpack", marks=pytest.mark.long)])
def test_scenario_measures_a_text_model_in_every_place(any_broker: Broker, folder: Path, encoding: str) -> None:
    placements = {"edge": Edge(), "process": Edge(run_in="process"), "cloud": Cloud(link=Link(delay_ms=1))}
    placements |= {"device": OnDevice()}
    measurement = measured(any_broker, placements=placements, encoding=encoding)
    assert (measurement.rows["status"] == "ok").all()
    assert measurement.rows["prediction"].between(1 / 8, 1).all()
    by_place = [measurement.rows[measurement.rows["placement"] == name]["prediction"] for name in placements]
    np.testing.assert_allclose(by_place[0], by_place[1], atol=1e-5)
    np.testing.assert_allclose(by_place[0], by_place[2], atol=1e-5)
    np.testing.assert_allclose(by_place[0], by_place[3], atol=1e-5)
    assert measurement.conditions["services"]["edge"]["source"] == {
        "kind": "texts", "path": None, "column": None, "label": None,
    }  # fmt: skip


def test_labels_of_texts_are_held_against_the_topics_answered(any_broker: Broker, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "texts.csv"
    file.write_text(
        "text,topic\nThe striker scored twice in the cup final.,sport\nThe bank raised its rates.,nonsense\n"
    )
    placements = {"edge": Edge(), "device": OnDevice()}
    measurement = measured(any_broker, source=Texts(path=str(file), label="topic"), placements=placements)
    rows, summary = measurement.rows, measurement.summary().set_index("placement")
    for name in placements:
        own = rows[(rows["placement"] == name) & ~rows["warm_up"]]
        assert summary.loc[name, "accuracy"] == (own["answer"] == own["label"]).mean()
        assert own["content"].nunique() == own["answer"].notna().all() + 1
    assert rows[rows["label"] == "nonsense"]["answer"].ne("nonsense").all()
    assert "roc_auc" not in summary


def test_external_text_service_gets_texts(any_broker: Broker, folder: Path, prefix: str) -> None:
    with EdgeMLService(folder, any_broker.host, any_broker.port, topic_prefix=prefix):
        measurement = measured(any_broker, model="anything", placements={"it": External(topic_prefix=prefix)})
    assert (measurement.rows["status"] == "ok").all()


def test_source_of_the_wrong_kind_is_told_before_measuring(
    any_broker: Broker, folder: Path, models: Path, tmp_path: Path
) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ConfigurationError, match="has no column text, title, description: it has a, b"):
        measured(any_broker, source=CsvReplay(path=str(tmp_path / "x.csv")))
    with pytest.raises(ConfigurationError, match="Texts makes text, the model takes numbers"):
        measured(any_broker, model="anomaly_detector", source=Texts())


def test_texts_are_drawn_from_the_seed_without_repeating() -> None:
    first, again, other = (Texts().inputs(200, (-1,), seed) for seed in (1, 1, 2))
    assert first == again != other
    assert len(set(first)) == 200
    long = Texts().inputs(5000, (-1,), 1)
    assert long[: len(set(long))] == long[len(set(long)) : 2 * len(set(long))]


def test_texts_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "texts.csv"
    path.write_text("label,title,description,body\na,One,first,x\nb,Two,,y\nc,,,z\n", encoding="utf-8")
    assert sorted(Texts(path=str(path)).inputs(2, (-1,), 0)) == ["One first", "Two"]
    assert sorted(Texts(path=str(path), column="body").inputs(3, (-1,), 0)) == ["x", "y", "z"]
    with pytest.raises(ConfigurationError, match="no column nothing: it has label, title"):
        Texts(path=str(path), column="nothing").inputs(1, (-1,), 0)
    path.write_text("text\n \n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="holds no text"):
        Texts(path=str(path)).inputs(1, (-1,), 0)


def test_container_gets_the_whole_folder(folder: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xedge.serving.external.container_engine", lambda: "podman")

    def volume(model: Path) -> str:
        command = IsolatedService(str(model), "127.0.0.1", 1883, "", "image", None)._command()
        return command[command.index("--volume") + 1]

    assert volume(folder) == f"{folder}:/app/models:ro"
    assert volume(models / "anomaly_detector.onnx") == f"{models}/anomaly_detector.onnx:/app/models/model.onnx:ro"
