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


def parity_inputs(like: Array, wanted: Array | None = None) -> Array:
    """Return the inputs to compare the engines on: `wanted` as `like`'s type, or 1000 drawn around `like`.

    `like` is an example batch, shape (n, ...). Numbers are drawn from a normal distribution with its mean and
    spread, each place by itself if there are eight examples or more; whole numbers between its smallest and
    largest. The draw is always the same one.

    Raises:
        ConfigurationError: `wanted` holds fewer than 1000 inputs, or of another shape.
    """
    if wanted is not None:
        inputs = np.asarray(wanted, like.dtype)
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
    name: str,
    onnx_file: Path,
    pt_file: Path,
    architecture: Callable[..., Any] | str,
    inputs: Array,
    tolerance: float,
    output_name: str = "output",
    module: Any = None,
) -> dict[str, float]:
    """Return the largest difference of the two engines over `inputs`, taken one, two and many at a time.

    `max_abs_difference` is in the output's own unit, `max_rel_difference` in parts of an answer's largest number, or of
    1 where that is smaller; the latter may be `tolerance`. `architecture` is as for `TorchEngine`. The .pt file is held
    against the `module` it was made of too, if there is one: a trace may have lost what a batch's size decides.

    Raises:
        ParityError: they differ by more, in shape, or an output is not finite.
        ModelError: an answer depends on the other inputs of its batch.
    """
    import torch

    onnx = OnnxEngine(onnx_file)
    pytorch = TorchEngine(pt_file, threads=torch.get_num_threads(), architecture=architecture)
    gaps = compared(name, onnx.predict, pytorch.predict, inputs, tolerance, output_name)
    if module is not None:
        with torch.inference_mode():
            whose = "the .pt file", "the module"
            answers = lambda rows: module(torch.from_numpy(rows)).numpy()  # noqa: E731
            compared(name, pytorch.predict, answers, inputs, tolerance, output_name, whose)
    together, alone = onnx.predict(inputs[:4]), np.concatenate([onnx.predict(inputs[i : i + 1]) for i in range(4)])
    within = tolerance * _scale(together) if together.shape == alone.shape else 0.0
    if together.shape != alone.shape or not (np.abs(together - alone) <= within).all():
        raise ModelError(
            f"{name}: an input gets another answer alone than in a batch, and a service batches the requests of "
            f"strangers; nothing was written. Does the module compute over its first axis?"
        )
    return gaps


def compared(
    name: str,
    answer: Callable[[Array], Array],
    original: Callable[[Array], Array],
    inputs: Array,
    tolerance: float,
    output_name: str,
    whose: tuple[str, str] = ("ONNX Runtime", "PyTorch"),
) -> dict[str, float]:
    """Return how far the answers of two engines are apart, named by `whose`; see `largest_difference`."""
    largest = {"max_abs_difference": 0.0, "max_rel_difference": 0.0}
    done = 0
    for rows in _batches(inputs):
        ours, theirs = answer(rows), original(rows)
        if ours.shape != theirs.shape:
            raise ParityError(
                f"{name}: output {output_name!r} is {ours.shape} in {whose[0]}, {theirs.shape} in {whose[1]}"
            )
        gap = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
        relative = gap / _scale(theirs)
        if not (relative <= tolerance).all():  # nor NaN
            worst = np.unravel_index(np.argmax(np.nan_to_num(relative, nan=np.inf)), relative.shape)
            place = f"[{', '.join(map(str, worst[1:]))}]" if len(worst) > 1 else ""
            raise ParityError(
                f"{name}: {whose[0]} and {whose[1]} differ in output {output_name!r}{place}: {ours[worst]:.7g} and "
                f"{theirs[worst]:.7g} for input {done + worst[0]}, that is by {gap[worst]:.3g}, {relative[worst]:.3g} "
                f"of the answer's largest number, more than {tolerance:g}; nothing was written. Is something in the "
                "model random or decided by the batch size? If they only round differently, give a larger tolerance="
            )
        largest["max_abs_difference"] = max(largest["max_abs_difference"], float(gap.max(initial=0.0)))
        largest["max_rel_difference"] = max(largest["max_rel_difference"], float(relative.max(initial=0.0)))
        done += len(rows)
    return largest


def _scale(answers: Array) -> Array:
    """The largest number of each answer, at least 1, in a shape that divides them."""
    axes = tuple(range(1, answers.ndim))
    largest: Array = np.abs(answers.astype(np.float64)).max(axis=axes, initial=1.0, keepdims=True)
    return largest


def _batches(inputs: Array) -> Iterator[Array]:
    size = max(4, min(256, (1 << 22) // max(1, inputs[0].size)))  # bounds the memory of image models
    cuts = [0, 1, 3, *range(3 + size, len(inputs), size), len(inputs)]
    for start, stop in itertools.pairwise(cuts):
        yield np.ascontiguousarray(inputs[start:stop])
