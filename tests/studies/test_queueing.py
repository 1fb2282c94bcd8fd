"""Closed forms against textbook values, each other and simulated queues."""

from __future__ import annotations

import math

import numpy as np
import pytest
import queues
from hypothesis import given, settings
from hypothesis import strategies as st

from xedge.core.exceptions import ConfigurationError
from xedge.studies.queueing import MD1, MMc, inversion_utilisation


def mm1(rho, mean_service_ms=1000.0):
    return MMc(rate_hz=1e3 * rho / mean_service_ms, mean_service_ms=mean_service_ms)


def mmc(servers, rho, mean_service_ms=1000.0):
    return MMc(rate_hz=1e3 * rho * servers / mean_service_ms, mean_service_ms=mean_service_ms, servers=servers)


def md1(rho, mean_service_ms=1000.0):
    return MD1(rate_hz=1e3 * rho / mean_service_ms, mean_service_ms=mean_service_ms)


@pytest.mark.parametrize("rho", [0.01, 0.5, 0.8, 0.99])
def test_mm1_is_exponential(rho):
    queue, t = mm1(rho, 30.0), np.linspace(0, 900, 50)
    assert queue.utilisation == pytest.approx(rho)
    assert queue.mean_ms == pytest.approx(30 / (1 - rho))
    np.testing.assert_allclose(queue.survival(t), np.exp(-(1 - rho) * t / 30), rtol=1e-9)
    for p in (0.001, 0.5, 0.95, 0.99, 0.9999):
        assert queue.quantile_ms(p) == pytest.approx(-math.log(1 - p) * 30 / (1 - rho), rel=1e-9)


def test_mmc_has_the_values_of_the_tables():
    queue = mmc(4, 0.8)
    assert queue.mean_ms / 1e3 == pytest.approx(1.746, abs=5e-4)
    assert queue.quantile_ms(0.99) / 1e3 == pytest.approx(6.893, abs=5e-4)
    assert mmc(2, 0.5).wait_probability == pytest.approx(1 / 3)  # C(2, 1)
    assert mmc(3, 2 / 3).wait_probability == pytest.approx(4 / 9)  # C(3, 2)


@pytest.mark.parametrize("servers", [1, 2, 7, 30])
def test_wait_probability_is_the_sum_of_erlang(servers):
    load = 0.7 * servers
    terms = [load**k / math.factorial(k) for k in range(servers + 1)]
    last = terms[-1] / 0.3
    assert mmc(servers, 0.7).wait_probability == pytest.approx(last / (sum(terms[:-1]) + last))


def test_wait_probability_of_many_servers_follows_halfin_and_whitt():
    """With ρ = 1 − β/√c, C → 1/(1 + βΦ(β)/φ(β)) (Operations Research 29, 1981, 567-588)."""
    beta, servers = 1.0, 1_000_000
    normal = 0.5 * (1 + math.erf(beta / math.sqrt(2))), math.exp(-(beta**2) / 2) / math.sqrt(2 * math.pi)
    limit = 1 / (1 + beta * normal[0] / normal[1])
    assert mmc(servers, 1 - beta / math.sqrt(servers)).wait_probability == pytest.approx(limit, rel=2e-3)
    assert 0 <= mmc(5000, 0.2).wait_probability < 1e-300 or mmc(5000, 0.2).wait_probability == 0


@pytest.mark.parametrize("servers", [2, 4, 20])
def test_mmc_is_continuous_where_two_rates_meet(servers):
    rho, t = 1 - 1 / servers, np.array([0.0, 0.5, 3.0, 20.0]) * 1e3
    here = mmc(servers, rho).survival(t)
    for beside in (rho - 1e-9, rho + 1e-9):
        np.testing.assert_allclose(mmc(servers, beside).survival(t), here, rtol=1e-6)
    waits = mmc(servers, rho).wait_probability
    np.testing.assert_allclose(here, np.exp(-t / 1e3) * (1 + waits * t / 1e3), rtol=1e-6)


@pytest.mark.parametrize("queue", [mm1(0.8), mmc(4, 0.75), mmc(4, 0.9), mmc(300, 0.97), md1(0.3), md1(0.9)], ids=str)
def test_distribution_has_the_mean_of_the_closed_form_and_inverts(queue):
    step = queue.mean_service_ms / 1000
    t = np.arange(0, 400_000) * step
    cdf = queue.cdf(t)
    assert np.sum(1 - cdf) * step - step / 2 == pytest.approx(queue.mean_ms, rel=1e-3)
    assert (np.diff(cdf) >= -1e-12).all()
    assert queue.cdf([-1.0, math.inf]).tolist() == [0, 1]
    assert queue.cdf(queue.mean_ms).shape == ()
    at_once = 1 - queue.utilisation if isinstance(queue, MD1) else 0
    for p in (0.5, 0.9, 0.99, 0.99999):
        assert queue.cdf(queue.quantile_ms(p)) == pytest.approx(max(p, at_once), rel=1e-9)


@pytest.mark.parametrize(("rho", "quantiles"), [(0.5, (1.000, 3.051, 4.336)), (0.8, (2.276, 7.620, 11.356))])
def test_md1_has_the_quantiles_of_the_tables(rho, quantiles):
    found = [md1(rho, 30.0).quantile_ms(p) / 30 for p in (0.5, 0.95, 0.99)]
    assert found == pytest.approx(quantiles, abs=6e-4)
    assert md1(rho).mean_ms / 1e3 == pytest.approx(1 + rho / (2 * (1 - rho)))


@pytest.mark.parametrize("rho", [0.05, 0.5, 0.9])
def test_md1_is_the_alternating_sum_of_erlang_where_that_has_digits(rho):
    for t in (0.0, 0.3, 1.0, 2.7, 4.0, 6.5):
        terms = range(math.floor(t) + 1)
        exact = (1 - rho) * sum((rho * (k - t)) ** k / math.factorial(k) * math.exp(-rho * (k - t)) for k in terms)
        assert md1(rho).cdf(1e3 * (1 + t)) == pytest.approx(exact, abs=1e-10)


def test_md1_keeps_its_digits_far_out():
    queue = md1(0.95)
    far = 1e3 * np.arange(100, 250, 10.0)
    left = 1 - queue.cdf(far)
    rates = -np.diff(np.log(left)) / 10
    assert rates == pytest.approx(np.full(rates.size, 0.101724), abs=1e-5)  # 0.95·(e^y − 1) = y
    assert queue.cdf(1e9) == 1


@pytest.mark.parametrize("p", [0.1, 0.49])
def test_md1_low_quantiles_are_one_service_time(p):
    assert md1(0.5, 30.0).quantile_ms(p) == 30.0


@pytest.mark.parametrize(
    ("queue", "times"),
    [
        (mm1(0.8), lambda rng: queues.mm1(rng, 0.8, (40, 20_000))),
        (md1(0.8), lambda rng: queues.md1(rng, 0.8, (40, 20_000))),
        (mmc(4, 0.75), lambda rng: np.stack([queues.mmc(rng, 0.75, 4, 8000) for _ in range(20)])),
        (mmc(3, 0.9), lambda rng: np.stack([queues.mmc(rng, 0.9, 3, 8000) for _ in range(20)])),
    ],
    ids=["M/M/1", "M/D/1", "M/M/4", "M/M/3"],
)
def test_closed_forms_agree_with_simulated_queues(queue, times):
    found = 1e3 * times(np.random.default_rng(12))[:, 2000:]
    at = [queue.quantile_ms(p) for p in (0.55, 0.9, 0.99)]
    shares = np.array([(found <= t).mean(axis=1) for t in at])
    error = shares.std(axis=1, ddof=1) / math.sqrt(len(found))
    np.testing.assert_array_less(np.abs(shares.mean(axis=1) - queue.cdf(at)), 4 * error)
    assert (error < 0.02).all()
    means = found.mean(axis=1)
    assert abs(means.mean() - queue.mean_ms) < 4 * means.std(ddof=1) / math.sqrt(len(found))


@given(st.integers(2, 40), st.floats(0.5, 300), st.sampled_from([None, 0.5, 0.95, 0.99]))
@settings(max_examples=40)
def test_inversion_is_where_edge_and_cloud_are_equal(servers, extra_rtt_ms, p):
    found = inversion_utilisation(servers, 30, extra_rtt_ms, p)
    for rho, sign in ((found * 0.98, -1), (found, 0), (1 - 0.98 * (1 - found), 1)):
        edge, cloud = mm1(rho, 30), mmc(servers, rho, 30)
        at_edge, at_cloud = (q.mean_ms if p is None else q.quantile_ms(p) for q in (edge, cloud))
        gain = at_edge - at_cloud - extra_rtt_ms
        assert (gain == pytest.approx(0, abs=1e-6)) if sign == 0 else (gain * sign > 0)


def test_inversion_of_the_means_has_the_closed_condition():
    rho = inversion_utilisation(5, 30, 24)
    assert 30 * (rho - mmc(5, rho).wait_probability / 5) / (1 - rho) == pytest.approx(24)
    assert inversion_utilisation(10_000, 30, 24) == pytest.approx(24 / (24 + 30))  # nobody waits in the cloud


@given(st.integers(2, 50), st.floats(0.01, 10))
@settings(max_examples=30)
def test_tails_invert_before_the_mean_and_the_mean_before_the_median(servers, ratio):
    p99, p95, mean, p50 = (inversion_utilisation(servers, 20, 20 * ratio, p) for p in (0.99, 0.95, None, 0.5))
    assert 0 < p99 < p95 < mean < p50 < 1


def test_inversion_of_nothing_to_pool_or_nothing_to_cross():
    assert inversion_utilisation(1, 30, 24) is None
    assert inversion_utilisation(5, 30, 0) == inversion_utilisation(5, 30, 0, 0.99) == 0


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: MMc(rate_hz=40, mean_service_ms=30, servers=1), "busy 1.2 times over"),
        (lambda: MMc(rate_hz=100, mean_service_ms=30, servers=3), "steady state"),
        (lambda: MD1(rate_hz=100, mean_service_ms=10), "MD1: .* 1 times over"),
        (lambda: MMc(rate_hz=1, mean_service_ms=30, servers=0), "servers is 0"),
        (lambda: MMc(rate_hz=1, mean_service_ms=30, servers=2.0), "whole number"),
        (lambda: MMc(rate_hz=0, mean_service_ms=30), "rate_hz is 0"),
        (lambda: MD1(rate_hz=1, mean_service_ms=math.nan), "mean_service_ms is nan"),
        (lambda: mm1(0.5).quantile_ms(99), "0.99 for p99"),
        (lambda: md1(0.5).quantile_ms(1), "level p is 1"),
        (lambda: inversion_utilisation(5, 30, -1), "extra_rtt_ms is -1"),
        (lambda: inversion_utilisation(0, 30, 1), "servers is 0"),
        (lambda: inversion_utilisation(5, 0, 1), "mean_service_ms is 0"),
        (lambda: inversion_utilisation(5, 30, 1, 95), "0.99 for p99"),
    ],
)
def test_what_cannot_be_is_refused(make, says):
    with pytest.raises(ConfigurationError, match=says):
        make()
