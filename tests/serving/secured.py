"""A mosquitto as `containers/` ships it, on loopback and free ports, with certificates and passwords of its own."""

from __future__ import annotations

import getpass
import importlib.util
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from urllib.parse import quote

from helpers import wait_until

from xedge.core.exceptions import BrokerError
from xedge.serving.broker import _free_port, _probe, find_mosquitto

FOLDER = Path(__file__).resolve().parents[2] / "containers"
DEVICES = ["press-7", "press-8"]
# Listeners besides the shipped one: client certificates instead of passwords, no TLS at all, websockets with TLS.
FURTHER = """
listener {certificates} 127.0.0.1
cafile {folder}/ca.crt
certfile {folder}/broker.crt
keyfile {folder}/broker.key
require_certificate true
use_identity_as_username true
acl_file {acl}
listener {plain} 127.0.0.1
allow_anonymous true
listener {websockets} 127.0.0.1
protocol websockets
cafile {folder}/ca.crt
certfile {folder}/broker.crt
keyfile {folder}/broker.key
allow_anonymous false
password_file {folder}/passwords
acl_file {acl}
user {user}
"""


def credentials() -> ModuleType:
    """Return `containers/credentials.py` as a module."""
    spec = importlib.util.spec_from_file_location("credentials", FOLDER / "credentials.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Secured:
    """The ports of a running broker and the folder of its certificates and passwords."""

    folder: Path
    tls: int
    certificates: int
    plain: int
    websockets: int

    @property
    def ca(self) -> str:
        return str(self.folder / "ca.crt")

    def url(self, user: str, scheme: str = "mqtts", port: int | None = None, **options: str) -> str:
        """Return where a user with a password finds it; an option replaces the usual one, an empty one is left out."""
        usual = {"ca": self.ca, "password_file": str(self.folder / f"{user}.password")} | options
        query = "&".join(f"{name}={quote(value)}" for name, value in usual.items() if value)
        return f"{scheme}://{user}@localhost:{port or self.tls}?{query}"

    def certified(self, name: str) -> str:
        """Return where a device finds it with a client certificate instead of a password."""
        files = f"ca={self.ca}&cert={self.folder / name}.crt&key={self.folder / name}.key"
        return f"mqtts://localhost:{self.certificates}?{files}"

    def password(self, user: str) -> str:
        return (self.folder / f"{user}.password").read_text().strip()


@contextmanager
def secured(folder: Path) -> Iterator[Secured]:
    """Run the shipped configuration with what `credentials.py` makes in `folder`."""
    credentials().make(folder, DEVICES, [], certificates=True)
    running = Secured(folder, *(_free_port() for _ in range(4)))
    text = (FOLDER / "mosquitto.conf").read_text("utf-8")
    replaced = {
        "listener 8883": f"listener {running.tls} 127.0.0.1",
        "listener 1880": f"listener {_free_port()}",
        "/run/secrets": str(folder),
        "/mosquitto/config/acl": str(FOLDER / "acl"),
    }
    for shipped, here in replaced.items():
        assert shipped in text
        text = text.replace(shipped, here)
    ports = {name: getattr(running, name) for name in ("certificates", "plain", "websockets")}
    config = folder / "mosquitto.conf"
    config.write_text(text + FURTHER.format(folder=folder, acl=FOLDER / "acl", user=getpass.getuser(), **ports))
    with subprocess.Popen([find_mosquitto(), "-c", str(config)], stderr=subprocess.DEVNULL) as broker:
        try:
            wait_until(lambda: _answers(running), "the secured broker answers")
            yield running
        finally:
            broker.terminate()


def _answers(running: Secured) -> bool:
    with suppress(BrokerError):
        _probe(running.url("lab"), 0)
        return True
    return False
