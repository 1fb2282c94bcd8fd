"""Where a broker is and how it is reached: one URL with everything but the password, which never stands in it."""

import os
import re
import ssl
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import msgspec

from xedge.core.config import did_you_mean, listed
from xedge.core.exceptions import ConfigurationError

VARIABLE = "XEDGE_BROKER"
PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
FILES = ("ca", "cert", "key", "password_file")
OPTIONS = ("user", *FILES, "password_env", "alpn")
_OF_TLS = ("ca", "cert", "key", "alpn")
_FORM = "write mqtt://host:port, or mqtts://user@host:port?ca=FILE for TLS"
_OTHER_NAME = (62, 64)  # OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A broker's address: `scheme` mqtt, mqtts (TLS), ws or wss (websockets), host, port, and who one is there.

    Nothing in it is secret: the password is in `password_file`, or in the environment variable `password_env`. `ca`,
    `cert` and `key` are PEM files, `alpn` protocol names between commas. An address, wherever (host, port) is taken,
    may be (URL, port): `Endpoint.at` reads both.
    """

    scheme: str
    host: str
    port: int
    path: str = ""
    user: str = ""
    ca: str = ""
    cert: str = ""
    key: str = ""
    alpn: str = ""
    password_file: str = ""
    password_env: str = ""

    @classmethod
    def at(cls, host: str, port: int) -> Self:
        """Return the endpoint of an address: a host and its port, or a URL, which has a port of its own."""
        return cls.read(host) if "://" in host else cls(scheme="mqtt", host=host, port=port)

    @classmethod
    def read(cls, url: str, **options: str) -> Self:
        """Return what `scheme://user@host:port?ca=FILE&…` says; `options` are some of `OPTIONS`, and go before it.

        What neither says the environment does: XEDGE_BROKER_USER, _CA, _CERT, _KEY, _ALPN, _PASSWORD (the password
        itself) and _PASSWORD_FILE are of the broker that XEDGE_BROKER names; if it names none, of any.

        Raises:
            ConfigurationError: it is no such URL, or has a password in it; the message does not repeat that.
        """
        public = re.sub(r"//.*@", "//…@", url).partition("?")[0]  # a password stands in no message
        try:
            parts = urlsplit(url)
            default = PORTS.get(parts.scheme, 0)
            host, port = parts.hostname, default if parts.port is None else parts.port
        except ValueError as exc:
            said = "no such URL" if "@" in url else exc  # which would quote a part of a password with a / in it
            raise ConfigurationError(f"broker {public!r}: {said}; {_FORM}") from None
        if parts.password is not None:
            how = f"leave it out and set {VARIABLE}_PASSWORD, or name a file by ?password_file=FILE"
            raise ConfigurationError(f"broker {public!r}: a password in a URL ends up in logs: {how}; {_FORM}")
        sockets = parts.scheme in ("ws", "wss")
        if not default or not host or not port or (parts.path.strip("/") and not sockets):
            raise ConfigurationError(f"broker {public!r}: {_FORM}")
        given = {"user": unquote(parts.username or "")} | dict(parse_qsl(parts.query)) | options
        if unknown := [name for name in given if name not in OPTIONS]:
            hint = did_you_mean(unknown[0], OPTIONS)
            raise ConfigurationError(f"broker {public!r}: there is no {unknown[0]}=; it takes {listed(OPTIONS)}{hint}")
        known = {name: value for name, value in given.items() if value}
        is_tls = parts.scheme in ("mqtts", "wss")
        if not is_tls and (wrong := [name for name in _OF_TLS if name in known]):
            raise ConfigurationError(f"broker {public!r}: {wrong[0]}= is for TLS; write mqtts:// (or wss://)")
        known = (_of_environment(is_tls, known) if _is_meant(host, port) else {}) | known
        if "user" not in known and known.keys() & {"password_env", "password_file"}:
            raise ConfigurationError(f"broker {public!r}: a password, but no user: write {parts.scheme}://USER@…")
        known |= {name: str(Path(known[name]).expanduser().absolute()) for name in FILES if name in known}
        return cls(scheme=parts.scheme, host=host, port=port, path=parts.path if sockets else "", **known)

    @property
    def is_tls(self) -> bool:
        """Whether it is reached over TLS."""
        return self.scheme in ("mqtts", "wss")

    @property
    def is_websocket(self) -> bool:
        """Whether it is reached through websockets."""
        return self.scheme in ("ws", "wss")

    @property
    def url(self) -> str:
        """All of it in one line, from which `read` makes it again."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        options = {name: value for name in OPTIONS if name != "user" and (value := getattr(self, name))}
        query = f"?{urlencode(options, safe='/,:')}" if options else ""
        return f"{self.scheme}://{user}{host}:{self.port}{self.path}{query}"

    @property
    def address(self) -> tuple[str, int]:
        """The pair that services, sender and connections take: (host, port), or (URL, port) where a URL is needed."""
        plain = self == Endpoint(scheme="mqtt", host=self.host, port=self.port)
        return (self.host if plain else self.url), self.port

    def __str__(self) -> str:
        """Return where it is, for messages and conditions: without user and files."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"

    @property
    def place(self) -> str:
        """`host:port`, with the scheme where it is another than mqtt."""
        return str(self).removeprefix("mqtt://")

    def password(self) -> str | None:
        """Return the password, None where there is none.

        Raises:
            ConfigurationError: its file cannot be read, or its variable is not set.
        """
        if self.password_file:
            try:
                return Path(self.password_file).read_text("utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as exc:
                raise ConfigurationError(f"password of {self.place}: {self.password_file}: {_said(exc)}") from None
        if self.password_env and self.password_env not in os.environ:
            raise ConfigurationError(f"password of {self.place}: the variable {self.password_env} is not set")
        return os.environ[self.password_env] if self.password_env else None

    def tls(self) -> ssl.SSLContext:
        """Return the context of a connection: this CA's certificates or the system's, the host's name checked.

        Raises:
            ConfigurationError: a file is not there or not what it should be.
        """
        name = "ca"
        try:
            context = ssl.create_default_context(cafile=self.ca or None)
            if self.cert or self.key:
                name = "cert"
                context.load_cert_chain(self.cert, self.key or None, password=lambda: "")
            if self.alpn:
                name = "alpn"
                context.set_alpn_protocols(self.alpn.split(","))
        except (OSError, ValueError) as exc:  # ssl's errors are OSErrors
            files = " and ".join(filter(None, [self.cert, self.key])) if name == "cert" else getattr(self, name)
            wanted = {"ca": "a CA's certificate in PEM", "alpn": "names of protocols between commas"}
            kind = wanted.get(name, "a certificate and its key in PEM, the key without a pass phrase")
            raise ConfigurationError(f"TLS of {self.place}: {files} is not {kind} ({_said(exc)})") from None
        return context

    def why_not(self, exc: Exception) -> str:
        """Return in a sentence why connecting failed and what to try."""
        if isinstance(exc, ssl.SSLCertVerificationError):
            if exc.verify_code in _OTHER_NAME:
                said = f"the certificate of the broker at {self.place} is for another name ({exc.verify_message})"
                return f"{said}: use a name that it was made for"
            said = f"the certificate of the broker at {self.place} is not trusted ({exc.verify_message})"
            return f"{said}: give the file of the CA that signed it, ?ca=FILE or {VARIABLE}_CA"
        if isinstance(exc, ssl.SSLError) and "ALERT" in (exc.reason or ""):
            return self.why_closed(exc.reason)
        if self.is_tls and isinstance(exc, ssl.SSLError | ConnectionResetError | ConnectionAbortedError):
            plain = "mqtt" if self.scheme == "mqtts" else "ws"
            return f"no TLS is spoken at {self.place} ({_said(exc)}); if that is a plain port, write {plain}://"
        return f"no MQTT broker answers at {self.place} ({exc}); is one running?"

    def why_closed(self, alert: str = "") -> str:
        """Return in a sentence why a broker may have ended the connection before MQTT began, and what to try."""
        said = f"the broker at {self.place} closed the connection before it answered"
        if not self.is_tls:
            return f"{said}: is it a port for TLS (write {'wss' if self.is_websocket else 'mqtts'}://)?"
        because = f" ({alert.replace('_', ' ').lower()})" if alert else ""
        if self.cert:
            return f"{said}{because}: does it accept the client certificate {self.cert}?"
        return f"{said}{because}: it may want a client certificate (?cert=FILE&key=FILE, or {VARIABLE}_CERT and _KEY)"

    def why_refused(self, reason: str) -> str:
        """Return in a sentence that the broker refused for `reason`, and what to check."""
        if self.user:
            none = f"none was given: {VARIABLE}_PASSWORD, or ?password_file=FILE"
            source = self.password_file or self.password_env or none
            hint = f": check the user {self.user!r} and the password ({source})"
        else:
            hint = f": it may want a user (write {self.scheme}://USER@…) and a password ({VARIABLE}_PASSWORD)"
        return f"the broker at {self.place} refused: {reason}{hint}"


def _is_meant(host: str, port: int) -> bool:
    """Whether the environment's further variables are of this broker."""
    named = os.environ.get(VARIABLE, "")
    if "://" not in named:
        return True
    try:
        parts = urlsplit(named)
        return (parts.hostname, parts.port or PORTS.get(parts.scheme)) == (host, port)
    except ValueError:
        return False


def _of_environment(is_tls: bool, known: dict[str, Any]) -> dict[str, str]:
    names = ("user", *(_OF_TLS if is_tls else ()))
    found = {name: value for name in names if (value := os.environ.get(f"{VARIABLE}_{name.upper()}"))}
    if known.keys() & {"password_env", "password_file"} or not (known.get("user") or found.get("user")):
        return found
    if file := os.environ.get(f"{VARIABLE}_PASSWORD_FILE"):
        return found | {"password_file": file}
    return found | ({"password_env": f"{VARIABLE}_PASSWORD"} if f"{VARIABLE}_PASSWORD" in os.environ else {})


def _said(exc: Exception) -> str:
    return str(getattr(exc, "reason", None) or getattr(exc, "strerror", None) or exc)
