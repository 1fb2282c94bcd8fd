"""Several edge boxes as one service: side by side, each with its own share of the requests."""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from xedge.scenario.routes import random_routes
from xedge.scenario.sources import InputSpec
from xedge.serving.inference import MLService


class Boxes:
    """Services that run together and share the requests at random, drawn from `seed`; all have the same model."""

    def __init__(self, services: Sequence[MLService], seed: int) -> None:
        self.services, self._seed = list(services), seed

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for service in self.services:
                stack.enter_context(service)
            self._running = stack.pop_all()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._running.__exit__(*exc)

    @property
    def takes(self) -> InputSpec:
        """What one request contains."""
        return self.services[0].takes

    @property
    def address(self) -> tuple[str, int]:
        """The host and port of the broker they are behind."""
        return self.services[0].address

    @property
    def prefixes(self) -> list[str]:
        """The topic prefix of every box."""
        return [service.topic_prefix for service in self.services]

    def routes(self, requests: int) -> NDArray[np.uint8]:
        """Return which box each request goes to, shape (requests,): all boxes are equally likely."""
        return random_routes(self._seed, len(self.services), requests)

    @property
    def servers(self) -> int:
        """How many batches all boxes together may have in inference at once."""
        return sum(service.servers for service in self.services)

    @property
    def busy_ms(self) -> float:
        """How long one request on average keeps all boxes together busy."""
        return self.services[0].busy_ms / len(self.services)

    @property
    def counts(self) -> Counter[str]:
        """What all boxes counted."""
        return sum((service.counts for service in self.services), Counter())

    @property
    def refused(self) -> Counter[str]:
        """What all boxes refused, by reason."""
        return sum((service.refused for service in self.services), Counter())

    def describe(self) -> dict[str, Any]:
        """Return what the first box says of itself, and how many there are."""
        return self.services[0].describe() | {"boxes": len(self.services)}
