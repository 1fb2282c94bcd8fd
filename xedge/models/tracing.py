"""Before a module is exported: made ready, seen to work, several inputs and outputs made one; and its ONNX file."""

import contextlib
import copy
import io
import logging
import math
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xedge.core.exceptions import ConfigurationError, ModelError

INPUT_NAME = "features"


class Joined(nn.Module):
    """A module of several inputs as one of a single input (n, m): the inputs' elements side by side in their order."""

    def __init__(self, module: nn.Module, parts: list[Tensor]) -> None:
        super().__init__()
        self.module = module
        self.shapes, self.dtypes = [part.shape[1:] for part in parts], [part.dtype for part in parts]

    def forward(self, inputs: Tensor) -> Any:
        """Take the row of each input apart and call the module with what it takes."""
        widths = [math.prod(shape) for shape in self.shapes]
        parts = zip(torch.split(inputs, widths, dim=1), self.shapes, self.dtypes, strict=True)
        return self.module(*(part.reshape(inputs.shape[0], *shape).to(dtype) for part, shape, dtype in parts))


class Chosen(nn.Module):
    """A module of several outputs as one that returns the output chosen by its place or name."""

    def __init__(self, module: nn.Module, output: int | str) -> None:
        super().__init__()
        self.module, self.output = module, output

    def forward(self, inputs: Tensor) -> Any:
        """Return the one output."""
        outputs = self.module(inputs)
        if isinstance(self.output, int) or isinstance(outputs, Mapping):
            return outputs[self.output]
        return getattr(outputs, self.output)


def made_ready(module: Any, inputs: Any, output: int | str | None) -> tuple[nn.Module, Tensor]:
    """Return a copy on the CPU in eval mode, of one input and one output, and the example that it was seen to take.

    Raises:
        ConfigurationError: it is no module, or fails on the example as a batch.
        ModelError: it cannot be copied, or returns several outputs and none was chosen.
    """
    if not isinstance(module, nn.Module):
        raise ConfigurationError(
            f"export takes a torch.nn.Module, a scikit-learn estimator or the path of an .onnx file, "
            f"not a {type(module).__name__}"
        )
    try:
        ready = copy.deepcopy(module).cpu().eval()
    except Exception as exc:
        raise ModelError(f"{type(module).__name__} cannot be copied for the export: {exc}") from exc
    kinds = [p.dtype for p in ready.parameters() if p.is_floating_point()]
    if isinstance(inputs, list | tuple) and inputs and all(np.ndim(part) for part in inputs):
        parts = [_tensor(part, kinds) for part in inputs]
        if len({len(part) for part in parts}) > 1:
            shapes = " and ".join(str(tuple(part.shape)) for part in parts)
            raise ConfigurationError(f"example_input holds inputs of shapes {shapes}: give as many of each, (n, ...)")
        ready = Joined(ready, parts)
        wide = kinds[0] if kinds else torch.float32
        example = torch.cat([part.reshape(len(part), -1).to(wide) for part in parts], dim=1)
    else:
        example = _tensor(inputs, kinds)
    if output is not None:
        ready = Chosen(ready, output).eval()
    _seen_to_work(ready, example)
    return ready, example


def _tensor(values: Any, kinds: list[torch.dtype]) -> Tensor:
    tensor = torch.as_tensor(np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)).clone()
    return tensor.to(kinds[0] if kinds else torch.float32) if tensor.is_floating_point() else tensor


def _seen_to_work(module: nn.Module, example: Tensor) -> None:
    shape = tuple(example.shape)
    if example.ndim < 2 or len(example) == 0:
        raise ConfigurationError(
            f"example_input has shape {shape}: give a batch, (n, ...); for one input {(1, *(shape or (1,)))}"
        )
    advice = f"is its first axis the batch? It should be (n, ...), and for one input {(1, *shape)}"
    for rows in (example, torch.cat([example] * 3)):
        try:
            with torch.inference_mode():
                output = module(rows)
        except Exception as exc:
            raise ConfigurationError(
                f"the module fails on example_input of shape {shape} as a batch of {len(rows)}: {exc}; {advice}"
            ) from exc
        if not isinstance(output, Tensor):
            raise ModelError(f"the module returns {_several(output)}: say which one is the answer by output=")
        if output.ndim == 0 or len(output) != len(rows):
            raise ConfigurationError(
                f"the module turns a batch of {len(rows)} into an output of shape {tuple(output.shape)} "
                f"(example_input has shape {shape}); {advice}"
            )


def _several(outputs: Any) -> str:
    named = outputs.items() if isinstance(outputs, Mapping) else enumerate(outputs) if np.iterable(outputs) else []
    shapes = {name: list(value.shape) if isinstance(value, Tensor) else type(value).__name__ for name, value in named}
    listed = ", ".join(f"{name!r}: {shape}" for name, shape in shapes.items())
    return f"a {type(outputs).__name__}" + (f" of several outputs ({listed})" if listed else ", no tensor")


def write_onnx(module: nn.Module, example: Tensor, path: Path, output_name: str, free_axis: int | None) -> None:
    """Write the module as an ONNX file with a free batch axis.

    Raises:
        ModelError: it cannot be exported; the message says why.
    """
    import onnx

    batch = torch.cat([example] * 2)  # a batch of one would be taken for a fixed size
    try:
        with _quiet():
            torch.onnx.export(
                module,
                (batch,),
                path,
                dynamo=True,
                verbose=False,
                external_data=False,
                input_names=[INPUT_NAME],
                output_names=[output_name],
                dynamic_shapes=({0: "batch"} | ({} if free_axis is None else {free_axis: "length"}),),
            )
    except Exception as exc:
        raise ModelError(_export_failure(module, exc)) from exc
    graph = onnx.load(path, load_external_data=False).graph
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.initializer):
        raise ModelError(f"the exporter put weights of {type(module).__name__} outside the file (2 GB and more?)")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress, advice and deprecation notes to itself; errors are still raised."""
    chatty = "torch.onnx", "torch.onnx._internal.exporter._registration", "torch.export", "onnxscript", "onnx_ir"
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings(action="ignore"))
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        for logger in map(logging.getLogger, chatty):
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.CRITICAL)
        yield


def _export_failure(module: nn.Module, exc: BaseException) -> str:
    return (
        f"{type(module).__name__} cannot be exported to ONNX: {reason(exc)} (its forward may decide nothing "
        f"in Python by values, and must take the batch size from `x.shape[0]`)"
    )


def reason(exc: BaseException) -> str:
    """Return the first lines of what began an error."""
    while exc.__cause__ is not None:
        exc = exc.__cause__
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(exc)).strip().splitlines()
    return " ".join(line.strip() for line in lines[:3]) or type(exc).__name__


def example_rows(example: Tensor, n: int) -> NDArray[Any]:
    """Return n rows drawn from those of the example: for inputs that were joined, whose parts are unlike."""
    rows: NDArray[Any] = example.numpy()[np.random.default_rng(0).integers(len(example), size=n)]
    return rows
