"""Faults during a trial behind a real broker: each request ends in a row with status and reason, nothing is left."""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from typing import Annotated

import numpy as np
import pandas as pd
import pytest
from helpers import Client, children_of, sound, wait_until
from msgspec import Meta

from xedge import Cloud, Constant, Edge, Link, Measurement, Scenario
from xedge.core.config import kind_of
from xedge.core.exceptions import BrokerError
from xedge.results.rows import latency_ms
from xedge.runs.calibration import DEVICE
from xedge.runs.trial import explain
from xedge.scenario.placements import Placement, Served
from xedge.serving.broker import Broker, _free_port, find_mosquitto
from xedge.serving.services import EdgeMLService
from xedge.serving.start import options, service_of

pytestmark = pytest.mark.usefixtures("nothing_is_left")
MS = 1_000_000
NO_WITHIN = "no answer within the time-out"


def scenario(prefix, placement=None, **changes):
    asked = {"rate_hz": 100, "duration_s": 1.5} | changes.pop("workload", {})
    given = {"timeout_s": 10.0, "seed": 5, "topic_prefix": prefix} | changes
    return Scenario(
        model="anomaly_detector", workload=Constant(**asked), placements={"edge": placement or Edge()}, **given
    )


@contextlib.contextmanager
def during(broker, prefix, happen, answers=20):
    """Let something happen when so many answers of a trial (not of the echo's) have come."""
    with Client(
        broker, f"{prefix}/+/ml/inference/result/+", f"{prefix}/+/+/ml/inference/result/+", without=DEVICE
    ) as it:

        def wait_and_happen():
            it.wait(answers)
            happen()

        thread = threading.Thread(target=wait_and_happen)
        thread.start()
        yield
        thread.join()


def silent(measurement, n):
    """Return the rows that nothing came back for; a busy machine may answer others after a short time-out."""
    failed = sound(measurement, n)
    return failed[failed["received_ns"].isna()]


def doubts(measurement):
    return "; ".join(map(str, measurement.checks()))


def process_of(broker):
    (pid,) = children_of(broker._guard.pid)
    return pid


@pytest.mark.parametrize("kind", ["mosquitto", "embedded"])
def test_a_broker_that_is_killed_and_comes_back(prefix, kind):
    if kind == "mosquitto" and not find_mosquitto():
        pytest.skip("mosquitto is not installed")
    with Broker(kind=kind, port=_free_port(), name=prefix) as broker:

        def restart():
            os.kill(process_of(broker), signal.SIGKILL)
            wait_until(lambda: not broker.is_running, "the broker is gone")
            broker.stop()
            broker.start()

        with during(broker, prefix, restart):
            measurement = scenario(prefix).measure(1, progress=False, broker=broker)
    failed = sound(measurement, 150)
    assert len(failed)
    assert failed["error"].str.contains("the connection to the broker was away from").all()
    assert "made again in replication 0" in doubts(measurement)
    assert measurement.verdict.word == "INVALID"
    assert "made again in replication 0 from " in str(measurement.verdict)
    assert "could not keep up" not in str(measurement.verdict)
    assert "the broker was away while edge was measured" in str(measurement.answer())


def test_a_broker_that_is_killed_for_good(prefix):
    with Broker(name=prefix) as broker:
        with (
            during(broker, prefix, lambda: os.kill(process_of(broker), signal.SIGKILL)),
            pytest.raises(BrokerError) as caught,
        ):
            scenario(prefix, timeout_s=0.5).measure(2, progress=False, broker=broker)
        broker.stop()
    folder = caught.value.__notes__[0].partition("kept in ")[2].partition(": ")[0]
    part = Measurement.load(folder)
    failed = silent(part, 150)  # the first trial, to its end
    assert set(failed["status"]) <= {"not_sent", "timeout", "lost"}
    assert failed["error"].str.contains("the connection to the broker was away from").all()
    assert part.conditions["interrupted"]["ended"] == 1


@pytest.mark.long
def test_a_broker_that_is_stopped_for_two_seconds_delays_and_loses_nothing(prefix):
    with Broker(name=prefix) as broker:

        def stop():
            pid = process_of(broker)
            os.kill(pid, signal.SIGSTOP)
            threading.Event().wait(2)
            os.kill(pid, signal.SIGCONT)

        with during(broker, prefix, stop):
            measurement = scenario(prefix).measure(1, progress=False, broker=broker)
    assert len(sound(measurement, 150)) == 0
    assert latency_ms(measurement.rows).max() > 1500


class Proxy:
    """A TCP proxy before a broker whose connections can be cut."""

    def __init__(self, broker):
        self._to = broker.host, broker.port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._pairs, self._ended = [], False
        self._thread = threading.Thread(target=self._carry)
        self._thread.start()

    def _carry(self):
        while not self._ended:
            peers = {one: other for pair in self._pairs for one, other in (pair, pair[::-1])}
            for ready in select.select([self._listener, *peers], [], [], 0.05)[0]:
                if ready is self._listener:
                    near = self._listener.accept()[0]
                    far = socket.create_connection(self._to)
                    for end in (near, far):
                        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._pairs = [*self._pairs, (near, far)]
                    continue
                try:
                    data = ready.recv(65536)
                    if data:
                        peers[ready].sendall(data)
                        continue
                except OSError:
                    pass
                self._close([pair for pair in self._pairs if ready in pair])

    def _close(self, pairs):
        self._pairs = [pair for pair in self._pairs if pair not in pairs]
        for end in (end for pair in pairs for end in pair):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def cut(self):
        """Break every connection; new ones are accepted."""
        for end in (end for pair in self._pairs for end in pair):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self):
        self._ended = True
        self._thread.join()
        self._close(self._pairs)
        self._listener.close()


@pytest.mark.long
def test_a_connection_that_is_cut(any_broker, prefix):
    proxy = Proxy(any_broker)
    try:
        with Broker(f"mqtt://127.0.0.1:{proxy.port}", name=prefix) as behind, during(any_broker, prefix, proxy.cut):
            measurement = scenario(prefix).measure(1, progress=False, broker=behind)
    finally:
        proxy.close()
    failed = sound(measurement, 150)
    assert failed["error"].str.contains("the connection to the broker was away from").all()
    assert "made again in replication 0" in doubts(measurement)


@pytest.fixture
def isolated_pids(monkeypatch):
    """The process of each isolated service that is started, the latest last."""
    from xedge.serving.external import IsolatedService

    pids, enter = [], IsolatedService.__enter__

    def entered(self):
        enter(self)
        pids.extend(children_of(self._guard.pid))
        return self

    monkeypatch.setattr(IsolatedService, "__enter__", entered)
    return pids


@pytest.mark.long
def test_a_service_that_is_killed_is_said_and_the_next_trial_has_a_new_one(any_broker, prefix, isolated_pids):
    asked = scenario(prefix, Edge(run_in="process"), timeout_s=1.0)
    with during(any_broker, prefix, lambda: os.kill(isolated_pids[0], signal.SIGKILL)):
        measurement = asked.measure(2, progress=False, broker=any_broker)
    failed = silent(measurement, 300)
    assert set(failed["replication"]) == {0}
    assert set(failed["status"]) == {"timeout"}
    assert failed["error"].str.startswith("the service ended: its process ended by itself (SIGKILL)").all()
    assert measurement.verdict.word == "INVALID"
    assert "the service ended in replication 0: its process ended by itself (SIGKILL)" in doubts(measurement)
    assert measurement.conditions["trials"][1]["failure"] == ""


@pytest.mark.long
def test_a_service_that_stalls_and_goes_on_answers_late(any_broker, prefix, isolated_pids):
    def stall():
        os.kill(isolated_pids[0], signal.SIGSTOP)
        threading.Event().wait(1.5)
        os.kill(isolated_pids[0], signal.SIGCONT)

    with during(any_broker, prefix, stall):
        measurement = scenario(prefix, Edge(run_in="process")).measure(1, progress=False, broker=any_broker)
    assert len(sound(measurement, 150)) == 0
    assert latency_ms(measurement.rows).max() > 1000


@pytest.mark.long
def test_a_service_that_stalls_for_good_is_said_and_its_process_goes(any_broker, prefix, isolated_pids):
    with during(any_broker, prefix, lambda: os.kill(isolated_pids[0], signal.SIGSTOP)):
        measurement = scenario(prefix, Edge(run_in="process"), timeout_s=0.5).measure(
            1, progress=False, broker=any_broker
        )
    failed = silent(measurement, 150)
    assert set(failed["status"]) == {"timeout"}
    assert failed["error"].str.contains("no xedge service answers").all()
    wait_until(lambda: isolated_pids[0] not in children_of(1), "the stalled process is gone")


@kind_of(Placement)
class Breaking(Served, frozen=True, kw_only=True, tag_field="tier", tag="breaking"):
    """A service that breaks, or holds few requests."""

    breaks_after: int = 0
    max_queue: Annotated[int, Meta(ge=1)] = 10_000


class BreakingService(EdgeMLService):
    breaks_after = 0

    def answer(self, item, departed_ns):
        if self.breaks_after and self.counts["answered"] >= self.breaks_after:
            raise RuntimeError("out of paper")
        return super().answer(item, departed_ns)


@service_of.register
def _breaking(placement: Breaking, setting):
    service = BreakingService(setting.model, **options(placement, setting) | {"max_queue": placement.max_queue})
    service.breaks_after = placement.breaks_after
    return service


@pytest.mark.long
def test_a_service_that_breaks_is_said_and_not_called_slow(any_broker, prefix):
    measurement = scenario(prefix, Breaking(breaks_after=90), timeout_s=0.5).measure(
        2, progress=False, broker=any_broker
    )
    failed = silent(measurement, 300)
    assert len(failed) == 2 * 60
    assert failed["error"].str.contains("the service ended: RuntimeError: out of paper").all()
    assert measurement.verdict.word == "INVALID"
    assert "the service ended in replication 1: RuntimeError: out of paper" in doubts(measurement)


@pytest.mark.long
def test_a_service_that_is_asked_too_much_refuses_and_is_saturated(any_broker, prefix):
    """A batch of one takes 20 ms, 50 are answered a second and 400 asked: most find ten before them."""
    slow = Breaking(service_time=xedge_deterministic(20), max_batch=1, max_queue=10)
    measurement = scenario(prefix, slow, workload={"rate_hz": 400}).measure(1, progress=False, broker=any_broker)
    failed = sound(measurement, 600)
    assert set(failed["status"]) == {"overloaded"}
    assert failed["error"].str.startswith("overloaded: the queue is full (10 requests").all()
    assert np.isinf(latency_ms(failed)).all()
    assert measurement.verdict.word == "SATURATED"
    assert "answered" in str(measurement.verdict)
    assert "refused because the service's queue was full" in doubts(measurement)
    assert measurement.conditions["services"]["edge"]["refused"]["overloaded"] == len(failed)
    assert measurement.summary()["overloaded"].iloc[0] > 0


def xedge_deterministic(mean_ms):
    from xedge.scenario.service_times import Deterministic

    return Deterministic(mean_ms=mean_ms)


@pytest.mark.long
def test_a_few_refusals_are_lost_requests_not_quick_answers(any_broker, prefix):
    with during(any_broker, prefix, lambda: None):
        measurement = scenario(prefix).measure(1, progress=False, broker=any_broker)
    rows = measurement.rows.copy()
    rows.loc[rows.index[100:110], "status"] = "overloaded"
    changed = Measurement(rows, measurement.conditions)
    assert np.isinf(changed.latencies_ms("edge")[0]).sum() == 10
    assert changed.summary()["overloaded"].iloc[0] == 10


@pytest.mark.long
def test_a_slow_reader_beside_a_trial_costs_it_nothing(any_broker, prefix):
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect((any_broker.host, any_broker.port))
    slow.sendall(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x00\x00\x04slow" + b"\x82\x06\x00\x01\x00\x01#\x00")
    try:
        measurement = scenario(prefix, workload={"rate_hz": 300}).measure(1, progress=False, broker=any_broker)
    finally:
        slow.close()
    assert len(sound(measurement, 450)) == 0


@pytest.mark.long
def test_two_measurements_at_once_behind_one_broker_keep_apart(any_broker, prefix, tmp_path):
    file, out = tmp_path / "other.yaml", tmp_path / "other"
    file.write_text(scenario(prefix, Cloud(link=Link(delay_ms=5))).to_yaml())
    command = [sys.executable, "-m", "xedge.cli", "measure", str(file), "--replications", "1", "--out", str(out)]
    with subprocess.Popen(command, env=os.environ | {"XEDGE_BROKER": any_broker.url}) as other:
        measurement = scenario(prefix).measure(1, progress=False, broker=any_broker)
        assert other.wait(120) in (0, 3)
    for each in (measurement, Measurement.load(out)):
        assert len(sound(each, 150)) == 0
        assert each.conditions["services"]["edge"]["counts"]["received"] == 150


def test_a_port_that_is_taken_is_said_before_anything_is_measured(prefix):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BrokerError, match=str(port)), Broker(port=port, name=prefix) as broker:
            scenario(prefix).measure(1, progress=False, broker=broker)


@pytest.mark.parametrize(
    ("outages", "failure", "expected"),
    [
        ([], "", [None, "lost", "late", None, "timeout", "not_sent"]),
        ([(250, 350)], "", [None, "away", "away", None, "timeout", "not_sent"]),
        ([(420, 900)], "", [None, "lost", "late", None, "away", "away"]),
        ([], "it broke", [None, "lost", "late", None, "ended", "ended"]),
    ],
)
def test_reasons_are_told_by_when_requests_were_due_and_answered(outages, failure, expected):
    """Six requests due every 100 ms: answered, lost, answered late, answered, no answer, not sent."""
    received = [10, math.nan, 390, 310, math.nan, math.nan]
    table = pd.DataFrame(
        {
            "due_ns": np.arange(6) * 100 * MS,
            "received_ns": pd.array([pd.NA if math.isnan(ms) else round(ms * MS) for ms in received], dtype="Int64"),
            "status": ["ok", "lost", "timeout", "ok", "timeout", "not_sent"],
            "error": np.full(6, None, object),
        }
    )
    explain(table, [(begin * MS, end * MS) for begin, end in outages], failure)
    words = {"lost": "a later request was", "late": "after the time-out", "away": "away from", "ended": "it broke"}
    words |= {"timeout": NO_WITHIN, "not_sent": "could not hand it"}
    for text, word in zip(table["error"], expected, strict=True):
        assert pd.isna(text) if word is None else words[word] in text
