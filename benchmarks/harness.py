"""What the benchmarks share: one broker and sender, arms in turn on one schedule, a table of figures against limits."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import onnxruntime
import paho.mqtt.client as mqtt
from numpy.typing import NDArray

from xedge.models.lookup import model_path
from xedge.models.reference import reference_inputs
from xedge.runs.sender import Flight, Sender
from xedge.scenario.arrivals import Poisson
from xedge.serving.broker import Broker
from xedge.serving.connection import Connection
from xedge.serving.messages import encode_request

DEVICE = "bench"


@dataclass
class Table:
    """Printed rows: what, figure, limit, and whether it was reached."""

    missed: list[str] = field(default_factory=list)

    def row(self, what: str, value: float, unit: str, limit: float | None = None, at_least: bool = False) -> None:
        """Print one figure, beside its limit if it has one."""
        said = ""
        if limit is not None:
            reached = value >= limit if at_least else value <= limit
            said = f"{'≥' if at_least else '≤'} {limit:g}  {'reached' if reached else 'MISSED'}"
            if not reached:
                self.missed.append(what)
        print(f"  {what:<58} {value:>10.3f} {unit:<8} {said}", flush=True)


def payloads(n: int) -> list[bytes]:
    """N requests for the anomaly detector, without trace."""
    inputs = reference_inputs("anomaly_detector", min(n, 500), 3)
    made = [encode_request(DEVICE, 1_700_000_000_000_000 + k, row) for k, row in enumerate(inputs)]
    return [made[k % len(made)] for k in range(n)]


def flight(broker: Broker, due_ns: NDArray[np.int64], timeout_s: float = 20.0, window: int = 0) -> Flight:
    """A schedule of detector requests for the sender."""
    return Flight(*broker.address, [""], DEVICE, due_ns.tobytes(), payloads(len(due_ns)), timeout_s, window=window)


def open_loop_ms(sender: Sender, broker: Broker, rate_hz: float, duration_s: float, seed: int) -> NDArray[Any]:
    """Latencies from the due time; a request that never came back counts as infinite."""
    due_ns = Poisson(rate_hz=rate_hz, duration_s=duration_s).due_ns(seed)
    log = sender.fly(flight(broker, due_ns))
    received = np.full(len(due_ns), np.inf)
    received[: len(log.replies)] = [at - log.start_ns for at, _, _ in log.replies]
    return (received - due_ns) / 1e6


def ceiling_hz(sender: Sender, broker: Broker, n: int = 20_000, window: int = 256) -> float:
    """Answers a second with `window` requests always on their way."""
    log = sender.fly(flight(broker, np.zeros(n, np.int64), window=window))
    return len(log.replies) / (log.replies[-1][0] - log.start_ns) * 1e9


def in_turn(
    arms: dict[str, Callable[[], AbstractContextManager[Any]]], rounds: int, measure: Callable[[int], Any]
) -> dict[str, list[Any]]:
    """Run every arm `rounds` times, A B B A …, each round on a seed of its own; one result a round."""
    results: dict[str, list[Any]] = {name: [] for name in arms}
    for number in range(rounds):
        names = list(arms) if number % 2 == 0 else list(arms)[::-1]
        for name in names:
            with arms[name]():
                results[name].append(measure(number))
    return results


class BareEcho:
    """The limit: the same client turned in a thread, every payload sent back from the callback, nothing else."""

    def __init__(self, broker: Broker) -> None:
        self._connection = Connection("bare-echo", *broker.address, ["ml/inference/request"], self._on_message)
        self._ending = False

    def _on_message(self, _topic: str, payload: bytes) -> None:
        self._connection.publish(f"ml/inference/result/{DEVICE}", payload, 0)

    def __enter__(self) -> BareEcho:
        self._connection.connect()
        self._connection.wait_subscribed(5)
        self._thread = threading.Thread(target=self._run, name="bare-echo")
        self._thread.start()
        return self

    def _run(self) -> None:
        while not self._ending:
            self._connection.turn(0.5)
            self._connection.flush()

    def __exit__(self, *_exc: object) -> None:
        self._ending = True
        self._connection.wake()
        self._thread.join()
        self._connection.close()


class PahoEcho:
    """A bare echo as paho's own thread runs it, with TCP_NODELAY."""

    def __init__(self, broker: Broker) -> None:
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self._client.on_message = self._on_message
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_socket_open = lambda _c, _d, sock: sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._broker, self._subscribed = broker, threading.Event()

    def _on_message(self, client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        client.publish(f"ml/inference/result/{DEVICE}", message.payload)

    def __enter__(self) -> Self:
        self._client.connect(self._broker.host, self._broker.port)
        self._client.subscribe("ml/inference/request")
        self._client.loop_start()
        self._subscribed.wait(5)
        return self

    def __exit__(self, *_exc: object) -> None:
        with suppress(RuntimeError):
            self._client.disconnect()
        self._client.loop_stop()


class UsualWay(PahoEcho):
    """How it is usually done: paho's own thread, json and session.run in the callback, sockets as they come."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(broker)
        self._session = onnxruntime.InferenceSession(model_path("anomaly_detector", ".onnx"))
        self._client.on_socket_open = None

    def _on_message(self, client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        request = json.loads(message.payload)
        features = np.array([request["features"]], dtype=np.float32)
        output = self._session.run(None, {"features": features})[0]
        result = {"device_id": request["device_id"], "prediction": float(np.asarray(output)[0, 0])}
        client.publish(f"ml/inference/result/{request['device_id']}", json.dumps(result))


def pooled(rounds: list[NDArray[Any]], p: float) -> float:
    """The p-quantile of all rounds together."""
    return float(np.quantile(np.concatenate(rounds), p, method="inverted_cdf"))
