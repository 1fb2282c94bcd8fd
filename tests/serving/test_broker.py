"""Brokers: which one is taken, that it is ready and private, and that nothing is left however its owner ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from helpers import Client, children_of, is_alive, wait_until

from xedge.core.exceptions import BrokerError, ConfigurationError
from xedge.reports.parameters import check_parameters
from xedge.reports.run import run_many
from xedge.serving import broker as brokers
from xedge.serving.broker import Broker, _free_port, _probe, check_environment, find_mosquitto

KINDS = [
    pytest.param("mosquitto", marks=pytest.mark.skipif(not find_mosquitto(), reason="mosquitto is not installed")),
    "embedded",
]
FIRST = "mosquitto" if find_mosquitto() else "embedded"


def answers(host: str, port: int) -> bool:
    try:
        _probe(host, port, 5.0)
    except BrokerError:
        return False
    return True


def processes_of(broker: Broker) -> set[int]:
    """The guard and the broker itself."""
    assert broker._guard is not None
    found = {broker._guard.pid, *children_of(broker._guard.pid)}
    assert len(found) == 2
    return found


def wait_gone(pids: set[int]) -> None:
    wait_until(lambda: not any(is_alive(pid) for pid in pids), f"processes {pids} are gone")


# Which broker


def test_url_names_a_broker_that_runs_already(any_broker: Broker, prefix: str) -> None:
    with Broker(any_broker.url, name=prefix) as broker:
        assert (broker.kind, broker.host, broker.port) == ("external", any_broker.host, any_broker.port)
        assert broker.is_running
        assert broker._guard is None
    assert not broker.is_running
    assert answers(any_broker.host, any_broker.port)


def test_environment_names_a_broker(any_broker: Broker, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XEDGE_BROKER", any_broker.url)
    assert (Broker(name=prefix).kind, Broker(name=prefix).port) == ("external", any_broker.port)
    assert Broker(kind="embedded", name=prefix).kind == "embedded"
    assert Broker("mqtt://elsewhere:1", name=prefix).host == "elsewhere"


@pytest.mark.parametrize("kind", ["mosquitto", "embedded"])
def test_environment_names_a_kind(prefix: str, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv("XEDGE_BROKER", kind)
    assert Broker(name=prefix).kind == kind


def test_environment_that_is_empty_says_nothing(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XEDGE_BROKER", "")
    assert Broker(name=prefix).kind == FIRST


def test_mosquitto_comes_first_and_embedded_else(prefix: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "mosquitto"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_mosquitto() == str(program)
    assert Broker(name=prefix).kind == "mosquitto"
    monkeypatch.setattr(brokers, "find_mosquitto", lambda: None)
    assert Broker(name=prefix).kind == "embedded"
    with pytest.raises(BrokerError, match="not installed"):
        Broker(kind="mosquitto", name=prefix).start()


@pytest.mark.parametrize(
    "url",
    [
        "", "localhost", "localhost:1883", "http://localhost:1883", "mqtts://localhost:8883/t", "ws://",
        "mqtt://", "mqtt://:1883", "mqtt://user:secret@localhost", "mqtt://localhost:99999", "mqtt://localhost:port",
        "mqtt://localhost:0", "mqtt://localhost/topic", "mqtt://[::1",
    ],
)  # fmt: skip
def test_url_that_cannot_be_meant(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"mqtt://host:port"):
        Broker(url)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("mqtt://localhost", ("localhost", 1883)),
        ("mqtt://10.0.0.7:2000/", ("10.0.0.7", 2000)),
        ("mqtt://[::1]:1884", ("::1", 1884)),
    ],
)
def test_url_that_can_be_meant(url: str, address: tuple[str, int]) -> None:
    broker = Broker(url)
    assert (broker.host, broker.port) == address
    assert Broker(broker.url).port == broker.port


def test_kind_that_cannot_be_meant() -> None:
    with pytest.raises(ConfigurationError, match="'hivemq'"):
        Broker(kind="hivemq")
    with pytest.raises(ConfigurationError, match="not both"):
        Broker("mqtt://localhost", kind="embedded")


def test_url_where_nobody_answers(prefix: str) -> None:
    port = _free_port()
    broker = Broker(f"mqtt://127.0.0.1:{port}", name=prefix)
    with pytest.raises(BrokerError, match=f"127.0.0.1:{port}"):
        broker.start()
    assert not broker.is_running


# Ready on entry, gone on exit


@pytest.mark.parametrize("kind", KINDS)
def test_ready_on_entry_and_gone_on_exit(kind: str, prefix: str) -> None:
    with Broker(kind=kind, name=prefix) as broker:
        assert broker.is_running
        assert broker.url in repr(broker)
        pids = processes_of(broker)
        with Client(broker, "t") as client:
            client.publish("t", b"hello")
            assert client.wait(1) == [("t", b"hello")]
        assert broker.describe()["kind"] == kind
        assert any(c.isdigit() for c in broker.version)
    assert not broker.is_running
    assert "not running" in repr(broker)
    assert not any(is_alive(pid) for pid in pids)
    assert not answers(broker.host, broker.port)


@pytest.mark.parametrize("kind", KINDS)
def test_gone_after_an_error(kind: str, prefix: str) -> None:
    with pytest.raises(ZeroDivisionError), Broker(kind=kind, name=prefix) as broker:
        _ = 1 / 0
    assert not answers(broker.host, broker.port)


@pytest.mark.parametrize("kind", KINDS)
def test_listens_on_loopback_only(kind: str, prefix: str) -> None:
    with Broker(kind=kind, name=prefix) as broker:
        assert broker.host == "127.0.0.1"
        wanted = f"{broker.port:04X}"
        tables = [Path("/proc/net") / name for name in ("tcp", "tcp6")]
        if not all(table.is_file() for table in tables):
            pytest.skip("no /proc/net here")
        lines = [line.split() for table in tables for line in table.read_text().splitlines()[1:]]
        listening = [local for _, local, _, state, *_ in lines if state == "0A" and local.endswith(f":{wanted}")]
        assert listening == [f"0100007F:{wanted}"]


@pytest.mark.parametrize("kind", KINDS)
def test_two_names_are_two_brokers_on_free_ports(kind: str, prefix: str) -> None:
    with Broker(kind=kind, name=f"{prefix}-a") as one, Broker(kind=kind, name=f"{prefix}-b") as other:
        assert one.port != other.port
        with Client(one, "t") as here, Client(other, "t") as there:
            here.publish("t", b"1")
            there.publish("t", b"2")
            assert (here.wait(1), there.wait(1)) == ([("t", b"1")], [("t", b"2")])


@pytest.mark.parametrize("kind", KINDS)
def test_port_in_use_is_an_error_and_its_owner_is_left_alone(kind: str, any_broker: Broker, prefix: str) -> None:
    wanted = Broker(kind=kind, port=any_broker.port, name=prefix)
    try:
        with pytest.raises(BrokerError, match=f"port {any_broker.port}"):
            wanted.start()
    finally:
        wanted.stop()
    assert not wanted.is_running
    assert prefix not in brokers._running
    assert answers(any_broker.host, any_broker.port)


@pytest.mark.parametrize("kind", KINDS)
def test_port_held_by_something_else_is_an_error(kind: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(BrokerError, match=f"port {port}"):
            Broker(kind=kind, port=port, name=prefix).start()


@pytest.mark.parametrize("port", [-1, 70000])
def test_port_that_cannot_be(port: int, prefix: str) -> None:
    with pytest.raises((ConfigurationError, BrokerError), match=str(port)):
        Broker(kind=FIRST, port=port, name=prefix).start()


# Cells that run twice


def test_same_name_joins_the_broker_that_runs(prefix: str) -> None:
    first = Broker(name=prefix).start()
    try:
        second = Broker(name=prefix).start()
        assert second.is_running
        assert (second.port, second.version) == (first.port, first.version)
        assert processes_of(second) == processes_of(first)
        assert first.start() is first
        second.stop()
        assert not first.is_running
        assert not second.is_running
        second.stop()
    finally:
        first.stop()


def test_same_url_joins_too(any_broker: Broker, prefix: str) -> None:
    with Broker(any_broker.url, name=prefix) as first, Broker(any_broker.url, name=prefix) as second:
        assert first.is_running
        assert second.is_running
        assert "not running" not in repr(second)


def test_with_in_a_running_broker_leaves_it_running(prefix: str) -> None:
    with Broker(name=prefix) as outer:
        with Broker(name=prefix) as inner:
            assert inner.port == outer.port
        assert outer.is_running
        assert answers(outer.host, outer.port)
    assert not answers(outer.host, outer.port)


def test_with_twice_on_one_broker_ends_it_once_at_the_outer(prefix: str) -> None:
    broker = Broker(name=prefix)
    try:
        with broker:
            with broker:
                assert broker.is_running
            assert broker.is_running
        assert not broker.is_running
    finally:
        broker.stop()


def test_with_one_after_the_other(prefix: str) -> None:
    broker = Broker(name=prefix)
    for _ in range(2):
        with broker:
            assert answers(broker.host, broker.port)
        assert not answers(broker.host, broker.port)


def test_changed_settings_replace_the_broker(prefix: str) -> None:
    first = Broker(name=prefix).start()
    pids = processes_of(first)
    with Broker(name=prefix, port=_free_port()) as second:
        assert second.port != first.port
        assert not first.is_running
        wait_gone(pids)
        assert answers(second.host, second.port)


def test_stopping_a_broker_that_was_replaced_leaves_its_successor(prefix: str) -> None:
    first = Broker(name=prefix).start()
    port = _free_port()
    second = Broker(name=prefix, port=port).start()
    try:
        first.stop()
        assert second.is_running
        assert brokers._running.get(prefix) is second
    finally:
        second.stop()


def test_starts_again_after_its_broker_died(prefix: str) -> None:
    with Broker(name=prefix) as broker:
        [child] = children_of(broker._guard.pid) if broker._guard else []
        os.kill(child, signal.SIGKILL)
        wait_until(lambda: not broker.is_running, "the guard noticed")
        broker.start()
        assert broker.is_running
        assert answers(broker.host, broker.port)


# No orphans: a script of its own starts the broker and then ends in every way

OWNER = """
import json, os, signal, subprocess, sys
import xedge
broker = xedge.Broker(kind={kind!r}).start()
listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True).stdout
guard = broker._guard.pid
children = [int(a) for a, b in map(str.split, listed.splitlines()) if int(b) == guard]
{prepare}
print(json.dumps({{"port": broker.port, "pids": [guard, *children]}}), flush=True)
sys.stdin.readline()
{end}
"""
ENDINGS: dict[str, tuple[int | None, str]] = {
    "sigkill": (signal.SIGKILL, ""),
    "sigterm": (signal.SIGTERM, ""),
    "sighup": (signal.SIGHUP, ""),
    "sys_exit": (None, "sys.exit(3)"),
    "end_of_script": (None, ""),
    "error": (None, "raise RuntimeError('on purpose')"),
    "hard_exit": (None, "os._exit(1)"),
    "crash": (None, "import resource, ctypes; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); ctypes.string_at(0)"),
}


@contextmanager
def owner(kind: str, prepare: str = "", end: str = "") -> Iterator[tuple[subprocess.Popen[str], int, set[int]]]:
    """A process of its own that owns a broker: the process, the broker's port, and the pids that must go."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER.format(kind=kind, prepare=prepare, end=end)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            said = json.loads(process.stdout.readline())
            assert len(said["pids"]) == 2
            assert all(is_alive(pid) for pid in said["pids"])
            yield process, said["port"], set(said["pids"])
        finally:
            process.kill()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ending", ENDINGS)
def test_no_orphan_after(kind: str, ending: str) -> None:
    number, code = ENDINGS[ending]
    with owner(kind, end=code) as (process, port, pids):
        assert answers("127.0.0.1", port)
        if number is not None:
            process.send_signal(number)
        else:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        process.wait(120)
        wait_gone(pids)
        assert not answers("127.0.0.1", port)


@pytest.mark.parametrize("kind", KINDS)
def test_survives_an_interrupt_of_the_process_group(kind: str) -> None:
    with owner(kind, prepare="signal.signal(signal.SIGINT, lambda *_: os.write(2, b'!'))") as (process, port, pids):
        os.killpg(process.pid, signal.SIGINT)
        assert answers("127.0.0.1", port)
        assert all(is_alive(pid) for pid in pids)
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait(120) == 0
        wait_gone(pids)


@pytest.mark.parametrize("kind", KINDS)
def test_guard_told_to_end_ends_the_broker(kind: str, prefix: str) -> None:
    with Broker(kind=kind, name=prefix) as broker:
        pids = processes_of(broker)
        assert broker._guard is not None
        os.kill(broker._guard.pid, signal.SIGTERM)
        wait_until(lambda: not broker.is_running, "the guard has ended")
        wait_gone(pids)


# In a notebook

CELL = "import xedge\nbroker = xedge.Broker(name='notebook').start()\nprint(broker.port, broker._guard.pid)"


@pytest.fixture
def kernel() -> Iterator[Any]:
    from jupyter_client.manager import KernelManager

    manager = KernelManager(kernel_name="python3")
    manager.start_kernel()
    try:
        yield manager
    finally:
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


def run_cell(client: Any, code: str) -> str:
    heard: list[str] = []

    def listen(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream" and message["content"]["name"] == "stdout":
            heard.append(message["content"]["text"])

    reply = client.execute_interactive(code, timeout=180, output_hook=listen)
    assert reply["content"]["status"] == "ok", reply["content"]
    return "".join(heard)


def test_broker_of_a_kernel(kernel: Any) -> None:
    client = kernel.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=180)
        port, guard = map(int, run_cell(client, CELL).split())
        pids = {guard, *children_of(guard)}
        assert len(pids) == 2
        busy = client.execute("print('busy', flush=True)\nimport threading\nthreading.Event().wait(600)")
        while client.get_iopub_msg(timeout=180)["msg_type"] != "stream":
            pass
        kernel.interrupt_kernel()
        while (reply := client.get_shell_msg(timeout=180))["parent_header"]["msg_id"] != busy:
            pass
        assert reply["content"]["ename"] == "KeyboardInterrupt"
        assert answers("127.0.0.1", port)
        assert list(map(int, run_cell(client, CELL).split())) == [port, guard]
        kernel.signal_kernel(signal.SIGKILL)
        wait_gone(pids)
        assert not answers("127.0.0.1", port)
    finally:
        client.stop_channels()


@pytest.mark.parametrize("url", ["mqtt://user:secret@host:1883", "mqtts://u:se/cret@host", "mqtt://u:secret@host:x"])
def test_a_password_in_a_url_stands_in_no_message(url):
    with pytest.raises(ConfigurationError) as refusal:
        brokers.Broker(url)
    assert "cret" not in str(refusal.value)
    assert "write mqtt://host:port" in str(refusal.value)


@pytest.mark.parametrize(("wrong", "says"), [("nonsense", ""), ("mosquito", "; did you mean mosquitto")])
def test_environment_that_names_no_broker_is_refused_before_anything_is_prepared(monkeypatch, wrong, says):
    monkeypatch.setenv("XEDGE_BROKER", wrong)
    message = f"XEDGE_BROKER is {wrong!r}: give mosquitto, embedded or mqtt://host:port{says}"
    for prepare in (check_environment, lambda: check_parameters({}), lambda: run_many([])):
        with pytest.raises(ConfigurationError, match=re.escape(message)):
            prepare()


# Interrupted


@pytest.mark.parametrize("kind", KINDS)
def test_a_broker_comes_back_on_its_port_for_all_that_joined_it(kind: str, prefix: str) -> None:
    with Broker(kind=kind, name=prefix) as first, Broker(kind=kind, name=prefix) as joined:
        port, before = first.port, processes_of(first)
        joined.interrupt()
        wait_gone(before)
        assert not first.is_running
        assert not joined.is_running
        joined.resume()
        assert answers(first.host, port)
        assert processes_of(first) == processes_of(joined)
        assert first.is_running
        after = processes_of(first)
    wait_gone(after)


def test_a_broker_that_is_not_ours_is_not_interrupted(any_broker: Broker, prefix: str) -> None:
    with (
        Broker(any_broker.url, name=prefix) as broker,
        pytest.raises(ConfigurationError, match="not xedge's to restart"),
    ):
        broker.interrupt()
