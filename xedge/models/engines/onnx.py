"""ONNX Runtime on the CPU."""

from __future__ import annotations

import os
import threading
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from xedge.core.exceptions import ModelError
from xedge.core.extras import needed
from xedge.models.engines.engine import Array, PathLike, cannot_load, checked_sha256, checked_threads, refusal
from xedge.models.kinds import kind_in
from xedge.models.lookup import model_path
from xedge.scenario.sources import InputSpec

MAX_BOUND = 64  # shapes that memory is kept for  # shapes that memory is kept for
_ONNX_TYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    "tensor(string)": "object",
    **{f"tensor({name})": name for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")},
}


class OnnxEngine:
    """A model in ONNX Runtime on the CPU, with `threads` threads that do not spin between requests.

    `path` is a .onnx file or the name of a model in `models/`. A thread that spins waits faster but takes a
    core from the broker and the other services of the same machine, so spinning is off.

    Raises:
        ModelNotFoundError: no such file.
        ModelError: the file is not ONNX, is damaged, or does not take one input with a free batch axis.
    """

    def __init__(self, path: PathLike, threads: int = 1) -> None:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        with needed("edge", "an ONNX Runtime engine"):
            import onnxruntime

        self.name = "onnxruntime"
        self.version: str = onnxruntime.__version__
        self.path = model_path(path, ".onnx")
        self.threads = checked_threads(threads)
        self._sha256 = checked_sha256(self.path)
        try:
            self._session = onnxruntime.InferenceSession(
                os.fspath(self.path), _session_options(threads), providers=["CPUExecutionProvider"]
            )
        except Exception as exc:
            raise ModelError(cannot_load(self.path, "an ONNX model", exc)) from exc
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            raise ModelError(f"{self.path} takes {len(inputs)} inputs: xedge serves models that take one")
        self._input: str = inputs[0].name
        self._outputs: list[str] = [self._session.get_outputs()[0].name]
        self._run = self._session.run
        self._bound: dict[tuple[int, ...], _Bound] = {}
        self._bound_lock = threading.Lock()
        self.input_dtype: np.dtype[Any] = np.dtype(_onnx_dtype(self.path, inputs[0].type))
        self.input_shape: tuple[int, ...] = _onnx_shape(self.path, inputs[0].shape)

    def predict(self, batch: Array) -> Array:
        """Return the model's first output, shape (n, ...), for `batch`, shape (n, *input_shape).

        Raises:
            ConfigurationError: `batch` has another shape or type than the model takes.
            ModelError: the model failed on it.
        """
        try:
            bound = self._bound.get(batch.shape)
            if bound is not None and batch.dtype == self.input_dtype and self._bound_lock.acquire(blocking=False):
                try:
                    return bound(batch)
                finally:
                    self._bound_lock.release()
            output: Array = self._run(self._outputs, {self._input: batch})[0]
        except Exception as exc:
            raise refusal(self, batch, exc) from exc
        if bound is None and len(self._bound) < MAX_BOUND and self.input_dtype.kind in "fiu":
            self._bound[batch.shape] = _Bound(self._session, self._input, self._outputs[0], batch, output)
        return output

    @cached_property
    def spec(self) -> InputSpec:
        """What one input is; the kind is known by what lies in the file's folder."""
        return InputSpec(self.input_shape, self.input_dtype.name, kind_in(self.path.parent))

    def describe(self) -> dict[str, Any]:
        """Return engine, version, threads, device, spinning, file and its sha256."""
        return {
            "engine": self.name,
            "version": self.version,
            "threads": self.threads,
            "device": "cpu",
            "spinning": False,
            "file": self.path.name,
            "sha256": self._sha256,
        }


class _Bound:
    """`session.run` for one shape, on memory bound once: a third of a small model's time is spared."""

    def __init__(self, session: Any, name: str, output_name: str, batch: Array, output: Array) -> None:
        self._input, self._output = np.empty_like(batch, order="C"), np.empty_like(output, order="C")
        self._binding = session.io_binding()
        self._run = session.run_with_iobinding
        for bind, bound_name, array in (
            (self._binding.bind_input, name, self._input),
            (self._binding.bind_output, output_name, self._output),
        ):
            bind(bound_name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def __call__(self, batch: Array) -> Array:
        self._input[...] = batch
        self._run(self._binding)
        return self._output.copy()


def _session_options(threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def _onnx_dtype(path: Path, onnx_type: str) -> str:
    if onnx_type not in _ONNX_TYPES:
        raise ModelError(f"{path} takes {onnx_type}: xedge serves models that take a tensor of numbers or text")
    return _ONNX_TYPES[onnx_type]


def _onnx_shape(path: Path, shape: list[int | str | None]) -> tuple[int, ...]:
    if not shape or isinstance(shape[0], int):
        raise ModelError(
            f"{path} takes inputs of the fixed shape {shape}: export it again with a free batch axis "
            f"(`xedge.export` does)"
        )
    return tuple(length if isinstance(length, int) else -1 for length in shape[1:])
