"""An .onnx file of several inputs made one of a single input: a row of their elements, taken apart in the graph."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xedge.core.exceptions import ConfigurationError, ModelError, ParityError
from xedge.models.engines.engine import Array, one_line

INPUT_NAME = "features"
FIRST_OPSET = 10  # from which on Slice takes its places as inputs


def join_inputs(source: Path, target: Path, examples: Sequence[Any]) -> Array:
    """Write the model of `source` to `target` with one input (n, m), and return `examples` as such rows.

    Each example is a batch of one of the inputs, in the file's order, shape (n, ...); free axes get its length. Rows
    are float64 where an input is, else float32, in which whole numbers are exact up to 2²⁴. Both files are run on the
    examples, and must answer the same.

    Raises:
        ModelError: it is no ONNX model, or of text, or too old, or fails on the examples.
        ConfigurationError: there are not as many examples as inputs, or not as many rows of each.
        ParityError: the two files answer differently.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    try:
        model = onnx.load(source)
    except Exception as exc:
        raise ModelError(f"{source} is not an ONNX model: {one_line(exc)}") from exc
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    kinds = [value.type.tensor_type.elem_type for value in inputs]
    names = ", ".join(value.name for value in inputs)
    if len(inputs) != len(examples):
        raise ConfigurationError(
            f"{source} takes {names}: give one example of each, in this order, not {len(examples)}"
        )
    if TensorProto.STRING in kinds:
        raise ModelError(f"{source} takes text beside other inputs ({names}): that has no row of numbers")
    if (opset := next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)) < FIRST_OPSET:
        raise ModelError(f"{source} is of opset {opset}: export it again with {FIRST_OPSET} or newer")
    parts = [np.asarray(e, helper.tensor_dtype_to_np_dtype(k)) for e, k in zip(examples, kinds, strict=True)]
    if any(part.ndim == 0 for part in parts) or len({len(part) for part in parts}) > 1:
        shapes = " and ".join(str(part.shape) for part in parts)
        raise ConfigurationError(f"the examples have shapes {shapes}: give as many rows of each, (n, ...)")
    wide = TensorProto.DOUBLE if TensorProto.DOUBLE in kinds else TensorProto.FLOAT
    ends = np.cumsum([0, *(part[0].size for part in parts)])

    def constant(name: str, values: Sequence[int]) -> str:
        graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), f"xedge_{name}"))
        return f"xedge_{name}"

    nodes, axis = [], constant("axis", [1])
    for k, (value, kind, part) in enumerate(zip(inputs, kinds, parts, strict=True)):
        span = [constant(f"from_{k}", [ends[k]]), constant(f"to_{k}", [ends[k + 1]]), axis]
        shape = constant(f"shape_{k}", [0, *part.shape[1:]])  # 0: as many as there are
        nodes.append(helper.make_node("Slice", [INPUT_NAME, *span], [f"xedge_part_{k}"]))
        nodes.append(helper.make_node("Reshape", [f"xedge_part_{k}", shape], [f"xedge_shaped_{k}"]))
        nodes.append(helper.make_node("Cast", [f"xedge_shaped_{k}"], [value.name], to=kind))
    batch = inputs[0].type.tensor_type.shape.dim[0]
    first = batch.dim_value or batch.dim_param or "n"
    others = list(graph.node)
    for field, members in (("node", [*nodes, *others]), ("input", [v for v in graph.input if v.name in weights])):
        graph.ClearField(field)
        getattr(graph, field).extend(members)
    graph.input.insert(0, helper.make_tensor_value_info(INPUT_NAME, wide, [first, int(ends[-1])]))
    onnx.save(model, target)
    rows: Array = np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1, dtype=_numpy(wide))
    if first == 1:
        rows, parts = rows[:1], [part[:1] for part in parts]
    _compare(source, target, {value.name: part for value, part in zip(inputs, parts, strict=True)}, rows)
    return rows


def _numpy(kind: int) -> Any:
    from onnx import helper

    return helper.tensor_dtype_to_np_dtype(kind)


def _compare(source: Path, target: Path, inputs: dict[str, Array], rows: Array) -> None:
    import onnxruntime

    providers = ["CPUExecutionProvider"]
    try:
        before = onnxruntime.InferenceSession(source, providers=providers).run(None, inputs)
        after = onnxruntime.InferenceSession(target, providers=providers).run(None, {INPUT_NAME: rows})
    except Exception as exc:
        raise ModelError(f"{source} fails on the examples: {one_line(exc)}") from exc
    if not all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(before, after, strict=True)):
        raise ParityError(f"{source} answers otherwise with its inputs side by side: are whole numbers beyond 2^24?")
