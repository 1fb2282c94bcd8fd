"""The reference models' architectures, and how an architecture's name becomes a module again.

A .pt file names a class, and to import a module is to run it. So a name leads to what is registered in this process, or
into a module that may be imported: PyTorch's own layers, what a kind of models says it has, what the user allows.
"""

import functools
import importlib
import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from xedge.core.exceptions import ModelError
from xedge.models.kinds import architectures_of_kinds
from xedge.scenario.vibration import FEATURE_NAMES, WINDOW_SAMPLES

Factory = Callable[..., nn.Module]


class SimpleAnomalyDetector(nn.Module):
    """Linear 32→16, ReLU, Linear 16→1, sigmoid: features (n, 32) to the probability of damage (n, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(len(FEATURE_NAMES), 16)
        self.output = nn.Linear(16, 1)

    def logits(self, inputs: Tensor) -> Tensor:
        """Return the log odds of damage, shape (n, 1), which training needs and the files do not show."""
        logits: Tensor = self.output(torch.relu(self.hidden(inputs)))
        return logits

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the probability of damage, shape (n, 1)."""
        return torch.sigmoid(self.logits(inputs))


class VibrationCNN(nn.Module):
    """A one-dimensional CNN: raw windows (n, 1024) at 12 kHz to the probability of damage (n, 1).

    Each window is first brought to mean 0 and variance 1, so that the mounting's gain does not matter. Then
    four convolutions, about 45 million multiplications a window, and the mean and the maximum over time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_convolution(1, 48, width=32),
            *_convolution(48, 96, width=16),
            *_convolution(96, 128, width=9),
            *_convolution(128, 128, width=9),
        )
        self.output = nn.Linear(2 * 128, 1)

    def logits(self, inputs: Tensor) -> Tensor:
        """Return the log odds of damage, shape (n, 1), which training needs and the files do not show."""
        standard = functional.layer_norm(inputs, (WINDOW_SAMPLES,))
        maps = self.layers(standard.unsqueeze(1))
        logits: Tensor = self.output(torch.cat((maps.mean(dim=2), maps.amax(dim=2)), dim=1))
        return logits

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the probability of damage, shape (n, 1)."""
        return torch.sigmoid(self.logits(inputs))


def _convolution(channels_in: int, channels_out: int, width: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv1d(channels_in, channels_out, width, stride=2, padding=width // 2, bias=False)
    return convolution, nn.BatchNorm1d(channels_out), nn.ReLU()


_FACTORIES: dict[str, Factory] = {"SimpleAnomalyDetector": SimpleAnomalyDetector, "VibrationCNN": VibrationCNN}
VARIABLE = "XEDGE_ARCHITECTURES"  # modules that .pt files may name, between commas; child processes have it too


def register(name: str, factory: Factory) -> None:
    """Let `create(name, init)` call `factory(**init)` in this process; a name known before is replaced."""
    _FACTORIES[name] = factory


def allow(module: str) -> None:
    """Let .pt files name classes of `module`, or of a package's modules, in this process and those it starts."""
    if not _is_allowed(module):
        os.environ[VARIABLE] = ",".join(filter(None, [os.environ.get(VARIABLE), module]))


def create(name: str, init: Mapping[str, Any] | None = None, architecture: Factory | str = "") -> nn.Module:
    """Return a new module of the architecture `name`, built with the keyword arguments `init`.

    `name` is a registered name, else an import path "package.module:Class" of an `nn.Module` subclass in a module that
    may be imported. `architecture` is a class to take instead, or the name of one more module that may be imported.

    Raises:
        ModelError: the name leads nowhere, to a module that may not be imported (it is not), or to something that is no
            module or refuses `init`.
    """
    factory = architecture if callable(architecture) else _FACTORIES.get(name) or _imported(name, architecture)
    try:
        module = factory(**(init or {}))
    except Exception as exc:
        raise ModelError(
            f"architecture {name!r} cannot be built with the arguments {dict(init or {})}: {exc}; "
            f"export the model again with `init=` holding the arguments its class was made with"
        ) from exc
    if not isinstance(module, nn.Module):
        raise ModelError(f"architecture {name!r} made a {type(module).__name__}, which is not a torch.nn.Module")
    return module


def known_name(cls: type) -> str | None:
    """Return the name by which any process can make `cls`; None if `__main__` or a function defines it."""
    if cls in (SimpleAnomalyDetector, VibrationCNN):
        return cls.__name__
    if cls.__module__ == "__main__" or "<locals>" in cls.__qualname__:
        return None
    path = f"{cls.__module__}:{cls.__qualname__}"
    try:
        return path if _imported(path, cls.__module__) is cls else None
    except ModelError:
        return None


def _is_allowed(module: str, also: str = "") -> bool:
    named = ["torch.nn", *architectures_of_kinds(), *os.environ.get(VARIABLE, "").split(","), also]
    return any(f"{module}.".startswith(f"{prefix.strip()}.") for prefix in named if prefix.strip())


def _imported(name: str, also: str) -> Factory:
    module_name, _, class_name = name.partition(":")
    otherwise = f"call `xedge.models.architectures.register({name!r}, Class)` first"
    if not (module_name and class_name):
        raise ModelError(
            f"unknown architecture {name!r}: this process knows {', '.join(sorted(_FACTORIES))}; put the "
            f"class in a .py file that can be imported and export the model again, or {otherwise}"
        )
    if not _is_allowed(module_name, also):
        raise ModelError(
            f"architecture {name!r} is in the module {module_name!r}, which no file may have imported unless you allow "
            f"it: set {VARIABLE}={module_name!r} if you trust it, or {otherwise}"
        )
    try:
        target = functools.reduce(getattr, class_name.split("."), importlib.import_module(module_name))
    except (ImportError, AttributeError, ValueError) as exc:
        raise ModelError(
            f"architecture {name!r} cannot be imported ({exc}): make {module_name!r} importable here "
            f"(install it, or start from its folder), or {otherwise}"
        ) from exc
    if not (isinstance(target, type) and issubclass(target, nn.Module)):
        raise ModelError(f"architecture {name!r} is not a subclass of torch.nn.Module: name the class of the model")
    return target
