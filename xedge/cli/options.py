"""What several commands share: options, the logging they ask for, and the wait for a signal."""

import argparse
import os
import shutil
import signal
import textwrap
import threading
from collections.abc import Callable
from typing import Any

from xedge.core import logs
from xedge.core.exceptions import ConfigurationError
from xedge.serving.endpoint import VARIABLE, Endpoint

Command = Callable[[argparse.Namespace], int]
Adder = Callable[..., argparse.ArgumentParser]
"""Makes a parser of a command's name, the function that carries it out, and an example that its help ends with."""


def adder(commands: Any) -> Adder:
    """Return what adds a command to `commands` (argparse's subparsers), described by its function's docstring."""

    def add(name: str, function: Command, example: str = "") -> argparse.ArgumentParser:
        text = function.__doc__ or ""
        sub: argparse.ArgumentParser = commands.add_parser(name, help=text, **described(text, example))
        sub.set_defaults(command=function)
        return sub

    return add


def add_group(commands: Any, name: str, metavar: str, text: str, example: str = "") -> Adder:
    """Add a command that has commands of its own, and return what adds those."""
    group = commands.add_parser(name, help=text, **described(text, example))
    return adder(group.add_subparsers(required=True, metavar=metavar))


def described(text: str, example: str) -> dict[str, Any]:
    """Return what makes a parser's help begin with `text` and end with `example`, on a line of its own."""
    return {
        "description": textwrap.fill(text, shutil.get_terminal_size().columns - 2),
        "epilog": f"example:\n  {example}" if example else None,
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }


def add_logging(parser: argparse.ArgumentParser, default: Any, usual_level: str) -> None:
    """Give a command --log-level and --log-format; `usual_level` holds where neither option nor environment says."""
    parser.add_argument("--log-level", default=default, help=f"{', '.join(logs.LEVELS)}; or XEDGE_LOG_LEVEL")
    parser.add_argument("--log-format", default=default, help="text or json; or XEDGE_LOG_FORMAT")
    parser.set_defaults(usual_level=usual_level)


def log_settings(arguments: argparse.Namespace) -> tuple[str, str]:
    """Return the level and the format that options or environment ask for, not yet checked."""
    level = arguments.log_level or os.environ.get("XEDGE_LOG_LEVEL") or arguments.usual_level
    return level.lower(), (arguments.log_format or os.environ.get("XEDGE_LOG_FORMAT") or "text").lower()


def add_broker(sub: argparse.ArgumentParser) -> None:
    """Give a command the options that say at which broker and under which topics."""
    prefix = os.environ.get("XEDGE_TOPIC_PREFIX", "")
    add_broker_url(sub)
    sub.add_argument("--broker-host", metavar="H", help="instead of --broker; or MQTT_BROKER_HOST (localhost)")
    sub.add_argument("--broker-port", type=int, metavar="P", help="or MQTT_BROKER_PORT (1883)")
    sub.add_argument("--topic-prefix", default=prefix, metavar="T", help="before every topic; or XEDGE_TOPIC_PREFIX")


def add_broker_url(sub: argparse.ArgumentParser) -> None:
    """Give a command --broker and what a URL may hold besides; a password is read from a file or the environment."""
    text = "mqtt://host:port, or mqtts://user@host:port?ca=FILE; or XEDGE_BROKER"
    sub.add_argument("--broker", metavar="URL", help=text)
    sub.add_argument("--user", help="who to be there; or XEDGE_BROKER_USER")
    sub.add_argument("--password-file", metavar="FILE", help="or XEDGE_BROKER_PASSWORD_FILE, XEDGE_BROKER_PASSWORD")
    sub.add_argument("--ca", metavar="FILE", help="certificate of the CA to trust, for mqtts; or XEDGE_BROKER_CA")
    sub.add_argument("--cert", metavar="FILE", help="client certificate; or XEDGE_BROKER_CERT")
    sub.add_argument("--key", metavar="FILE", help="its key; or XEDGE_BROKER_KEY")
    sub.add_argument("--alpn", metavar="NAME", help="protocol named in the TLS handshake; or XEDGE_BROKER_ALPN")


def url_options(arguments: argparse.Namespace) -> dict[str, str]:
    """Return those options of `add_broker_url` that were given beside --broker."""
    names = ("user", "password_file", "ca", "cert", "key", "alpn")
    return {name: value for name in names if (value := getattr(arguments, name))}


def broker_address(arguments: argparse.Namespace) -> tuple[str, int]:
    """Return the address that options or environment name, (host, port) or (URL, port); options go first.

    Raises:
        ConfigurationError: no such address.
    """
    named = os.environ.get(VARIABLE, "")
    if arguments.broker_host is None and arguments.broker_port is None:
        if url := arguments.broker or (named if "://" in named else ""):
            return Endpoint.read(url, **url_options(arguments)).address
        from xedge.serving.broker import check_environment

        check_environment()
    elif arguments.broker:
        raise ConfigurationError("give --broker, or --broker-host and --broker-port, not both")
    host = arguments.broker_host or os.environ.get("MQTT_BROKER_HOST", "localhost")
    port = str(arguments.broker_port or os.environ.get("MQTT_BROKER_PORT", "1883"))
    return Endpoint.read(f"mqtt://{f'[{host}]' if ':' in host else host}:{port}", **url_options(arguments)).address


def on_end(action: Callable[[], None]) -> None:
    """Call `action` at SIGTERM and at Ctrl-C."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: action())


def wait_for_end(is_alive: Callable[[], bool]) -> None:
    """Return at SIGTERM, at Ctrl-C, or half a second after `is_alive` has become false."""
    ended = threading.Event()
    on_end(ended.set)
    while is_alive() and not ended.wait(0.5):
        pass
