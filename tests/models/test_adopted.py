"""Models that PyTorch did not make: .onnx files as they are, estimators of scikit-learn, and the list of models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from xedge import Cloud, Constant, Edge, Scenario
from xedge.core.exceptions import ConfigurationError, ModelError, ModelNotFoundError, ParityError
from xedge.models import listing
from xedge.models.engines import OnnxEngine
from xedge.models.export import export
from xedge.models.lookup import cloud_file, model_path
from xedge.models.reference import read_card, ready
from xedge.serving.services import CloudMLService

RNG = np.random.default_rng(3)
X = RNG.normal(5, 2, (200, 4)).astype(np.float32)
LABELS = (X[:, 0] + X[:, 1] > 10).astype(int)


def write(path: Path, shape: list[Any]) -> Path:
    """Write a model of two outputs by hand: the absolute values, and whether they are above one."""
    given = helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)
    made = [
        helper.make_tensor_value_info("size", TensorProto.FLOAT, None),
        helper.make_tensor_value_info("double", TensorProto.FLOAT, None),
    ]
    nodes = [helper.make_node("Abs", ["image"], ["size"]), helper.make_node("Add", ["image", "image"], ["double"])]
    model = helper.make_model(
        helper.make_graph(nodes, "g", [given], made), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.save(model, path)
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XEDGE_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    return tmp_path


def test_onnx_file_says_which_of_its_outputs_answers(tmp_path: Path) -> None:
    engine = OnnxEngine(write(tmp_path / "m.onnx", ["n", 3]))
    told = engine.describe()
    assert told["output"] == "size"
    assert "double: float32" in told["outputs"]
    assert (engine.predict(np.full((2, 3), -1.0, np.float32)) == 1).all()


def test_onnx_file_is_exported_with_another_output_and_fixed_axes(home: Path) -> None:
    path = write(home / "net.onnx", ["n", 3, "height"])
    files = export(path, np.zeros((1, 3, 7)), "mine", output="double")
    assert files.pt is None
    engine = OnnxEngine("mine")
    assert engine.input_shape == (3, 7)
    assert (engine.predict(np.ones((2, 3, 7), np.float32)) == 2).all()
    facts = read_card(files.card).facts
    assert (facts["origin"], facts["made_of"], facts["output_name"]) == ("onnx file", "net.onnx", "double")
    with pytest.raises(ConfigurationError, match=r"no output 'triple': it has size, double"):
        export(path, name="other", output="triple")
    with pytest.raises(ConfigurationError, match=r"takes image: float32 \(n, 3, height\), the example has shape"):
        export(path, np.zeros((1, 4, 7)), "other")
    assert not list((home / "models").glob("other*"))


def test_onnx_file_needs_no_card(home: Path) -> None:
    write(home / "net.onnx", ["n", 3])
    for name in ("net.onnx", str(home / "net.onnx"), str(home / "net")):
        card = ready(name)
        assert (card.name, card.facts["input_shape"], card.facts["origin"]) == ("net", [3], "onnx file")


def test_cloud_serves_an_onnx_file_in_onnx_runtime_and_says_so(home: Path) -> None:
    path = write(home / "net.onnx", ["n", 3])
    assert cloud_file(path) == path
    service = CloudMLService(path)
    service.load_model()
    assert service.describe()["engine"] == "onnxruntime"
    with pytest.raises(ConfigurationError, match=r"net\.onnx has no \.pt beside it: it runs on the CPU only"):
        CloudMLService(path, device="cuda").load_model()


def test_unknown_model_lists_what_is_there(home: Path) -> None:
    write(home / "models" / "pumps.onnx", ["n", 3])
    for model, says in (
        ("pump", r"there are pumps .*Did you mean pumps\?"),
        ("vibration_cn", r"Did you mean vibration_cnn\?"),
    ):
        with pytest.raises(ModelNotFoundError, match=says):
            model_path(model, ".onnx")
    with pytest.raises(ModelNotFoundError, match=r"pumps\.pt, only pumps\.onnx: export the model again"):
        model_path("pumps", ".pt")


@pytest.mark.parametrize(
    ("estimator", "labels", "output", "width"),
    [
        (make_pipeline(StandardScaler(), LogisticRegression()), LABELS, "probabilities", 2),
        (RandomForestClassifier(8, random_state=0), LABELS, "probabilities", 2),
        (LinearRegression(), X @ [1.0, 2.0, 3.0, 4.0], "variable", 1),
    ],
)
def test_scikit_learn_answers_the_same_in_onnx_runtime(
    home: Path, estimator: Any, labels: np.ndarray, output: str, width: int
) -> None:
    estimator.fit(X, labels)
    files = export(estimator, X, "mine", tolerance=1e-4)
    facts = read_card(files.card).facts
    assert (facts["origin"], facts["output_name"], facts["input_shape"]) == ("scikit-learn", output, [4])
    answers = OnnxEngine("mine").predict(X)
    assert answers.shape == (200, width)
    method = estimator.predict_proba if width == 2 else estimator.predict
    np.testing.assert_allclose(answers, np.reshape(method(X), (200, width)), rtol=1e-4, atol=1e-4)


def test_scikit_learn_that_differs_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = LogisticRegression().fit(X, LABELS)
    honest = fitted.predict_proba
    monkeypatch.setattr(fitted, "predict_proba", lambda rows: honest(rows) + 0.01)
    with pytest.raises(ParityError, match="ONNX Runtime and scikit-learn differ in output 'probabilities'"):
        export(fitted, X, "mine")
    with pytest.raises(ModelError, match="LogisticRegression has no ONNX form"):
        export(LogisticRegression(), X, "mine")
    assert not list((home / "models").iterdir())


def test_scikit_learn_is_measured_at_both_tiers(home: Path) -> None:
    export(make_pipeline(StandardScaler(), LogisticRegression()).fit(X, LABELS), X, "mine")
    workload = Constant(rate_hz=20, duration_s=0.5)
    placements = {"edge": Edge(), "cloud": Cloud()}
    measurement = Scenario(model="mine", source=X, workload=workload, placements=placements).measure(1, progress=False)
    assert (measurement.rows["status"] == "ok").all()
    assert str(measurement.conditions).count("'engine': 'onnxruntime'") == 2


def test_listing_tells_files_inputs_origin_and_accuracy(home: Path) -> None:
    folder = home / "models"
    write(folder / "bare.onnx", ["n", 3, "length"])
    (folder / "broken.onnx").write_bytes(b"no model")
    export(LogisticRegression().fit(X, LABELS), X, "mine", card={"metrics": {"accuracy": 0.9}})
    export(LogisticRegression().fit(X, LABELS), X, "other")
    (folder / "other.onnx").write_bytes((folder / "mine.onnx").read_bytes() + b" ")
    bare, broken, mine, other = found = listing.list_models()
    assert (bare.takes, bare.origin, list(bare.files)) == ("float32 3 × any", "onnx file", ["onnx"])
    assert "cannot be used" in broken.origin
    assert (mine.takes, mine.origin, mine.metrics) == ("float32 4", "scikit-learn", {"accuracy": 0.9})
    assert "not those of its card" in other.origin
    for shown in (repr(found), found._repr_html_()):
        assert all(text in shown for text in ("bare", "scikit-learn", "0.900", "3 × any"))
