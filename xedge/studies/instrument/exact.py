"""The queues that a stub must be: in theory, and exactly for the very draws of a trial."""

from collections.abc import Callable, Mapping
from itertools import islice

import numpy as np

from xedge.results.statistics import FloatArray
from xedge.scenario.routes import box_seeds, random_routes
from xedge.scenario.service_times import Deterministic, Exponential, ServiceTime
from xedge.studies.queueing import MD1, MMc, responses

SERVICE_TIMES: Mapping[str, Callable[..., ServiceTime]] = {"M/D/1": Deterministic, "M/M/1": Exponential}


def theory(queue: str, utilisation: float, mean_service_ms: float) -> MD1 | MMc:
    """Return the queue called `queue`, M/D/1 or M/M/1, at a utilisation."""
    kind = MD1 if queue == "M/D/1" else MMc
    return kind(rate_hz=1e3 * utilisation / mean_service_ms, mean_service_ms=mean_service_ms)


def same_draws_ms(due_ms: FloatArray, seed: int, boxes: int, service_time: ServiceTime) -> FloatArray:
    """Return what exact queues make of a trial's due times and of the service times its stubs drew, ms, shape (n,).

    Args:
        due_ms: due times of all requests of the trial, warm-up included.
        seed: the trial's link seed.
        boxes: independent queues; which request belongs to which is drawn from the seed.
        service_time: what the stubs draw from.
    """
    response_ms = np.empty(len(due_ms))
    box = random_routes(seed, boxes, len(due_ms))
    for number, own in enumerate(box_seeds(seed, boxes)):
        mine = box == number
        drawn = np.fromiter(islice(service_time.draws_ns(own), int(mine.sum())), dtype=np.float64) / 1e6
        response_ms[mine] = responses(due_ms[mine], drawn)
    return response_ms
