"""Quantiles, means and shares of latencies with their intervals, and comparisons: pure, no clock and no I/O.

The quantile of level p is everywhere the inverse of the empirical distribution function F: the smallest observed x with
F(x) ≥ p. It is always a value that occurred, and it stays right when some values are +inf, which is how a request that
timed out is written (right-censored: slower than anything that was waited for).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.fft import next_fast_len
from scipy.special import ndtri, stdtrit

from xedge.core.exceptions import ConfigurationError, MeasurementError

FloatArray = npt.NDArray[np.float64]
Sections = Sequence[npt.ArrayLike]

CONFIDENCE = 0.95  # of every interval
LEAST_IN_TAIL = 3  # replications for an interval above the median: with two it would rest on one difference
_ROUNDING = 1e-9  # 0.07 * 100 is 7.000000000000001: a rank must not jump for that


@dataclass(frozen=True)
class Estimate:
    """A number with its interval, and what they rest on.

    `value` is None below the floor of `needed` samples; `low` and `high` are None where no honest interval exists
    (`method` says why). `n` values in `sections` independent sections. `late` says how much of the value may be due to
    a late sender; the interval includes it, `sampling_half_width` does not, nor is it cut at 0.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    sections: int
    method: str
    needed: int = 1
    late: float = 0.0
    sampling_half_width: float | None = None

    @property
    def too_few(self) -> bool:
        """Whether there are fewer values than the level needs."""
        return self.n < self.needed

    @property
    def half_width(self) -> float | None:
        """Half the length of the interval from sampling alone, in the unit of the value; None without an interval."""
        if self.low is None or self.high is None or self.sampling_half_width is not None:
            return self.sampling_half_width
        return (self.high - self.low) / 2

    def widened(self, late: float, low: float | None = None, high: float | None = None) -> Self:
        """Return the estimate with an interval that reaches to `low` and `high`, because of a late sender's share."""
        if late <= 0:
            return self
        if self.low is None or self.high is None:
            return replace(self, late=late)
        low, high = min(self.low, self.low if low is None else low), max(self.high, self.high if high is None else high)
        return replace(self, late=late, low=low, high=high, sampling_half_width=self.half_width)


def _level(p: float) -> float:
    if not 0 < p < 1:
        raise ConfigurationError(f"the quantile's level p is {p}: give a number between 0 and 1, as 0.99 for p99")
    return p


def as_array(values: npt.ArrayLike) -> FloatArray:
    """Return `values` as one row of floats; NaN is refused."""
    array = np.asarray(values, dtype=np.float64).ravel()
    if np.isnan(array).any():
        raise MeasurementError("the values contain NaN: leave a request without a latency out, or write +inf for it")
    return array


def _rank(n: int, p: float) -> int:
    return min(max(math.ceil(n * p - _ROUNDING), 1), n) - 1


def quantile(values: npt.ArrayLike, p: float) -> float:
    """Return the smallest of `values` (any shape, one unit) with F(x) ≥ `p`; +inf where that one is censored.

    ConfigurationError if `p` is not between 0 and 1, MeasurementError without values or with NaN.

    >>> quantile([3.0, 1.0, 2.0, math.inf], 0.75)
    3.0
    """
    array = as_array(values)
    if array.size == 0:
        raise MeasurementError("no values to take a quantile of: no request of this kind was answered")
    rank = _rank(array.size, _level(p))
    return float(np.partition(array, rank)[rank])


def minimum_samples(p: float) -> int:
    """Return the least n whose maximum is above the p quantile with 95 % confidence: p**n ≤ 0.05.

    Free of any distribution (order statistics; the rule of MLPerf LoadGen): 29, 59, 299, 2995 for p90 to p99.9.
    """
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(_level(p)) - _ROUNDING)


def shortest_section(p: float) -> int:
    """Return the least length of a section that has a quantile of level `p` of its own: 1/(1 − p)."""
    return math.ceil(1 / (1 - _level(p)) - _ROUNDING)


def _sectioned(value: float, parts: Sequence[float], n: int, needed: int = 1, p: float = 0.5) -> Estimate:
    """Return value ± t·S/√R with S² = Σ(part − value)²/(R − 1), for a quantile of level `p` or a mean."""
    low = high = None
    if (count := len(parts)) < 2:
        method = "no interval: fewer than 2 sections that are long enough"
    elif not all(math.isfinite(part) for part in (value, *parts)):
        method = "no interval: censored, too many requests were not answered in time"
    elif p > 0.5 and count < LEAST_IN_TAIL:
        method = f"no interval: a quantile in the tail needs {LEAST_IN_TAIL} sections or more, here are {count}"
    else:
        spread = math.sqrt(sum((part - value) ** 2 for part in parts) / (count - 1))
        half = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * spread / math.sqrt(count)
        low, high = value - half, value + half
        method = f"sectioning, Student t over {count} sections, {CONFIDENCE:.0%}"
    return Estimate(value, low, high, n, count, method, needed)


def _filled(sections: Sections) -> list[FloatArray]:
    return [array for array in map(as_array, sections) if array.size]


def quantile_estimate(sections: Sections, p: float) -> Estimate:
    """Estimate the quantile of level `p` from independent `sections` (one array a replication, one unit).

    The value is the quantile of all sections pooled; the interval is value ± t·S/√R with S² = Σ(q_r − value)²/(R − 1)
    over the sections' own quantiles q_r (sectioning: Asmussen & Glynn, Stochastic Simulation, 2007, §III.5).
    Neighbouring requests queue behind each other, so intervals that take them for independent are far too short;
    sections are independent. No value below `minimum_samples`; no interval with fewer than 2 sections (above the median
    `LEAST_IN_TAIL`), or where one is shorter than `shortest_section`; no low end below the smallest value.
    """
    arrays = _filled(sections)
    n = sum(array.size for array in arrays)
    needed = minimum_samples(p)
    if n < needed:
        return Estimate(None, None, None, n, len(arrays), f"too few: n < {needed}", needed)
    long_enough = all(array.size >= shortest_section(p) for array in arrays)
    parts = [quantile(array, p) for array in arrays] if long_enough else []
    estimate = _sectioned(quantile(np.concatenate(arrays), p), parts, n, needed, p)
    if estimate.low is not None and estimate.low < (least := float(min(map(np.min, arrays)))):
        return replace(estimate, low=least, sampling_half_width=estimate.half_width)
    return estimate


def mean_estimate(sections: Sections) -> Estimate:
    """Estimate the mean of independent `sections`; interval as for `quantile_estimate`, from their means."""
    arrays = _filled(sections)
    if not arrays:
        return Estimate(None, None, None, 0, 0, "too few: n < 1")
    pooled = np.concatenate(arrays)
    return _sectioned(float(pooled.mean()), [float(array.mean()) for array in arrays], pooled.size)


def paired_difference(a_sections: Sections, b_sections: Sections, p: float) -> Estimate:
    """Estimate the quantile of level `p` of b minus that of a, from sections that share their random numbers.

    Section r of a and of b saw the same schedule and payloads, so what they share cancels in
    d_r = q_r(b) − q_r(a). The value is the difference of the pooled quantiles, the interval value ± t·S/√R with
    S² = Σ(d_r − value)²/(R − 1). ±inf where one side is censored, None where both are.

    Raises:
        MeasurementError: not the same number of sections, so that they do not pair.
    """
    if len(a_sections) != len(b_sections):
        unlike = f"{len(a_sections)} sections of a and {len(b_sections)} of b"
        raise MeasurementError(f"{unlike} do not pair: compare the replications that both have")
    a, b = quantile_estimate(a_sections, p), quantile_estimate(b_sections, p)
    n = min(a.n, b.n)
    if a.value is None or b.value is None:
        return Estimate(None, None, None, n, 0, f"too few: n < {a.needed}", a.needed)
    if math.isinf(a.value) and math.isinf(b.value):
        return Estimate(None, None, None, n, 0, "both censored", a.needed)
    pairs = list(zip(_filled(a_sections), _filled(b_sections), strict=False))
    paired = len(pairs) == len(a_sections) and all(min(x.size, y.size) >= shortest_section(p) for x, y in pairs)
    parts = [quantile(y, p) - quantile(x, p) for x, y in pairs] if paired else []
    return _sectioned(b.value - a.value, parts, n, a.needed, p)


def batches(values: npt.ArrayLike, k: int = 10, shortest: int = 1) -> list[FloatArray]:
    """Cut one run's `values`, in order of time, into at most `k` contiguous batches of at least `shortest`.

    The sections of a single replication (batch means), less independent than replications; one if there are too few.
    """
    array = as_array(values)
    return [np.asarray(part) for part in np.array_split(array, max(1, min(k, array.size // shortest)))]


def as_sections(replications: Sections, p: float) -> Sections:
    """Return the replications as they are, or contiguous batches of a single one, to estimate level `p`."""
    return batches(replications[0], shortest=shortest_section(p)) if len(replications) == 1 else replications


def binomial_interval(successes: int, n: int, effective: float | None = None) -> Estimate:
    """Estimate a share from `successes` of `n`, worth `effective` independent ones, by Wilson (JASA 22, 1927, 209)."""
    if n < 1 or not 0 <= successes <= n:
        raise MeasurementError(f"{successes} of {n} is not a share: there must be at least one request")
    share, size = successes / n, n if effective is None else effective
    z = float(ndtri((1 + CONFIDENCE) / 2))
    centre = (share + z * z / (2 * size)) / (1 + z * z / size)
    half = z / (1 + z * z / size) * math.sqrt(share * (1 - share) / size + z * z / (4 * size * size))
    return Estimate(share, max(0.0, centre - half), min(1.0, centre + half), n, 1, f"Wilson, {CONFIDENCE:.0%}")


def effective_size(sections: Sections) -> float:
    """Return how many independent values the mean of these `sections`, each in order of time, is worth; at most all.

    Neighbours that are alike count for less than one each: N/τ with τ = 1 + 2·Σρ_t, the autocorrelation ρ_t taken
    from all sections together and summed over the initial positive, falling pairs (Geyer, Statistical Science 7,
    1992, 473–483). Sections that differ from each other raise ρ_t (Vehtari et al., Bayesian Analysis 16, 2021,
    667–718, eq. 10). Values must be finite.
    """
    arrays = _filled(sections)
    n = sum(array.size for array in arrays)
    arrays = [array for array in arrays if array.size > 1]
    if not arrays or min(map(np.min, arrays)) == max(map(np.max, arrays)):
        return float(n)
    lags = min(array.size for array in arrays)
    within = np.mean([_autocovariance(array)[:lags] for array in arrays], axis=0)
    between = float(np.var([array.mean() for array in arrays], ddof=1)) if len(arrays) > 1 else 0.0
    rho = 1 - (within[0] - within) / (within[0] + between)
    pairs = rho[: lags // 2 * 2].reshape(-1, 2).sum(axis=1)
    ends = np.flatnonzero(pairs <= 0)
    falling = np.minimum.accumulate(pairs[: ends[0] if ends.size else None])
    return n / max(2 * float(falling.sum()) - 1, 1.0)


def _autocovariance(array: FloatArray) -> FloatArray:
    """Return the autocovariance at lags 0 … n−1, each sum divided by n."""
    length = next_fast_len(2 * array.size)
    power = np.abs(np.fft.rfft(array - array.mean(), length)) ** 2
    return np.asarray(np.fft.irfft(power, length)[: array.size] / array.size)


def episodes(sections: Sections, p: float) -> float:
    """Return how many independent values beyond the quantile of level `p` these `sections` are worth.

    The effective size of "slower than the pooled quantile", times 1 − p (or p, below the median): a p99 of 5000
    requests rests on 50 of them, but behind a busy queue these are one or two slow episodes. An interval from R
    replications covers the truth less often than it says with fewer than about R (tests/results/test_coverage.py).
    """
    arrays = _filled(sections)
    limit = quantile(np.concatenate(arrays), p) if arrays else 0.0
    return effective_size([(array > limit).astype(np.float64) for array in arrays]) * min(p, 1 - p)


def share_estimate(sections: Sections, alike: Sections | None = None) -> Estimate:
    """Estimate the share of ones in `sections` of 0 and 1, each in order of time.

    Wilson's interval for as many independent values as these are worth: `effective_size`, and no more than how much the
    sections differ lets them be, share·(1 − share)/(S²/R)·(z/t)² with S² = Σ(share_r − share)²/(R − 1), z the normal's
    and t Student's quantile over R − 1 (the effective sample of Korn and Graubard, Survey Methodology 24, 1998,
    193–201). `alike` are other zeros and ones of the same requests to take `effective_size` from: where next to all are
    ones these say nothing of how alike neighbours are. No values are a MeasurementError.
    """
    arrays, effective = _filled(sections), effective_size(sections if alike is None else alike)
    n, successes = sum(array.size for array in arrays), sum(int(np.sum(array > 0)) for array in arrays)
    if (count := len(arrays)) >= LEAST_IN_TAIL and 0 < successes < n:
        mean, level = successes / n, (1 + CONFIDENCE) / 2
        variance = sum((float(np.mean(array > 0)) - mean) ** 2 for array in arrays) / (count - 1) / count
        shrink = float(ndtri(level) / stdtrit(count - 1, level)) ** 2
        effective = min(effective, mean * (1 - mean) / variance * shrink) if variance else effective
    share = binomial_interval(successes, n, effective)
    return replace(share, sections=len(arrays), method=f"{share.method}, {effective:.0f} independent requests' worth")


def ecdf(values: npt.ArrayLike, points: int = 500) -> tuple[FloatArray, FloatArray]:
    """Return at most `points` of the curve (x, F(x)); F ends below 1 by the share of censored values.

    The points are evenly spread over the ranks, and geometrically towards either end.
    """
    ordered = np.sort(as_array(values))
    n, ranks = ordered.size, np.arange(ordered.size)
    if n > points:
        ends = np.geomspace(1, n, points // 4)
        chosen = np.concatenate([np.linspace(0, n - 1, points // 2), ends - 1, n - ends])
        ranks = np.unique(np.rint(chosen).astype(np.int64))
    x = ordered[ranks]
    share = np.searchsorted(ordered, x, side="right") / max(n, 1)
    return x[np.isfinite(x)], share[np.isfinite(x)]


def survival(values: npt.ArrayLike, points: int = 500, cut: int = 10) -> tuple[FloatArray, FloatArray]:
    """Return at most `points` of the curve (x, share of values > x), as far down as `cut` values reach."""
    n = np.size(values)
    x, share = ecdf(values, points)
    kept = np.rint((1 - share) * n) >= cut
    return x[kept], 1 - share[kept]
