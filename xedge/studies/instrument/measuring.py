"""The instrument's check asked and measured: stubs with known service times at several utilisations."""

from collections.abc import Sequence
from typing import Any

from xedge.core.exceptions import ConfigurationError
from xedge.runs.scenario import Scenario
from xedge.scenario.placements import Edge
from xedge.studies.instrument.exact import SERVICE_TIMES
from xedge.studies.instrument.result import InstrumentCheck
from xedge.studies.points import measure_points, poisson_load


def scenario(
    utilisation: float, mean_service_ms: float, boxes: int, duration_s: float, seed: int, model: str
) -> Scenario:
    """Return both stubs at one utilisation; the model computes, and its answer is held for the service time."""
    placements: dict[str, Any] = {
        queue: Edge(service_time=kind(mean_ms=mean_service_ms), max_batch=1, boxes=boxes)
        for queue, kind in SERVICE_TIMES.items()
    }
    workload = poisson_load(utilisation, boxes, mean_service_ms, duration_s)
    return Scenario(model=model, workload=workload, placements=placements, seed=seed, timeout_s=60.0)


def measure(
    utilisations: Sequence[float],
    mean_service_ms: float,
    boxes: int,
    duration_s: float,
    replications: int = 5,
    *,
    seed: int = 0,
    model: str = "anomaly_detector",
    progress: bool = True,
) -> InstrumentCheck:
    """Measure both stubs at every utilisation, behind one broker.

    Args:
        utilisations: shares of the capacity, each between 0 and 1.
        mean_service_ms: service time of the stubs; large beside the noise floor, such as 30.
        boxes: independent queues measured side by side in every trial.
        duration_s: length of a trial.
        replications: trials a placement and utilisation; at least 2 for intervals.
        seed: of schedules, contents and service times.
        model: the model that computes the answers.
        progress: show progress.

    Raises:
        ConfigurationError: an invalid argument; nothing was measured.
    """
    levels = sorted(set(utilisations))
    if not levels:
        raise ConfigurationError("utilisations=[]: give at least one, as [0.5, 0.8]")
    scenarios = {
        level: scenario(level, mean_service_ms, boxes, duration_s, seed + place, model)
        for place, level in enumerate(levels)
    }
    return InstrumentCheck(
        boxes, mean_service_ms, measure_points(scenarios, replications, name="instrument", progress=progress)
    )
