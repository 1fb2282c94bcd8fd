"""Simulated queues, to hold closed forms and intervals against."""

from __future__ import annotations

import heapq

import numpy as np


def waits(gaps, services):
    """Waiting times at one server by Lindley's recursion along the last axis, the first request finding it empty."""
    step = np.zeros(np.broadcast_shapes(gaps.shape, services.shape))
    step[..., 1:] = services[..., :-1] - gaps[..., 1:]
    walk = np.cumsum(step, axis=-1)
    return walk - np.minimum.accumulate(walk, axis=-1)


def mm1(rng, rho, shape):
    """Response times of M/M/1 with service time 1, empty at first."""
    services = rng.exponential(size=shape)
    return waits(rng.exponential(1 / rho, size=shape), services) + services


def md1(rng, rho, shape):
    """Response times of M/D/1 with service time 1, empty at first."""
    return waits(rng.exponential(1 / rho, size=shape), np.ones(shape)) + 1


def mmc(rng, rho, servers, n):
    """Response times of M/M/c with service time 1, empty at first."""
    due = np.cumsum(rng.exponential(1 / (rho * servers), size=n))
    free, found = [0.0] * servers, np.empty(n)
    for k, (at, service) in enumerate(zip(due.tolist(), rng.exponential(size=n).tolist(), strict=True)):
        done = max(at, heapq.heappop(free)) + service
        heapq.heappush(free, done)
        found[k] = done - at
    return found
