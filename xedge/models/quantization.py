"""A smaller model of the same kind: weights and activations in eight bits, for ONNX Runtime."""

import logging
import os
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np

from xedge.core import files, machine
from xedge.core.exceptions import ConfigurationError, ModelError, ParityError
from xedge.core.extras import needed
from xedge.core.paths import models_dir
from xedge.core.tables import html_table, text_table
from xedge.models.decision import Decision
from xedge.models.engines import OnnxEngine
from xedge.models.engines.engine import Array, one_line
from xedge.models.kinds import NUMBERS
from xedge.models.lookup import REFERENCE_MODELS, card_facts
from xedge.models.reference import ModelCard, read_card, ready
from xedge.results import accuracy
from xedge.scenario import vibration
from xedge.scenario.making import making
from xedge.scenario.replay import source_of

CALIBRATED_ON, HELD_OUT = 512, 2000  # inputs at most
TIMED, WARM = 200, 20  # single inferences of each model
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")  # of which the last, whose answers are read, stays in float
EXACT = ("Concat", "LayerNormalization", "ReduceMax", "ReduceMean", "Sigmoid", "Softmax")


@dataclass(frozen=True)
class Quantized:
    """A model in eight bits beside the one it was made of; the card says the same in `original` and `quantized`."""

    name: str
    onnx: Path
    card: ModelCard

    def rows(self) -> list[tuple[str, ...]]:
        """Return the heads of a table, then a row for the original and one for the smaller model."""
        heads = ("model", "kB", "accuracy, %", "ROC-AUC", "one inference here, ms", "largest difference")
        both = (self.card.facts["original"], self.card.facts["quantized"])
        gap = f"{self.card.facts['parity']['max_abs_difference']:.3g}"
        table: list[tuple[str, ...]] = [heads]
        for each, apart in zip(both, ("", gap), strict=True):
            metrics = each["metrics"]
            right = f"{100 * metrics['accuracy']:.1f}" if "accuracy" in metrics else ""
            area = f"{metrics['roc_auc']:.3f}" if "roc_auc" in metrics else ""
            table.append(
                (each["name"], f"{each['bytes'] / 1e3:.0f}", right, area, f"{each['inference_ms']:.3f}", apart)
            )
        return table

    def __repr__(self) -> str:
        return text_table(self.rows())

    def _repr_html_(self) -> str:
        heads, *rows = self.rows()
        return html_table(heads, rows)


def quantize(
    model: str | os.PathLike[str],
    calibrate: Any = None,
    held_out: Any = None,
    *,
    name: str = "",
    tolerance: float = 0.05,
    overwrite: bool = False,
) -> Quantized:
    """Write `NAME.int8.onnx` and its card beside a model's own files, and return both.

    Weights become int8 and activations uint8 (static, QDQ), over the ranges that `calibrate` gives activations: inputs
    as `Scenario(source=)` takes them, a few hundred of those the model was trained on. `held_out` are others, with
    labels (`"data.csv#label=y"` or a tuple of inputs and labels) if accuracy is to be known; by default the last
    quarter of `calibrate`. The reference models know their own training and held-out windows.

    The card says size, accuracy and speed of both on this machine, and the largest difference of their answers. Eight
    bits are no gain everywhere: a small model may get slower, and so does any where the processor has no fast way.

    The smaller model is called `name`, by default the model's name with ".int8"; at most a share `tolerance` of the
    held-out inputs may get another label. A model of that name that was not made here needs `overwrite=True`.

    Raises:
        ModelError: the model takes no numbers, or ONNX Runtime cannot quantise it.
        ParityError: more labels change than `tolerance` allows; nothing was written.
        ConfigurationError: no inputs to calibrate with, or they do not fit.
    """
    with needed("lab", "quantising a model"):
        import onnx  # noqa: F401
    if model in REFERENCE_MODELS and not (models_dir() / f"{model}.onnx").is_file():
        ready(str(model))
    original = OnnxEngine(model)
    if original.spec.kind != NUMBERS or original.input_dtype.kind != "f":
        raise ModelError(
            f"{original.path} takes {original.spec.dtype}: models that take floating-point numbers are quantised"
        )
    target = original.path.with_name(f"{name or original.path.stem + '.int8'}.onnx")
    ours = target != original.path and (overwrite or card_facts(target).get("origin") == "quantized")
    if target.exists() and not ours:
        raise ConfigurationError(f"{target} is there: give another name=, or overwrite=True")
    card_file = original.path.with_suffix(".json")
    facts: dict[str, Any] = dict(read_card(card_file).facts) if card_file.is_file() else dict(ready(str(model)).facts)
    known, tried, labels = _inputs(original, facts, calibrate, held_out)
    with tempfile.TemporaryDirectory(prefix=f".{target.stem}-", dir=target.parent) as scratch:
        draft = Path(scratch) / target.name
        _write(original, known, draft)
        smaller = OnnxEngine(draft)
        before, after = (_answers(engine, tried) for engine in (original, smaller))
        decision = Decision.of(original.path)
        _check(target.stem, decision, before, after, tolerance)
        gaps = np.abs(before.astype(np.float64) - after.astype(np.float64))
        times_ms = _times_ms(original, smaller, tried)
        both = [
            {
                "name": file.stem,
                "bytes": path.stat().st_size,
                "metrics": _metrics(decision, answers, labels),
                "inference_ms": ms,
            }
            for file, path, answers, ms in zip(
                (original.path, target), (original.path, draft), (before, after), times_ms, strict=True
            )
        ]
        how = {"method": "static QDQ", "activations": "uint8", "weights": "int8", "calibrated_on": len(known)}
        draft.replace(target)
    said = {
        **facts,
        "name": target.stem,
        "origin": "quantized",
        "architecture": f"{facts['architecture']}, int8",
        "metrics": both[1]["metrics"],
        "original": {**both[0], "sha256": files.file_sha256(original.path)},
        "quantized": {**both[1], **how, "held_out": len(tried), "cpu": machine.host()["cpu"]},
        "parity": {"inputs": len(tried), "max_abs_difference": float(gaps.max()), "tolerance": tolerance},
        "sha256": {"onnx": files.file_sha256(target)},
        "versions": machine.versions(),
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    said.pop("recipe_sha256", None)
    files.write_json(target.with_suffix(".json"), files.sealed(said))
    return Quantized(target.stem, target, read_card(target.with_suffix(".json")))


def _inputs(
    engine: OnnxEngine, facts: dict[str, Any], calibrate: Any, held_out: Any
) -> tuple[Array, Array, list[str] | None]:
    """Inputs to calibrate on, others to compare on, and the labels of these."""
    if calibrate is None and facts.get("origin") == "reference":
        training = facts["training"]
        known, _ = vibration.windows(training["windows"], training["data_seed"])
        others, truth = vibration.windows(training["held_out"], training["held_out_seed"])
        made = making(engine.spec.made_by).make if engine.spec.made_by else np.asarray
        return made(known[:CALIBRATED_ON]), made(others), [str(label) for label in truth.tolist()]
    if calibrate is None:
        raise ConfigurationError(
            f"{engine.path}: give calibrate=, a few hundred inputs like those the model was trained on: the ranges of "
            "its activations are taken from them"
        )
    known, labels = _of(engine, calibrate, CALIBRATED_ON if held_out is not None else CALIBRATED_ON * 4 // 3)
    if held_out is not None:
        return known, *_of(engine, held_out, HELD_OUT)
    cut = len(known) * 3 // 4
    return known[:cut], known[cut:], None if labels is None else labels[cut:]


def _of(engine: OnnxEngine, given: Any, most: int) -> tuple[Array, list[str] | None]:
    """Inputs of a source with their labels, once each where it is recorded, at most so many."""
    source = source_of(given)
    n = min(len(getattr(source, "held", ())) or most, most)
    inputs = np.asarray(source.inputs(n, engine.input_shape, 0), engine.input_dtype)
    labels = source.labels(n, 0) if hasattr(source, "labels") else None
    _, first = np.unique(inputs.reshape(len(inputs), -1), axis=0, return_index=True)
    kept = np.sort(first)  # replay begins again at the end of a file
    return inputs[kept], None if labels is None else [labels[k] for k in kept.tolist()]


def _write(engine: OnnxEngine, known: Array, draft: Path) -> None:
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._rows = iter(known)

        def get_next(self) -> dict[str, Array] | None:
            row = next(self._rows, None)
            return None if row is None else {engine.input_name: row[np.newaxis]}

    try:
        with _without_advice():
            graph = onnx.load(engine.path)
            del graph.graph.value_info[:]  # PyTorch's exporter lists shapes there that the rewriting makes wrong
            prepared = draft.with_suffix(".prepared.onnx")
            onnx.save(graph, prepared)  # given in memory, its weights would be looked for in a file of their own
            quant_pre_process(str(prepared), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(draft),
                Reader(),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=_exact(onnx.load(prepared).graph.node),
                reduce_range=not machine.multiplies_bytes(),
            )
            prepared.unlink()
    except Exception as exc:
        raise ModelError(f"{engine.path} cannot be quantised: {one_line(exc)}") from exc


def _exact(nodes: Any) -> list[str]:
    """The nodes that stay in float: they cost little time and all of the accuracy that eight bits take."""
    weighted = [node.name for node in nodes if node.op_type in WEIGHTED]
    return [node.name for node in nodes if node.op_type in EXACT] + (weighted[-1:] if len(weighted) > 1 else [])


@contextmanager
def _without_advice() -> Iterator[None]:
    """ONNX Runtime's tools advise through the root logger, which is the application's, not theirs."""
    before = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logging.root.setLevel(before)


def _answers(engine: OnnxEngine, inputs: Array) -> Array:
    return np.concatenate(
        [engine.predict(np.ascontiguousarray(rows)) for rows in np.array_split(inputs, max(len(inputs) // 64, 1))]
    )


def _labels(decision: Decision, answers: Array) -> list[str | None]:
    rows = answers.reshape(len(answers), -1)
    return [decision.label(row[0] if len(row) == 1 else row) for row in rows.astype(float).tolist()]


def _check(name: str, decision: Decision, before: Array, after: Array, tolerance: float) -> None:
    if not np.isfinite(after).all():
        raise ParityError(f"{name}: in eight bits its answers are not finite; nothing was written")
    pairs = list(zip(_labels(decision, before), _labels(decision, after), strict=True))
    changed = sum(one != other for one, other in pairs) / len(pairs)
    if changed > tolerance:
        raise ParityError(
            f"{name}: {100 * changed:.1f} % of {len(pairs)} held-out inputs get another label in eight bits, over "
            f"{100 * tolerance:g} %; nothing was written. Calibrate on inputs like those it is to answer, or allow "
            "more by tolerance="
        )


def _metrics(decision: Decision, answers: Array, labels: list[str] | None) -> dict[str, float]:
    if labels is None:
        return {}
    right = [told == label for told, label in zip(_labels(decision, answers), labels, strict=True)]
    metrics = {"accuracy": round(float(np.mean(right)), 4)}
    positive = np.array(labels) == decision.name(1)
    if answers[0].size == 1 and positive.any() and not positive.all():
        metrics["roc_auc"] = round(accuracy.area(answers.ravel().astype(float), positive)[0], 4)
    return metrics


def _times_ms(first: OnnxEngine, second: OnnxEngine, inputs: Array) -> list[float]:
    """The median time of one inference of each, taken in turns, so that a busy moment touches both."""
    took: tuple[list[int], list[int]] = ([], [])
    for place in range(WARM + TIMED):
        row = np.ascontiguousarray(inputs[place % len(inputs)][np.newaxis])
        for engine, times in zip((first, second), took, strict=True):
            begun = perf_counter_ns()
            engine.predict(row)
            times.append(perf_counter_ns() - begun)
    return [round(statistics.median(times[WARM:]) / 1e6, 4) for times in took]
