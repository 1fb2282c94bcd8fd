"""What a service needs of a loaded model, and the checks and messages that all engines share."""

import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from xedge.core.exceptions import ConfigurationError, ModelError, XedgeError
from xedge.core.files import file_sha256
from xedge.scenario.sources import InputSpec

Array = NDArray[Any]
PathLike = str | os.PathLike[str]


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


def checked_sha256(path: Path) -> str:
    """Return the SHA-256 of a model file, or raise ModelError."""
    try:
        return file_sha256(path)
    except OSError as exc:
        raise ModelError(f"{path} cannot be read: {exc.strerror}") from exc


def checked_threads(threads: int) -> int:
    """Return `threads`, or raise ConfigurationError if it is no whole number of 1 or more."""
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ConfigurationError(f"threads is {threads!r}: give a whole number, 1 or more")
    return threads


def refusal(engine: Engine, batch: Any, exc: Exception | None) -> XedgeError:
    """Return the error for a failed prediction: the caller's mistake if the batch does not fit the model."""
    shape, dtype = getattr(batch, "shape", None), getattr(batch, "dtype", type(batch).__name__)
    expected = f"(n, {', '.join(map(str, engine.input_shape))})" if engine.input_shape else "(n,)"
    as_expected = (
        shape is not None
        and len(shape) == 1 + len(engine.input_shape)
        and fits(shape[1:], engine.input_shape)
        and dtype == engine.input_dtype
    )
    if as_expected and exc is not None:
        return ModelError(f"{engine.name} failed on a batch of shape {shape}: {one_line(exc)}")
    return ConfigurationError(f"the model takes {engine.input_dtype} of shape {expected}, not {dtype} of shape {shape}")


def fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Return whether a shape is the one wanted, where -1 fits any length."""
    return shape == wanted or (
        len(shape) == len(wanted) and all(want in (-1, got) for want, got in zip(wanted, shape, strict=True))
    )


def cannot_load(path: Path, what: str, exc: Exception) -> str:
    """Return the message for a file that does not load."""
    return f"{path} is not {what}, or is damaged ({one_line(exc)}): build or export it again"


def one_line(exc: Exception) -> str:
    """Return the first line of an error, at most 200 characters of it."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    text = lines[0] if lines else type(exc).__name__
    return text if len(text) <= 200 else text[:199] + "…"
