"""One MQTT client with its own loop: reads all that has come, writes all that is due, reconnects, never sleeps."""

import contextlib
import logging
import secrets
import select
import socket
from collections.abc import Callable, Iterator
from time import perf_counter_ns
from typing import Any, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from xedge.core.exceptions import BrokerError
from xedge.serving.client import client_of
from xedge.serving.endpoint import Endpoint

log = logging.getLogger(__name__)
MAX_PENDING_BYTES = 32 << 20  # what waits to be written or acknowledged; what is published beyond is dropped
NOTHING: Callable[[], int] = int  # how many bytes a socket without TLS has read and not handed out
NO_CONNECTION = MQTTErrorCode.MQTT_ERR_NO_CONN
WEIGH_NS = 50_000_000  # how often that is weighed, where more than a few messages wait: a publish alone pays nothing
_SECOND_NS = 1_000_000_000
_FIRST_BACKOFF_NS, _LONGEST_BACKOFF_NS = _SECOND_NS // 10, 5 * _SECOND_NS


class Connection:
    """A paho client driven by `turn()` from one thread.

    Args:
        name: the client id begins with it.
        host, port: where the broker is; a host may be a URL, as in `xedge.serving.endpoint`.
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
        self.at, self.qos = Endpoint.at(host, port), qos
        self.subscribed, self.refused, self.reconnects = False, "", 0
        self.outages: list[tuple[int, int]] = []  # from when to when there was no connection, as far as it is over
        self._lost_ns = 0
        self._topics, self._seen, self._reads_per_turn = topics, 0, reads_per_turn
        self._on_message, self._retained = on_message, retained
        self._misc_ns = self._retry_ns = self._connected_ns = 0
        self._backoff_ns = _FIRST_BACKOFF_NS
        self._wake_r, self._wake_w = socket.socketpair()
        self._wake_r.setblocking(False)
        self.on_wake: Callable[[], None] = lambda: None  # called in the turn that `wake` ends
        self._client = client = client_of(self.at, f"{name}-{secrets.token_hex(4)}")
        client.connect_timeout = 5.0
        client.max_inflight_messages_set(65535)
        client.on_connect, client.on_subscribe = self._connected, self._acknowledged
        client.on_message, client.on_disconnect = self._received, self._disconnected
        client.on_socket_open = self._opened
        self._answered, self._buffered = False, NOTHING
        # With a writer registered, paho leaves sending to turn(): many answers then leave in one go.
        client.on_socket_register_write = lambda _client, _data, _sock: None
        self._weighed_ns = 0
        self.publish: Callable[..., mqtt.MQTTMessageInfo] = client.publish

    def connect(self) -> None:
        """Open the connection.

        Raises:
            BrokerError: nobody answers at that address.
        """
        try:
            self._client.connect(self.at.host, self.at.port, keepalive=30)
        except (OSError, ValueError) as exc:
            raise BrokerError(self.at.why_not(exc)) from exc

    @contextlib.contextmanager
    def connected(self, timeout_s: float) -> Iterator[Self]:
        """Be connected and subscribed within `timeout_s`, and closed in the end; raises as `wait_subscribed`."""
        try:
            self.connect()
            self.wait_subscribed(timeout_s)
            yield self
        finally:
            self.close()

    def turn(self, timeout_s: float) -> None:
        """Wait at most `timeout_s` for something to happen, then read and write all there is."""
        sock = self._client.socket()
        if sock is None:
            self._wait_and_reconnect(timeout_s)
            return
        writers = [sock] if self._client.want_write() else []
        wait_s = 0.0 if self._buffered() else max(timeout_s, 0.0)
        readable, writable, _ = select.select([sock, self._wake_r], writers, [], wait_s)
        if self._wake_r in readable:
            self._wake_r.recv(4096)
            self.on_wake()
        if sock in readable or self._buffered():
            self._read(sock)
        if writable:
            self._client.loop_write()
        now_ns = perf_counter_ns()
        if now_ns - self._misc_ns > _SECOND_NS:
            self._misc_ns = now_ns
            self._client.loop_misc()

    def flush(self) -> None:
        """Send what has been published; what the socket does not take goes at the next turn."""
        client = self._client
        if client.want_write() and client.socket() is not None:
            client.loop_write()
        if len(client._out_packet) > 8 or len(client._out_messages) > 8 or self.publish == self._drop:
            self._weigh()

    def wake(self) -> None:
        """End the present wait; may be called from any thread."""
        with contextlib.suppress(OSError):  # closed already, or full: a wake-up is under way
            self._wake_w.send(b"\0")

    def close(self) -> None:
        """Say goodbye to the broker and close the sockets."""
        self._came_back()
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
        if not self.turn_until(lambda: self.subscribed or bool(self.refused), timeout_s):
            raise BrokerError(f"the broker at {self.at.place} did not answer within {timeout_s:g} s")
        if self.refused:
            raise BrokerError(self.refused)

    def turn_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Turn until `condition()` holds, at most `timeout_s`; return whether it does."""
        end_ns = perf_counter_ns() + round(timeout_s * 1e9)
        while not (holds := condition()) and (left_ns := end_ns - perf_counter_ns()) > 0:
            self.flush()
            self.turn(left_ns / 1e9)
        return holds

    @property
    def tls(self) -> str:
        """Version and cipher of TLS, as "TLSv1.3 TLS_AES_256_GCM_SHA384"; "" without TLS or connection."""
        sock: Any = self._client.socket()
        sock = getattr(sock, "_socket", sock)
        return f"{sock.version()} {sock.cipher()[0]}" if self.at.is_tls and sock is not None else ""

    def _read(self, sock: Any) -> None:
        # loop_read() takes one packet. Asking whether there is more is cheaper than being refused, so a lone
        # message is answered sooner; with more there, it is called again until it brings no message.
        if self._client.loop_read() != MQTTErrorCode.MQTT_ERR_SUCCESS:
            return
        if not self._buffered() and not select.select([sock], [], [], 0)[0]:
            return
        for _ in range(self._reads_per_turn - 1):
            seen = self._seen
            if self._client.loop_read() != MQTTErrorCode.MQTT_ERR_SUCCESS or self._seen == seen:
                return

    def _wait_and_reconnect(self, timeout_s: float) -> None:
        self.subscribed = False
        self._lost_ns = self._lost_ns or perf_counter_ns()
        wait_s = min(max(timeout_s, 0.0), max(self._retry_ns - perf_counter_ns(), 0) / 1e9)
        if select.select([self._wake_r], [], [], wait_s)[0]:
            self._wake_r.recv(4096)
            self.on_wake()
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
            log.warning("%s; next try in %.1f s", self.at.why_not(exc), next_s)
        else:
            self.reconnects += 1
            log.info("connected again to %s; if that is lost, next try in %.1f s", self.at.place, next_s)

    def _opened(self, _client: mqtt.Client, _data: Any, sock: Any) -> None:
        self._answered, self._client.alert = False, ""
        # What TLS has read and not yet handed out, select() cannot see; paho's wrapper of a websocket knows too.
        self._buffered = sock.pending if self.at.is_tls else NOTHING
        getattr(sock, "_socket", sock).setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _disconnected(self, *_: Any) -> None:
        if not self._answered and not self.refused:
            self._refuse(self.at.why_closed(self._client.alert))

    def _refuse(self, sentence: str) -> None:
        self.refused = sentence
        if self.reconnects:  # at first it is raised
            log.warning("%s", sentence)

    def _connected(self, client: mqtt.Client, _data: Any, _flags: Any, reason: ReasonCode, _props: Any) -> None:
        self._answered = True
        if reason.is_failure:
            self._refuse(self.at.why_refused(str(reason)))
            return
        self.refused, self._connected_ns = "", perf_counter_ns()
        if self._topics:
            client.subscribe([(topic, self.qos) for topic in self._topics])
        self.subscribed = not self._topics
        if self.subscribed:
            self._came_back()

    def _acknowledged(self, _client: mqtt.Client, _data: Any, _mid: int, reasons: list[ReasonCode], _p: Any) -> None:
        refused = ", ".join(str(reason) for reason in reasons if reason.is_failure)
        self.refused = self.at.why_refused(f"a subscription ({refused})") if refused else ""
        self.subscribed = not self.refused
        if self.subscribed:
            self._came_back()

    def _weigh(self) -> None:
        now_ns, client = perf_counter_ns(), self._client
        if now_ns - self._weighed_ns < WEIGH_NS:
            return
        self._weighed_ns, was_full = now_ns, self.publish == self._drop
        is_full = self.pending_bytes > MAX_PENDING_BYTES
        self.publish = self._drop if is_full else client.publish
        if is_full and not was_full:
            log.warning("%s takes too little: messages are dropped for now", self.at.place)

    @property
    def pending_bytes(self) -> int:
        """How much waits to be written, or with QoS 1 to be acknowledged."""
        unwritten = sum(packet["to_process"] for packet in self._client._out_packet)
        return unwritten + sum(len(message.payload) for message in self._client._out_messages.values())

    def _drop(self, *_message: Any) -> mqtt.MQTTMessageInfo:
        dropped = mqtt.MQTTMessageInfo(0)
        dropped.rc = MQTTErrorCode.MQTT_ERR_QUEUE_SIZE
        return dropped

    def _came_back(self) -> None:
        if self._lost_ns:
            self.outages.append((self._lost_ns, perf_counter_ns()))
            self._lost_ns = 0

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


def first_message(
    name: str, host: str, port: int, topic: str, question: tuple[str, bytes] | None, timeout_s: float
) -> bytes | None:
    """Publish `question` (topic, payload), if any, and return what comes on `topic` first; None if nothing does.

    Without a question, a message that the broker keeps for new subscribers counts too.

    Raises:
        BrokerError: no broker there, or it refused.
    """
    heard: list[bytes] = []
    connection = Connection(
        name, host, port, [topic], lambda _topic, payload: heard.append(payload), retained=question is None
    )
    with connection.connected(timeout_s):
        if question is not None:
            connection.publish(*question)
        connection.turn_until(lambda: bool(heard), timeout_s)
    return heard[0] if heard else None
