"""One MQTT client with its own loop: reads all that has come, writes all that is due, reconnects, never sleeps."""

import contextlib
import logging
import secrets
import select
import socket
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from xedge.core.exceptions import BrokerError

log = logging.getLogger(__name__)
KEEPALIVE_S = 30
MAX_PACKET_BYTES = 16 << 20  # what the brokers that xedge starts allow too; a service refuses far smaller requests
_SECOND_NS = 1_000_000_000
_FIRST_BACKOFF_NS, _LONGEST_BACKOFF_NS = _SECOND_NS // 10, 5 * _SECOND_NS


class _Client(mqtt.Client):
    """A client that ends the connection instead of taking in a packet over the limit."""

    def _sock_recv(self, bufsize: int) -> bytes:
        if bufsize > MAX_PACKET_BYTES:
            raise ConnectionError(f"a packet of {bufsize} bytes; at most {MAX_PACKET_BYTES} are read")
        data: bytes = super()._sock_recv(bufsize)
        return data


class Connection:
    """A paho client driven by `turn()` from one thread.

    Args:
        name: the client id begins with it.
        host: the broker's host name or address.
        port: the broker's port.
        topics: what to subscribe to, again after every reconnect.
        on_message: called with (topic, payload) for each message, in the order of arrival.
        qos: quality of service of the subscriptions, 0 or 1.
        reads_per_turn: most messages read before `turn()` returns, so that timers keep their time.
        retained: take messages that the broker kept for new subscribers; a request that was kept is nobody's now.
    """

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        topics: list[str],
        on_message: Callable[[str, bytes], None],
        qos: int = 0,
        reads_per_turn: int = 64,
        *,
        retained: bool = False,
    ) -> None:
        self.host, self.port, self.qos = host, port, qos
        self.subscribed = False
        self.refused = ""
        self.reconnects = 0
        self._topics, self._seen, self._reads_per_turn = topics, 0, reads_per_turn
        self._on_message, self._retained = on_message, retained
        self._misc_ns = self._retry_ns = self._connected_ns = 0
        self._backoff_ns = _FIRST_BACKOFF_NS
        self._wake_r, self._wake_w = socket.socketpair()
        self._wake_r.setblocking(False)
        self._client = self._make_client(f"{name}-{secrets.token_hex(4)}")
        self.publish = self._client.publish

    def _make_client(self, client_id: str) -> mqtt.Client:
        client = _Client(CallbackAPIVersion.VERSION2, client_id=client_id)
        client.connect_timeout = 5.0
        client.max_inflight_messages_set(65535)
        client.on_connect = self._connected
        client.on_subscribe = self._acknowledged
        client.on_message = self._received
        client.on_socket_open = _set_nodelay
        # With a writer registered, paho leaves sending to turn(): many answers then leave in one go.
        client.on_socket_register_write = _leave_to_turn
        return client

    def connect(self) -> None:
        """Open the connection.

        Raises:
            BrokerError: nobody answers at that address.
        """
        try:
            self._client.connect(self.host, self.port, KEEPALIVE_S)
        except (OSError, ValueError) as exc:
            raise BrokerError(f"no MQTT broker answers at {self.host}:{self.port} ({exc}); is one running?") from exc

    def turn(self, timeout_s: float) -> None:
        """Wait at most `timeout_s` for something to happen, then read and write all there is."""
        sock = self._client.socket()
        if sock is None:
            self._wait_and_reconnect(timeout_s)
            return
        writers = [sock] if self._client.want_write() else []
        readable, writable, _ = select.select([sock, self._wake_r], writers, [], max(timeout_s, 0.0))
        if self._wake_r in readable:
            self._wake_r.recv(4096)
        if sock in readable:
            self._read(sock)
        if writable:
            self._client.loop_write()
        now_ns = perf_counter_ns()
        if now_ns - self._misc_ns > _SECOND_NS:
            self._misc_ns = now_ns
            self._client.loop_misc()

    def flush(self) -> None:
        """Send what has been published; what the socket does not take goes at the next turn."""
        if self._client.want_write() and self._client.socket() is not None:
            self._client.loop_write()

    def wake(self) -> None:
        """End the present wait; may be called from any thread."""
        with contextlib.suppress(OSError):  # closed already, or full: a wake-up is under way
            self._wake_w.send(b"\0")

    def close(self) -> None:
        """Say goodbye to the broker and close the sockets."""
        self.flush()
        self._client.disconnect()
        if self._client.socket() is not None:
            self._client.loop_write()
        self._wake_r.close()
        self._wake_w.close()

    def wait_subscribed(self, timeout_s: float) -> None:
        """Turn until the broker has acknowledged the subscriptions.

        Raises:
            BrokerError: it refused, or did not within `timeout_s`.
        """
        end_ns = perf_counter_ns() + round(timeout_s * 1e9)
        while not self.subscribed and not self.refused:
            left_ns = end_ns - perf_counter_ns()
            if left_ns <= 0:
                raise BrokerError(f"the broker at {self.host}:{self.port} did not answer within {timeout_s:g} s")
            self.turn(left_ns / 1e9)
        if self.refused:
            raise BrokerError(f"the broker at {self.host}:{self.port} refused: {self.refused}")

    def _read(self, sock: Any) -> None:
        # loop_read() takes one packet. Asking whether there is more is cheaper than being refused, so a lone
        # message is answered sooner; with more there, it is called again until it brings no message.
        if self._client.loop_read() != MQTTErrorCode.MQTT_ERR_SUCCESS or not select.select([sock], [], [], 0)[0]:
            return
        for _ in range(self._reads_per_turn - 1):
            seen = self._seen
            if self._client.loop_read() != MQTTErrorCode.MQTT_ERR_SUCCESS or self._seen == seen:
                return

    def _wait_and_reconnect(self, timeout_s: float) -> None:
        self.subscribed = False
        wait_s = min(max(timeout_s, 0.0), max(self._retry_ns - perf_counter_ns(), 0) / 1e9)
        if select.select([self._wake_r], [], [], wait_s)[0]:
            self._wake_r.recv(4096)
        now_ns = perf_counter_ns()
        if now_ns < self._retry_ns:
            return
        if self._connected_ns and now_ns - self._connected_ns > _LONGEST_BACKOFF_NS:
            self._backoff_ns = _FIRST_BACKOFF_NS  # it had been well
        next_s = self._backoff_ns / 1e9
        self._connected_ns, self._retry_ns = 0, now_ns + self._backoff_ns
        self._backoff_ns = min(2 * self._backoff_ns, _LONGEST_BACKOFF_NS)
        try:
            self._client.reconnect()
        except OSError as exc:
            log.warning("no broker at %s:%s (%s); next try in %.1f s", self.host, self.port, exc, next_s)
        else:
            self.reconnects += 1
            log.info("connected again to %s:%s; if that is lost, next try in %.1f s", self.host, self.port, next_s)

    def _connected(self, client: mqtt.Client, _data: Any, _flags: Any, reason: ReasonCode, _props: Any) -> None:
        if reason.is_failure:
            self.refused = str(reason)
            log.warning("the broker at %s:%s refused: %s", self.host, self.port, reason)
            return
        self.refused, self._connected_ns = "", perf_counter_ns()
        if self._topics:
            client.subscribe([(topic, self.qos) for topic in self._topics])
        else:
            self.subscribed = True

    def _acknowledged(self, _client: mqtt.Client, _data: Any, _mid: int, reasons: list[ReasonCode], _p: Any) -> None:
        failures = [str(reason) for reason in reasons if reason.is_failure]
        self.refused = ", ".join(failures)
        self.subscribed = not failures

    def _received(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        self._seen += 1
        if message.retain and not self._retained:
            log.warning("ignored a retained message of %d bytes", len(message.payload))
            return
        try:
            topic = message.topic
        except UnicodeDecodeError:
            log.warning("ignored a message whose topic is not UTF-8")
            return
        self._on_message(topic, bytes(message.payload))


def _set_nodelay(_client: mqtt.Client, _data: Any, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _leave_to_turn(_client: mqtt.Client, _data: Any, _sock: Any) -> None:
    """Nothing to do: turn() asks `want_write()`."""
