"""What a broker or a stranger can do to a connection: accept and leave, refuse, keep messages, send giants."""

from __future__ import annotations

import socket
import threading

import pytest
from helpers import Client, Device, request_bytes, wait_until

import xedge
from xedge.scenario.routes import Topics
from xedge.serving import connection as connections
from xedge.serving.client import MAX_PACKET_BYTES
from xedge.serving.connection import Connection

CONNACK = {"accepted": b"\x20\x02\x00\x00", "refused": b"\x20\x02\x00\x05", "silent": b""}


class Leaver:
    """A server that accepts, answers the first packet as told, and closes; it counts how often."""

    def __init__(self, answer: bytes) -> None:
        self._answer, self.accepted = answer, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            with peer:
                peer.recv(4096)
                peer.sendall(self._answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._listener.close()


@pytest.mark.parametrize("answer", CONNACK)
def test_reconnecting_backs_off_when_tcp_connects_but_mqtt_does_not_last(answer, monkeypatch):
    """The clock is moved on by hand: in ten seconds of it there are a handful of tries, not thousands."""
    now_ns = [1_000_000_000_000]
    monkeypatch.setattr(connections, "perf_counter_ns", lambda: now_ns[0])
    monkeypatch.setattr(connections.select, "select", _without_waiting)
    server = Leaver(CONNACK[answer])
    client = Connection("test", "127.0.0.1", server.port, ["a"], lambda *_: None)
    try:
        client.connect()
        for _ in range(2000):
            client.turn(0.005)
            now_ns[0] += 5_000_000
        assert 2 <= server.accepted <= 10
    finally:
        client.close()
        server.close()


def _without_waiting(readers, writers, others, timeout_s=0.0, _select=connections.select.select):
    return _select(readers, writers, others, min(timeout_s, 0.002))


def test_a_retained_request_is_ignored_and_the_service_goes_on(broker, prefix, models):
    with Client(broker) as keeper:
        topic = Topics(prefix).request
        keeper._client.publish(topic, request_bytes([0.5] * 32, "kept", 1), retain=True).wait_for_publish(10)
        try:
            with (
                xedge.EdgeMLService("anomaly_detector", broker.host, broker.port, topic_prefix=prefix) as service,
                Device(broker, prefix) as device,
            ):
                assert device.ask([0.5] * 32, "new")["device_id"] == "new"
                assert service.counts["received"] == 1
        finally:
            keeper._client.publish(topic, b"", retain=True).wait_for_publish(10)


def test_a_giant_message_reaches_nobody_and_the_service_goes_on(broker, prefix, models):
    with (
        xedge.EdgeMLService("anomaly_detector", broker.host, broker.port, topic_prefix=prefix) as service,
        Device(broker, prefix) as device,
    ):
        giant = Connection("giant", broker.host, broker.port, [], lambda *_: None)
        giant.connect()
        giant.wait_subscribed(10)
        giant.publish(Topics(prefix).request, b"x" * (MAX_PACKET_BYTES + 1000))
        wait_until(lambda: giant.turn(0.05) or giant.reconnects, "the broker ended the giant's connection")
        giant.close()
        assert device.ask([0.5] * 32)["prediction"] >= 0
        assert service.is_running
        assert service.counts["received"] == 1


def test_a_packet_over_the_limit_ends_the_connection_before_it_is_read():
    listener = socket.create_server(("127.0.0.1", 0))
    client = Connection("test", *listener.getsockname(), [], lambda *_: None)
    try:
        client.connect()
        peer, _ = listener.accept()
        client.turn(0)
        with peer:
            assert peer.recv(4096)[:1] == b"\x10"  # CONNECT
            peer.sendall(CONNACK["accepted"] + b"\x30\xff\xff\xff\x7f")  # a publish of 256 MiB begins
            wait_until(lambda: client.turn(0.02) or client._client.socket() is None, "the client left")
    finally:
        client.close()
        listener.close()
