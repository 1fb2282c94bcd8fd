"""ONNX Runtime on the CPU, for files of xedge and of others: shape and types are read from them."""

import os
import threading
from collections.abc import Sequence
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
    core from the broker and the other services of the same machine, so spinning is off. Free axes behind the batch's
    are -1 in `input_shape`; a file for batches of exactly one gets the inputs of a batch one after the other. Of
    several outputs the first tensor is the answer; `describe` names it then, and `xedge.export(path, name=…, output=…)`
    writes a model of another.

    Raises:
        ModelNotFoundError: no such file.
        ModelError: the file is not ONNX, is damaged, or takes several inputs or batches of a fixed size.
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
        taken, outputs = session.get_inputs(), session.get_outputs()
        if len(taken) != 1:
            raise ModelError(
                f"{self.path} takes {len(taken)} inputs, {_told(taken)}: a request carries one. Make one of them, "
                f'their elements side by side: `xedge.export("{self.path.name}", (first, second), "name")'
            )
        kind, shape = taken[0].type, taken[0].shape
        if kind not in _ONNX_TYPES:
            raise ModelError(f"{self.path} takes {kind}: xedge serves models that take a tensor of numbers or text")
        if not shape or (isinstance(shape[0], int) and shape[0] != 1):
            raise ModelError(
                f"{self.path} takes {_told(taken)}: its first axis must be the batch, free or 1, for requests come one "
                f"by one and wait together; export it again with a free batch axis (`xedge.export` does)"
            )
        answers = [output for output in outputs if output.type in _ONNX_TYPES]
        if not answers:
            raise ModelError(f"{self.path} returns {_told(outputs)}: xedge serves models that return a tensor")
        self.check_input([length if isinstance(length, int) else -1 for length in shape[1:]], _ONNX_TYPES[kind])
        self._has_answered = False
        self.input_name, self.output_name = taken[0].name, answers[0].name
        self.inputs_told, self.outputs_told = _told(taken), _told(outputs)
        self._one_by_one = shape[0] == 1
        self._others = {"output": self.output_name, "outputs": self.outputs_told} if len(outputs) > 1 else {}
        self._session, self._run, self._input = session, session.run, self.input_name
        self._outputs: list[str] = [self.output_name]
        self._bound: dict[tuple[int, ...], _Bound] = {}
        self._bound_lock = threading.Lock()

    def describe(self) -> dict[str, Any]:
        """Return engine, version, threads, device, spinning, file, its sha256, and which of several outputs answers."""
        return super().describe() | self._others | ({"batch": 1} if self._one_by_one else {})

    def predict(self, batch: Array) -> Array:
        """Return the model's first output, shape (n, ...), for `batch`, shape (n, *input_shape).

        Raises:
            ConfigurationError: `batch` has another shape or type than the model takes.
            ModelError: the model failed on it.
        """
        if self._one_by_one and len(batch) > 1:
            return np.concatenate([self.predict(batch[row : row + 1]) for row in range(len(batch))])
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


def _told(values: Sequence[Any]) -> str:
    """Inputs or outputs in words: `image: float32 (batch, 3, height, 224)`."""
    shapes = [", ".join(map(str, value.shape)) if value.shape is not None else "any shape" for value in values]
    kinds = [_ONNX_TYPES.get(value.type, value.type) for value in values]
    return "; ".join(f"{v.name}: {kind} ({shape})" for v, kind, shape in zip(values, kinds, shapes, strict=True))
