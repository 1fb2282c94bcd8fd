"""ONNX Runtime on the CPU."""

import os
import threading
from typing import Any

import numpy as np

from xedge.core.exceptions import ModelError
from xedge.core.extras import needed
from xedge.models.engines.engine import Array, FileEngine, PathLike

FIRST_ANSWER_S = 60.0  # a service waits for its engine twice as long
MAX_BOUND = 64  # shapes that memory is kept for
_ONNX_TYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(string)": "object",
    **{f"tensor({name})": name for name in ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")},
}


class OnnxEngine(FileEngine):
    """A model in ONNX Runtime on the CPU, with `threads` threads that do not spin between requests.

    `path` is a .onnx file or the name of a model in `models/`. A thread that spins waits faster but takes a
    core from the broker and the other services of the same machine, so spinning is off.

    Raises:
        ModelNotFoundError: no such file.
        ModelError: the file is not ONNX, is damaged, or does not take one input with a free batch axis.
    """

    name = "onnxruntime"

    def __init__(self, path: PathLike, threads: int = 1) -> None:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        with needed("edge", "an ONNX Runtime engine"):
            import onnxruntime

        super().__init__(path, ".onnx", threads)
        self.version: str = onnxruntime.__version__
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
        for pool in ("intra_op", "inter_op"):
            options.add_session_config_entry(f"session.{pool}.allow_spinning", "0")
        try:
            session = onnxruntime.InferenceSession(os.fspath(self.path), options, providers=["CPUExecutionProvider"])
        except Exception as exc:
            raise self.cannot_load("an ONNX model", exc) from exc
        inputs = session.get_inputs()
        if len(inputs) != 1:
            raise ModelError(f"{self.path} takes {len(inputs)} inputs: xedge serves models that take one")
        kind, shape = inputs[0].type, inputs[0].shape
        if kind not in _ONNX_TYPES:
            raise ModelError(f"{self.path} takes {kind}: xedge serves models that take a tensor of numbers or text")
        if not shape or isinstance(shape[0], int):
            raise ModelError(
                f"{self.path} takes inputs of the fixed shape {shape}: export it again with a free batch axis "
                f"(`xedge.export` does)"
            )
        self.check_input([length if isinstance(length, int) else -1 for length in shape[1:]], _ONNX_TYPES[kind])
        self._has_answered = False
        self._session, self._run, self._input = session, session.run, inputs[0].name
        self._outputs: list[str] = [session.get_outputs()[0].name]
        self._bound: dict[tuple[int, ...], _Bound] = {}
        self._bound_lock = threading.Lock()

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
            run = self._run if self._has_answered else self._run_first
            output: Array = run(self._outputs, {self._input: batch})[0]
        except ModelError:
            raise
        except Exception as exc:
            raise self.refusal(batch, exc) from exc
        if bound is None and len(self._bound) < MAX_BOUND and self.input_dtype.kind in "fiu":
            self._bound[batch.shape] = _Bound(self._session, self._input, self._outputs[0], batch, output)
        return output

    def _run_first(self, outputs: list[str], inputs: dict[str, Array]) -> list[Array]:
        """Run the model for the first time: one that loops without end is ended, not waited for."""
        import onnxruntime

        options = onnxruntime.RunOptions()
        timer = threading.Timer(FIRST_ANSWER_S, setattr, (options, "terminate", True))
        timer.daemon = True
        timer.start()
        try:
            answers: list[Array] = self._run(outputs, inputs, options)
        except Exception:
            if options.terminate:
                raise ModelError(f"{self.path} did not answer within {FIRST_ANSWER_S:g} s: is there an end?") from None
            raise
        finally:
            timer.cancel()
        self._has_answered = True
        return answers


class _Bound:
    """`session.run` for one shape, on memory bound once: a third of a small model's time is spared."""

    def __init__(self, session: Any, name: str, output_name: str, batch: Array, output: Array) -> None:
        self._input, self._output = np.empty_like(batch, order="C"), np.empty_like(output, order="C")
        self._binding, self._run = session.io_binding(), session.run_with_iobinding
        binds = (self._binding.bind_input, name, self._input), (self._binding.bind_output, output_name, self._output)
        for bind, bound_name, array in binds:
            bind(bound_name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def __call__(self, batch: Array) -> Array:
        self._input[...] = batch
        self._run(self._binding)
        return self._output.copy()
