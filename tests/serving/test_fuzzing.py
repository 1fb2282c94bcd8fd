"""No message whatever ends a service, is forgotten by it, or makes it grow: many, and guided by coverage."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
from fuzzed import DEEP, FEATURES, PINGS, POISON, REQUESTS, Stepped, stream
from helpers import counted, request_bytes, wait_until
from hypothesis import example, given, settings
from test_bounds import megabytes, served

from xedge.scenario.routes import Topics
from xedge.serving.connection import Connection

MANY, ROUND = counted(1_000_000), 1000
FUZZ_S = 60


@pytest.fixture(scope="module")
def stepped(models: Path) -> Stepped:
    return Stepped()


def test_good_request_is_answered_and_a_ping_too(stepped: Stepped) -> None:
    [(topic, payload)] = stepped.step(stepped.topics.request, request_bytes(FEATURES))
    assert topic == stepped.topics.result("sensor")
    assert json.loads(payload)["device_id"] == "sensor"
    [(topic, _)] = stepped.step(stepped.topics.ping, b'{"device_id": "asks", "service": ""}')
    assert topic == stepped.topics.pong("asks")


@settings(max_examples=400)
@given(payload=REQUESTS | DEEP)
@example(payload=b"[" * 900_000)
def test_any_request_is_answered_or_refused(stepped: Stepped, payload: bytes) -> None:
    stepped.step(stepped.topics.request, payload)


@settings(max_examples=200)
@given(payload=PINGS | DEEP)
def test_any_ping_is_answered_or_not(stepped: Stepped, payload: bytes) -> None:
    stepped.step(stepped.topics.ping, payload)


@pytest.mark.parametrize("device_id", POISON)
def test_poison_id_gets_no_topic_of_its_own(stepped: Stepped, device_id: str) -> None:
    if device_id == "d" * 70_000:
        payload = request_bytes(FEATURES, device_id)
    else:
        payload = json.dumps({"device_id": device_id, "timestamp_us": 1, "features": FEATURES}).encode()
    assert stepped.step(stepped.topics.request, payload) == []
    assert stepped.step(stepped.topics.ping, json.dumps({"device_id": device_id, "service": ""}).encode()) == []


def test_stream_of_mutations_is_answered_or_refused(stepped: Stepped) -> None:
    for is_ping, payload in islice(stream(1), 5000):
        stepped.step(stepped.topics.ping if is_ping else stepped.topics.request, payload)


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed: pip install atheris")
def test_coverage_guided_messages_find_nothing(models: Path, tmp_path: Path) -> None:
    (corpus := tmp_path / "corpus").mkdir()
    good = (False, request_bytes(FEATURES)), (True, b'{"device_id": "asks", "service": ""}')
    for number, (is_ping, payload) in enumerate((*good, *islice(stream(3), 300))):
        (corpus / str(number)).write_bytes((b"\0" if is_ping else b"\xff") + payload)
    command = [sys.executable, str(Path(__file__).with_name("guided.py")), str(corpus)]
    paths = f"{Path(__file__).parent}:{Path(__file__).parents[1]}"
    done = subprocess.run(
        [*command, f"-max_total_time={FUZZ_S}", "-max_len=4096", f"-artifact_prefix={tmp_path}/", "-rss_limit_mb=4096"],
        capture_output=True, text=True, timeout=590, env=os.environ | {"PYTHONPATH": paths},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done" in done.stderr
    assert list(tmp_path.iterdir()) == [corpus]


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc")
def test_a_million_messages_end_nothing_and_leave_nothing(any_broker, prefix, models) -> None:
    """A thousand mutated messages, then a good request whose answer is waited for, a thousand times."""
    topics, answers = Topics(prefix), []
    options = ["--model", str(models / "anomaly_detector.onnx"), "--metrics-interval", "0"]
    with served(any_broker, prefix, *options) as pid:
        me = Connection("fuzz", any_broker.host, any_broker.port, [topics.result("good")], lambda *m: answers.append(m))
        me.connect()
        me.wait_subscribed(60)
        messages, early_mb = stream(7), 0.0
        for number in range(MANY // ROUND):
            for is_ping, payload in islice(messages, ROUND):
                assert me.publish(topics.ping if is_ping else topics.request, payload, 0).rc == 0
                me.turn(0)
            assert me.publish(topics.request, request_bytes(FEATURES, "good", number), 0).rc == 0
            wait_until(lambda n=number: me.turn(0.02) or len(answers) > n, f"the answer to good request {number}")
            if number == MANY // ROUND // 10:
                early_mb = megabytes(pid, "VmRSS")
        grown_mb = megabytes(pid, "VmRSS") - early_mb
        reconnects = me.reconnects
        me.close()
    sys.stderr.write(f"{MANY} messages, {len(answers)} good ones answered, RSS {early_mb:.1f} {grown_mb:+.1f} MiB\n")
    assert [json.loads(payload)["timestamp_us"] for _, payload in answers] == list(range(MANY // ROUND))
    assert reconnects == 0
    assert grown_mb < 20
