"""The load generator's process: it sends at the times given, records what happens, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from helpers import Client, is_alive, request_bytes, wait_until, xedge_threads

from xedge.core.exceptions import BrokerError, MeasurementError
from xedge.runs.sender import Flight, Log, Sender
from xedge.scenario.routes import Topics
from xedge.serving.broker import Broker, _free_port
from xedge.serving.services import EchoService, EdgeMLService

DEVICE = "tester"


def flight(broker: Broker, prefix: str, due_s: Any, **changes: Any) -> Flight:
    due_ns = np.round(np.asarray(due_s) * 1e9).astype(np.int64)
    payloads = [b"%06d" % number for number in range(len(due_ns))]
    made = Flight(broker.host, broker.port, [prefix], DEVICE, due_ns.tobytes(), payloads, timeout_s=20.0)
    return msgspec.structs.replace(made, **changes)


def sent(log: Log) -> np.ndarray[Any, Any]:
    return np.frombuffer(log.sent_ns, np.int64)


@pytest.fixture
def sender() -> Iterator[Sender]:
    with Sender() as running:
        yield running


def test_every_request_is_sent_at_its_time_and_recorded(broker: Broker, prefix: str, sender: Sender) -> None:
    due_s = np.arange(200) / 400
    with EchoService(DEVICE, broker.host, broker.port, topic_prefix=prefix) as echo:
        log = sender.fly(flight(broker, prefix, due_s))
    assert echo.counts["received"] == echo.counts["answered"] == 200
    assert (sent(log) >= np.round(due_s * 1e9)).all()
    assert (np.diff(sent(log)) >= 0).all()
    assert [int(payload) for _, _, payload in log.replies] == list(range(200))
    received = np.array([received_ns for received_ns, _, _ in log.replies]) - log.start_ns
    assert (received > sent(log)).all()
    assert not any(is_error for _, is_error, _ in log.replies)


def test_one_process_flies_many_times(any_broker: Broker, prefix: str, sender: Sender) -> None:
    pid = sender._worker._process.pid
    with EchoService(DEVICE, any_broker.host, any_broker.port, topic_prefix=prefix):
        logs = [sender.fly(flight(any_broker, prefix, np.zeros(n))) for n in (1, 5, 3)]
    assert [len(log.replies) for log in logs] == [1, 5, 3]
    assert [log.start_ns for log in logs] == sorted(log.start_ns for log in logs)
    assert sender._worker._process.pid == pid
    assert is_alive(pid)


def test_window_bounds_what_is_under_way(any_broker: Broker, prefix: str, sender: Sender) -> None:
    n, window = 400, 4
    with EchoService(DEVICE, any_broker.host, any_broker.port, topic_prefix=prefix):
        log = sender.fly(flight(any_broker, prefix, np.zeros(n), window=window))
    received = np.array([received_ns for received_ns, _, _ in log.replies]) - log.start_ns
    assert len(received) == n
    assert (sent(log)[window:] >= received[:-window]).all()


def test_quality_of_service_1(any_broker: Broker, prefix: str, sender: Sender) -> None:
    with EchoService(DEVICE, any_broker.host, any_broker.port, topic_prefix=prefix, qos=1):
        log = sender.fly(flight(any_broker, prefix, np.arange(50) / 500, qos=1))
    assert {int(payload) for _, _, payload in log.replies} == set(range(50))


@pytest.mark.usefixtures("models")
def test_error_answers_are_told_from_results(any_broker: Broker, prefix: str, sender: Sender) -> None:
    payloads = [request_bytes([0.0] * 32, DEVICE, 1), request_bytes([0.0] * 31, DEVICE, 2)]
    with EdgeMLService("anomaly_detector", any_broker.host, any_broker.port, topic_prefix=prefix):
        log = sender.fly(flight(any_broker, prefix, [0.0, 0.0], payloads=payloads))
    assert sorted((json.loads(answer)["timestamp_us"], is_error) for _, is_error, answer in log.replies) == [
        (1, False), (2, True),
    ]  # fmt: skip


def test_unanswered_requests_are_given_up_after_the_time_out(any_broker: Broker, prefix: str, sender: Sender) -> None:
    ticks: list[float] = []
    log = sender.fly(flight(any_broker, prefix, [0.0, 0.1], timeout_s=0.6), ticks.append)
    assert log.replies == []
    assert (sent(log) >= 0).all()
    assert ticks
    assert ticks == sorted(ticks)
    assert ticks[-1] >= 0.6


def test_the_zero_of_the_schedule_is_told_before_anything_is_due(
    any_broker: Broker, prefix: str, sender: Sender
) -> None:
    zeros: list[int] = []
    log = sender.fly(flight(any_broker, prefix, [0.0, 0.01], timeout_s=0.1), began=zeros.append)
    assert zeros == [log.start_ns]


def test_no_broker_is_an_error_and_the_sender_goes_on(any_broker: Broker, prefix: str, sender: Sender) -> None:
    port = _free_port()
    with pytest.raises(BrokerError, match=f":{port}"):
        sender.fly(flight(any_broker, prefix, [0.0], host="127.0.0.1", port=port))
    log = sender.fly(flight(any_broker, prefix, [0.0], timeout_s=0.1))
    assert len(sent(log)) == 1


def test_requests_while_the_broker_is_away_are_not_sent(prefix: str, sender: Sender) -> None:
    own = Broker(name=prefix)
    with own, Client(own, Topics(prefix).request) as listener:

        def stop_the_broker() -> None:
            try:
                listener.wait(20)
            finally:
                own.stop()

        stopper = threading.Thread(target=stop_the_broker)
        stopper.start()
        log = sender.fly(flight(own, prefix, np.arange(200) / 100, timeout_s=0.2))
        stopper.join()
    was_sent = sent(log) >= 0
    assert was_sent[:20].all()
    assert not was_sent[-1]


def test_nothing_is_left_after_exit(any_broker: Broker, prefix: str) -> None:
    with Sender() as sender:
        pid = sender._worker._process.pid
        sender.fly(flight(any_broker, prefix, [0.0], timeout_s=0.05))
    assert not is_alive(pid)
    assert xedge_threads() == []
    with pytest.raises(ZeroDivisionError), Sender() as sender:
        _ = 1 / 0
    assert not is_alive(sender._worker._process.pid)


def test_sender_that_dies_in_mid_flight_is_a_measurement_error(any_broker: Broker, prefix: str) -> None:
    with Client(any_broker, Topics(prefix).request) as listener, Sender() as sender:

        def kill() -> None:
            try:
                listener.wait(1)
            finally:
                os.kill(sender._worker._process.pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(MeasurementError, match="mid-trial"):
            sender.fly(flight(any_broker, prefix, np.arange(100) / 2))
        killer.join()


def test_sender_that_is_dead_is_a_measurement_error(any_broker: Broker, prefix: str) -> None:
    def fly_dead() -> None:
        with Sender() as sender:
            sender._worker._process.kill()
            sender._worker._process.wait(60)
            sender.fly(flight(any_broker, prefix, [0.0]))

    with pytest.raises(MeasurementError):
        fly_dead()


OWNER = """
import sys
import numpy as np
from xedge.runs.sender import Flight, Sender
host, port, prefix = sys.argv[1:]
with Sender() as sender:
    print(sender._worker._process.pid, flush=True)
    if prefix:
        due_ns = np.arange(6000, dtype=np.int64) * 100_000_000
        sender.fly(Flight(host, int(port), [prefix], "tester", due_ns.tobytes(), [b"x"] * 6000, 1.0))
    sys.stdin.readline()
"""


@pytest.mark.parametrize("in_flight", [False, True])
def test_sender_ends_with_an_owner_that_is_killed(any_broker: Broker, prefix: str, in_flight: bool) -> None:
    script = [sys.executable, "-c", OWNER, any_broker.host, str(any_broker.port), prefix if in_flight else ""]
    with (
        Client(any_broker, Topics(prefix).request) as listener,
        subprocess.Popen(
            script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as owner,
    ):
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        try:
            if in_flight:
                listener.wait(1)
            owner.kill()
            owner.wait(60)
            wait_until(lambda: not is_alive(pid), "the sender has ended")
        finally:
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)
