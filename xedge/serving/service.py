"""What a trial needs of whatever answers its requests, however that came to run."""

from collections.abc import Mapping
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from xedge.scenario.sources import InputSpec


class Service(Protocol):
    """A service, or several that share the requests; entered before a trial and left after it.

    Own services start on entry and end on exit, external ones only begin and end their count.
    """

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    @property
    def takes(self) -> InputSpec:
        """What one request contains."""
        ...

    @property
    def address(self) -> tuple[str, int]:
        """The host and port of the broker it is behind."""
        ...

    @property
    def prefixes(self) -> list[str]:
        """The topic prefixes that requests are sent below, one a box."""
        ...

    def routes(self, requests: int) -> NDArray[np.uint8]:
        """Return which of the `prefixes` each request goes to, shape (requests,)."""
        ...

    @property
    def servers(self) -> int:
        """How many batches all of it may have in inference at once."""
        ...

    @property
    def busy_ms(self) -> float:
        """How long one request on average keeps all of it busy; known after entry."""
        ...

    @property
    def counts(self) -> Mapping[str, int]:
        """What it counted during the trial."""
        ...

    @property
    def refused(self) -> Mapping[str, int]:
        """The requests it refused during the trial, by reason."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return what a measurement's conditions say about it."""
        ...
