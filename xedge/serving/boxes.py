"""Several edge boxes as one placement: services side by side, each with its own share of the requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from xedge.serving.messages import Topics

if TYPE_CHECKING:
    from xedge.models.engines import Engine
    from xedge.serving.services import MLService


def box_prefix(prefix: str, box: int) -> str:
    """Return the topic prefix of one box among those below `prefix`."""
    return f"{prefix}/box-{box}" if prefix else f"box-{box}"


def box_topics(prefix: str, boxes: int) -> list[Topics]:
    """Return the topics of every box; those of the one service itself when there are no boxes (0)."""
    return [Topics(box_prefix(prefix, box)) for box in range(boxes)] or [Topics(prefix)]


def box_seeds(seed: int, boxes: int) -> list[int]:
    """Return the seed of every box; one box alone has the seed of the trial."""
    return [seed] if boxes == 1 else np.random.SeedSequence([seed, boxes]).generate_state(boxes).tolist()


def assigned_boxes(seed: int, boxes: int, requests: int) -> NDArray[np.uint8]:
    """Return which box each request belongs to, shape (requests,): all boxes are equally likely."""
    return np.random.default_rng([seed, 3]).integers(boxes, size=requests, dtype=np.uint8)


class Boxes:
    """`boxes` services, made by `make(topic_prefix, seed)` and run together; a trial takes them for one service."""

    def __init__(self, boxes: int, prefix: str, seed: int, make: Callable[[str, int], MLService]) -> None:
        self.services = [make(box_prefix(prefix, box), own) for box, own in enumerate(box_seeds(seed, boxes))]
        self._prefix, self._seed = prefix, seed

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for service in self.services:
                stack.enter_context(service)
            self._running = stack.pop_all()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._running.__exit__(*exc)

    @property
    def engine(self) -> Engine:
        """The first box's engine; all have the same model."""
        return self.services[0].engine

    @property
    def address(self) -> tuple[str, int, str]:
        """The broker's host and port, and the prefix below which the boxes are."""
        return self.services[0].broker_host, self.services[0].broker_port, self._prefix

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

    def assign(self, requests: int) -> NDArray[np.uint8]:
        """Return which box each request belongs to, shape (requests,): all boxes are equally likely."""
        return assigned_boxes(self._seed, len(self.services), requests)
