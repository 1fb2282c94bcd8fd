"""PyTorch on the CPU or a CUDA device."""

import threading
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from xedge.core.exceptions import ConfigurationError, ModelError
from xedge.core.extras import needed
from xedge.models.engines.engine import (
    Array,
    PathLike,
    cannot_load,
    checked_sha256,
    checked_threads,
    fits,
    one_line,
    refusal,
)
from xedge.models.kinds import kind_in
from xedge.models.lookup import model_path
from xedge.scenario.sources import InputSpec

_of_this_thread = threading.local()


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
        self._torch, self._threads = torch, checked_threads(threads)
        self._set_threads()
        self._device = torch.device(_checked_device(device))
        self._on_cpu = self._device.type == "cpu"
        self._sha256 = checked_sha256(self.path)
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
        if batch.dtype != self.input_dtype or not fits(batch.shape[1:], self.input_shape):
            raise refusal(self, batch, None)
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
            raise refusal(self, batch, exc) from exc
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
        raise ModelError(cannot_load(path, "a model saved by xedge.export", exc)) from exc
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
            f"{path}: the weights do not fit the architecture {saved['architecture']!r} ({one_line(exc)}): "
            f"build or export the model again"
        ) from exc
    return module
