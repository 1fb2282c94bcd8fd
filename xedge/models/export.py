"""Writes one trained module for both engines and refuses to finish if they disagree."""

import contextlib
import copy
import io
import json
import logging
import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xedge.core import machine, paths
from xedge.core.exceptions import ConfigurationError, ModelError
from xedge.core.files import file_sha256
from xedge.models import architectures, parity
from xedge.models.lookup import SUFFIXES

Array = NDArray[Any]

INPUT_NAME = "features"


@dataclass(frozen=True)
class ModelFiles:
    """The files of an exported model and the largest difference found between the two engines."""

    name: str
    onnx: Path
    pt: Path
    card: Path
    max_difference: float


def export(
    module: nn.Module,
    example_input: Tensor | Array,
    name: str,
    *,
    init: Mapping[str, Any] | None = None,
    models_dir: str | os.PathLike[str] | None = None,
    output_name: str = "probability",
    card: Mapping[str, Any] | None = None,
    parity_inputs: Array | None = None,
    tolerance: float = 1e-5,
    free_axis: int | None = None,
) -> ModelFiles:
    """Write `models/NAME.onnx`, `.pt` and the card `.json` of any trained module, and return their paths.

    `example_input` is a batch, shape (n, ...): it gives the shape and type of one input. `init` are the keyword
    arguments the module's class was made with. Both files are loaded again in their engines and compared over at least
    1000 inputs: `parity_inputs`, shape (n, ...), or ones drawn around the example's mean and spread (whole numbers:
    between its smallest and largest). `free_axis` is an axis of the example, 1 or more, that may be of any length
    later; both engines' `input_shape` says -1 there. `card` adds facts to the card. The module given keeps its mode and
    device. The files appear only at the end: after an error the folder is as it was.

    The .pt file names the module's class, which this process and those it starts may then import; others need
    `XEDGE_ARCHITECTURES=its.module`. What another process cannot make (defined in a notebook, or needing arguments that
    `init` does not hold) works as ONNX everywhere, but as .pt only in this process; its card says "importable": false.

    Raises:
        ConfigurationError: the name, the example or the parity inputs cannot be used.
        ModelError: the module cannot be exported, or answers depend on the batch; the message says why.
        ParityError: the engines differ by more than `tolerance` in some output.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name) or name.endswith(SUFFIXES):
        raise ConfigurationError(
            f"model name {name!r}: use letters, digits, '_', '-' and '.', without folders or file endings"
        )
    ready = _ready(module)
    example = _example(ready, example_input)
    shape: list[int] = list(example.shape[1:])
    if free_axis is not None:
        if not 1 <= free_axis <= len(shape):
            raise ConfigurationError(f"free_axis is {free_axis}: the example has axes 1 to {len(shape)} of its inputs")
        shape[free_axis - 1] = -1
    made_with = {"input_shape": shape, "input_dtype": str(example.numpy().dtype)}
    inputs = parity.parity_inputs(example.numpy(), parity_inputs)
    folder = Path(models_dir) if models_dir is not None else paths.models_dir()
    folder.mkdir(parents=True, exist_ok=True)
    named, factory = _architecture(ready, name, init)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder) as scratch:
        onnx_file, pt_file, card_file = drafts = [Path(scratch) / f"{name}{suffix}" for suffix in SUFFIXES]
        _write_onnx(ready, example, onnx_file, output_name, free_axis)
        saved = {"architecture": named["architecture"], "init": named["init"], **made_with}
        torch.save(saved | {"state_dict": ready.state_dict()}, pt_file)
        difference = parity.largest_difference(name, onnx_file, pt_file, factory, inputs, tolerance)
        facts = {
            "data_seed": None,
            "metrics": {},
            **(card or {}),
            "parity": {"inputs": len(inputs), "max_abs_difference": difference, "tolerance": tolerance},
            "output_name": output_name,
            "name": name,
            **named,
            "parameters": sum(parameter.numel() for parameter in ready.parameters()),
            "input_name": INPUT_NAME,
            **made_with,
            "sha256": {"onnx": file_sha256(onnx_file), "pt": file_sha256(pt_file)},
            "versions": machine.versions(),
            "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        card_file.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        onnx_file, pt_file, card_file = [draft.replace(folder / draft.name) for draft in drafts]
    if named["importable"]:
        architectures.allow(type(module).__module__)
    else:
        architectures.register(named["architecture"], factory)
    return ModelFiles(name, onnx_file, pt_file, card_file, difference)


def _ready(module: nn.Module) -> nn.Module:
    """Return a copy of the module on the CPU in eval mode, so that the caller's own is never touched."""
    if not isinstance(module, nn.Module):
        raise ConfigurationError(f"export takes a torch.nn.Module, not a {type(module).__name__}")
    try:
        return copy.deepcopy(module).cpu().eval()
    except Exception as exc:
        raise ModelError(f"{type(module).__name__} cannot be copied for the export: {exc}") from exc


def _example(module: nn.Module, given: Tensor | Array) -> Tensor:
    """Return the example as a batch that the module was seen to take, alone and repeated."""
    example = torch.as_tensor(np.asarray(given.detach().cpu() if isinstance(given, Tensor) else given)).clone()
    if example.is_floating_point():
        kinds = [p.dtype for p in module.parameters() if p.is_floating_point()]
        example = example.to(kinds[0] if kinds else torch.float32)
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
            raise ModelError(f"the module returns a {type(output).__name__}: have forward return one tensor")
        if output.ndim == 0 or len(output) != len(rows):
            raise ConfigurationError(
                f"the module turns a batch of {len(rows)} into an output of shape {tuple(output.shape)} "
                f"(example_input has shape {shape}); {advice}"
            )
    return example


def _architecture(
    module: nn.Module, name: str, init: Mapping[str, Any] | None
) -> tuple[dict[str, Any], architectures.Factory]:
    """Return what the card says of how the module is made again, and what makes it in this process."""
    arguments = dict(init or {})
    try:
        json.dumps(arguments)
    except (TypeError, ValueError) as exc:
        raise ConfigurationError(f"init must hold plain values (numbers, text, lists, dicts): {exc}") from exc
    cls = type(module)
    known = architectures.known_name(cls)
    if known and init is None:
        try:
            cls().load_state_dict(module.state_dict())
        except Exception:  # it needs arguments, or others
            known = None
    if known:
        return {"architecture": known, "init": arguments, "importable": True}, cls
    local = {"architecture": f"{cls.__qualname__}@{name}", "init": {}, "importable": False}
    return local, lambda: copy.deepcopy(module)


def _write_onnx(module: nn.Module, example: Tensor, path: Path, output_name: str, free_axis: int | None) -> None:
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
    while exc.__cause__ is not None:
        exc = exc.__cause__
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(exc)).strip().splitlines()
    reason = " ".join(line.strip() for line in lines[:3]) or type(exc).__name__
    return (
        f"{type(module).__name__} cannot be exported to ONNX: {reason} (its forward may decide nothing "
        f"in Python by values, and must take the batch size from `x.shape[0]`)"
    )
