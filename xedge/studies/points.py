"""Several scenarios measured one after the other behind one broker, all with the calibration of the first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from xedge.core.exceptions import ConfigurationError
from xedge.core.progress import Progress, grouped
from xedge.results.measurement import Measurement
from xedge.runs.scenario import Scenario
from xedge.scenario.arrivals import Poisson
from xedge.serving.broker import Broker


@dataclass
class Points:
    """Measures scenarios behind `broker`; noise floor and links are measured with the first one."""

    broker: Broker
    replications: int
    strict: bool = True
    measurements: list[Measurement] = field(default_factory=list)

    def measure(self, scenario: Scenario) -> Measurement:
        """Measure one scenario, keep the measurement in `measurements` and return it."""
        first = self.measurements[0] if self.measurements else None
        self.measurements.append(
            scenario.measure(
                self.replications, strict=self.strict, progress=False, broker=self.broker, calibration=first
            )
        )
        return self.measurements[-1]


def measure_points(
    scenarios: Mapping[float, Scenario], replications: int, *, name: str, progress: bool = True
) -> dict[float, Measurement]:
    """Measure a scenario for every utilisation, behind one broker that is called `name`."""
    with Broker(name=name) as broker, Progress(len(scenarios), "utilisations", "measuring", progress) as bar:
        points = Points(broker, replications)
        for scenario in scenarios.values():
            points.measure(scenario)
            bar.update(len(points.measurements))
        requests = sum(len(measurement.rows) for measurement in points.measurements)
        bar.finish(f"{len(scenarios)} utilisations, {grouped(requests)} requests")
    return dict(zip(scenarios, points.measurements, strict=True))


def poisson_load(utilisation: float, servers: int, mean_service_ms: float, duration_s: float) -> Poisson:
    """Return the arrivals that keep `servers` busy for the share `utilisation` of the time.

    Raises:
        ConfigurationError: a utilisation that is not between 0 and 1.
    """
    if not 0 < utilisation < 1:
        raise ConfigurationError(f"invalid utilisation {utilisation}: give a share of the capacity between 0 and 1")
    return Poisson(rate_hz=1e3 * utilisation * servers / mean_service_ms, duration_s=duration_s)


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
