"""One replication of a scenario: its schedule, its seeds and its inputs, the same for every placement; pure."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from xedge.core.exceptions import ConfigurationError
from xedge.scenario.scenario import Scenario
from xedge.scenario.sources import InputSpec, matching


@dataclass(frozen=True, eq=False)
class Replication:
    """What placements of one replication share (common random numbers); a request is known by its index in `due_ns`.

    Args:
        number: which replication, from 0.
        due_ns: when requests are due, shape (n,), ascending nanoseconds from the start.
        schedule_seed: what `due_ns` was drawn from.
        content_seed: what inputs are drawn from.
        link_seed: what links, service times and routes are drawn from.
    """

    number: int
    due_ns: NDArray[np.int64]
    schedule_seed: int
    content_seed: int
    link_seed: int

    @classmethod
    def of(cls, scenario: Scenario, number: int) -> Self:
        """Return replication `number` of a scenario; the same number is the same replication.

        Raises:
            ConfigurationError: no request falls due.
        """
        streams = np.random.SeedSequence([scenario.seed, number]).generate_state(3)
        schedule_seed, content_seed, link_seed = (int(state) for state in streams)
        workload = scenario.workload
        due_ns = workload.due_ns(schedule_seed)
        if len(due_ns) == 0:
            raise ConfigurationError(
                f"replication {number}: no request falls due within {workload.duration_s:g} s at "
                f"{workload.rate_hz:g} requests/s; make the workload longer"
            )
        return cls(number, due_ns, schedule_seed, content_seed, link_seed)

    def inputs(self, scenario: Scenario, spec: InputSpec) -> Any:
        """Return one input a request: an array (n, *spec.shape) of numbers, or a list of texts.

        Raises:
            ConfigurationError: the source does not make what the model takes.
        """
        inputs = matching(scenario.source, spec).inputs(len(self.due_ns), spec.shape, self.content_seed)
        return inputs.astype(spec.dtype) if spec.kind == "numbers" else inputs
