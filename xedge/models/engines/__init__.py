"""Engines: a model file loaded so that a batch of inputs becomes a batch of outputs.

`engine.py` says what one must offer; a further one is a module beside `onnx.py` and `pytorch.py` and a line below.
"""

from xedge.models.engines.engine import Engine
from xedge.models.engines.onnx import OnnxEngine
from xedge.models.engines.pytorch import TorchEngine

__all__ = ["Engine", "OnnxEngine", "TorchEngine"]
