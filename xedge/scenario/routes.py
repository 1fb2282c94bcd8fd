"""Where requests go: the topics below a prefix, and which of several prefixes each request is sent to."""

import numpy as np
from numpy.typing import NDArray

from xedge.core.exceptions import ConfigurationError


class Topics:
    """The topic names under one prefix, so that several services can share a broker."""

    def __init__(self, prefix: str = "") -> None:
        if any(c in prefix for c in "+#\x00") or prefix.startswith("$"):
            raise ConfigurationError(f"topic prefix {prefix!r} may not hold + # or NUL, nor begin with $")
        base = f"{prefix.strip('/')}/ml/inference" if prefix.strip("/") else "ml/inference"
        self.request = f"{base}/request"
        self.ping = f"{base}/ping"
        self._result = f"{base}/result/"
        self._error = f"{base}/error/"

    def result(self, device_id: str) -> str:
        """Return the topic a device's results are published on."""
        return self._result + device_id

    def error(self, device_id: str) -> str:
        """Return the topic a device's error answers are published on."""
        return self._error + device_id

    def pong(self, device_id: str) -> str:
        """Return the topic a service answers a device's ping on."""
        return f"{self.ping.removesuffix('ping')}pong/{device_id}"

    def metrics(self, service: str) -> str:
        """Return the topic a service publishes its metrics on."""
        return f"{self.ping.removesuffix('ping')}metrics/{service}"


def box_prefixes(prefix: str, boxes: int) -> list[str]:
    """Return the topic prefix of every box below `prefix`; one box alone has the prefix itself."""
    if boxes == 1:
        return [prefix]
    return [f"{prefix}/box-{box}" if prefix else f"box-{box}" for box in range(boxes)]


def box_seeds(seed: int, boxes: int) -> list[int]:
    """Return the seed of every box; one box alone has the seed of the trial."""
    return [seed] if boxes == 1 else np.random.SeedSequence([seed, boxes]).generate_state(boxes).tolist()


def random_routes(seed: int, boxes: int, requests: int) -> NDArray[np.uint8]:
    """Return which box each request goes to, shape (requests,): all are equally likely; zeros for one box.

    >>> random_routes(seed=7, boxes=2, requests=6).tolist()
    [1, 1, 0, 1, 1, 1]
    """
    if boxes == 1:
        return np.zeros(requests, np.uint8)
    return np.random.default_rng([seed, 3]).integers(boxes, size=requests, dtype=np.uint8)
