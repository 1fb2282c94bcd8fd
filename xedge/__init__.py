"""Measure where a model should run: on the device, at the edge or in the cloud."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:  # what the table below says, for editors and type checkers; a test compares the two
    from xedge.models.export import export as export
    from xedge.models.reference import build as build
    from xedge.reports.parameters import check_parameters as check_parameters
    from xedge.reports.publish import publish as publish
    from xedge.reports.sweeps import sweep as sweep
    from xedge.results.measurement import Measurement as Measurement
    from xedge.runs.scenario import Scenario as Scenario
    from xedge.scenario.arrivals import Bursty as Bursty
    from xedge.scenario.arrivals import Constant as Constant
    from xedge.scenario.arrivals import Poisson as Poisson
    from xedge.scenario.arrivals import Trace as Trace
    from xedge.scenario.link import GilbertElliott as GilbertElliott
    from xedge.scenario.link import Link as Link
    from xedge.scenario.placements import Cloud as Cloud
    from xedge.scenario.placements import Edge as Edge
    from xedge.scenario.placements import External as External
    from xedge.scenario.service_times import Deterministic as Deterministic
    from xedge.scenario.service_times import Exponential as Exponential
    from xedge.scenario.sources import CsvReplay as CsvReplay
    from xedge.scenario.sources import Noise as Noise
    from xedge.scenario.sources import Texts as Texts
    from xedge.scenario.sources import Vibration as Vibration
    from xedge.serving.broker import Broker as Broker
    from xedge.serving.services import CloudMLService as CloudMLService
    from xedge.serving.services import EdgeMLService as EdgeMLService

# Every public name and the module it lives in. Nothing is imported before it is used: `import xedge` starts
# nothing, configures no logging and loads neither torch nor onnxruntime.
_HOMES = {
    "Broker": "serving.broker",
    "Bursty": "scenario.arrivals",
    "Cloud": "scenario.placements",
    "CloudMLService": "serving.services",
    "Constant": "scenario.arrivals",
    "CsvReplay": "scenario.sources",
    "Deterministic": "scenario.service_times",
    "Edge": "scenario.placements",
    "EdgeMLService": "serving.services",
    "Exponential": "scenario.service_times",
    "External": "scenario.placements",
    "GilbertElliott": "scenario.link",
    "Link": "scenario.link",
    "Measurement": "results.measurement",
    "Noise": "scenario.sources",
    "Poisson": "scenario.arrivals",
    "Scenario": "runs.scenario",
    "Texts": "scenario.sources",
    "Trace": "scenario.arrivals",
    "Vibration": "scenario.sources",
    "build": "models.reference",
    "check_parameters": "reports.parameters",
    "export": "models.reference",
    "publish": "reports.publish",
    "sweep": "reports.sweeps",
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
        from xedge.core.extras import needed

        with needed("lab", f"xedge.{name}"):
            return getattr(importlib.import_module(f"xedge.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'xedge' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
