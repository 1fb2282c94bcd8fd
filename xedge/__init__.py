"""Measure where a model should run: on the device, at the edge or in the cloud."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:  # what the table below says, for editors and type checkers; a test compares the two
    from xedge.arrivals import Bursty as Bursty
    from xedge.arrivals import Constant as Constant
    from xedge.arrivals import Poisson as Poisson
    from xedge.arrivals import Trace as Trace
    from xedge.broker import Broker as Broker
    from xedge.measurement import Measurement as Measurement
    from xedge.network import GilbertElliott as GilbertElliott
    from xedge.network import Link as Link
    from xedge.parameters import check_parameters as check_parameters
    from xedge.publishing import publish as publish
    from xedge.scenario import Cloud as Cloud
    from xedge.scenario import Edge as Edge
    from xedge.scenario import External as External
    from xedge.scenario import Scenario as Scenario
    from xedge.service_times import Deterministic as Deterministic
    from xedge.service_times import Exponential as Exponential
    from xedge.services import CloudMLService as CloudMLService
    from xedge.services import EdgeMLService as EdgeMLService
    from xedge.sources import CsvReplay as CsvReplay
    from xedge.sources import Noise as Noise
    from xedge.sources import Texts as Texts
    from xedge.sources import Vibration as Vibration
    from xedge.sweeps import sweep as sweep
    from xedge.zoo import build as build
    from xedge.zoo.exporting import export as export

# Every public name and the module it lives in. Nothing is imported before it is used: `import xedge` starts
# nothing, configures no logging and loads neither torch nor onnxruntime.
_HOMES = {
    "Broker": "broker",
    "Bursty": "arrivals",
    "Cloud": "scenario",
    "CloudMLService": "services",
    "Constant": "arrivals",
    "CsvReplay": "sources",
    "Deterministic": "service_times",
    "Edge": "scenario",
    "EdgeMLService": "services",
    "Exponential": "service_times",
    "External": "scenario",
    "GilbertElliott": "network",
    "Link": "network",
    "Measurement": "measurement",
    "Noise": "sources",
    "Poisson": "arrivals",
    "Scenario": "scenario",
    "Texts": "sources",
    "Trace": "arrivals",
    "Vibration": "sources",
    "build": "zoo",
    "check_parameters": "parameters",
    "export": "zoo",
    "publish": "publishing",
    "sweep": "sweeps",
}

__all__ = [
    "Broker",
    "Bursty",
    "Cloud",
    "CloudMLService",
    "Constant",
    "CsvReplay",
    "Deterministic",
    "Edge",
    "EdgeMLService",
    "Exponential",
    "External",
    "GilbertElliott",
    "Link",
    "Measurement",
    "Noise",
    "Poisson",
    "Scenario",
    "Texts",
    "Trace",
    "Vibration",
    "build",
    "check_parameters",
    "export",
    "publish",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from xedge.extras import needed

        with needed("lab", f"xedge.{name}"):
            return getattr(importlib.import_module(f"xedge.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'xedge' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
