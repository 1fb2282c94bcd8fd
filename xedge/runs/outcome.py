"""What came of the requests of a trial, however they were answered."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

READINGS = ("read_ns", "arrived_ns", "started_ns", "finished_ns", "departed_ns")
STAMPS = ("sent_ns", *READINGS, "received_ns")


@dataclass
class Outcome:
    """What came of the `n` requests of a trial: clock readings in ns from the schedule's zero, -1 is never.

    `predictions` holds what was answered, `labels` what a service called it, `errors` why a request was refused.
    """

    n: int
    readings: dict[str, NDArray[np.int64]] = field(init=False)
    predictions: list[Any] = field(init=False)
    labels: list[str | None] = field(init=False)
    errors: NDArray[np.object_] = field(init=False)

    def __post_init__(self) -> None:
        self.readings = {name: np.full(self.n, -1, np.int64) for name in STAMPS}
        self.predictions, self.labels = [None] * self.n, [None] * self.n
        self.errors = np.full(self.n, None, object)
