"""The performance inversion asked and measured: edge boxes against a pooled cloud at several utilisations."""

from collections.abc import Sequence
from typing import Any

from xedge.core.exceptions import ConfigurationError
from xedge.runs.scenario import Scenario
from xedge.scenario.link import Link
from xedge.scenario.placements import Cloud, Edge
from xedge.scenario.service_times import Exponential
from xedge.studies.inversion.result import Inversion
from xedge.studies.points import measure_points, poisson_load


def scenario(
    boxes: int,
    mean_service_ms: float,
    extra_rtt_ms: float,
    utilisation: float,
    duration_s: float,
    seed: int,
    model: str = "anomaly_detector",
) -> Scenario:
    """Return edge boxes and a pooled cloud at one utilisation: M/M/1 each against M/M/c behind a longer link."""
    service: dict[str, Any] = {"service_time": Exponential(mean_ms=mean_service_ms), "max_batch": 1}
    placements: dict[str, Any] = {
        "edge": Edge(boxes=boxes, **service),
        "cloud": Cloud(link=Link(delay_ms=extra_rtt_ms / 2), servers=boxes, **service),
    }
    workload = poisson_load(utilisation, boxes, mean_service_ms, duration_s)
    return Scenario(model=model, workload=workload, placements=placements, seed=seed, timeout_s=30.0)


def measure(
    boxes: int,
    mean_service_ms: float,
    extra_rtt_ms: float,
    utilisations: Sequence[float],
    duration_s: float,
    replications: int = 5,
    *,
    seed: int = 0,
    model: str = "anomaly_detector",
    progress: bool = True,
) -> Inversion:
    """Measure edge boxes against a pooled cloud at every utilisation, behind one broker.

    Args:
        boxes: edge boxes, and servers of the cloud; 2 or more.
        mean_service_ms: mean of the exponential service time that the model's answer is held for.
        extra_rtt_ms: how much longer the round trip to the cloud is.
        utilisations: shares of the capacity, each between 0 and 1, at least two.
        duration_s: length of a trial.
        replications: trials a placement and utilisation.
        seed: of schedules, contents and service times.
        model: the model served.
        progress: show progress.

    Raises:
        ConfigurationError: an invalid argument; nothing was measured.
    """
    levels = sorted(set(utilisations))
    if boxes < 2 or len(levels) < 2:
        raise ConfigurationError(f"boxes={boxes}, utilisations={list(utilisations)}: give at least two of each")
    scenarios = {
        level: scenario(boxes, mean_service_ms, extra_rtt_ms, level, duration_s, seed + place, model)
        for place, level in enumerate(levels)
    }
    measurements = measure_points(scenarios, replications, name="inversion", progress=progress)
    return Inversion(boxes, mean_service_ms, extra_rtt_ms, measurements)
