"""Models that PyTorch did not make: an .onnx file as it is, and scikit-learn's estimators, for ONNX Runtime alone."""

from pathlib import Path
from typing import Any

import numpy as np

from xedge.core.exceptions import ConfigurationError, ModelError
from xedge.core.extras import needed
from xedge.models import joining, parity
from xedge.models.engines import OnnxEngine
from xedge.models.engines.engine import Array, fits, one_line

ANSWERS = ("probabilities", "variable", "scores", "label")  # what skl2onnx calls outputs, the one taken first


def is_estimator(model: Any) -> bool:
    """Return whether this is a model of scikit-learn's kind: known by its methods, so that it need not be imported."""
    return all(hasattr(model, name) for name in ("fit", "predict", "get_params"))


def from_file(source: Path, draft: Path, example: Any, output: int | str | None) -> dict[str, Any]:
    """Write the model of an .onnx file to `draft`, with one output, and free axes as long as the example's.

    Of a file of several inputs the example is a tuple, a batch of each: they become one input, side by side.

    Raises:
        ModelError: it is no ONNX model, or none that xedge serves; the message names its inputs and outputs.
        ConfigurationError: there is no such output, or the example does not fit.
    """
    import onnx

    if not source.is_file():
        raise ConfigurationError(f"no file {source} (seen from {Path.cwd()}): give the path of an .onnx file")
    if isinstance(example, tuple):
        joined = draft.with_name("joined.onnx")
        example = joining.join_inputs(source, joined, example)
        return from_file(joined, draft, example, output) | {"made_of": source.name}
    engine, model = OnnxEngine(source), onnx.load(source)  # with weights that lie beside it
    if output is not None or len(model.graph.output) > 1:
        _keep_one(model.graph, source, engine.output_name if output is None else output)
    if example is not None:
        if not fits(np.shape(example)[1:], engine.input_shape):
            raise ConfigurationError(f"{source} takes {engine.inputs_told}, the example has shape {np.shape(example)}")
        weights = {tensor.name for tensor in model.graph.initializer}
        [given] = [value for value in model.graph.input if value.name not in weights]
        for axis, length in zip(given.type.tensor_type.shape.dim[1:], np.shape(example)[1:], strict=True):
            axis.dim_value = length
    onnx.save(model, draft)
    engine = OnnxEngine(draft)
    if example is not None:
        engine.predict(np.asarray(example, engine.input_dtype))
    return {**_facts(engine, "onnx file"), "made_of": source.name}


def from_estimator(
    estimator: Any, draft: Path, example: Any, output: int | str | None, parity_rows: Array | None, tolerance: float
) -> dict[str, Any]:
    """Write a fitted estimator or pipeline to `draft` and compare its answers with ONNX Runtime's.

    Raises:
        MissingExtraError: skl2onnx is not installed.
        ModelError: a step has no ONNX form.
        ParityError: the answers differ.
    """
    with needed("sklearn", "exporting a scikit-learn estimator"):
        from skl2onnx import to_onnx
    rows = np.asarray(example, np.float32)
    if rows.ndim != 2 or len(rows) == 0:
        raise ConfigurationError(f"example_input has shape {rows.shape}: give rows of what the estimator takes, (n, m)")
    options = {"zipmap": False} if hasattr(estimator, "predict_proba") else None
    try:
        model = to_onnx(estimator, rows[:1], options={id(estimator): options} if options else None)
    except Exception as exc:
        raise ModelError(f"{type(estimator).__name__} has no ONNX form: {one_line(exc)}") from exc
    names = [value.name for value in model.graph.output]
    chosen = output if output is not None else next((name for name in ANSWERS if name in names), names[0])
    name = _keep_one(model.graph, Path(type(estimator).__name__), chosen)
    draft.write_bytes(model.SerializeToString())
    engine, method = OnnxEngine(draft), getattr(estimator, "predict_proba" if name == "probabilities" else "predict")
    inputs = parity.parity_inputs(rows, parity_rows)

    def original(batch: Array) -> Array:
        answers = np.asarray(method(batch))
        return answers if answers.ndim > 1 or name == "label" else answers[:, np.newaxis]

    gaps = parity.compared(
        draft.stem, engine.predict, original, inputs, tolerance, name, ("ONNX Runtime", "scikit-learn")
    )
    checked = {"parity": {"inputs": len(inputs), **gaps, "tolerance": tolerance}}
    return _facts(engine, "scikit-learn") | checked | {"architecture": type(estimator).__name__}


def _facts(engine: OnnxEngine, origin: str) -> dict[str, Any]:
    return {
        "origin": origin,
        "architecture": origin,
        "parameters": None,
        "input_name": engine.input_name,
        "output_name": engine.output_name,
        "input_shape": list(engine.input_shape),
        "input_dtype": engine.input_dtype.name,
        "parity": {"inputs": 0, "max_abs_difference": 0.0, "tolerance": 0.0},
    }


def described(file: Path) -> dict[str, Any]:
    """Return what a card would say of an .onnx file that has none, read from the file."""
    engine = OnnxEngine(file)
    about = {"sha256": {"onnx": engine.describe()["sha256"]}, "versions": {}, "created_utc": ""}
    return {"name": file.stem, "metrics": {}, **_facts(engine, "onnx file"), **about}


def _keep_one(graph: Any, source: Path, output: int | str) -> str:
    """Leave one output in the graph and return its name."""
    outputs = list(graph.output)
    names = [value.name for value in outputs]
    place = output if isinstance(output, int) else names.index(output) if output in names else -1
    if not 0 <= place < len(names):
        raise ConfigurationError(f"{source} has no output {output!r}: it has {', '.join(names)}")
    del graph.output[:]
    graph.output.append(outputs[place])
    return str(names[place])
