"""PyTorch on the CPU or a CUDA device."""

import threading
from collections.abc import Callable
from typing import Any

from xedge.core.exceptions import ConfigurationError, ModelError
from xedge.core.extras import needed
from xedge.models.engines.engine import Array, FileEngine, PathLike, fits, one_line

_of_this_thread = threading.local()


class TorchEngine(FileEngine):
    """A model in PyTorch on `device` ("cpu", "cuda", "cuda:1").

    `path` is a .pt file written by `xedge.export`, or the name of a model in `models/`. The file holds what the module
    computes as calls of PyTorch's operators, or names the class its weights belong to; no module is imported for that
    which `xedge.models.architectures` does not allow. `architecture` is the class itself, or one more module allowed.
    PyTorch keeps its number of threads for each calling thread: an engine sets its own before it computes.

    Raises:
        ModelNotFoundError: no such file.
        ModelError: the file was not written by `xedge.export`, is damaged, or needs an unknown or foreign architecture.
        ConfigurationError: the device does not exist here.
    """

    name = "torch"

    def __init__(
        self, path: PathLike, device: str = "cpu", threads: int = 1, architecture: Callable[..., Any] | str = ""
    ) -> None:
        with needed("lab", "a PyTorch engine"):
            import torch

        super().__init__(path, ".pt", threads)
        self.version: str = str(torch.__version__)
        self._torch = torch
        self._set_threads()
        self._device = torch.device(_checked_device(device))
        self._on_cpu = self._device.type == "cpu"
        saved = self._read()
        self.check_input(saved["input_shape"], saved["input_dtype"])
        self._module = self._rebuilt(saved, architecture).eval().to(self._device)

    def predict(self, batch: Array) -> Array:
        """Return the model's output, shape (n, ...), for `batch`, shape (n, *input_shape).

        The answer is in the CPU's memory: on CUDA the copy waits until the work is done.

        Raises:
            ConfigurationError: `batch` has another shape or type than the model takes.
            ModelError: the model failed on it.
        """
        if batch.dtype != self.input_dtype or not fits(batch.shape[1:], self.input_shape):
            raise self.refusal(batch)
        if getattr(_of_this_thread, "torch_threads", 0) != self.threads:
            self._set_threads()
        if not batch.flags.writeable:  # torch warns of read-only memory, which is what messages are made of
            batch = batch.copy()
        try:
            with self._torch.inference_mode():
                inputs = self._torch.from_numpy(batch)
                output = self._module(inputs if self._on_cpu else inputs.to(self._device))
                answer: Array = output.cpu().numpy()
        except Exception as exc:
            raise self.refusal(batch, exc) from exc
        return answer

    def _set_threads(self) -> None:
        # OpenMP keeps the number for each calling thread: set elsewhere only, a batch of two in a service's thread
        # woke a team of all cores that spun for 4 to 8 ms.
        self._torch.set_num_threads(self.threads)
        _of_this_thread.torch_threads = self.threads

    def describe(self) -> dict[str, Any]:
        """Return engine, version, threads, device, spinning, file and its sha256."""
        if self._on_cpu:
            return super().describe()
        return super().describe() | {"device": f"cuda ({self._torch.cuda.get_device_name(self._device)})"}

    def _read(self) -> dict[str, Any]:
        try:
            saved = self._torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as exc:
            raise self.cannot_load("a model saved by xedge.export", exc) from exc
        wanted = {"architecture", "init", "input_shape", "input_dtype", "state_dict"}
        if not isinstance(saved, dict) or not wanted <= saved.keys():
            raise ModelError(
                f"{self.path} was not written by xedge.export: load your module and export it with xedge.export"
            )
        return saved

    def _rebuilt(self, saved: dict[str, Any], architecture: Callable[..., Any] | str) -> Any:
        from xedge.models.architectures import create
        from xedge.models.programs import rebuilt

        if "program" in saved and not architecture:
            try:
                return rebuilt(saved["program"], saved["state_dict"], self._device)
            except Exception as exc:
                raise ModelError(f"{self.path}: the program in it cannot be used ({one_line(exc)})") from exc
        try:
            module = create(saved["architecture"], saved["init"], architecture)
            module.load_state_dict(saved["state_dict"])
        except ModelError as exc:
            raise ModelError(f"{self.path}: {exc}") from exc
        except Exception as exc:
            raise ModelError(
                f"{self.path}: the weights do not fit the architecture {saved['architecture']!r} ({one_line(exc)}): "
                f"build or export the model again"
            ) from exc
        return module


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
