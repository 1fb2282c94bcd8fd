"""A service that xedge did not start: in a container, in another process, on another machine."""

import secrets
from time import perf_counter
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from xedge.core.exceptions import ServiceError
from xedge.scenario.routes import Topics, random_routes
from xedge.scenario.sources import InputSpec
from xedge.serving.connection import Connection
from xedge.serving.messages import Ping, Pong, encode


def ping(host: str, port: int, topic_prefix: str = "", service: str = "", timeout_s: float = 5.0) -> Pong:
    """Ask a running service over MQTT whether it serves, and return its answer.

    Args:
        host: the broker's host.
        port: the broker's port.
        topic_prefix: the service's topic prefix.
        service: the service's name, "edge" or "cloud"; empty takes whoever answers first.
        timeout_s: how long to wait for the answer.

    Raises:
        BrokerError: no broker there.
        ServiceError: nobody answered in time.
    """
    topics, me, heard = Topics(topic_prefix), f"ping-{secrets.token_hex(4)}", []
    connection = Connection("xedge-ping", host, port, [topics.pong(me)], lambda _topic, payload: heard.append(payload))
    end = perf_counter() + timeout_s
    try:
        connection.connect()
        connection.wait_subscribed(timeout_s)
        connection.publish(topics.ping, encode(Ping(me, service)))
        while not heard and (left_s := end - perf_counter()) > 0:
            connection.flush()
            connection.turn(left_s)
    finally:
        connection.close()
    if not heard:
        name = service or "xedge"
        raise ServiceError(
            f"no {name} service answers on {topics.ping} at {host}:{port} within {timeout_s:g} s; is it running?"
        )
    return msgspec.json.decode(heard[0], type=Pong)


class ExternalService:
    """What a trial needs of a service that runs already: where it is, what it takes, what it says of itself.

    Raises:
        ServiceError: nobody answers there.
    """

    def __init__(self, host: str, port: int, topic_prefix: str, service: str = "") -> None:
        self.address, self.prefixes = (host, port), [topic_prefix]
        self._service = service
        self.begin()

    @property
    def takes(self) -> InputSpec:
        """What one request contains, as the service says."""
        facts = self._before.description
        kind = facts.get("input_kind") or ("text" if "labels" in facts else "numbers")
        return InputSpec(tuple(facts["input_shape"]), str(facts["input_dtype"]), kind)

    def routes(self, requests: int) -> NDArray[np.uint8]:
        """Return to which of the `prefixes` each request goes: all to the one."""
        return random_routes(0, 1, requests)

    @property
    def servers(self) -> int:
        """How many batches it may have in inference at once."""
        return int(self._before.description.get("servers", 1))

    def ask(self, timeout_s: float = 5.0) -> Pong:
        """Return the service's answer to a ping.

        Raises:
            ServiceError: nobody answered.
        """
        return ping(*self.address, self.prefixes[0], self._service, timeout_s)

    def begin(self) -> None:
        """Note the counters and what the service says of itself, before a trial."""
        self._before = self._after = self.ask()

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(self, *exc: object) -> None:
        if exc[0] is None:
            self._after = self.ask()

    @property
    def busy_ms(self) -> float:
        """How long one request on average keeps the service busy, as it said when asked."""
        facts = self._before.description
        return float(facts.get("warm_inference_ms", 0.0)) * float(facts.get("compute_scale", 1.0)) / self.servers

    @property
    def counts(self) -> dict[str, int]:
        """What the service counted during the trial."""
        return {name: count - self._before.counts.get(name, 0) for name, count in self._after.counts.items()}

    @property
    def refused(self) -> dict[str, int]:
        """Requests the service refused during the trial, by reason."""
        return {name: count - self._before.refused.get(name, 0) for name, count in self._after.refused.items()}

    def describe(self) -> dict[str, Any]:
        """Return what the service says of itself, and where it was asked."""
        host, port = self.address
        return self._after.description | {"external": f"mqtt://{host}:{port}/{self.prefixes[0]}"}
