"""Engines: a model file loaded so that a batch of inputs becomes a batch of outputs.

`engine.py` says what one must offer; a further one is a module beside `onnx.py` and `pytorch.py` and a line below.
"""

import os
from pathlib import Path
from typing import Any

from xedge.core.exceptions import ConfigurationError
from xedge.models.engines.engine import Engine, PathLike
from xedge.models.engines.onnx import OnnxEngine
from xedge.models.engines.pytorch import TorchEngine

__all__ = ["Engine", "OnnxEngine", "TorchEngine", "load"]


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
