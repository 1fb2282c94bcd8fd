"""A paho client for an endpoint: TLS, user and password, websockets, and a limit on what it takes in."""

import logging
import socket
import ssl
from typing import Literal

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from xedge.serving.endpoint import Endpoint

log = logging.getLogger(__name__)
MAX_PACKET_BYTES = 16 << 20  # what the brokers that xedge starts allow too; a service refuses far smaller requests


class Client(mqtt.Client):
    """A client that ends the connection instead of taking in a packet over the limit, and keeps the last TLS alert."""

    alert = ""

    def _sock_recv(self, bufsize: int) -> bytes:
        if bufsize > MAX_PACKET_BYTES:
            raise ConnectionError(f"a packet of {bufsize} bytes; at most {MAX_PACKET_BYTES} are read")
        try:
            return super()._sock_recv(bufsize)
        except ssl.SSLError as exc:  # with TLS 1.3 a client certificate is refused after the handshake
            self.alert = exc.reason or ""
            raise

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        """As paho does, and close the socket when the handshake fails."""
        assert self._ssl_context is not None
        sock = self._ssl_context.wrap_socket(tcp_sock, server_hostname=self._host, do_handshake_on_connect=False)
        try:
            sock.settimeout(self._connect_timeout)
            sock.do_handshake()
        except BaseException:
            sock.close()
            raise
        return sock


def client_of(at: Endpoint, client_id: str) -> Client:
    """Return a client that can be connected to the endpoint's host and port.

    Raises:
        ConfigurationError: a file of the endpoint is not there or not what it should be, or there is no password.
    """
    transport: Literal["tcp", "websockets"] = "websockets" if at.is_websocket else "tcp"
    client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, transport=transport)
    if at.is_websocket:
        client.ws_set_options(at.path or "/mqtt")
        log.warning("%s: websockets cost 0.14 ms of computing a kB here; measure over mqtt:// or mqtts://", at.place)
    if at.is_tls:
        client.tls_set_context(at.tls())
    if at.user:
        client.username_pw_set(at.user, at.password())
    return client
