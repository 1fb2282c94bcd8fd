"""What a service needs of a loaded model, and what the engines of model files share."""

import math
import os
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from xedge.core.exceptions import ConfigurationError, ModelError, XedgeError
from xedge.core.files import file_sha256
from xedge.models.kinds import NUMBERS, kind_in
from xedge.models.lookup import card_facts, model_path
from xedge.scenario.sources import InputSpec

MAX_INPUT_BYTES = 64 << 20  # of one input; a request may have far less
Array = NDArray[Any]
PathLike = str | os.PathLike[str]


class Engine(Protocol):
    """A loaded model; `input_shape` is one input's without the batch axis, -1 in it any length, as texts have it."""

    name: str
    version: str
    path: Path
    input_shape: tuple[int, ...]
    input_dtype: np.dtype[Any]

    @property
    def spec(self) -> InputSpec:
        """What one input is."""

    def predict(self, batch: Array) -> Array:
        """Return the model's first output, shape (n, ...), for `batch`, shape (n, *input_shape)."""

    def describe(self) -> dict[str, Any]:
        """Return what a measurement's conditions say about this engine, as plain values."""


class FileEngine(Engine):
    """An engine of a model file: finds it, checks the threads, and describes both."""

    def __init__(self, path: PathLike, suffix: str, threads: int) -> None:
        self.path = model_path(path, suffix)
        if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
            raise ConfigurationError(f"threads is {threads!r}: give a whole number, 1 or more")
        self.threads = threads
        try:
            self._sha256 = file_sha256(self.path)
        except OSError as exc:
            raise ModelError(f"{self.path} cannot be read: {exc.strerror}") from exc

    @cached_property
    def spec(self) -> InputSpec:
        """What one input is; the kind is known by what lies in the file's folder, what makes it by the card there."""
        kind = kind_in(self.path.parent)
        made_by = str(card_facts(self.path).get("input_made_by") or "") if kind == NUMBERS else ""
        return InputSpec(self.input_shape, self.input_dtype.name, kind, made_by)

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

    def check_input(self, shape: Any, dtype: Any) -> None:
        """Set `input_shape` and `input_dtype` to what the file says one input is, before any memory is taken for it.

        Raises:
            ModelError: it is no shape, no type of numbers, or one input would have over `MAX_INPUT_BYTES`.
        """
        try:
            self.input_dtype = np.dtype(dtype)
        except (TypeError, ValueError) as exc:
            raise ModelError(f"{self.path} takes inputs of the type {str(dtype)[:80]!r}, which is none") from exc
        if not isinstance(shape, list | tuple) or not all(type(length) is int and length >= -1 for length in shape):
            raise ModelError(f"{self.path} takes inputs of the shape {str(shape)[:80]}, which is none")
        self.input_shape = tuple(shape)
        size = math.prod(abs(length) for length in shape) * self.input_dtype.itemsize
        if self.input_dtype.kind not in "biufO" or size > MAX_INPUT_BYTES:
            what = f"{list(shape)} of {self.input_dtype}, {size / 2**20:,.0f} MiB"
            limit = f"at most {MAX_INPUT_BYTES >> 20} MiB of numbers are served"
            raise ModelError(f"{self.path} takes inputs of {what[:200]}: {limit}")

    def refusal(self, batch: Any, exc: Exception | None = None) -> XedgeError:
        """Return the error for a failed prediction: the caller's mistake if the batch does not fit the model."""
        shape, dtype = getattr(batch, "shape", None), getattr(batch, "dtype", type(batch).__name__)
        if exc is not None and shape and fits(shape[1:], self.input_shape) and dtype == self.input_dtype:
            free = " (its axes of -1 have any length: `xedge.export(path, example, name)` fixes them to the example's)"
            advice = free * (-1 in self.input_shape)
            return ModelError(f"{self.name} failed on a batch of shape {shape}: {one_line(exc)}{advice}")
        expected = f"(n, {', '.join(map(str, self.input_shape))})" if self.input_shape else "(n,)"
        return ConfigurationError(
            f"the model takes {self.input_dtype} of shape {expected}, not {dtype} of shape {shape}"
        )

    def cannot_load(self, what: str, exc: Exception) -> ModelError:
        """Return the error for a file that does not load."""
        return ModelError(f"{self.path} is not {what}, or is damaged ({one_line(exc)}): build or export it again")


def fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Return whether a shape is the one wanted, where -1 fits any length."""
    return shape == wanted or (
        len(shape) == len(wanted) and all(want in (-1, got) for want, got in zip(wanted, shape, strict=True))
    )


def one_line(exc: Exception) -> str:
    """Return the first line of an error, at most 200 characters of it."""
    text = next((line.strip() for line in str(exc).splitlines() if line.strip()), type(exc).__name__)
    return text if len(text) <= 200 else text[:199] + "…"
