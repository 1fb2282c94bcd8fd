"""Measure where a model should run: on the device, at the edge or in the cloud."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Every public name and the module it lives in. Nothing is imported before it is used: `import xedge` starts
# nothing, configures no logging and loads neither torch nor onnxruntime.
_HOMES = {
    "Broker": "broker",
    "Cloud": "scenario",
    "CloudMLService": "services",
    "Constant": "arrivals",
    "CsvReplay": "sources",
    "Edge": "scenario",
    "EdgeMLService": "services",
    "Link": "network",
    "Measurement": "measurement",
    "Noise": "sources",
    "Poisson": "arrivals",
    "Scenario": "scenario",
    "Trace": "arrivals",
    "Vibration": "sources",
    "build": "zoo",
    "check_parameters": "parameters",
    "export": "zoo",
    "publish": "publishing",
}

__all__ = [
    "Broker",
    "Cloud",
    "CloudMLService",
    "Constant",
    "CsvReplay",
    "Edge",
    "EdgeMLService",
    "Link",
    "Measurement",
    "Noise",
    "Poisson",
    "Scenario",
    "Trace",
    "Vibration",
    "build",
    "check_parameters",
    "export",
    "publish",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"xedge.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'xedge' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
