"""Training, exporting and the parity check."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from xedge.core.exceptions import ConfigurationError, ModelError, ParityError
from xedge.core.files import file_sha256
from xedge.models import architectures, parity, training
from xedge.models import export as exporting
from xedge.models import reference as zoo
from xedge.models.engines import OnnxEngine, TorchEngine
from xedge.models.export import export
from xedge.scenario import vibration


class Tokens(nn.Module):
    """An embedding of whole numbers, with arguments."""

    def __init__(self, words: int, width: int = 4) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.output = nn.Linear(width, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.output(self.embedding(tokens).mean(dim=1)).softmax(dim=1)


class Images(nn.Module):
    """A small image network with dropout and batch normalisation, as notebooks have them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(3600, 2)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class Noisy(nn.Module):
    """Adds noise even in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + 0.1 * torch.randn_like(x[:, :1])


class Gated(nn.Module):
    """Behaves by an argument that the weights do not hold."""

    def __init__(self, sigmoid: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 1)
        self.sigmoid = sigmoid

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.linear(x)) if self.sigmoid else self.linear(x)


class FixedBatch(nn.Module):
    """Loops over its batch, so that an export knows one size only."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([2 * row for row in x])


class BySize(nn.Module):
    """Does something else for a large batch, which an export cannot hold."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x if x.shape[0] > 5 else x


class AcrossBatch(nn.Module):
    """Normalises over the batch: another answer in other company."""

    def forward(self, x: Tensor) -> Tensor:
        return x.softmax(dim=0)


class Pair(nn.Module):
    """Returns two things."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


EXAMPLE = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, zoo.Cards]:
    folder = tmp_path_factory.mktemp("models")
    return folder, zoo.build(models_dir=folder, quick=True)


def test_import_loads_neither_torch_nor_onnxruntime() -> None:
    code = (
        "import sys, xedge, xedge.models.reference, xedge.models.engines, xedge.scenario.vibration\n"
        "xedge.models.reference.reference_inputs('anomaly_detector', 2, 0)\n"
        "print([name for name in ('torch', 'onnx', 'onnxruntime') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=180)
    assert done.stdout.strip() == "[]"


# --- training


@pytest.mark.parametrize(
    ("labels", "scores", "area"),
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], 1.0),
        ([1, 1, 0, 0], [0.1, 0.2, 0.8, 0.9], 0.0),
        ([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5], 0.5),
        ([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], 0.75),
        ([0, 1, 0, 1, 1], [1, 1, 2, 2, 3], 4 / 6),  # of six pairs: ½ + 0, 1 + ½, 1 + 1
        ([1, 0, 0, 0], [2, 1, 2, 3], 0.5),
    ],
)
def test_roc_auc_by_hand(labels: list[int], scores: list[float], area: float) -> None:
    assert training.roc_auc(np.array(labels), np.array(scores)) == pytest.approx(area)


def test_roc_auc_counts_pairs() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 200), rng.integers(0, 20, 200)
    gaps = np.subtract.outer(scores[labels == 1], scores[labels == 0])
    expected = ((gaps > 0) + 0.5 * (gaps == 0)).mean()
    assert training.roc_auc(labels, scores) == pytest.approx(expected)


@pytest.mark.parametrize(("labels", "scores"), [([1, 1], [0.1, 0.2]), ([0, 1], [0.1]), ([], [])])
def test_roc_auc_refuses_what_has_no_curve(labels: list[int], scores: list[float]) -> None:
    with pytest.raises(ConfigurationError):
        training.roc_auc(np.array(labels), np.array(scores))


def test_fold_standardisation_gives_the_same_answer_on_raw_inputs() -> None:
    rng = np.random.default_rng(0)
    raw = rng.normal(5, 3, (50, 32))
    mean, deviation = raw.mean(axis=0), raw.std(axis=0)
    linear = nn.Linear(32, 16)
    with torch.inference_mode():
        expected = linear(torch.tensor((raw - mean) / deviation, dtype=torch.float32)).numpy()
    training.fold_standardisation(linear, mean, deviation)
    with torch.inference_mode():
        found = linear(torch.tensor(raw, dtype=torch.float32)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.long
def test_train_is_reproducible_reports_epochs_and_leaves_the_random_state() -> None:
    calls: list[tuple[str, int, int]] = []
    torch.manual_seed(99)
    before = torch.get_rng_state()
    module, facts = training.train("anomaly_detector", quick=True, progress=lambda *call: calls.append(call))
    assert torch.equal(torch.get_rng_state(), before)
    again, same = training.train("anomaly_detector", quick=True)
    epochs = training.RECIPES["anomaly_detector", True].epochs
    assert calls == [("anomaly_detector", done, epochs) for done in range(1, epochs + 1)]
    assert facts["metrics"] == same["metrics"]
    for name, weights in module.state_dict().items():
        assert torch.equal(weights, again.state_dict()[name])
    assert facts["data_seed"] == facts["training"]["data_seed"] != facts["training"]["held_out_seed"]


def test_train_refuses_other_names() -> None:
    with pytest.raises(ConfigurationError, match="not a reference model"):
        training.train("resnet")


# --- the reference models


@pytest.mark.long
def test_build_makes_both_models_for_both_engines(quick: tuple[Path, zoo.Cards]) -> None:
    folder, cards = quick
    assert [card.name for card in cards] == list(zoo.REFERENCE_MODELS)
    assert sorted(snapshot(folder)) == sorted(
        f"{name}{suffix}" for name in zoo.REFERENCE_MODELS for suffix in (".json", ".onnx", ".pt")
    )
    for card in cards:
        inputs = zoo.reference_inputs(card.name, 300, 77)
        ours = OnnxEngine(folder / f"{card.name}.onnx").predict(inputs)
        theirs = TorchEngine(folder / f"{card.name}.pt").predict(inputs)
        assert ours.shape == (300, 1)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_build_detector_detects_on_windows_it_never_saw(quick: tuple[Path, zoo.Cards]) -> None:
    folder, cards = quick
    _, labels = vibration.windows(1500, 4242)
    scores = OnnxEngine(folder / "anomaly_detector.onnx").predict(zoo.reference_inputs("anomaly_detector", 1500, 4242))
    area = training.roc_auc(labels, scores[:, 0])
    assert 0.93 < area < 0.998
    assert area == pytest.approx(cards[0].metrics["roc_auc"], abs=0.03)


def test_build_cnn_learns(quick: tuple[Path, zoo.Cards]) -> None:
    assert quick[1][1].metrics["roc_auc"] > 0.85


def test_build_cards_tell_the_facts(quick: tuple[Path, zoo.Cards]) -> None:
    folder, cards = quick
    for card, architecture, parameters, shape in zip(
        cards, ("SimpleAnomalyDetector", "VibrationCNN"), (545, 334_369), ([32], [1024]), strict=True
    ):
        facts = json.loads((folder / f"{card.name}.json").read_text())
        assert facts == card.facts
        assert (facts["architecture"], facts["parameters"]) == (architecture, parameters)
        assert (facts["input_shape"], facts["input_dtype"], facts["origin"]) == (shape, "float32", "reference")
        assert not facts["program"]
        assert facts["sha256"] == {end: file_sha256(folder / f"{card.name}.{end}") for end in ("onnx", "pt")}
        assert facts["parity"]["inputs"] >= 1000
        assert facts["parity"]["max_abs_difference"] <= facts["parity"]["tolerance"] == 1e-5
        assert facts["versions"].keys() >= {"torch", "onnx", "onnxruntime", "xedge", "python"}
        assert facts["versions"]["torch"] == torch.__version__
        assert facts["training"]["quick"] is True
        assert facts["data_seed"] == training.DATA_SEED
        assert facts["created_utc"].endswith("+00:00")


def test_build_onnx_files_are_self_contained_and_have_one_sigmoid(quick: tuple[Path, zoo.Cards]) -> None:
    folder, _ = quick
    for name in zoo.REFERENCE_MODELS:
        model = onnx.load(folder / f"{name}.onnx", load_external_data=False)
        assert [value.name for value in model.graph.input] == ["features"]
        assert [value.name for value in model.graph.output] == ["probability"]
        assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
        assert [node.op_type for node in model.graph.node].count("Sigmoid") == 1
        assert not any(tensor.external_data for tensor in model.graph.initializer)
    operations = [node.op_type for node in onnx.load(folder / "anomaly_detector.onnx").graph.node]
    assert operations == ["Gemm", "Relu", "Gemm", "Sigmoid"]


def test_build_pt_says_how_to_make_it(quick: tuple[Path, zoo.Cards]) -> None:
    saved = torch.load(quick[0] / "vibration_cnn.pt", weights_only=True)
    assert {key: saved[key] for key in ("architecture", "init", "input_shape", "input_dtype")} == {
        "architecture": "VibrationCNN",
        "init": {},
        "input_shape": [1024],
        "input_dtype": "float32",
    }


def test_build_cards_show_a_table_with_the_doubt(quick: tuple[Path, zoo.Cards]) -> None:
    _, cards = quick
    for shown in (repr(cards), cards._repr_html_()):
        assert all(text in shown for text in ("anomaly_detector", "VibrationCNN", "334,369", "(quick)"))
    assert cards._repr_html_().count("<tr>") == 3


def test_build_leaves_good_models_alone_and_makes_others_again(
    quick: tuple[Path, zoo.Cards], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in snapshot(quick[0]).items():
        (tmp_path / name).write_bytes(content)
    asked: list[tuple[str, bool]] = []

    def build_one(name: str, folder: Path, quick: bool, progress: Any) -> zoo.ModelCard:
        asked.append((name, quick))
        return zoo.read_card(folder / f"{name}.json")

    monkeypatch.setattr(zoo, "_build_one", build_one)
    zoo.build(models_dir=tmp_path, quick=True)
    assert asked == []
    zoo.build(models_dir=tmp_path)  # a quick model does not do
    assert asked == [("anomaly_detector", False), ("vibration_cnn", False)]
    asked.clear()
    zoo.build("anomaly_detector", models_dir=tmp_path, quick=True, force=True)
    assert asked == [("anomaly_detector", True)]
    asked.clear()
    with (tmp_path / "vibration_cnn.onnx").open("ab") as file:
        file.write(b"!")
    with pytest.raises(ConfigurationError, match=r"a model of yours, or damaged.*xedge build vibration_cnn --force"):
        zoo.build(models_dir=tmp_path, quick=True)
    assert asked == []
    zoo.build("vibration_cnn", models_dir=tmp_path, quick=True, force=True)
    assert asked == [("vibration_cnn", True)]
    asked.clear()
    (tmp_path / "anomaly_detector.pt").unlink()
    (tmp_path / "vibration_cnn.json").write_text("{")
    monkeypatch.setattr(zoo, "_build_one", lambda name, *_: asked.append((name, _[1])))
    zoo.build("anomaly_detector", models_dir=tmp_path, quick=True)
    assert asked == [("anomaly_detector", True)]


def test_build_makes_a_model_of_other_code_again(
    quick: tuple[Path, zoo.Cards], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = quick
    assert zoo._present("anomaly_detector", folder, quick=True) is not None
    monkeypatch.setattr(zoo, "_recipe_sha256", lambda: "other")
    assert zoo._present("anomaly_detector", folder, quick=True) is None


def test_ready_and_build_never_train_over_a_model_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XEDGE_HOME", str(tmp_path))
    monkeypatch.setattr(zoo, "_build_one", lambda *_: pytest.fail("trained"))
    folder = tmp_path / "models"
    export(nn.Sequential(nn.Linear(4, 1)), EXAMPLE, "vibration_cnn", overwrite=True)
    before = snapshot(folder)
    assert zoo.ready("vibration_cnn", quick=True).facts["origin"] == "exported"
    with pytest.raises(ConfigurationError, match="a model of yours"):
        zoo.build("vibration_cnn", quick=True)
    (folder / "anomaly_detector.onnx").write_bytes(before["vibration_cnn.onnx"])
    assert zoo.ready("anomaly_detector", quick=True).facts["origin"] == "onnx file"
    (folder / "vibration_cnn.pt").write_bytes(b"another")
    with pytest.raises(ModelError, match=r"not the file that its card names.*xedge build vibration_cnn --force"):
        zoo.ready("vibration_cnn", quick=True)
    assert (folder / "vibration_cnn.onnx").read_bytes() == before["vibration_cnn.onnx"]


def test_build_and_reference_inputs_refuse_other_names(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="'resnet' is not a reference model"):
        zoo.build(["anomaly_detector", "resnet"], models_dir=tmp_path)
    assert snapshot(tmp_path) == {}
    with pytest.raises(ConfigurationError, match="'resnet' is not a reference model"):
        zoo.reference_inputs("resnet", 1, 0)


@pytest.mark.parametrize(("name", "width"), [("anomaly_detector", 32), ("vibration_cnn", 1024)])
def test_reference_inputs(name: str, width: int) -> None:
    inputs = zoo.reference_inputs(name, 3, 1)
    assert (inputs.shape, inputs.dtype) == ((3, width), np.float32)
    np.testing.assert_array_equal(inputs, zoo.reference_inputs(name, 3, 1))


@pytest.mark.parametrize("content", [None, "{", "[]", '{"name": "a"}'])
def test_read_card_refuses_what_is_no_card(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "a.json").write_text(content)
    with pytest.raises(ModelError, match=r"a\.json"):
        zoo.read_card(tmp_path / "a.json")


def test_card_that_was_edited_is_refused_and_one_in_another_layout_is_not(tmp_path: Path) -> None:
    files = export(Gated(), EXAMPLE, "m", models_dir=tmp_path, card={"metrics": {"accuracy": 0.7}, "of": {2: "b"}})
    facts = json.loads(files.card.read_text())
    files.card.write_text(json.dumps(facts, sort_keys=True))
    assert zoo.read_card(files.card).metrics == {"accuracy": 0.7}
    files.card.write_text(json.dumps({**facts, "metrics": {"accuracy": 0.9}}))
    with pytest.raises(ModelError, match=r"m\.json is damaged or was edited since it was written"):
        zoo.read_card(files.card)
    del facts["card_sha256"]  # as xedge wrote cards before it sealed them
    files.card.write_text(json.dumps(facts))
    assert zoo.read_card(files.card).is_intact()


# --- any module


def test_export_images_keeps_the_callers_module_as_it_is(tmp_path: Path) -> None:
    module = Images().train()
    module.layers[3].eval()
    modes = [part.training for part in module.modules()]
    files = export(module, torch.rand(2, 3, 32, 32), "images", models_dir=tmp_path)
    assert [part.training for part in module.modules()] == modes
    assert sorted(snapshot(tmp_path)) == ["images.json", "images.onnx", "images.pt"]
    assert (files.onnx, files.pt, files.card) == tuple(tmp_path / f"images{s}" for s in (".onnx", ".pt", ".json"))
    batch = np.random.default_rng(1).random((5, 3, 32, 32), np.float32)
    with torch.inference_mode():
        expected = module.eval()(torch.from_numpy(batch)).numpy()
    engine = OnnxEngine(files.onnx)
    assert engine.input_shape == (3, 32, 32)
    np.testing.assert_allclose(engine.predict(batch), expected, atol=1e-5)
    assert files.max_difference == zoo.read_card(files.card).facts["parity"]["max_abs_difference"]
    assert zoo.read_card(files.card).is_intact()


def test_export_tokens_with_arguments(tmp_path: Path) -> None:
    module = Tokens(50, width=6)
    example = np.array([[0, 49, 3, 4]])
    files = export(module, example, "tokens", init={"words": 50, "width": 6}, models_dir=tmp_path)
    facts = zoo.read_card(files.card).facts
    assert facts["init"] == {"words": 50, "width": 6}
    assert (facts["input_dtype"], facts["input_shape"], facts["program"]) == ("int64", [4], True)
    assert facts["architecture"] == f"{__name__}:Tokens"
    tokens = np.random.default_rng(0).integers(0, 50, (3, 4))
    np.testing.assert_allclose(OnnxEngine(files.onnx).predict(tokens), TorchEngine(files.pt).predict(tokens), atol=1e-5)


LOAD = """
import sys, numpy as np
from xedge.models.engines import TorchEngine
np.save(sys.argv[2], TorchEngine(sys.argv[1]).predict(np.load(sys.argv[3])))
"""


def in_another_process(files: exporting.ModelFiles, inputs: np.ndarray, folder: Path) -> np.ndarray:
    np.save(folder / "inputs.npy", inputs)
    answers = folder / "answers.npy"
    command = [sys.executable, "-c", LOAD, str(files.pt), str(answers), str(folder / "inputs.npy")]
    subprocess.run(command, check=True, timeout=180)
    return np.load(answers)


@pytest.mark.long
def test_export_what_no_other_process_can_make_is_loaded_by_others_all_the_same(tmp_path: Path) -> None:
    class Local(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x)

    for name, module in (("local", Local()), ("stack", nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)))):
        files = export(module, EXAMPLE, name, models_dir=tmp_path)
        facts = zoo.read_card(files.card).facts
        assert (facts["program"], facts["needs_class"]) == (True, False)
        with torch.inference_mode():
            expected = module(torch.from_numpy(EXAMPLE)).numpy()
        np.testing.assert_array_equal(TorchEngine(files.pt).predict(EXAMPLE), expected)
    np.testing.assert_array_equal(in_another_process(files, EXAMPLE, tmp_path), expected)


MAIN = """
import numpy as np, torch, xedge
from torch import nn
class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.attention = nn.TransformerEncoderLayer(4, 2, width, batch_first=True)
        self.out = nn.Linear(4, 2)
        self.register_buffer("scale", torch.tensor([2.0, 3.0]), persistent=False)
    def forward(self, x):
        hidden = self.attention(x)
        place = torch.arange(x.shape[1], device=x.device)[None, :, None]
        return self.out((hidden * place).mean(1)) * self.scale
xedge.export(Net(5), np.random.default_rng(0).random((3, 6, 4)), "net", models_dir="{folder}", free_axis=1)
"""


@pytest.mark.long
def test_export_of_a_class_that_a_notebook_defines_answers_in_other_processes(tmp_path: Path) -> None:
    code = MAIN.replace("{folder}", str(tmp_path))
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300, capture_output=True)
    onnx_engine, torch_engine = OnnxEngine(tmp_path / "net.onnx"), TorchEngine(tmp_path / "net.pt")
    assert zoo.read_card(tmp_path / "net.json").facts["architecture"] == "Net@net"
    for rows, length in ((1, 6), (4, 6), (2, 9), (3, 1)):
        inputs = np.random.default_rng(rows).random((rows, length, 4), np.float32)
        np.testing.assert_allclose(torch_engine.predict(inputs), onnx_engine.predict(inputs), atol=1e-5)
    assert torch_engine.input_shape == (-1, 4)


class Doubling(nn.Module):
    """Keeps a program from being written: it calls an operator that is not PyTorch's own."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda y: 2 * y, lambda y: 2 * y + 0, (x,))


def test_export_of_what_cannot_be_written_down_needs_an_importable_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(architectures.VARIABLE, "")
    monkeypatch.setattr(exporting.tracing, "write_onnx", lambda m, e, path, *_: onnx.save(doubling(), path))
    files = export(Doubling(), EXAMPLE, "doubling", models_dir=tmp_path)
    assert zoo.read_card(files.card).facts["needs_class"] is True
    assert __name__ in architectures.os.environ[architectures.VARIABLE]

    class Local(Doubling):
        pass

    with pytest.raises(ModelError, match=r"no other process could load Local.*\.py file"):
        export(Local(), EXAMPLE, "local", models_dir=tmp_path)
    assert not (tmp_path / "local.onnx").exists()


def doubling() -> onnx.ModelProto:
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 4]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Add", ["x", "x"], ["y"])], "g", values[:1], values[1:])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


class Two(nn.Module):
    """Takes an image and a word, returns two things by name."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.word = nn.Linear(6, 3), nn.Embedding(10, 3)

    def forward(self, image: Tensor, word: Tensor) -> dict[str, Tensor]:
        both = self.image(image.flatten(1)) + self.word(word)
        return {"logits": both, "score": both.softmax(1)}


def test_export_joins_several_inputs_and_takes_one_of_several_outputs(tmp_path: Path) -> None:
    module = Two().eval()
    images, words = np.random.default_rng(0).random((9, 2, 3), np.float32), np.arange(9)
    files = export(module, (images, words), "two", output="score", models_dir=tmp_path)
    assert zoo.read_card(files.card).facts["input_shape"] == [7]
    joined = np.concatenate([images.reshape(9, 6), words[:, None].astype(np.float32)], axis=1)
    with torch.inference_mode():
        expected = module(torch.from_numpy(images), torch.from_numpy(words))["score"].numpy()
    for engine in (OnnxEngine(files.onnx), TorchEngine(files.pt)):
        np.testing.assert_allclose(engine.predict(joined), expected, atol=1e-6)
    with pytest.raises(ModelError, match=r"returns a dict of several outputs \('logits': \[9, 3\], 'score'"):
        export(module, (images, words), "three", models_dir=tmp_path)
    with pytest.raises(ConfigurationError, match=r"inputs of shapes \(9, 2, 3\) and \(8,\)"):
        export(module, (images, words[:8]), "three", models_dir=tmp_path)


def test_export_over_a_model_needs_a_word(tmp_path: Path) -> None:
    export(Gated(), EXAMPLE, "mine", models_dir=tmp_path)
    before = snapshot(tmp_path)
    with pytest.raises(ConfigurationError, match=r"'mine' is there \(mine\.onnx, mine\.pt.*overwrite=True"):
        export(Gated(), EXAMPLE, "mine", models_dir=tmp_path)
    with pytest.raises(ConfigurationError, match=r"'vibration_cnn' is the name of a reference model"):
        export(Gated(), EXAMPLE, "vibration_cnn", models_dir=tmp_path)
    assert snapshot(tmp_path) == before
    export(Gated(), EXAMPLE, "mine", models_dir=tmp_path, overwrite=True)
    assert snapshot(tmp_path)["mine.pt"] != before["mine.pt"]


def test_export_is_quiet_and_leaves_loggers_and_filters(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger("torch.onnx").level, list(warnings.filters)
    export(nn.Linear(4, 1), EXAMPLE, "quiet", init={"in_features": 4, "out_features": 1}, models_dir=tmp_path)
    assert (logging.getLogger("torch.onnx").level, list(warnings.filters)) == before
    assert capfd.readouterr() == ("", "")


def test_export_takes_float64_examples_for_float32_modules(tmp_path: Path) -> None:
    files = export(Gated(), EXAMPLE.astype(np.float64), "double", models_dir=tmp_path)
    assert OnnxEngine(files.onnx).input_dtype == np.float32


@pytest.mark.parametrize(
    ("module", "error", "message"),
    [
        (Noisy(), ParityError, "random"),
        (AcrossBatch(), ModelError, "alone than in a batch"),
        (FixedBatch(), ModelError, "FixedBatch cannot be exported.*batch"),
        (BySize(), ModelError, "the .pt file and the module differ in output .*batch size"),
        (Pair(), ModelError, r"returns a tuple of several outputs \(0: \[4, 4\], 1: \[4, 4\]\): .*output="),
        (nn.Linear(5, 1), ConfigurationError, "fails on example_input"),
        (nn.Flatten(0), ConfigurationError, "first axis"),
    ],
)
def test_export_that_fails_leaves_the_good_model(
    tmp_path: Path, module: nn.Module, error: type[Exception], message: str
) -> None:
    export(nn.Sequential(nn.Linear(4, 1)), EXAMPLE, "model", models_dir=tmp_path)
    before = snapshot(tmp_path)
    with pytest.raises(error, match=message):
        export(module, EXAMPLE, "model", models_dir=tmp_path, overwrite=True)
    assert snapshot(tmp_path) == before
    assert TorchEngine(tmp_path / "model.pt").predict(EXAMPLE).shape == (4, 1)


@pytest.mark.parametrize("init", [None, {"sigmoid": True}])
def test_export_keeps_what_arguments_decide(tmp_path: Path, init: dict[str, Any] | None) -> None:
    files = export(Gated(sigmoid=True), EXAMPLE, "gated", init=init, models_dir=tmp_path)
    assert TorchEngine(files.pt).predict(EXAMPLE * 100).max() <= 1


def test_export_refuses_a_difference_above_the_tolerance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = OnnxEngine.predict
    monkeypatch.setattr(OnnxEngine, "predict", lambda self, batch: honest(self, batch) + np.float32(2e-5))
    told = r"output 'probability'\[0\]: \S+ and \S+ for input \d+, that is by 2\S*e-05, .*more than 1e-05; .*tolerance="
    with pytest.raises(ParityError, match=told):
        export(Gated(), EXAMPLE, "off", models_dir=tmp_path)
    assert snapshot(tmp_path) == {}
    export(Gated(), EXAMPLE, "off", models_dir=tmp_path, tolerance=1e-4)


def test_parity_is_relative_to_the_largest_number_of_an_answer() -> None:
    large = np.array([[1e4, 0.0], [1.0, 0.0]] * 500)
    off = np.array([[0.05, 0.05], [0.0, 0.0]] * 500)
    gaps = parity.compared("m", lambda rows: rows + off[: len(rows)], lambda rows: rows, large[::2], 1e-5, "y")
    assert gaps == {"max_abs_difference": pytest.approx(0.05), "max_rel_difference": pytest.approx(5e-6)}
    with pytest.raises(ParityError, match=r"output 'y'\[0\]: 1\.05 and 1 for input 0, that is by 0\.05"):
        parity.compared("m", lambda rows: rows + 0.05, lambda rows: rows, large[1::2], 1e-5, "y")
    with pytest.raises(ParityError, match="nan"):
        parity.compared("m", lambda rows: rows * np.nan, lambda rows: rows, large, 1e-5, "y")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "../a", ".hidden", "a b", "a.onnx", "a.pt", "a\n"])
def test_export_refuses_names_that_are_no_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="model name"):
        export(Gated(), EXAMPLE, name, models_dir=tmp_path / "models")
    assert snapshot(tmp_path) == {}


@pytest.mark.parametrize("example", [EXAMPLE[0], np.float32(1), EXAMPLE[:0]])
def test_export_refuses_an_example_without_a_batch(tmp_path: Path, example: np.ndarray) -> None:
    with pytest.raises(ConfigurationError, match="give a batch"):
        export(Gated(), example, "m", models_dir=tmp_path)


def test_export_refuses_an_image_without_its_batch_axis(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"for one input \(1, 3, 32, 32\)"):
        export(nn.Conv2d(3, 4, 3), torch.rand(3, 32, 32), "m", models_dir=tmp_path)


@pytest.mark.parametrize("inputs", [np.zeros((999, 4)), np.zeros((1000, 5))])
def test_export_refuses_parity_inputs_that_do_not_fit(tmp_path: Path, inputs: np.ndarray) -> None:
    with pytest.raises(ConfigurationError, match="parity_inputs"):
        export(Gated(), EXAMPLE, "m", models_dir=tmp_path, parity_inputs=inputs)


def test_export_refuses_init_that_is_no_plain_value(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="plain values"):
        export(Gated(), EXAMPLE, "m", models_dir=tmp_path, init={"sigmoid": object()})


def test_export_refuses_what_is_no_module(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"\.onnx file, not a function"):
        export(lambda x: x, EXAMPLE, "m", models_dir=tmp_path)  # type: ignore[arg-type]


def test_export_card_keeps_the_callers_facts_but_not_false_ones(tmp_path: Path) -> None:
    files = export(Gated(), EXAMPLE, "m", models_dir=tmp_path, card={"author": "me", "parameters": 1})
    facts = zoo.read_card(files.card).facts
    assert (facts["author"], facts["parameters"]) == ("me", 5)


def test_parity_inputs_are_like_the_example() -> None:
    like = np.stack([np.full(3, 100.0), np.full(3, 104.0)] * 8).astype(np.float32)
    drawn = parity.parity_inputs(like)
    assert (drawn.shape, drawn.dtype) == ((1000, 3), np.float32)
    assert drawn.mean() == pytest.approx(102, abs=0.3)
    assert drawn.std() == pytest.approx(2, abs=0.2)
    whole = parity.parity_inputs(np.array([[3, 9]], np.int32))
    assert (whole.dtype, whole.min(), whole.max()) == (np.int32, 3, 9)
    assert parity.parity_inputs(np.ones((1, 2), np.float32)).std() == pytest.approx(1, abs=0.1)


def test_parity_batches_are_one_two_and_many_and_leave_nothing_out() -> None:
    inputs = np.arange(1000)[:, None]
    batches = list(parity._batches(inputs))
    assert [len(batch) for batch in batches[:2]] == [1, 2]
    np.testing.assert_array_equal(np.concatenate(batches), inputs)


def test_create_resolves_names_and_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(architectures.create("VibrationCNN"), architectures.VibrationCNN)
    layer = architectures.create("torch.nn:Linear", {"in_features": 2, "out_features": 7})
    assert layer.weight.shape == (7, 2)
    monkeypatch.setattr(architectures, "_FACTORIES", {})
    architectures.register("number", lambda: 1)  # type: ignore[arg-type, return-value]
    with pytest.raises(ModelError, match="which is not a torch"):
        architectures.create("number")


def test_exporting_knows_external_weights_when_it_sees_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = torch.onnx.export
    monkeypatch.setattr(torch.onnx, "export", lambda *a, **k: plain(*a, **{**k, "external_data": True}))
    with pytest.raises(ModelError, match="outside the file"):
        exporting.export(nn.Sequential(nn.Linear(4, 400)), EXAMPLE, "m", models_dir=tmp_path)
    assert snapshot(tmp_path) == {}


def test_export_with_a_free_axis_takes_any_length(tmp_path):
    example = np.arange(8, dtype=np.int64).reshape(2, 4)
    files = export(Tokens(50), example, "tokens", init={"words": 50}, models_dir=tmp_path, free_axis=1)
    onnx_engine, torch_engine = OnnxEngine(files.onnx), TorchEngine(files.pt)
    assert onnx_engine.input_shape == torch_engine.input_shape == (-1,)
    assert json.loads(files.card.read_text())["input_shape"] == [-1]
    for length in (1, 4, 9):
        tokens = np.random.default_rng(length).integers(0, 50, (3, length))
        assert np.allclose(onnx_engine.predict(tokens), torch_engine.predict(tokens), atol=1e-6)
    with pytest.raises(ConfigurationError, match=r"takes int64 of shape \(n, -1\), not int64 of shape \(3,\)"):
        torch_engine.predict(np.zeros(3, np.int64))


@pytest.mark.parametrize("axis", [0, 2, -1])
def test_export_refuses_a_free_axis_that_is_none(tmp_path, axis):
    with pytest.raises(ConfigurationError, match=f"free_axis is {axis}: the example has axes 1 to 1"):
        export(
            Tokens(50), np.zeros((2, 4), np.int64), "tokens", init={"words": 50}, models_dir=tmp_path, free_axis=axis
        )
    assert list(tmp_path.iterdir()) == []
