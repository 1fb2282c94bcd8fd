"""Several scenarios measured one after the other behind one broker, all with the calibration of the first."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xedge.core.exceptions import ConfigurationError
from xedge.core.progress import Progress, grouped
from xedge.results.measurement import Measurement
from xedge.results.statistics import Estimate, FloatArray, Sections, mean_estimate, quantile_estimate
from xedge.runs.scenario import Scenario
from xedge.scenario.arrivals import Poisson
from xedge.serving.broker import Broker


@dataclass
class Points:
    """Measures scenarios behind `broker`; noise floor and links are measured with the first one that sends."""

    broker: Broker
    replications: int
    strict: bool = True
    measurements: list[Measurement] = field(default_factory=list)

    def measure(self, scenario: Scenario) -> Measurement:
        """Measure one scenario, keep the measurement in `measurements` and return it."""
        first = next((each for each in self.measurements if each.conditions["noise_floor"]), None)
        how: dict[str, Any] = {"strict": self.strict, "broker": self.broker, "calibration": first}
        self.measurements.append(scenario.measure(self.replications, progress=False, **how))
        return self.measurements[-1]


def measure_points(
    utilisations: Sequence[float],
    servers: int,
    mean_service_ms: float,
    duration_s: float,
    replications: int,
    *,
    name: str,
    progress: bool,
    seed: int,
    **scenario: Any,
) -> dict[float, Measurement]:
    """Measure a scenario under Poisson arrivals that keep `servers` busy for the shares `utilisations` of the time.

    All are behind one broker that is called `name`, each has a seed of its own, ascending from `seed`.

    Raises:
        ConfigurationError: a utilisation that is not between 0 and 1, or an invalid scenario; nothing was measured.
    """
    scenarios: dict[float, Scenario] = {}
    for place, level in enumerate(sorted(set(utilisations))):
        if not 0 < level < 1:
            raise ConfigurationError(f"invalid utilisation {level}: give a share of the capacity between 0 and 1")
        workload = Poisson(rate_hz=1e3 * level * servers / mean_service_ms, duration_s=duration_s)
        scenarios[level] = Scenario(workload=workload, seed=seed + place, **scenario)
    with Broker(name=name) as broker, Progress(len(scenarios), "utilisations", "measuring", progress) as bar:
        points = Points(broker, replications)
        for each in scenarios.values():
            points.measure(each)
            bar.update(len(points.measurements))
        requests = sum(len(measurement.rows) for measurement in points.measurements)
        bar.finish(f"{len(scenarios)} utilisations, {grouped(requests)} requests")
    return dict(zip(scenarios, points.measurements, strict=True))


def estimate(sections: Sections, p: float | None) -> Estimate:
    """Return the quantile of level `p`, or the mean for None, with its interval."""
    return mean_estimate(sections) if p is None else quantile_estimate(sections, p)


def with_interval(name: str, estimate: Estimate) -> dict[str, float | None]:
    """Return the columns `name`, `name`_low and `name`_high of a table."""
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def known(points: Iterable[tuple[float, Estimate]]) -> FloatArray:
    """Return place, value and half-width of the estimates that have a finite value, shape (3, n)."""
    finite = ((place, e) for place, e in points if e.value is not None and math.isfinite(e.value))
    finite_points = [(place, e.value, e.half_width or 0.0) for place, e in finite]
    return np.array(finite_points, dtype=np.float64).reshape(-1, 3).T


def by_name(measurements: Mapping[float, Measurement]) -> dict[str, Measurement]:
    """Return the measurements by the names they have on a page: "utilisation-0.4"."""
    return {f"utilisation-{utilisation:g}": measurement for utilisation, measurement in measurements.items()}


def worst_verdict(measurements: Sequence[Measurement]) -> str:
    """Return INVALID where one measurement is, else SATURATED where one is, else VALID."""
    ranked = ("INVALID", "SATURATED", "VALID")
    return min((measurement.verdict.word for measurement in measurements), key=ranked.index)


def reasons(measurements: Mapping[float, Measurement]) -> str:
    """Return a paragraph, after an empty line, for each of the measurements that is not VALID, and why."""
    return "".join(
        f"\n\nUtilisation {utilisation:g}: {measurement.verdict}."
        for utilisation, measurement in sorted(measurements.items())
        if not measurement.verdict.valid
    )
