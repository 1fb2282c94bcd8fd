"""The parity check: a model's two files must give the same answers."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xedge.core.exceptions import ConfigurationError, ModelError, ParityError
from xedge.models.engines import OnnxEngine, TorchEngine

Array = NDArray[Any]

PARITY_INPUTS = 1000


def parity_inputs(like: Array, given: Array | None = None) -> Array:
    """Return the inputs to compare the engines on: `given` as `like`'s type, or 1000 drawn around `like`.

    `like` is an example batch, shape (n, ...). Numbers are drawn from a normal distribution with its mean and
    spread, each place by itself if there are eight examples or more; whole numbers between its smallest and
    largest. The draw is always the same one.

    Raises:
        ConfigurationError: `given` holds fewer than 1000 inputs, or of another shape.
    """
    if given is not None:
        inputs = np.asarray(given, like.dtype)
        if inputs.shape[1:] != like.shape[1:] or len(inputs) < PARITY_INPUTS:
            raise ConfigurationError(
                f"parity_inputs have shape {inputs.shape}: give {PARITY_INPUTS} or more of {like.shape[1:]}"
            )
        return inputs
    rng, shape = np.random.default_rng(0), (PARITY_INPUTS, *like.shape[1:])
    if like.dtype.kind in "iub":
        return rng.integers(int(like.min()), int(like.max()) + 1, shape).astype(like.dtype)
    spread = like.std(axis=0) if len(like) >= 8 else like.std()
    drawn: Array = like.mean(axis=0) + np.where(spread > 0, spread, 1.0) * rng.standard_normal(shape)
    return drawn.astype(like.dtype)


def largest_difference(
    name: str, onnx_file: Path, pt_file: Path, factory: Callable[..., Any], inputs: Array, tolerance: float
) -> float:
    """Return the largest difference of the two engines over `inputs`, taken one, two and many at a time.

    `factory` makes what the weights in `pt_file` are put into.

    Raises:
        ParityError: they differ by more than `tolerance`, in shape, or an output is not finite.
        ModelError: an answer depends on the other inputs of its batch.
    """
    import torch

    onnx, pytorch = OnnxEngine(onnx_file), TorchEngine(pt_file, threads=torch.get_num_threads(), architecture=factory)
    largest = 0.0
    for rows in _batches(inputs):
        ours, theirs = onnx.predict(rows), pytorch.predict(rows)
        if ours.shape != theirs.shape:
            raise ParityError(f"{name}: output {ours.shape} in ONNX Runtime, {theirs.shape} in PyTorch")
        gap = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
        largest = float(np.fmax(largest, gap.max(initial=0.0)))
        if not (np.isfinite(gap).all() and largest <= tolerance):
            raise ParityError(
                f"{name}: for the same inputs ONNX Runtime and PyTorch differ by {gap.max():.3g}, "
                f"more than {tolerance:g}; nothing was written. Is something in the module random or "
                f"decided by the batch size, or was its class made with arguments that `init` does not hold?"
            )
    together, alone = onnx.predict(inputs[:4]), np.concatenate([onnx.predict(inputs[i : i + 1]) for i in range(4)])
    if together.shape != alone.shape or not np.allclose(together, alone, rtol=0, atol=tolerance, equal_nan=True):
        raise ModelError(
            f"{name}: an input gets another answer alone than in a batch, and a service batches the requests of "
            f"strangers; nothing was written. Does the module compute over its first axis?"
        )
    return largest


def _batches(inputs: Array) -> Iterator[Array]:
    size = max(4, min(256, (1 << 22) // max(1, inputs[0].size)))  # bounds the memory of image models
    cuts = [0, 1, 3, *range(3 + size, len(inputs), size), len(inputs)]
    for start, stop in itertools.pairwise(cuts):
        yield np.ascontiguousarray(inputs[start:stop])
