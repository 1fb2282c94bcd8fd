"""Engines: a model file loaded so that a batch of inputs becomes a batch of outputs."""

from __future__ import annotations

import hashlib
import os
import threading
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from xedge.core.exceptions import ConfigurationError, ModelError, XedgeError
from xedge.core.extras import needed
from xedge.models.kinds import kind_in
from xedge.models.lookup import model_path
from xedge.scenario.sources import InputSpec

Array = NDArray[Any]
PathLike = str | os.PathLike[str]

_of_this_thread = threading.local()
MAX_BOUND = 64  # shapes that memory is kept for
_ONNX_TYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    "tensor(string)": "object",
    **{f"tensor({name})": name for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")},
}


class Engine(Protocol):
    """What a service needs of a loaded model.

    `input_shape` is one input's shape without the batch axis; -1 stands for an axis of any length, as texts
    have it.
    """

    name: str
    version: str
    path: Path
    input_shape: tuple[int, ...]
    input_dtype: np.dtype[Any]

    @property
    def spec(self) -> InputSpec:
        """What one input is."""
        ...

    def predict(self, batch: Array) -> Array:
        """Return the model's first output, shape (n, ...), for `batch`, shape (n, *input_shape)."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return what a measurement's conditions say about this engine, as plain values."""
        ...


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
        self.threads = _checked_threads(threads)
        self._sha256 = _checked_sha256(self.path)
        try:
            self._session = onnxruntime.InferenceSession(
                os.fspath(self.path), _session_options(threads), providers=["CPUExecutionProvider"]
            )
        except Exception as exc:
            raise ModelError(_cannot_load(self.path, "an ONNX model", exc)) from exc
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
            raise _refusal(self, batch, exc) from exc
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


class TorchEngine:
    """A model in PyTorch on `device` ("cpu", "cuda", "cuda:1").

    `path` is a .pt file written by `xedge.export`, or the name of a model in `models/`. PyTorch keeps
    its number of threads for each calling thread: an engine sets its own before it computes.

    Raises:
        ModelNotFoundError: no such file.
        ModelError: the file was not written by `xedge.export`, is damaged, or needs an unknown architecture.
        ConfigurationError: the device does not exist here.
    """

    def __init__(self, path: PathLike, device: str = "cpu", threads: int = 1) -> None:
        with needed("lab", "a PyTorch engine"):
            import torch

        self.name = "torch"
        self.version: str = str(torch.__version__)
        self.path = model_path(path, ".pt")
        self._torch, self._threads = torch, _checked_threads(threads)
        self._set_threads()
        self._device = torch.device(_checked_device(device))
        self._on_cpu = self._device.type == "cpu"
        self._sha256 = _checked_sha256(self.path)
        saved = _read_saved(self.path)
        self.input_shape: tuple[int, ...] = tuple(saved["input_shape"])
        self.input_dtype: np.dtype[Any] = np.dtype(saved["input_dtype"])
        self._module = _rebuild(self.path, saved).eval().to(self._device)

    def predict(self, batch: Array) -> Array:
        """Return the model's output, shape (n, ...), for `batch`, shape (n, *input_shape).

        The answer is in the CPU's memory: on CUDA the copy waits until the work is done.

        Raises:
            ConfigurationError: `batch` has another shape or type than the model takes.
            ModelError: the model failed on it.
        """
        if batch.dtype != self.input_dtype or not _fits(batch.shape[1:], self.input_shape):
            raise _refusal(self, batch, None)
        if getattr(_of_this_thread, "torch_threads", 0) != self._threads:
            self._set_threads()
        if not batch.flags.writeable:  # torch warns of read-only memory, which is what messages are made of
            batch = batch.copy()
        try:
            with self._torch.inference_mode():
                inputs = self._torch.from_numpy(batch)
                output = self._module(inputs if self._on_cpu else inputs.to(self._device))
                answer: Array = output.cpu().numpy()
        except Exception as exc:
            raise _refusal(self, batch, exc) from exc
        return answer

    def _set_threads(self) -> None:
        # OpenMP keeps the number for each calling thread: set elsewhere only, a batch of two in a service's thread
        # woke a team of all cores that spun for 4 to 8 ms.
        self._torch.set_num_threads(self._threads)
        _of_this_thread.torch_threads = self._threads

    @cached_property
    def spec(self) -> InputSpec:
        """What one input is; the kind is known by what lies in the file's folder."""
        return InputSpec(self.input_shape, self.input_dtype.name, kind_in(self.path.parent))

    def describe(self) -> dict[str, Any]:
        """Return engine, version, threads, device, spinning, file and its sha256."""
        device = "cpu" if self._on_cpu else f"cuda ({self._torch.cuda.get_device_name(self._device)})"
        return {
            "engine": self.name,
            "version": self.version,
            "threads": self._threads,
            "device": device,
            "spinning": False,
            "file": self.path.name,
            "sha256": self._sha256,
        }


def load(path: PathLike, **options: Any) -> Engine:
    """Return the engine for a model file: `OnnxEngine` for .onnx, `TorchEngine` for .pt, made with `options`.

    Raises:
        ConfigurationError: another suffix, or options that the engine does not have.
        ModelError: as the two engines raise it.
    """
    engines: dict[str, type[OnnxEngine] | type[TorchEngine]] = {".onnx": OnnxEngine, ".pt": TorchEngine}
    engine = engines.get(Path(path).suffix)
    if engine is None:
        raise ConfigurationError(f"{os.fspath(path)!r}: a model file ends in .onnx (ONNX Runtime) or .pt (PyTorch)")
    known = {"threads"} if engine is OnnxEngine else {"threads", "device"}
    if unknown := sorted(options.keys() - known):
        raise ConfigurationError(f"{engine.__name__} has no option {unknown[0]!r}: it has {sorted(known)}")
    return engine(path, **options)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checked_sha256(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as exc:
        raise ModelError(f"{path} cannot be read: {exc.strerror}") from exc


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


def _checked_threads(threads: int) -> int:
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ConfigurationError(f"threads is {threads!r}: give a whole number, 1 or more")
    return threads


def _checked_device(device: str) -> str:
    import torch

    kind, _, index = device.partition(":")
    if kind not in {"cpu", "cuda"} or (index and not index.isdecimal()):
        raise ConfigurationError(f'device is {device!r}: give "cpu", "cuda" or "cuda:1"')
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError(f'device is {device!r}, but PyTorch sees no CUDA device here: use "cpu"')
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise ConfigurationError(f"device is {device!r}, but there are {torch.cuda.device_count()} CUDA devices here")
    return device


def _read_saved(path: Path) -> dict[str, Any]:
    import torch

    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as exc:
        raise ModelError(_cannot_load(path, "a model saved by xedge.export", exc)) from exc
    needed = {"architecture", "init", "input_shape", "input_dtype", "state_dict"}
    if not isinstance(saved, dict) or not needed <= saved.keys():
        raise ModelError(f"{path} was not written by xedge.export: load your module and export it with xedge.export")
    return saved


def _rebuild(path: Path, saved: dict[str, Any]) -> Any:
    from xedge.models.architectures import create

    try:
        module = create(saved["architecture"], saved["init"])
        module.load_state_dict(saved["state_dict"])
    except ModelError as exc:
        raise ModelError(f"{path}: {exc}") from exc
    except Exception as exc:
        raise ModelError(
            f"{path}: the weights do not fit the architecture {saved['architecture']!r} ({_one_line(exc)}): "
            f"build or export the model again"
        ) from exc
    return module


def _refusal(engine: Engine, batch: Any, exc: Exception | None) -> XedgeError:
    """Return the error for a failed prediction: the caller's mistake if the batch does not fit the model."""
    shape, dtype = getattr(batch, "shape", None), getattr(batch, "dtype", type(batch).__name__)
    expected = f"(n, {', '.join(map(str, engine.input_shape))})" if engine.input_shape else "(n,)"
    fits = (
        shape is not None
        and len(shape) == 1 + len(engine.input_shape)
        and _fits(shape[1:], engine.input_shape)
        and dtype == engine.input_dtype
    )
    if fits and exc is not None:
        return ModelError(f"{engine.name} failed on a batch of shape {shape}: {_one_line(exc)}")
    return ConfigurationError(f"the model takes {engine.input_dtype} of shape {expected}, not {dtype} of shape {shape}")


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return shape == wanted or (
        len(shape) == len(wanted) and all(want in (-1, got) for want, got in zip(wanted, shape, strict=True))
    )


def _cannot_load(path: Path, what: str, exc: Exception) -> str:
    return f"{path} is not {what}, or is damaged ({_one_line(exc)}): build or export it again"


def _one_line(exc: Exception) -> str:
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    text = lines[0] if lines else type(exc).__name__
    return text if len(text) <= 200 else text[:199] + "…"
