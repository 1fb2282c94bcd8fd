"""How much requests that are alike, because they meet the same queue, are worth: effective sizes, shares, episodes."""

from dataclasses import replace

import numpy as np
from scipy.fft import next_fast_len

from xedge.results.statistics import Estimate, FloatArray, Sections, binomial_interval, filled, quantile


def effective_size(sections: Sections) -> float:
    """Return how many independent values the mean of these `sections`, each in order of time, is worth; at most all.

    Neighbours that are alike count for less than one each: N/τ with τ = 1 + 2·Σρ_t, the autocorrelation ρ_t taken
    from all sections together and summed over the initial positive, falling pairs (Geyer, Statistical Science 7,
    1992, 473–483). Sections that differ from each other raise ρ_t (Vehtari et al., Bayesian Analysis 16, 2021,
    667–718, eq. 10). Values must be finite.
    """
    arrays = filled(sections)
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
    centred = array - array.mean()
    power = np.abs(np.fft.rfft(centred, next_fast_len(2 * array.size))) ** 2
    return np.asarray(np.fft.irfft(power, next_fast_len(2 * array.size))[: array.size] / array.size)


def episodes(sections: Sections, p: float) -> float:
    """Return how many independent values beyond the quantile of level `p` these `sections` are worth.

    The effective size of "slower than the pooled quantile", times 1 − p (or p, below the median): a p99 of 5000
    requests rests on 50 of them, but behind a busy queue these are one or two slow episodes. An interval from R
    replications covers the truth less often than it says when there is less than about one a replication
    (tests/results/test_coverage.py).
    """
    arrays = filled(sections)
    limit = quantile(np.concatenate(arrays), p) if arrays else 0.0
    return effective_size([(array > limit).astype(np.float64) for array in arrays]) * min(p, 1 - p)


def share_estimate(sections: Sections, confidence: float = 0.95) -> Estimate:
    """Estimate the share of ones in `sections` of 0 and 1, each in order of time.

    Wilson's interval for as many independent values as these are worth (`effective_size`; the effective sample of
    Korn and Graubard, Survey Methodology 24, 1998, 193–201).

    Raises:
        MeasurementError: there are no values.
    """
    arrays = filled(sections)
    n, successes = sum(array.size for array in arrays), sum(int(np.sum(array > 0)) for array in arrays)
    effective = effective_size(arrays)
    share = binomial_interval(successes, n, confidence, effective)
    return replace(share, sections=len(arrays), method=f"{share.method}, {effective:.0f} independent requests' worth")
