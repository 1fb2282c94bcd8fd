"""What the integration tests share: a paho client, bounded waiting, and a look at the processes of this machine."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import numpy as np
import onnx
import paho.mqtt.client as mqtt
import pandas as pd
from onnx import TensorProto, helper
from paho.mqtt.enums import CallbackAPIVersion

from xedge.results.measurement import Measurement
from xedge.results.rows import STATUSES
from xedge.serving.broker import Broker

WAIT_S = 120.0  # far longer than any wait is meant to be: a busy machine must not fail a test
_numbers = itertools.count(1)
_pause = threading.Event()


def counted(whole: int) -> int:
    """Return how many of `whole` a long test does: a tenth, or the share that XEDGE_TEST_COUNTS says, up to 1."""
    return max(1, round(whole * float(os.environ.get("XEDGE_TEST_COUNTS", "0.1"))))


def unique_prefix() -> str:
    """Return a topic prefix that no other test uses."""
    return f"test/{next(_numbers)}"


def wait_until(condition: Callable[[], Any], what: str, timeout_s: float = WAIT_S) -> Any:
    """Return what `condition` returns as soon as it is true; fail the test if it does not become so."""
    end = perf_counter() + timeout_s
    while not (found := condition()):
        assert perf_counter() < end, f"not within {timeout_s:g} s: {what}"
        _pause.wait(0.02)
    return found


class Client:
    """A paho client with a thread of its own that keeps every message on its topics; subscribed on entry."""

    def __init__(self, broker: Broker, *topics: str, without: str | None = None) -> None:
        self._broker, self._topics, self._without = broker, topics, without
        self.messages: list[tuple[str, bytes]] = []
        self._news = threading.Condition()
        self._subscribed = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = self._connected
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._received

    def __enter__(self) -> Self:
        self._client.connect(self._broker.host, self._broker.port)
        self._client.loop_start()
        try:
            assert self._subscribed.wait(WAIT_S), "the broker did not acknowledge the subscription"
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        del self._client  # breaks the cycle with our callbacks, so that paho closes its own socket pair now

    def _connected(self, client: mqtt.Client, *_: Any) -> None:
        if self._topics:
            client.subscribe([(topic, 0) for topic in self._topics])
        else:
            self._subscribed.set()

    def _received(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        if self._without is not None and message.topic.endswith(self._without):
            return
        with self._news:
            self.messages.append((message.topic, bytes(message.payload)))
            self._news.notify_all()

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish and return when it has left."""
        self._client.publish(topic, payload).wait_for_publish(WAIT_S)

    def wait(self, n: int, timeout_s: float = WAIT_S) -> list[tuple[str, bytes]]:
        """Return all messages as soon as there are `n` of them."""
        with self._news:
            came = self._news.wait_for(lambda: len(self.messages) >= n, timeout_s)
            assert came, f"{len(self.messages)} of {n} messages within {timeout_s:g} s: {self.messages[-3:]}"
            return list(self.messages)


class Device(Client):
    """A client that asks the service under one prefix and hears its results and error answers."""

    def __init__(self, broker: Broker, prefix: str) -> None:
        self.base = f"{prefix}/ml/inference" if prefix else "ml/inference"
        super().__init__(broker, f"{self.base}/result/+", f"{self.base}/error/+")

    def send(self, payload: bytes) -> None:
        """Publish bytes on the request topic."""
        self.publish(f"{self.base}/request", payload)

    def request(self, features: Any, device_id: str = "sensor", timestamp_us: int = 1, **further: Any) -> None:
        """Publish a request in JSON."""
        self.send(request_bytes(features, device_id, timestamp_us, **further))

    def ask(self, features: Any, device_id: str = "sensor", timestamp_us: int = 1, **further: Any) -> dict[str, Any]:
        """Return the next answer to one request; for one request at a time."""
        before = len(self.messages)
        self.request(features, device_id, timestamp_us, **further)
        return json.loads(self.wait(before + 1)[before][1])

    def results(self, n: int) -> list[dict[str, Any]]:
        """Return the first `n` answers, all of which must be results on the topic of the device they name."""
        answers = []
        for topic, payload in self.wait(n)[:n]:
            answer = json.loads(payload)
            assert topic == f"{self.base}/result/{answer['device_id']}"
            answers.append(answer)
        return answers


def request_bytes(features: Any, device_id: str = "sensor", timestamp_us: int = 1, **further: Any) -> bytes:
    """Return one request in JSON, written without xedge."""
    fields = {"device_id": device_id, "timestamp_us": timestamp_us, "features": np.asarray(features).tolist()}
    return json.dumps(fields | further).encode()


def write_lookup_model(path: Path, values: Iterable[float] = (0.5, 1.5, 2.5, 3.5)) -> Path:
    """Write an ONNX model that takes one whole number and looks it up; beyond the table the engine fails."""
    table = helper.make_tensor("table", TensorProto.FLOAT, [len(list(values))], list(values))
    given = helper.make_tensor_value_info("x", TensorProto.INT64, ["n", 1])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])
    graph = helper.make_graph([helper.make_node("Gather", ["table", "x"], ["y"])], "g", [given], [made], [table])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def processes() -> dict[int, tuple[int, str]]:
    """Return pid -> (parent's pid, state) of every process; a state that begins with Z has ended."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout
    lines = [line.split() for line in listed.splitlines()]
    return {int(pid): (int(parent), state) for pid, parent, state in lines}


def children_of(pid: int) -> set[int]:
    """Return the pids of a process's living children, apart from the `ps` that finds them."""
    found = {child for child, (parent, state) in processes().items() if parent == pid and not state.startswith("Z")}
    return {child for child in found if is_alive(child)}


def is_alive(pid: int) -> bool:
    """Return whether the process runs; one that has ended but was not waited for does not."""
    return not processes().get(pid, (0, "Z"))[1].startswith("Z")


def xedge_threads() -> list[str]:
    """Return the names of xedge's threads in this process."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("xedge")]


def sound(measurement: Measurement, n: int) -> pd.DataFrame:
    """Return the rows without a result, each of which has a reason; every scheduled request is a row with a status."""
    rows = measurement.rows
    assert len(rows) == n
    assert set(rows["status"]) <= set(STATUSES)
    failed = rows[rows["status"] != "ok"]
    assert failed["error"].notna().all()
    assert rows.loc[rows["status"] == "ok", "error"].isna().all()
    return failed
