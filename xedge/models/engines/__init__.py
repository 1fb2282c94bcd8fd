"""Engines turn a batch of inputs into a batch of outputs: `engine.py` says what a further one must offer."""

from xedge.models.engines.engine import Engine
from xedge.models.engines.onnx import OnnxEngine
from xedge.models.engines.pytorch import TorchEngine

__all__ = ["Engine", "OnnxEngine", "TorchEngine"]
