"""A link's arithmetic against the kernel's own traffic control, between two network namespaces made for the test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from shutil import which

import numpy as np
import pytest

from xedge.scenario.channel import Channel
from xedge.scenario.link import Link

WIRE = Path(__file__).with_name("wire.py")
HEADER_BYTES = {"tcp": 14 + 20 + 32, "udp": 14 + 20 + 8}  # Ethernet, IPv4, and TCP with time stamps or UDP
SIZE, NEAR, FAR, PORT = 1000, "10.231.7.1", "10.231.7.2", "5001"
MS = 1_000_000
MEDIAN_MS, EARLIEST_MS = 2.0, -1.0  # how close the kernel must be: a busy host makes messages late, but never early
MS_OF_A_BUSY_HOST = 18.0  # a message this late for no reason is not taken for a lost one
_numbers = count(os.getpid())
pytestmark = pytest.mark.long


def run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, timeout=180)
    if done.returncode:
        raise OSError(f"{' '.join(words)}: {done.stderr.strip()}")


class Wire:
    """Two namespaces, `near` and `far`, joined by a veth pair; gone on exit."""

    def __init__(self) -> None:
        number = next(_numbers)
        self.near, self.far = f"xedge-{number}-near", f"xedge-{number}-far"

    def __enter__(self) -> Wire:
        for name in (self.near, self.far):
            run("ip", "netns", "add", name)
        run("ip", "-n", self.near, "link", "add", "v", "type", "veth", "peer", "name", "v", "netns", self.far)
        for name, address in ((self.near, NEAR), (self.far, FAR)):
            run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "v")
            run("ip", "-n", name, "link", "set", "v", "up")
        return self

    def __exit__(self, *_exc: object) -> None:
        for name in (self.near, self.far):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=180)

    def shape(self, namespace: str, *qdisc: str) -> None:
        """Let what leaves a namespace queue as the kernel's `qdisc` does; skip where the kernel has none such."""
        try:
            run("tc", "-n", namespace, "qdisc", "add", "dev", "v", "root", *qdisc)
        except OSError as exc:
            if "qdisc kind is unknown" in str(exc):
                pytest.skip(f"this kernel is built without sch_{qdisc[0]}, or its module is not there")
            raise

    def send(self, kind: str, due_ms: list[float]) -> np.ndarray:
        """Send a message from near to far at every due time; return when each was sent, arrived, was answered: ms."""
        far, near = (
            ["ip", "netns", "exec", name, sys.executable, "-P", str(WIRE), role, kind, FAR, PORT, str(SIZE)]
            for name, role in ((self.far, "answer"), (self.near, "send"))
        )
        with subprocess.Popen(far, stdout=subprocess.PIPE, text=True) as answering:
            try:
                assert answering.stdout is not None
                assert answering.stdout.readline() == "ready\n"
                due = json.dumps([round(ms * MS) for ms in due_ms])
                done = subprocess.run(near, input=due, capture_output=True, text=True, timeout=180, check=True)
            finally:
                answering.kill()
        times = np.array(json.loads(done.stdout)) / MS
        assert len(times) == len(due_ms)
        return times


@pytest.fixture
def wire() -> Iterator[Wire]:
    if missing := [program for program in ("ip", "tc") if which(program) is None]:
        pytest.skip(f"{' and '.join(missing)} of iproute2 not found")
    if os.geteuid() != 0:
        pytest.skip("network namespaces and traffic control need root")
    made = Wire()
    try:
        made.__enter__()
    except OSError as exc:
        made.__exit__()
        pytest.skip(f"network namespaces or veth pairs cannot be made here: {exc}")
    yield made
    made.__exit__()


def computed_ms(link: Link, sent_ms: np.ndarray, header_bytes: int = 0, seed: int = 0) -> np.ndarray:
    """When a message sent at each time leaves the link."""
    channel = Channel(link, seed)
    return np.array([channel.release_ns(round(at * MS), SIZE + header_bytes) for at in sent_ms]) / MS


def assert_close(measured_ms: np.ndarray, expected_ms: np.ndarray) -> None:
    off_ms = measured_ms - expected_ms
    assert abs(np.median(off_ms)) < MEDIAN_MS, np.round(off_ms, 2)
    assert off_ms.min() > EARLIEST_MS, np.round(off_ms, 2)


BURSTS = [at + 0.1 * k for at in range(0, 2000, 250) for k in range(8)]  # eight at once, then time to drain
TRICKLE = list(np.cumsum(np.full(60, 6.0)))  # faster than 1 Mbit/s takes them: the queue grows


def test_constant_delay_is_what_netem_makes(wire: Wire) -> None:
    for name, delay_ms in ((wire.near, 15), (wire.far, 25)):
        wire.shape(name, "netem", "delay", f"{delay_ms}ms", "limit", "10000")
    sent, arrived, answered = wire.send("tcp", BURSTS).T
    there = computed_ms(Link(delay_ms=15), sent)
    assert_close(arrived - sent, there - sent)
    assert_close(answered - sent, computed_ms(Link(delay_ms=25), there) - sent)


@pytest.mark.parametrize("due_ms", [BURSTS, TRICKLE], ids=["bursts", "trickle"])
def test_rate_and_delay_are_what_netem_makes(wire: Wire, due_ms: list[float]) -> None:
    wire.shape(wire.near, "netem", "delay", "15ms", "rate", "1mbit", "limit", "10000")
    sent, arrived, _ = wire.send("udp", due_ms).T
    expected = computed_ms(Link(delay_ms=15, rate_mbps=1), sent, HEADER_BYTES["udp"])
    assert (expected - sent).max() > 50  # they do wait for each other
    assert_close(arrived - sent, expected - sent)


@pytest.mark.parametrize("due_ms", [BURSTS, TRICKLE], ids=["bursts", "trickle"])
def test_rate_is_what_a_token_bucket_makes(wire: Wire, due_ms: list[float]) -> None:
    """tbf lets a bucketful pass at once: messages that queue leave that much earlier, but none before it is sent."""
    bucket = 1600
    wire.shape(wire.near, "tbf", "rate", "1mbit", "burst", str(bucket), "limit", "1000000")
    sent, arrived, _ = wire.send("udp", due_ms).T
    expected = computed_ms(Link(rate_mbps=1), sent, HEADER_BYTES["udp"]) - bucket * 8e-3
    assert (expected - sent).max() > 50
    assert_close(arrived - sent, np.maximum(expected - sent, 0))


@pytest.mark.parametrize(
    ("step_ms", "n", "slack_ms"),
    [
        (600, 20, 60),  # lone messages wait for the timeout, counted in ticks of up to 10 ms, as the kernel was built
        (100, 80, 25),  # the next message tells of the loss
    ],
)
def test_lost_segments_come_as_late_as_in_the_kernels_tcp(wire: Wire, step_ms: float, n: int, slack_ms: float) -> None:
    """The shortest delay of a lost segment: how it is told, by timeout or by the next message, makes the difference."""
    wire.shape(wire.near, "netem", "delay", "20ms", "loss", "25%", "limit", "10000")
    wire.shape(wire.far, "netem", "delay", "20ms", "limit", "10000")
    sent, arrived, _ = wire.send("tcp", [step_ms * k for k in range(n)]).T
    kernel_ms = first_of_each_run(arrived - sent)
    drawn = [computed_ms(Link(delay_ms=20, segment_loss=0.25), sent, seed=seed) - sent for seed in range(20)]
    model_ms = np.concatenate([first_of_each_run(delays) for delays in drawn])
    assert np.min(kernel_ms) == pytest.approx(np.min(model_ms), abs=slack_ms)


def first_of_each_run(delays_ms: np.ndarray) -> np.ndarray:
    """The delays of messages that were late by themselves: the one before was not."""
    late = delays_ms > 20 + MS_OF_A_BUSY_HOST
    return delays_ms[late & ~np.concatenate([[False], late[:-1]])]
