"""A real MQTT broker for as long as it is needed: one you name, mosquitto, or the embedded default."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from time import sleep
from typing import Any, Self, TextIO

from xedge.core import children
from xedge.core.config import did_you_mean, listed
from xedge.core.exceptions import BrokerError, ConfigurationError, MissingExtraError
from xedge.serving.connection import Connection, first_message
from xedge.serving.endpoint import VARIABLE, Endpoint

log = logging.getLogger(__name__)
_running: dict[str, Broker] = {}
KINDS = ("mosquitto", "embedded")
READY_TIMEOUT_S = 20.0
MOSQUITTO_CONFIG = """listener {port} 127.0.0.1
allow_anonymous true
persistence false
set_tcp_nodelay true
max_queued_messages 100000
max_queued_bytes 33554432
max_inflight_messages 0
max_inflight_bytes 16777216
max_packet_size 16777216
memory_limit 536870912
log_dest stderr
log_type error
log_type warning
"""


class Broker:
    """An MQTT broker on loopback: ready on entry, gone on exit, and gone with this process however that ends.

    In this order: `url` or the environment's `XEDGE_BROKER` (a URL, or one of the two kinds); mosquitto, if installed;
    else the embedded default (amqtt). A broker of the same `name` that this process already runs is used again, so that
    a notebook's cell can be run twice.

    Args:
        url: `mqtt://host:port` or `mqtts://user@host:port?ca=FILE` of a broker that runs already; xedge then starts and
            ends nothing. `xedge.serving.endpoint` says what it may hold; never a password.
        kind: "mosquitto" or "embedded", to insist on one.
        port: the port to listen on; by default a free one.
        name: which of this process's brokers this is.
        options: what the URL may hold too: user, ca, cert, key, password_file, password_env, alpn.

    Raises:
        ConfigurationError: an invalid URL, kind or option.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        kind: str | None = None,
        port: int | None = None,
        name: str = "default",
        **options: str,
    ) -> None:
        wanted = os.environ.get(VARIABLE) or None if url is None and kind is None and port is None else None
        if wanted and wanted not in KINDS and "://" not in wanted:
            close = did_you_mean(wanted, KINDS)
            raise ConfigurationError(f"XEDGE_BROKER is {wanted!r}: give {listed([*KINDS, 'mqtt://host:port'])}{close}")
        if wanted in KINDS:
            kind, wanted = wanted, None
        url = wanted if url is None else url
        if kind is not None and kind not in KINDS:
            raise ConfigurationError(f"broker kind {kind!r}: give one of {', '.join(KINDS)}")
        if url is not None and (kind or port):
            raise ConfigurationError("give a broker's url, or the kind and port of one to start, not both")
        if url is None and options:
            raise ConfigurationError(f"{', '.join(options)}: of a broker that runs already; give its url too")
        self._at = Endpoint.read(url, **options) if url is not None else None
        self.name, self._wanted = name, (self._at, kind, port)
        self.host, self.port = (self._at.host, self._at.port) if self._at is not None else ("127.0.0.1", port or 0)
        self.kind = "external" if url is not None else kind or ("mosquitto" if find_mosquitto() else "embedded")
        self.version, self._tls = "unknown", ""
        self._guard: subprocess.Popen[bytes] | None = None
        self._entered_running: list[bool] = []

    @property
    def url(self) -> str:
        """`mqtt://host:port`, or with user and files as it was given; there is no password in it."""
        return self._endpoint.url

    @property
    def address(self) -> tuple[str, int]:
        """What services take as broker_host and broker_port: host and port, or the URL where that says more."""
        return self._endpoint.address

    @property
    def _endpoint(self) -> Endpoint:
        return self._at or Endpoint(scheme="mqtt", host=self.host, port=self.port)

    @property
    def is_running(self) -> bool:
        """Whether this object's broker is up as far as this process knows."""
        if self.kind == "external":
            twin = _running.get(self.name)
            return twin is not None and twin._wanted == self._wanted
        return self._guard is not None and self._guard.poll() is None

    def __repr__(self) -> str:
        state = f"{self._endpoint} ({self.kind} {self.version})" if self.is_running else f"{self.kind}, not running"
        return f"<Broker {state}>"

    def __enter__(self) -> Self:
        was_running = self._twin() is not None
        self.start()
        self._entered_running.append(was_running)
        return self

    def __exit__(self, *_exc: object) -> None:
        if not self._entered_running.pop():
            self.stop()

    def start(self) -> Self:
        """Start the broker, or join the one of this name that runs already; returns when it answers.

        Raises:
            BrokerError: nothing answers; the message carries what the broker said.
        """
        if (twin := self._twin()) is not None:
            self.host, self.port, self.kind, self.version = twin.host, twin.port, twin.kind, twin.version
            self._guard, self._tls = twin._guard, twin._tls
            return self
        if (other := _running.pop(self.name, None)) is not None:
            log.info("broker %r: settings changed, ending %r", self.name, other)
            other.stop()
        if self.kind == "external":
            self._tls = _probe(*self.address)
        else:
            self._start_child(self._wanted[2])
        _running[self.name] = self
        self.version = self._find_version()
        return self

    def stop(self) -> None:
        """End the broker of this name; stopping again changes nothing."""
        other = _running.get(self.name)
        if other is not None and other._wanted == self._wanted and other._guard is self._guard:
            del _running[self.name]
        guard, self._guard = self._guard, None
        if guard is not None:
            children.end(guard)

    def interrupt(self) -> None:
        """End the broker's process, as in a fault; its name and port stay for `resume`.

        Raises:
            ConfigurationError: it was not started by xedge.
        """
        if self.kind == "external":
            raise ConfigurationError(f"the broker at {self.url} runs already and is not xedge's to restart")
        owner = _running.get(self.name, self)
        guard, self._guard, owner._guard = self._guard, None, None
        if guard is not None:
            children.end(guard)

    def resume(self) -> None:
        """Start the broker again on the port it had, after `interrupt`; returns when it answers.

        Raises:
            BrokerError: it does not start.
        """
        self._start_child(self.port)
        _running.setdefault(self.name, self)._guard = self._guard

    def describe(self) -> dict[str, Any]:
        """Return what a measurement's conditions say about the broker."""
        facts: dict[str, Any] = {"kind": self.kind, "version": self.version}
        if self.kind == "external":
            facts |= {"url": str(self._endpoint)} | ({"tls": self._tls} if self._tls else {})
        elif self.kind == "mosquitto":
            facts["config"] = MOSQUITTO_CONFIG.replace("{port}", "PORT").strip().splitlines()
        return facts

    def _twin(self) -> Broker | None:
        other = _running.get(self.name)
        return other if other is not None and other.is_running and other._wanted == self._wanted else None

    def _start_child(self, wanted_port: int | None) -> None:
        for attempt in (1, 2, 3):
            self.port = wanted_port or _free_port()
            if wanted_port:
                try:
                    with socket.socket() as probe:
                        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                        probe.bind((self.host, wanted_port))
                except (OSError, OverflowError) as exc:
                    raise BrokerError(f"{self.kind} broker did not start on port {self.port}: {exc}") from None
            with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryDirectory(prefix="xedge-") as folder:
                self._guard = children.start(self._command(Path(folder)), said)
                try:
                    self._wait_ready(self._guard, said)
                except BaseException as exc:
                    self.stop()  # a free port may be taken between the look and the start
                    if attempt == 3 or wanted_port or not isinstance(exc, BrokerError):
                        raise
                else:
                    return

    def _command(self, folder: Path) -> list[str]:
        if self.kind == "embedded":
            if importlib.util.find_spec("amqtt") is None:
                raise MissingExtraError(
                    "no mosquitto here, and the embedded broker needs amqtt: install either, or name a running broker "
                    'by XEDGE_BROKER=mqtt://host:port; pip install "xedge[lab]" brings amqtt'
                )
            return [sys.executable, "-P", str(Path(__file__).with_name("embedded.py")), str(self.port)]
        mosquitto = find_mosquitto()
        if mosquitto is None:
            raise BrokerError("mosquitto is not installed; install it, or use xedge.Broker(kind='embedded')")
        config = folder / "mosquitto.conf"
        config.write_text(MOSQUITTO_CONFIG.format(port=self.port), "utf-8")
        return [mosquitto, "-c", str(config)]

    def _wait_ready(self, guard: subprocess.Popen[bytes], said: TextIO) -> None:
        def answers() -> bool:
            with suppress(BrokerError):
                _probe(self.host, self.port, timeout_s=2)
                sleep(0.02)  # whoever answered may be a stranger on that port: our own child would then end now
                return guard.poll() is None
            return False

        if (words := children.wait_ready(guard, said, answers, READY_TIMEOUT_S, every_s=0.02)) is not None:
            raise BrokerError(f"{self.kind} broker did not start on port {self.port}: {words}")

    def _find_version(self) -> str:
        if self.kind == "embedded":
            return "amqtt " + importlib.metadata.version("amqtt")
        said = None
        with suppress(BrokerError):
            said = first_message("xedge-version", *self.address, "$SYS/broker/version", None, 1)
        return said.decode("utf-8", "replace") if said else "unknown"


def check_environment() -> None:
    """Refuse a broker that `XEDGE_BROKER` cannot mean, before anything is prepared that would need one.

    Raises:
        ConfigurationError: it is neither a kind nor `mqtt://host:port`.
    """
    if os.environ.get("XEDGE_BROKER"):
        Broker()


def find_mosquitto() -> str | None:
    """Return the path of the mosquitto program; Debian keeps it where ordinary users' PATH does not look."""
    places = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"])
    return shutil.which("mosquitto", path=places)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _probe(host: str, port: int, timeout_s: float = 5.0) -> str:
    """Connect as an MQTT client would, and leave; return version and cipher of TLS, "" without."""
    with Connection("xedge-probe", host, port, [], lambda _topic, _payload: None).connected(timeout_s) as connection:
        return connection.tls
