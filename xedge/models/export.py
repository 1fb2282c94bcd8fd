"""Writes one trained model for the engines, under a name, and refuses to finish if they disagree."""

import copy
import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xedge.core import machine, paths
from xedge.core.exceptions import ConfigurationError, ModelError
from xedge.core.files import file_sha256
from xedge.models import adopted, architectures, parity, programs, tracing
from xedge.models.kinds import architectures_of_kinds
from xedge.models.lookup import REFERENCE_MODELS, SUFFIXES

Array = NDArray[Any]


@dataclass(frozen=True)
class ModelFiles:
    """The files of an exported model and the largest difference found between the two engines.

    `pt` is None for a model that PyTorch does not run: of scikit-learn, or an .onnx file of somebody else's.
    """

    name: str
    onnx: Path
    pt: Path | None
    card: Path
    max_difference: float


def export(
    model: Any,
    example_input: Any = None,
    name: str = "",
    *,
    init: Mapping[str, Any] | None = None,
    models_dir: str | os.PathLike[str] | None = None,
    output: int | str | None = None,
    output_name: str = "probability",
    card: Mapping[str, Any] | None = None,
    parity_inputs: Array | None = None,
    tolerance: float = 1e-5,
    free_axis: int | None = None,
    overwrite: bool = False,
) -> ModelFiles:
    """Write `models/NAME.onnx`, `.pt` and the card `.json` of a trained model, and return their paths.

    `model` is a `torch.nn.Module`, a fitted scikit-learn estimator or pipeline (needs `xedge[sklearn]`), or the path of
    an .onnx file; the last two have no .pt, and ONNX Runtime serves them at every tier. `example_input` is a batch,
    shape (n, ...): it gives the shape and type of one input. A tuple of batches is a model of several inputs: a
    request then carries their elements side by side. Of several outputs `output`, a place or name, is the answer; of an
    .onnx file the first if nothing is said, and the example gives free axes their length.

    Both files are loaded again in their engines and compared over at least 1000 inputs: `parity_inputs`, or ones drawn
    around the example's mean and spread (whole numbers: between its smallest and largest). They may differ by
    `tolerance` times the largest number of an answer, or times 1 where that is smaller. `free_axis` is an axis of the
    example, 1 or more, that may be of any length later. `card` adds facts to the card. The module given keeps its mode
    and device. The files appear only at the end: after an error the folder is as it was.

    The .pt file holds weights and what the module computes, as calls of PyTorch's operators, so that any process loads
    it, also of a class that a notebook defines. `init` (what the class was made with) is needed only for what cannot be
    written so: its class must then be importable, and other processes need `XEDGE_ARCHITECTURES=its.module`.

    Raises:
        ConfigurationError: the name is taken (`overwrite=True` replaces that model) or no name, or the example or the
            parity inputs cannot be used.
        ModelError: the model cannot be exported, or answers depend on the batch; the message says why.
        ParityError: the engines differ by more than `tolerance` in some output.
    """
    folder = Path(models_dir) if models_dir is not None else paths.models_dir()
    _check_name(name, folder, overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder) as scratch:
        drafts = [Path(scratch) / f"{name}{suffix}" for suffix in SUFFIXES]
        if isinstance(model, str | os.PathLike):
            facts = adopted.from_file(Path(model), drafts[0], example_input, output)
        elif adopted.is_estimator(model):
            facts = adopted.from_estimator(model, drafts[0], example_input, output, parity_inputs, tolerance)
        else:
            prepared = tracing.made_ready(model, example_input, output)
            joined = isinstance(example_input, list | tuple) and isinstance(
                prepared[0], tracing.Joined | tracing.Chosen
            )
            inputs = (
                tracing.example_rows(prepared[1], parity.PARITY_INPUTS) if joined and parity_inputs is None else None
            )
            checked = parity.parity_inputs(prepared[1].numpy(), parity_inputs if inputs is None else inputs)
            facts = _from_module(model, *prepared, drafts, init, output_name, free_axis, checked, tolerance)
        whole = {"data_seed": None, "metrics": {}, "origin": "exported", **(card or {}), "name": name, **facts}
        _write_card(drafts, whole)
        has_pt = drafts[1].exists()
        onnx_file, pt, card_file = [folder / draft.name for draft in drafts]
        for draft in drafts:
            if draft.exists():
                draft.replace(folder / draft.name)
            else:
                (folder / draft.name).unlink(missing_ok=True)  # of the model replaced
    if facts.get("needs_class"):
        architectures.allow(type(model).__module__)
    return ModelFiles(name, onnx_file, pt if has_pt else None, card_file, facts["parity"]["max_abs_difference"])


def _check_name(name: str, folder: Path, overwrite: bool) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name) or name.endswith(SUFFIXES):
        raise ConfigurationError(
            f"model name {name!r}: use letters, digits, '_', '-' and '.', without folders or file endings"
        )
    there = [f"{name}{suffix}" for suffix in SUFFIXES if (folder / f"{name}{suffix}").exists()]
    if not overwrite and (there or name in REFERENCE_MODELS):
        taken = "is the name of a reference model" if name in REFERENCE_MODELS else f"is there ({', '.join(there)})"
        raise ConfigurationError(
            f"model name {name!r} {taken} in {folder}: give another name, or overwrite=True to replace that model"
        )


def _from_module(
    module: nn.Module,
    ready: nn.Module,
    example: Tensor,
    drafts: list[Path],
    init: Mapping[str, Any] | None,
    output_name: str,
    free_axis: int | None,
    inputs: Array,
    tolerance: float,
) -> dict[str, Any]:
    """Write both files of a module, compare their answers, and return what the card says of them."""
    onnx_file, pt_file, _ = drafts
    shape: list[int] = list(example.shape[1:])
    if free_axis is not None:
        if not 1 <= free_axis <= len(shape):
            raise ConfigurationError(f"free_axis is {free_axis}: the example has axes 1 to {len(shape)} of its inputs")
        shape[free_axis - 1] = -1
    made_with = {"input_shape": shape, "input_dtype": str(example.numpy().dtype)}
    named, factory = _architecture(module, ready, pt_file.stem, init)
    tracing.write_onnx(ready, example, onnx_file, output_name, free_axis)
    saved: dict[str, Any] = {**named, **made_with, "state_dict": ready.state_dict()}
    needs_class = False
    if not _needs_no_word(type(ready)) or factory is None:
        try:
            saved["program"] = programs.traced(ready, example, free_axis)
        except Exception as exc:
            if factory is None:
                raise ModelError(_cannot_be_saved(module, exc)) from exc
            needs_class = True
    torch.save(saved, pt_file)
    made_by = factory if needs_class and factory else ""
    gaps = parity.largest_difference(pt_file.stem, onnx_file, pt_file, made_by, inputs, tolerance, output_name, ready)
    return {
        "parity": {"inputs": len(inputs), **gaps, "tolerance": tolerance},
        "output_name": output_name,
        **named,
        "program": "program" in saved,
        "needs_class": needs_class,
        "parameters": sum(parameter.numel() for parameter in ready.parameters()),
        "input_name": tracing.INPUT_NAME,
        **made_with,
    }


def _needs_no_word(cls: type) -> bool:
    own = ["torch.nn", architectures.__name__, *architectures_of_kinds()]
    return any(f"{cls.__module__}.".startswith(f"{module}.") for module in own)


def _write_card(drafts: list[Path], facts: dict[str, Any]) -> None:
    facts["sha256"] = {draft.suffix[1:]: file_sha256(draft) for draft in drafts[:2] if draft.exists()}
    facts["versions"] = machine.versions()
    facts["created_utc"] = datetime.now(UTC).isoformat(timespec="seconds")
    drafts[2].write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _cannot_be_saved(module: nn.Module, exc: Exception) -> str:
    cls = type(module)
    where = "a notebook" if cls.__module__ == "__main__" else "this process"
    return (
        f"no other process could load {cls.__name__}: its class is known to {where} only, or needs arguments that "
        f"`init` does not hold, and what it computes cannot be written down ({tracing.reason(exc)}). Put the class "
        "into a .py file that can be imported, and give init= with the arguments it was made with"
    )


def _architecture(
    module: nn.Module, ready: nn.Module, name: str, init: Mapping[str, Any] | None
) -> tuple[dict[str, Any], architectures.Factory | None]:
    """Return what the files say of the class, and the class itself if the name and `init` make the module again."""
    arguments, cls = dict(init or {}), type(module)
    try:
        json.dumps(arguments)
    except (TypeError, ValueError) as exc:
        raise ConfigurationError(f"init must hold plain values (numbers, text, lists, dicts): {exc}") from exc
    known = architectures.known_name(cls) if type(ready) is cls else None
    if known:
        try:
            copy.deepcopy(cls(**arguments)).load_state_dict(ready.state_dict())
        except Exception:  # it needs arguments, or others
            known = None
    if known:
        return {"architecture": known, "init": arguments}, cls
    return {"architecture": f"{cls.__qualname__}@{name}", "init": {}}, None
