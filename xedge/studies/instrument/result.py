"""The instrument measured and judged: every statistic of stubs against their queues, the draws' luck taken out."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, Literal

import numpy as np
import pandas as pd

from xedge.core.exceptions import ConfigurationError
from xedge.core.tables import html_table
from xedge.reports.study import Findings, Headline, changed
from xedge.results.measurement import Measurement
from xedge.results.rows import latency_ms
from xedge.results.statistics import Estimate, FloatArray, mean_estimate, paired_difference
from xedge.results.words import milliseconds
from xedge.scenario.placements import Edge
from xedge.scenario.routes import box_seeds, random_routes
from xedge.scenario.service_times import Deterministic, Exponential, ServiceTime
from xedge.studies.points import by_name, estimate, measure_points, reasons, with_interval, worst_verdict
from xedge.studies.queueing import MD1, MMc, responses

SERVICE_TIMES: Mapping[str, Callable[..., ServiceTime]] = {"M/D/1": Deterministic, "M/M/1": Exponential}
STATISTICS = {"mean": None, "p50": 0.5, "p95": 0.95}
LIMITS = {"mean": 0.05, "p50": 0.10, "p95": 0.10}  # of the relative error
SHOWN = ("mean", "p95")  # on top of a page
OUTCOMES = {  # the worst first
    "off": "Failed: the instrument does not reproduce the theory",
    "not decided": "Not decided: longer trials, more replications or a quieter machine are needed",
    "within": "Passed: the instrument reproduces M/D/1 and M/M/1",
}

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
    valid: bool = True  # an INVALID measurement decides nothing

    @property
    def limit(self) -> float:
        """The largest error allowed."""
        return LIMITS[self.statistic]

    @property
    def error(self) -> Estimate:
        """How far off, as a share of theory."""
        return changed(self.off, lambda ms: ms / self.theory_ms)

    @property
    def error_percent(self) -> Estimate:
        """How far off, in percent of theory."""
        return changed(self.off, lambda ms: 100 * ms / self.theory_ms)

    @property
    def outcome(self) -> Outcome:
        """Whether the whole interval of the error is within the limit, all of it beyond, or neither; or INVALID."""
        low, high = self.error.low, self.error.high
        if low is None or high is None or not self.valid:
            return "not decided"
        if -self.limit <= low and high <= self.limit:
            return "within"
        return "off" if low > self.limit or high < -self.limit else "not decided"

    def row(self) -> dict[str, Any]:
        """Return all numbers, each estimate with the ends of its interval."""
        row: dict[str, Any] = {name: getattr(self, name) for name in ("queue", "utilisation", "statistic", "theory_ms")}
        row |= with_interval("exact_ms", self.exact) | with_interval("measured_ms", self.measured)
        row |= with_interval("off_ms", self.off) | with_interval("error", self.error)
        return row | {"limit": self.limit, "outcome": self.outcome}


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
        kind = MD1 if queue == "M/D/1" else MMc
        return kind(rate_hz=1e3 * utilisation / self.mean_service_ms, mean_service_ms=self.mean_service_ms)

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
            (trial["placement"], trial["replication"]): trial["link_seed"] for trial in measurement.conditions["trials"]
        }
        measured, exact = [], []
        for replication, rows in measurement.evidence[queue].trials.items():
            kept = ~rows["warm_up"].to_numpy(dtype=bool)
            latency = latency_ms(rows)[kept]
            measured.append(np.where(np.isnan(latency), np.inf, latency))
            due_ms = rows["due_ns"].to_numpy(dtype=np.float64) / 1e6
            exact.append(same_draws_ms(due_ms, seeds[queue, replication], self.boxes, service_time)[kept])
        return measured, exact

    @cached_property
    def checks(self) -> list[Check]:
        """Every statistic of every queue at every utilisation, in that order from within."""
        pairs = [(utilisation, queue) for utilisation in sorted(self.measurements) for queue in SERVICE_TIMES]
        return [check for utilisation, queue in pairs for check in self._checks(queue, utilisation)]

    def _checks(self, queue: str, utilisation: float) -> Iterator[Check]:
        sections, exact = self.sections(queue, utilisation)
        floor_ms, in_theory = self.floor_ms(utilisation), self.theory(queue, utilisation)
        valid = self.measurements[utilisation].verdict.placements[queue] != "INVALID"
        for statistic, p in STATISTICS.items():
            raw = (estimate(sections, p), _off(exact, sections, p))
            measured, off = (changed(number, lambda ms: ms - floor_ms) for number in raw)
            yield Check(queue, utilisation, statistic, in_theory.level_ms(p), estimate(exact, p), measured, off, valid)

    @property
    def verdict(self) -> str:
        """The worst verdict of the measurements."""
        return worst_verdict(list(self.measurements.values()))

    @property
    def outcome(self) -> Outcome:
        """The worst of all, and "not decided" where the measurement is INVALID."""
        if self.verdict == "INVALID":
            return "not decided"
        return min((check.outcome for check in self.checks), key=list(OUTCOMES).index)

    def table(self) -> pd.DataFrame:
        """Return one row a check: theory, exact queue, measured, off in ms with intervals, relative error, outcome."""
        return pd.DataFrame([check.row() for check in self.checks])

    def _repr_html_(self) -> str:
        heads = ["queue", "utilisation", "", "theory, ms", "exact queue, ms", "measured, ms", "error", "limit", ""]
        rows = []
        for check in self.checks:
            texts = [milliseconds(number, None, "") for number in (check.exact, check.measured)]
            cells = [check.queue, f"{check.utilisation:g}", check.statistic, f"{check.theory_ms:.2f}", *texts]
            rows.append([*cells, percent(check.error_percent), f"{100 * check.limit:g}\u202f%", check.outcome])
        floors = ", ".join(f"{self.floor_ms(u):.2f} ms at {u:g}" for u in sorted(self.measurements))
        return (
            f"{html_table(heads, rows)}<p>Measured is less the noise floor (median of an echo): {floors}. The exact "
            "queue has the same due times and service times; the error is measured less exact, paired, as a share of "
            "theory. ± is a 95 % interval over the replications.</p>"
        )

    def conclusion(self) -> str:
        """Return in words whether the instrument reproduces the theory, and how far off it is."""
        setting = f"{self.boxes} stubs with a service time of {self.mean_service_ms:g} ms"
        levels = ", ".join(f"{utilisation:g}" for utilisation in sorted(self.measurements))
        limits = ", ".join(f"{name} within {100 * limit:g} %" for name, limit in LIMITS.items())
        outcomes = [check.outcome for check in self.checks]
        counts = ", ".join(f"{name} {n}" for name in reversed(OUTCOMES) if (n := outcomes.count(name)))  # type: ignore[arg-type]
        worst = worst_first(self.checks)[0]
        where = f"{worst.statistic} of {worst.queue} at {worst.utilisation:g}"
        return (
            f"{OUTCOMES[self.outcome]}. {setting} behind the real broker and sender, utilisation {levels}; limits "
            f"after the noise floor: {limits}. {len(outcomes)} checks, {counts}; the largest error for its limit is "
            f"{percent(worst.error_percent)}, {where}.{reasons(self.measurements)}"
        )

    def findings(self) -> Findings:
        """Return what a page shows: the errors, the largest first."""
        shown = worst_first([check for check in self.checks if check.statistic in SHOWN])
        errors: dict[str, dict[str, Estimate]] = {}
        for check in self.checks:
            queue = errors.setdefault(f"{check.queue} at utilisation {check.utilisation:g}", {})
            queue[f"error of the {check.statistic}_percent"] = check.error_percent
        return Findings(
            conclusion=self.conclusion(),
            verdict=self.verdict,
            headline=[
                Headline(
                    f"{check.queue} at {check.utilisation:g}: error of the {check.statistic}",
                    check.error_percent, "%", f"limit {100 * check.limit:g} %: {check.outcome}",
                )
                for check in shown
            ],
            estimates=errors,
            measurements=by_name(self.measurements),
            files=by_name(self.measurements),
            facts={"instrument": self.table().to_dict("records")},
        )  # fmt: skip


def same_draws_ms(due_ms: FloatArray, seed: int, boxes: int, service_time: ServiceTime) -> FloatArray:
    """Return what exact queues make of a trial's due times and of the service times its stubs drew, ms, shape (n,).

    `due_ms` is of all requests of the trial, warm-up included; `seed` is the trial's link seed, from which is drawn too
    which request belongs to which of the `boxes` queues.
    """
    response_ms = np.empty(len(due_ms))
    box = random_routes(seed, boxes, len(due_ms))
    for number, own in enumerate(box_seeds(seed, boxes)):
        mine = box == number
        drawn = np.fromiter(islice(service_time.draws_ns(own), int(mine.sum())), dtype=np.float64) / 1e6
        response_ms[mine] = responses(due_ms[mine], drawn)
    return response_ms


def _off(exact: list[FloatArray], measured: list[FloatArray], p: float | None) -> Estimate:
    if p is not None:
        return paired_difference(exact, measured, p)
    return mean_estimate([there - here for here, there in zip(exact, measured, strict=True)])


def worst_first(checks: Sequence[Check]) -> list[Check]:
    """Return the checks, those with the largest error for their limit first, unknown errors before all."""
    return sorted(checks, key=lambda check: -abs(math.inf if (e := check.error.value) is None else e) / check.limit)


def percent(error: Estimate) -> str:
    """Return an error in percent as people read it: "+0.8 ± 0.3 %", with spaces that do not break."""
    if error.value is None or not math.isfinite(error.value):
        return "not known"
    margin = "" if error.half_width is None else f"\u202f±\u202f{error.half_width:.1f}"
    return f"{error.value:+.1f}{margin}\u202f%".replace("-", "−")


def measure(
    utilisations: Sequence[float],
    mean_service_ms: float,
    boxes: int,
    duration_s: float,
    replications: int = 5,
    *,
    seed: int = 0,
    model: str = "anomaly_detector",
    source: Any = None,
    progress: bool = True,
) -> InstrumentCheck:
    """Measure both stubs at every utilisation behind one broker: answers of a model, held for the service time.

    `utilisations` are shares of the capacity, each between 0 and 1; `mean_service_ms` is large beside the noise floor,
    such as 30; `boxes` independent queues are measured side by side in every trial of `duration_s`; intervals take two
    replications. Schedules, contents and service times are drawn from `seed`.

    Raises:
        ConfigurationError: an invalid argument; nothing was measured.
    """
    if not len(utilisations):
        raise ConfigurationError("utilisations=[]: give at least one, as [0.5, 0.8]")
    stubs = {queue: kind(mean_ms=mean_service_ms) for queue, kind in SERVICE_TIMES.items()}
    placements = {queue: Edge(service_time=time, max_batch=1, boxes=boxes) for queue, time in stubs.items()}
    asked: dict[str, Any] = {
        "model": model,
        "source": source,
        "placements": placements,
        "timeout_s": 60.0,
        "seed": seed,
    }
    load = (utilisations, boxes, mean_service_ms, duration_s)
    measurements = measure_points(*load, replications, name="instrument", progress=progress, **asked)
    return InstrumentCheck(boxes, mean_service_ms, measurements)
