"""The instrument held against theory: stubs with known service times behind the broker must be M/D/1 and M/M/1."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, Literal

import numpy as np
import pandas as pd

from xedge.core.exceptions import ConfigurationError
from xedge.core.progress import Progress, grouped
from xedge.reports import run as report
from xedge.reports.publish import Prose, reasons
from xedge.reports.publish import publish as publish_measurement
from xedge.results.measurement import Measurement
from xedge.results.rows import latency_ms, trials
from xedge.results.statistics import Estimate, FloatArray, mean_estimate, paired_difference, quantile_estimate
from xedge.results.words import milliseconds
from xedge.runs.scenario import Scenario
from xedge.scenario.arrivals import Poisson
from xedge.scenario.placements import Edge
from xedge.scenario.routes import box_seeds, random_routes
from xedge.scenario.service_times import Deterministic, Exponential, ServiceTime
from xedge.serving.broker import Broker
from xedge.studies.queueing import MD1, MMc, responses

SERVICE_TIMES: Mapping[str, Callable[..., ServiceTime]] = {"M/D/1": Deterministic, "M/M/1": Exponential}
STATISTICS = {"mean": None, "p50": 0.5, "p95": 0.95}
LIMITS = {"mean": 0.05, "p50": 0.10, "p95": 0.10}  # of the relative error

Outcome = Literal["within", "not decided", "off"]


@dataclass(frozen=True)
class Check:
    """One statistic of one queue at one utilisation, in ms, the noise floor taken off what was measured.

    With few requests even an exact queue is far from theory, by luck. So `exact` is what an exact queue makes of the
    due times and service times of these very requests, `off` is measured less exact, paired by replication, and
    theory + off is what was measured with the luck taken out: a control variate with coefficient 1 (Law, Simulation
    Modeling and Analysis, 2015, §11.4). It has the expectation of `measured` and a far shorter interval.
    """

    queue: str
    utilisation: float
    statistic: str
    theory_ms: float
    exact: Estimate
    measured: Estimate
    off: Estimate

    @property
    def limit(self) -> float:
        """The largest error allowed."""
        return LIMITS[self.statistic]

    @property
    def error(self) -> Estimate:
        """How far off, as a share of theory."""
        return _changed(self.off, lambda ms: ms / self.theory_ms)

    @property
    def outcome(self) -> Outcome:
        """Whether the whole interval of the error is within the limit, all of it beyond, or neither."""
        low, high = self.error.low, self.error.high
        if low is None or high is None:
            return "not decided"
        if -self.limit <= low and high <= self.limit:
            return "within"
        return "off" if low > self.limit or high < -self.limit else "not decided"


@dataclass(frozen=True)
class InstrumentCheck:
    """Stubs measured at several utilisations: `measurements` maps utilisation → measurement of M/D/1 and M/M/1.

    Every placement is `boxes` independent queues with a service time of `mean_service_ms`, so that a minute yields
    as many requests as `boxes` minutes.
    """

    boxes: int
    mean_service_ms: float
    measurements: dict[float, Measurement]

    def theory(self, queue: str, utilisation: float) -> MD1 | MMc:
        """Return the queue in theory."""
        rate_hz = 1e3 * utilisation / self.mean_service_ms
        kind = MD1 if queue == "M/D/1" else MMc
        return kind(rate_hz=rate_hz, mean_service_ms=self.mean_service_ms)

    def floor_ms(self, utilisation: float) -> float:
        """Return the noise floor: the median of an echo behind the same broker."""
        return float(self.measurements[utilisation].conditions["noise_floor"]["p50_ms"])

    def sections(self, queue: str, utilisation: float) -> tuple[list[FloatArray], list[FloatArray]]:
        """Return measured latencies and those of an exact queue with the same draws, in ms, one array a replication.

        The warm-up is set apart; what was not answered is +inf.
        """
        measurement = self.measurements[utilisation]
        service_time = SERVICE_TIMES[queue](mean_ms=self.mean_service_ms)
        seeds = {
            trial["replication"]: trial["link_seed"]
            for trial in measurement.conditions["trials"]
            if trial["placement"] == queue
        }
        measured, exact = [], []
        for replication, rows in trials(measurement.rows, queue):
            kept = ~rows["warm_up"].to_numpy(dtype=bool)
            latency = latency_ms(rows)[kept]
            measured.append(np.where(np.isnan(latency), np.inf, latency))
            due_ms = rows["due_ns"].to_numpy(dtype=np.float64) / 1e6
            exact.append(same_draws_ms(due_ms, seeds[replication], self.boxes, service_time)[kept])
        return measured, exact

    @cached_property
    def checks(self) -> list[Check]:
        """Every statistic of every queue at every utilisation, in that order from within."""
        return [
            check
            for utilisation in sorted(self.measurements)
            for queue in SERVICE_TIMES
            for check in self._checks(queue, utilisation)
        ]

    def _checks(self, queue: str, utilisation: float) -> Iterator[Check]:
        measured, exact = self.sections(queue, utilisation)
        floor_ms, theory = self.floor_ms(utilisation), self.theory(queue, utilisation)
        for statistic, p in STATISTICS.items():
            theory_ms = theory.mean_ms if p is None else theory.quantile_ms(p)
            found, off = (
                _changed(one, lambda ms: ms - floor_ms) for one in (_estimate(measured, p), _off(exact, measured, p))
            )
            yield Check(queue, utilisation, statistic, theory_ms, _estimate(exact, p), found, off)

    @property
    def outcome(self) -> Outcome:
        """The worst of all, and "not decided" where the measurement is INVALID."""
        if any(one.verdict.word == "INVALID" for one in self.measurements.values()):
            return "not decided"
        found = {check.outcome for check in self.checks}
        ranked: tuple[Outcome, ...] = ("off", "not decided", "within")
        return next(word for word in ranked if word in found)

    def table(self) -> pd.DataFrame:
        """Return one row a check: theory, exact queue, measured, off in ms with intervals, relative error, outcome."""
        return pd.DataFrame([_row(check) for check in self.checks])

    def _repr_html_(self) -> str:
        heads = ["queue", "utilisation", "", "theory, ms", "exact queue, ms", "measured, ms", "error", "limit", ""]
        lines = []
        for check in self.checks:
            texts = [milliseconds(estimate, None, "") for estimate in (check.exact, check.measured)]
            cells = [check.queue, f"{check.utilisation:g}", check.statistic, f"{check.theory_ms:.2f}", *texts]
            lines.append([*cells, told(check.error), f"{100 * check.limit:g}\u202f%", check.outcome])
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in heads)
        body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in line)}</tr>" for line in lines)
        floors = ", ".join(f"{self.floor_ms(u):.2f} ms at {u:g}" for u in sorted(self.measurements))
        return (
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
            f"<p>Measured is less the noise floor (median of an echo): {floors}. The exact queue has the same due "
            "times and service times; the error is measured less exact, paired, as a share of theory. ± is a 95 % "
            "interval over the replications.</p>"
        )

    def conclusion(self) -> str:
        """Return in words whether the instrument reproduces the theory, and how far off it is."""
        levels = ", ".join(f"{utilisation:g}" for utilisation in sorted(self.measurements))
        setting = (
            f"{self.boxes} stubs with a service time of {self.mean_service_ms:g} ms behind the real broker and sender, "
            f"utilisation {levels}"
        )
        limits = ", ".join(f"{name} within {100 * limit:g} %" for name, limit in LIMITS.items())
        counted = [f"{name} {count}" for name in ("within", "not decided", "off") if (count := self._count(name))]
        passed = {
            "within": "Passed: the instrument reproduces M/D/1 and M/M/1",
            "not decided": "Not decided: longer trials, more replications or a quieter machine are needed",
            "off": "Failed: the instrument does not reproduce the theory",
        }[self.outcome]
        return f"{passed}. {setting}; limits after the noise floor: {limits}. {len(self.checks)} checks, " + (
            f"{', '.join(counted)}; {self._worst()}.{self._doubt()}"
        )

    def _count(self, outcome: str) -> int:
        return sum(check.outcome == outcome for check in self.checks)

    def _worst(self) -> str:
        worst = worst_first(self.checks)[0]
        where = f"{worst.statistic} of {worst.queue} at {worst.utilisation:g}"
        return f"the largest error for its limit is {told(worst.error)}, {where}"

    def _doubt(self) -> str:
        return reasons({f"Utilisation {u:g}": one for u, one in sorted(self.measurements.items())})


def _estimate(sections: list[FloatArray], p: float | None) -> Estimate:
    return mean_estimate(sections) if p is None else quantile_estimate(sections, p)


def _off(exact: list[FloatArray], measured: list[FloatArray], p: float | None) -> Estimate:
    if p is not None:
        return paired_difference(exact, measured, p)
    return mean_estimate([there - here for here, there in zip(exact, measured, strict=True)])


def _changed(estimate: Estimate, change: Callable[[float], float]) -> Estimate:
    ends = [None if end is None else change(end) for end in (estimate.value, estimate.low, estimate.high)]
    return Estimate(ends[0], ends[1], ends[2], estimate.n, estimate.sections, estimate.method, estimate.needed)


def worst_first(checks: Sequence[Check]) -> list[Check]:
    """Return the checks, those with the largest error for their limit first, unknown errors before all."""
    unknown = math.inf
    return sorted(checks, key=lambda check: -abs(unknown if (e := check.error.value) is None else e) / check.limit)


def told(error: Estimate) -> str:
    """Return a relative error as people read it: "+0.8 ± 0.3 %", with spaces that do not break."""
    if error.value is None or not math.isfinite(error.value):
        return "not known"
    margin = "" if error.half_width is None else f"\u202f±\u202f{100 * error.half_width:.1f}"
    return f"{100 * error.value:+.1f}{margin}\u202f%".replace("-", "−")


def same_draws_ms(due_ms: FloatArray, seed: int, boxes: int, service_time: ServiceTime) -> FloatArray:
    """Return what exact queues make of a trial's due times and of the service times its stubs drew, ms, shape (n,).

    Args:
        due_ms: due times of all requests of the trial, warm-up included.
        seed: the trial's link seed.
        boxes: independent queues; which request belongs to which is drawn from the seed.
        service_time: what the stubs draw from.
    """
    found = np.empty(len(due_ms))
    box = random_routes(seed, boxes, len(due_ms))
    for number, own in enumerate(box_seeds(seed, boxes)):
        mine = box == number
        drawn = np.fromiter(islice(service_time.draws_ns(own), int(mine.sum())), dtype=np.float64) / 1e6
        found[mine] = responses(due_ms[mine], drawn)
    return found


def scenario(
    utilisation: float, mean_service_ms: float, boxes: int, duration_s: float, seed: int, model: str
) -> Scenario:
    """Return both stubs at one utilisation; the model computes, and its answer is held for the service time."""
    if not 0 < utilisation < 1:
        raise ConfigurationError(f"utilisation {utilisation}: give a share of the capacity between 0 and 1, as 0.8")
    placements: dict[str, Any] = {
        queue: Edge(service_time=kind(mean_ms=mean_service_ms), max_batch=1, boxes=boxes)
        for queue, kind in SERVICE_TIMES.items()
    }
    workload = Poisson(rate_hz=1e3 * utilisation * boxes / mean_service_ms, duration_s=duration_s)
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
        ConfigurationError: numbers that cannot be meant; nothing was measured.
    """
    levels = sorted(set(utilisations))
    if not levels:
        raise ConfigurationError("utilisations=[]: give at least one, as [0.5, 0.8]")
    told = [scenario(u, mean_service_ms, boxes, duration_s, seed + k, model) for k, u in enumerate(levels)]
    taken: dict[float, Measurement] = {}
    first: Measurement | None = None
    with Broker(name="instrument") as broker, Progress(len(levels), "utilisations", "measuring", progress) as bar:
        for done, (level, one) in enumerate(zip(levels, told, strict=True)):
            taken[level] = one.measure(replications, progress=False, broker=broker, calibration=first)
            first = first or taken[level]
            bar.update(done + 1)
        bar.finish(f"{len(levels)} utilisations, {grouped(sum(len(one.rows) for one in taken.values()))} requests")
    return InstrumentCheck(boxes, mean_service_ms, taken)


def publish(found: InstrumentCheck) -> Prose:
    """Put the outcome on top of the report, save every measurement beside it, and return the conclusion."""
    for utilisation, measurement in found.measurements.items():
        publish_measurement(measurement, f"utilisation-{utilisation:g}")
    conclusion = found.conclusion()
    shown = [check for check in found.checks if check.statistic in ("mean", "p95")]
    report.record("headline", [_headline(check) for check in worst_first(shown)[:4]])
    report.record("conclusion", conclusion)
    report.record("instrument", found.table().to_dict("records"))
    return Prose(conclusion)


def _headline(check: Check) -> dict[str, str]:
    value, _, margin = told(check.error).removesuffix("\u202f%").partition("\u202f±\u202f")
    detail = f"± {margin} %; limit {100 * check.limit:g} %: {check.outcome}" if margin else check.outcome
    label = f"{check.queue} at {check.utilisation:g}: error of the {check.statistic}"
    return {"label": label, "value": value, "unit": "%" * (value != "not known"), "detail": detail}


def _row(check: Check) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(check, name) for name in ("queue", "utilisation", "statistic", "theory_ms")}
    numbers = {"exact_ms": check.exact, "measured_ms": check.measured, "off_ms": check.off, "error": check.error}
    for name, estimate in numbers.items():
        row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return row | {"limit": check.limit, "outcome": check.outcome}
