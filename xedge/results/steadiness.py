"""How much of a trial is warm-up, and whether the rest ran in a steady state; pure, no clock and no I/O."""

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from xedge.results.statistics import FloatArray, as_array, quantile


def transient_requests(utilisation: float, servers: int = 1) -> int | None:
    """Return how many requests a queue needs to forget that it began empty: 4c/(1−√ρ)²; None at ρ ≥ 1.

    M/M/1 forgets its start as e^(−(1−√ρ)²μt) (Morse, Queues, Inventories and Maintenance, 1958), so these requests take
    at least four times as long as it takes to fall to 1/e; with c = `servers` in all, each sees 1/c of the requests.
    """
    return math.ceil(4 * servers / (1 - math.sqrt(utilisation)) ** 2) if utilisation < 1 else None


def warm_up_requests(n: int, utilisation: float, servers: int = 1) -> int:
    """Return how many of a trial's `n` requests to set apart: max(5 %, `transient_requests`), at most half."""
    transient = transient_requests(utilisation, servers)
    return min(max(math.ceil(0.05 * n), n if transient is None else transient), n // 2)


@dataclass(frozen=True)
class Steadiness:
    """Whether one trial ran in a steady state: three equal windows of its measured part compared.

    Tolerances are a factor `TOLERANCE` *and* more than sampling noise explains, so that short trials raise no false
    alarm: 4 standard errors for a median (estimated from five parts of each window, which sees that neighbouring
    requests are alike), 3 for a count; `swing` is the standard deviation of the number of open requests around its
    trend, which bursts of arrivals make large.
    """

    offered: tuple[int, ...]
    answered: tuple[int, ...]
    medians: tuple[float, ...]
    errors: tuple[float, ...]
    backlog: tuple[float, ...]
    swing: float

    TOLERANCE = 1.10

    @property
    def answers_missing(self) -> bool:
        """Whether under 0.98 of the offered requests were answered, beyond what is in flight by chance."""
        offered, answered = sum(self.offered), sum(self.answered)
        return answered / max(offered, 1) < 0.98 and offered - answered > self._chance

    @property
    def backlog_growing(self) -> bool:
        """Whether the mean number of open requests rose from window to window by over 1 % of the requests."""
        first, middle, last = self.backlog
        return first < middle < last and last - first > max(self._chance, 0.01 * sum(self.offered))

    @property
    def slowing(self) -> bool:
        """Whether a later window's median is above an earlier one's by more than the tolerance."""
        return any(self._apart(early, late) for early, late in combinations(range(3), 2))

    @property
    def quickening(self) -> bool:
        """Whether an earlier window's median is above a later one's: too short a warm-up, or a busy host."""
        return any(self._apart(late, early) for early, late in combinations(range(3), 2))

    @property
    def throughput_falling(self) -> bool:
        """Whether a later window answered a smaller share of what it was offered than an earlier one."""
        due = [max(offered, 1) for offered in self.offered]
        shares = [answered / o for answered, o in zip(self.answered, due, strict=True)]
        noise = [share / o + 2 * (self.swing / o) ** 2 for share, o in zip(shares, due, strict=True)]
        return any(
            shares[i] > self.TOLERANCE * shares[j] and shares[i] - shares[j] > 3 * math.sqrt(noise[i] + noise[j])
            for i, j in combinations(range(3), 2)
        )

    @property
    def saturated(self) -> bool:
        """Whether the service could not keep up with what it was offered (docs/method.md, Saturation)."""
        return self.answers_missing or self.backlog_growing or self.slowing or self.throughput_falling

    @property
    def _chance(self) -> float:
        """How far apart two counts of open requests may be by chance."""
        return 3 * math.sqrt(2) * max(math.sqrt(self.backlog[0]), self.swing) + 3

    def _apart(self, low: int, high: int) -> bool:
        small, large = self.medians[low], self.medians[high]
        if math.isinf(large) or math.isinf(small):
            return math.isfinite(small)
        noise = math.hypot(self.errors[low], self.errors[high])
        return large > self.TOLERANCE * small and large - small > 4 * noise


def steadiness(due: npt.ArrayLike, received: npt.ArrayLike, start: float) -> Steadiness | None:
    """Compare three equal windows of a trial from `start` to its last due time; None for under 60 requests.

    `due` and `received` (shape (n,), one unit, +inf for an answer that never came) include the warm-up, whose answers
    may fall into the first window. Answers are counted in the windows shifted by the shortest latency: with a constant
    100 ms on the way, the answers to a window arrive 100 ms after it.
    """
    order = np.argsort(as_array(due), kind="stable")
    due_at, received_at = as_array(due)[order], as_array(received)[order]
    if np.sum(due_at >= start) < 60:
        return None
    edges, latency, received_in_order = np.linspace(start, due_at[-1], 4), received_at - due_at, np.sort(received_at)
    shift = float(np.min(latency))
    begins = np.searchsorted(due_at, edges)
    answers = np.searchsorted(received_in_order, edges + (shift if math.isfinite(shift) else 0.0))
    ever = due_at[np.isfinite(received_at)]  # one that never was answered waits in no queue
    backlog = np.searchsorted(ever, due_at, "right") - np.searchsorted(received_in_order, due_at, "right")
    latencies, backlogs = (np.split(values, begins[:3])[1:] for values in (latency, backlog))
    medians, errors = zip(*map(_median_and_error, latencies), strict=True)
    return Steadiness(
        offered=tuple(np.diff(begins).tolist()),
        answered=tuple(np.diff(answers).tolist()),
        medians=medians,
        errors=errors,
        backlog=tuple(float(np.mean(part)) for part in backlogs),
        swing=max(map(_swing, backlogs)),
    )


def _swing(counts: npt.NDArray[np.int64]) -> float:
    """Return the standard deviation around a straight line through the counts."""
    at = np.arange(counts.size) - (counts.size - 1) / 2
    away = counts - np.mean(counts)
    slope = float(at @ away) / max(float(at @ at), 1.0)
    return float(np.std(away - slope * at)) if counts.size else 0.0


def _median_and_error(latency: FloatArray, parts: int = 5) -> tuple[float, float]:
    medians = [quantile(part, 0.5) for part in np.array_split(latency, parts) if part.size]
    finite = [median for median in medians if math.isfinite(median)]
    error = float(np.std(finite, ddof=1)) / math.sqrt(len(finite)) if len(finite) > 2 else math.inf
    return (quantile(latency, 0.5) if latency.size else math.inf), error
