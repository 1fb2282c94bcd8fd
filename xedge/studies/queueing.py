"""Closed forms of queues that a measurement is held against: M/M/c, M/D/1, and when a pooled cloud wins; pure.

Symbols: λ arrival rate, s mean service time, c servers, a = λs offered load, ρ = λs/c utilisation; T is the response
time (waiting and service), W the waiting time. Arrivals are Poisson, served in order. Rates in Hz, times in ms.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import gammaln, pdtr, pdtrc, xlogy

from xedge.core.exceptions import ConfigurationError

FloatArray = npt.NDArray[np.float64]

_TERMS = 26  # of a Poisson distribution with a mean of at most 1: what is left out is below 1e-26
_NOTHING = 40.0  # a probability below exp(-40) cannot be distinguished from 0 beside 1


@dataclass(frozen=True, kw_only=True)
class Queue:
    """Poisson arrivals of `rate_hz` at `servers` that take `mean_service_ms` on average.

    Raises:
        ConfigurationError: ρ ≥ 1, or an invalid number.
    """

    rate_hz: float
    mean_service_ms: float
    servers = 1

    def __post_init__(self) -> None:
        for name in ("rate_hz", "mean_service_ms"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigurationError(f"{type(self).__name__}: {name} is {value}: give a number above 0")
        if self.utilisation >= 1:
            raise ConfigurationError(
                f"{type(self).__name__}: {self.rate_hz:g} requests/s of {self.mean_service_ms:g} ms keep the server(s) "
                f"busy {self.utilisation:.3g} times over: without a utilisation below 1 there is no steady state"
            )

    @property
    def utilisation(self) -> float:
        """ρ = λs/c: the share of time that a server is busy."""
        return self.rate_hz * self.mean_service_ms / 1e3 / self.servers

    @property
    def mean_wait_ms(self) -> float:
        """E[W], known of each kind of queue."""
        raise NotImplementedError

    @property
    def mean_ms(self) -> float:
        """E[T] = s + E[W]."""
        return self.mean_service_ms + self.mean_wait_ms

    def quantile_ms(self, p: float) -> float:
        """Return the time that a share `p` of the requests does not exceed."""
        raise NotImplementedError

    def level_ms(self, p: float | None) -> float:
        """Return the quantile of level `p`, or the mean for None."""
        return self.mean_ms if p is None else self.quantile_ms(p)


@dataclass(frozen=True, kw_only=True)
class MMc(Queue):
    """M/M/c: `servers` of the same speed with exponential service times, one queue.

    `servers=1` is M/M/1: P(T > t) = e^(−(1−ρ)t/s), mean s/(1−ρ).
    """

    servers: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.servers, bool) or not isinstance(self.servers, int) or self.servers < 1:
            raise ConfigurationError(f"MMc: servers is {self.servers!r}: give a whole number, 1 or more")
        super().__post_init__()

    @property
    def wait_probability(self) -> float:
        """C(c, a) = B/(1 − ρ(1 − B)), the share of requests that wait (Erlang 1917).

        B = (aᶜ/c!)/Σₖ(aᵏ/k!) is the loss formula; with the sum as a Poisson distribution it stays exact for thousands
        of servers.
        """
        load = self.utilisation * self.servers
        peak = math.exp(float(xlogy(self.servers, load)) - load - float(gammaln(self.servers + 1)))
        loss = peak / float(pdtr(self.servers, load))
        return loss / (1 - self.utilisation * (1 - loss))

    @property
    def mean_wait_ms(self) -> float:
        """E[W] = C(c, a)·s/(c(1−ρ))."""
        return self.wait_probability * self.mean_service_ms / (self.servers * (1 - self.utilisation))

    def survival(self, t_ms: npt.ArrayLike) -> FloatArray:
        """Return P(T > t) for `t_ms` of any shape, exact (Gross et al., Fundamentals of Queueing Theory, 2008, §2.3).

        T = S + W, and W > 0 with probability C is exponential with mean s/(c(1−ρ)):
        P(T > t) = (1−C)·e^(−t/s) + C·P(S + V > t), V such a wait. With x, y the smaller and the larger of 1/s and
        c(1−ρ)/s, the last is e^(−xt)·(1 + xt·(1 − e^(−(y−x)t))/((y−x)t)), and e^(−xt)·(1 + xt) where c(1−ρ) = 1.
        """
        t = np.clip(np.asarray(t_ms, dtype=np.float64) / self.mean_service_ms, 0, 1e300)
        slow, fast = sorted((1.0, self.servers * (1 - self.utilisation)))
        apart = (fast - slow) * t
        shrunk = np.where(apart > 0, -np.expm1(-apart) / np.where(apart > 0, apart, 1), 1.0)
        both = np.exp(-slow * t) * (1 + slow * t * shrunk)
        waits = self.wait_probability
        return np.asarray((1 - waits) * np.exp(-t) + waits * both)

    def cdf(self, t_ms: npt.ArrayLike) -> FloatArray:
        """Return P(T ≤ t) for `t_ms` of any shape."""
        return np.asarray(1 - self.survival(t_ms))

    def quantile_ms(self, p: float) -> float:
        """Return the time that a share `p` of the requests does not exceed, by root finding on the exact form."""
        left = _left(p)
        limit = self.mean_ms
        while self.survival(limit) > left:
            limit *= 2
        return _root(lambda t: math.log(float(self.survival(t)) / left), 0.0, limit)


@dataclass(frozen=True, kw_only=True)
class MD1(Queue):
    """M/D/1: one server that always takes `mean_service_ms`."""

    @property
    def mean_wait_ms(self) -> float:
        """E[W] = ρs/(2(1−ρ)) (Pollaczek 1930; Khinchine 1932)."""
        return self.utilisation * self.mean_service_ms / (2 * (1 - self.utilisation))

    @property
    def _decay(self) -> float:
        """The y > 0 with ρ(e^y − 1) = y: P(W > t) ≤ e^(−yt/s) (Kingman 1964)."""
        rho = self.utilisation
        return _root(lambda y: rho * math.expm1(y) - y, (1 - rho) / 2, 2 + 2 * math.log(2 / rho))

    def _waiting(self, n: int) -> FloatArray:
        """Return P(at most k requests wait in the queue), k = 0 … n.

        p_m, m requests in the system, balances the steps up over m and down from it, which adds positive terms only:
        p_(m+1)·A(0) = p_0·P(A > m) + Σ_(i=1…m) p_i·P(A > m+1−i), A Poisson arrivals in one service.
        """
        rho = self.utilisation
        more = pdtrc(np.arange(n + 1), rho)  # P(A > m)
        system = np.zeros(n + 2)
        system[0] = 1 - rho
        for m in range(n + 1):
            system[m + 1] = (system[0] * more[m] + system[1 : m + 1] @ more[m:0:-1]) / math.exp(-rho)
        return np.asarray(np.minimum(np.cumsum(system)[1:], 1.0))

    def cdf(self, t_ms: npt.ArrayLike) -> FloatArray:
        """Return P(T ≤ t) for `t_ms` of any shape, exact to about 1e-13.

        Erlang (1909) and Crommelin (1932) give P(W ≤ w) as an alternating sum that loses all digits for long waits.
        This is the sum of positive terms by Franx (Operations Research Letters 29, 2001, 221–229): with k = ⌊w/s⌋ + 1
        and y = λ(ks − w), P(W ≤ w) = Σ_j e^(−y)·y^j/j!·Q_(k−1−j), Q_m the probability that at most m requests wait.
        """
        wait = np.asarray(t_ms, dtype=np.float64) / self.mean_service_ms - 1
        flat = np.clip(wait.ravel(), 0, _NOTHING / self._decay)
        begun = np.floor(flat).astype(np.int64)  # k − 1
        rest = self.utilisation * (begun + 1 - flat)
        terms = np.arange(_TERMS)
        weights = np.exp(xlogy(terms, rest[:, None]) - rest[:, None] - gammaln(terms + 1))
        places = begun[:, None] - terms
        known = self._waiting(int(begun.max(initial=0)))
        shares = np.sum(weights * np.where(places >= 0, known[np.maximum(places, 0)], 0.0), axis=1)
        shares[wait.ravel() < 0] = 0.0
        shares[wait.ravel() > _NOTHING / self._decay] = 1.0
        return np.asarray(np.minimum(shares, 1.0).reshape(wait.shape))

    def quantile_ms(self, p: float) -> float:
        """Return the time that a share `p` of the requests does not exceed; s itself up to p = 1−ρ."""
        left, s = _left(p), self.mean_service_ms
        if p <= 1 - self.utilisation:
            return s
        return _root(lambda t: float(self.cdf(t)) - p, s, s * (2 - math.log(left) / self._decay))


def responses(due: npt.ArrayLike, service: npt.ArrayLike) -> FloatArray:
    """Return the response times of one server that takes requests in order, empty at first.

    W_k = max(0, W_(k−1) + S_(k−1) − (a_k − a_(k−1))) (Lindley, Proc. Cambridge Phil. Soc. 48, 1952, 277–289).

    Args:
        due: when each request arrives, ascending, shape (n,), in any unit.
        service: how long each keeps the server, shape (n,), in the same unit.
    """
    arrived, served = np.asarray(due, dtype=np.float64), np.asarray(service, dtype=np.float64)
    steps = served[:-1] - np.diff(arrived)
    walk = np.concatenate([np.zeros(min(served.size, 1)), np.cumsum(steps)])
    return np.asarray(walk - np.minimum.accumulate(walk) + served)


def inversion_utilisation(
    servers: int, mean_service_ms: float, extra_rtt_ms: float, p: float | None = None
) -> float | None:
    """Return the utilisation above which one pooled cloud answers sooner than `servers` edge boxes.

    Each of c = `servers` boxes has its own queue (M/M/1) and 1/c of the load; the cloud has the same c servers behind
    one queue (M/M/c) and `extra_rtt_ms` of round trip more. Both work at utilisation ρ. The means are equal where

        extra_rtt = s·(ρ − C(c, cρ)/c) / (1 − ρ),   s the mean service time, C the Erlang C formula,

    and the right side grows with ρ from 0 without bound, so that above this ρ the edge is the slower one. With `p` the
    quantiles of that level are compared instead of the means. For these queues it is the exact condition of the
    performance inversion described by A. Ali-Eldin, B. Wang, P. Shenoy, "The Hidden Cost of the Edge", SC 2021 (arXiv
    2104.14050).

    Returns:
        A number between 0 and 1; 0 where `extra_rtt_ms` is 0 (the cloud wins under any load); None with one server,
        which gains nothing by pooling: there the cloud never wins.

    Raises:
        ConfigurationError: an invalid number.
    """
    MMc(rate_hz=1e-9, mean_service_ms=mean_service_ms, servers=servers)  # refuses invalid numbers
    if not (math.isfinite(extra_rtt_ms) and extra_rtt_ms >= 0):
        raise ConfigurationError(f"extra_rtt_ms is {extra_rtt_ms}: give the cloud's longer way in ms, 0 or more")
    if p is not None:
        _left(p)
    if servers == 1:
        return None
    if extra_rtt_ms == 0:
        return 0.0

    def short_of(log_idle: float) -> float:  # the gain of pooling less the way, at utilisation 1 − e^log_idle
        rate_hz = (1 - math.exp(log_idle)) / mean_service_ms * 1e3
        edge = MMc(rate_hz=rate_hz, mean_service_ms=mean_service_ms)
        cloud = MMc(rate_hz=rate_hz * servers, mean_service_ms=mean_service_ms, servers=servers)
        return edge.level_ms(p) - cloud.level_ms(p) - extra_rtt_ms

    busiest = -1.0
    while short_of(busiest) < 0:
        busiest -= 1.0
    idlest = math.log1p(-1e-9)
    return 0.0 if short_of(idlest) > 0 else 1 - math.exp(_root(short_of, busiest, idlest))


def _left(p: float) -> float:
    if not 0 < p < 1:
        raise ConfigurationError(f"the quantile's level p is {p}: give a number between 0 and 1, as 0.99 for p99")
    return 1 - p


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    return float(brentq(function, low, high, xtol=1e-12, rtol=1e-12))
