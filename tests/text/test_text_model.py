"""A text model's folder: loaded only if it is whole and gives the answers it gave when it was trained."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers import write_lookup_model
from hypothesis import given
from onnx import numpy_helper
from test_text_features import ANY_TEXT, ODD, odd

from xedge.core.exceptions import ModelError, TextError
from xedge.core.files import file_sha256, sealed
from xedge.models.engines import TorchEngine
from xedge.text import model as module
from xedge.text.features import encode_batch, padded
from xedge.text.labels import SENTIMENT_LABELS
from xedge.text.model import CHUNK, CHUNK_IDS, FILES, TextModel
from xedge.text.registry.registry import Registry


@pytest.fixture(scope="module")
def good(text_registry: Registry) -> Path:
    """A trained sentiment model as the registry keeps it; left alone."""
    return text_registry.resolve("sentiment", alias="production").folder


@pytest.fixture(scope="module")
def model(good: Path) -> TextModel:
    return TextModel.load(good, version="7")


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may damage."""
    return Path(shutil.copytree(good, tmp_path / "model"))


def change(folder, name, **changes):
    """Change values of one of the JSON files and let the card agree."""
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    agree(folder, name)


def agree(folder, name):
    """Write the checksum that a file has now into the card."""
    card = json.loads((folder / "card.json").read_text())
    card["sha256"][name] = file_sha256(folder / name)
    (folder / "card.json").write_text(json.dumps(sealed(card)))


def refused(folder, name, words=""):
    with pytest.raises(ModelError) as caught:
        TextModel.load(folder)
    message = str(caught.value)
    assert str(folder / name) in message
    assert words in message
    assert "train again, or take another version" in message


def test_load_gives_task_labels_version_folder(model, good):
    assert (model.task, model.labels, model.version, model.folder) == ("sentiment", SENTIMENT_LABELS, "7", good)
    assert "'sentiment'" in repr(model)
    assert "7" in repr(model)


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_named(folder, name):
    (folder / name).unlink()
    refused(folder, name, "missing")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["empty", "cut", "bit", "zeros", "folder"])
def test_damaged_file_is_named(folder, name, damage):
    path = folder / name
    data = bytearray(path.read_bytes())
    if damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        if damage == "bit":
            data[len(data) // 2] ^= 0x80
        path.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "zeros": bytes(len(data))}.get(damage, data))
    refused(folder, name)


def test_folder_that_is_none(tmp_path):
    with pytest.raises(ModelError, match="not a folder"):
        TextModel.load(tmp_path / "nowhere")


@pytest.mark.parametrize("spec", [0, 1, 3, None, "2"])
def test_other_feature_spec_is_refused(folder, spec):
    change(folder, "labels.json", feature_spec=spec)
    refused(folder, "labels.json", f"feature spec is {spec!r}")


@pytest.mark.parametrize(
    "changes", [{"labels": ["a", "a"]}, {"labels": ["a"]}, {"labels": "abc"}, {"labels": [1, 2]}, {"task": None}]
)
def test_labels_that_are_none_are_refused(folder, changes):
    change(folder, "labels.json", **changes)
    refused(folder, "labels.json")


def test_swapped_weights_are_caught_by_the_golden_outputs(folder):
    """Another training's weights in the same graph, with checksums that agree."""
    graph = onnx.load(folder / "model.onnx")
    weight = next(one for one in graph.graph.initializer if tuple(one.dims) in ((3, 16), (16, 3)))
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.01), weight.name))
    onnx.save(graph, folder / "model.onnx")
    agree(folder, "model.onnx")
    refused(folder, "model.onnx", "not the weights that were checked")


def test_swapped_labels_are_caught_by_the_checksum(folder):
    path = folder / "labels.json"
    path.write_text(path.read_text().replace("positive", "x").replace("negative", "positive").replace("x", "negative"))
    refused(folder, "labels.json", "damaged")


@pytest.mark.parametrize("layout", [{"indent": 4}, {"sort_keys": True}, {"ensure_ascii": True}])
def test_card_in_another_layout_is_the_same_card(folder, layout):
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card, **layout))
    TextModel.load(folder)


@pytest.mark.parametrize("name", ["held_out", "labels", "data", "created_at"])
def test_card_that_says_something_else_is_refused(folder, name):
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, name: "better"}))
    refused(folder, "card.json", "edited since it was written")


def test_model_of_another_kind_is_refused(folder):
    write_lookup_model(folder / "model.onnx")
    agree(folder, "model.onnx")
    refused(folder, "model.onnx", "int32 ids")


@pytest.mark.parametrize(
    "changes",
    [
        {"texts": []},
        {"texts": [3]},
        {"texts": "abc"},
        {"probabilities": None},
        {"probabilities": [[0.5]]},
        {"probabilities": "abc"},
        {"texts": ["a"], "probabilities": [[float("nan")] * 3]},
        {"texts": ["a"], "probabilities": [[1, 2], 3]},
    ],
)
def test_golden_file_that_checks_nothing_is_refused(folder, changes):
    change(folder, "golden.json", **changes)
    refused(folder, "golden.json")


def test_card_without_checksums_is_refused(folder):
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, "sha256": []}))
    refused(folder, "card.json", "`$.sha256`")


def test_golden_texts_are_odd_ones_and_held_out_ones(good):
    golden = json.loads((good / "golden.json").read_text())
    assert "" in golden["texts"]
    assert len(golden["texts"]) > 10
    assert np.ptp(np.array(golden["probabilities"]), axis=0).min() > 0.2


@odd
@given(text=ANY_TEXT)
def test_any_text_gets_probabilities(model, text):
    answer = model.probabilities([text])
    assert answer.dtype == np.float32
    assert answer.shape == (1, 3)
    assert answer.sum() == pytest.approx(1, abs=1e-6)
    assert (answer >= 0).all()


@pytest.mark.parametrize("text", ["", " \n", "\u3000", "!!!", "😍😍😍", "?!… ---"])
def test_text_without_a_word_gets_every_label_alike(model, text):
    assert model.probabilities([text])[0] == pytest.approx([1 / 3] * 3, abs=1e-6)


def test_probabilities_do_not_depend_on_the_company(model):
    texts = [*ODD.values(), *(f"text number {i}, quite {'good' if i % 2 else 'bad'}" for i in range(2 * CHUNK))]
    together = model.probabilities(texts)
    alone = np.concatenate([model.probabilities([text]) for text in texts])
    assert together.shape == (len(texts), 3)
    assert np.abs(together - alone).max() < 1e-6


def test_probabilities_are_computed_in_chunks(model, monkeypatch):
    shapes = []
    monkeypatch.setattr(module, "padded", lambda rows: shapes.append((batch := padded(rows)).shape) or batch)
    model.probabilities(["a"] * (2 * CHUNK + 3))
    assert [n for n, _ in shapes] == [CHUNK, CHUNK, 3]
    shapes.clear()
    model.probabilities(["a word " * 1000] * 20 + ["a"] * 20)
    assert sum(n for n, _ in shapes) == 40
    assert max(n * length for n, length in shapes) <= CHUNK_IDS
    assert len(shapes) == 4


def test_no_texts_no_probabilities(model):
    assert model.probabilities([]).shape == (0, 3)


@pytest.mark.parametrize("texts", ["one", [None], ["a", b"b"]])
def test_what_is_no_list_of_texts_is_refused(model, texts):
    with pytest.raises(TextError):
        model.probabilities(texts)


def test_sixteen_threads_get_the_answers_of_one(model):
    texts = [" ".join(["fine", "awful", "table"][i % 3] for _ in range(1 + i % 40)) for i in range(400)]
    wanted = [model.probabilities([text])[0].tolist() for text in texts]
    with ThreadPoolExecutor(16) as pool:
        got = list(pool.map(lambda text: model.probabilities([text])[0].tolist(), texts * 4))
    assert np.allclose(got, wanted * 4, atol=1e-6)


def test_torch_gives_the_same_probabilities(model, good):
    texts = [*ODD.values(), "I love it", "I hate it"]
    assert np.abs(TorchEngine(good / "model.pt").predict(encode_batch(texts)) - model.probabilities(texts)).max() < 1e-5


def test_loading_takes_neither_torch_nor_mlflow(good):
    code = f"import sys\nfrom xedge.text.model import TextModel\nTextModel.load({str(good)!r}).probabilities(['a'])"
    code += "\nprint({'torch', 'mlflow', 'pandas', 'scipy', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=180)
    assert done.stdout.strip() == "set()"
