"""The three ways to give workers a model, as real processes: a copy each, or one service over HTTP or MQTT."""

import json
import math
import os
import re
import secrets
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from time import perf_counter_ns
from typing import Any

from xedge.core import children
from xedge.core.exceptions import ServiceError
from xedge.scenario.routes import Topics
from xedge.serving.broker import Broker, _free_port
from xedge.serving.external import IsolatedService
from xedge.text.copies.worker import TIMEOUT_S

COPY, HTTP, MQTT = "a copy each", "shared over HTTP", "shared over MQTT"
LEAD_NS = 100_000_000  # from handing out a flight to its zero


class Arrangement:
    """Workers of one kind, started one by one, and the processes that they share.

    Args:
        where: what a worker must know to ask the service; "{}" in it is its number.
        facts: what the conditions keep of the broker.
        shared: what shared processes are for → their ids.
    """

    def __init__(
        self, kind: str, folder: Path, where: Sequence[str], facts: dict[str, Any], **shared: list[int]
    ) -> None:
        self._kind, self._where, self.shared, self.facts = kind, where, shared, facts
        self._env = os.environ | {"XEDGE_TOPIC_MODEL": str(folder)}
        self.workers: list[Popen[str]] = []

    def grow(self, count: int) -> None:
        """Start workers until there are `count`; each has answered once."""
        before = len(self.workers)
        for number in range(before, count):
            command = [sys.executable, "-P", "-m", "xedge.text.copies.worker", self._kind]
            command += [word.format(number) for word in self._where]
            self.workers.append(Popen(command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, text=True, env=self._env))
        for worker in self.workers[before:]:
            self._line(worker, "before it was ready")

    def fly(self, flights: Sequence[dict[str, Any]]) -> list[list[list[int]]]:
        """Let the first workers fly one flight each at the same time; return their logs."""
        chosen = self.workers[: len(flights)]
        start_ns = perf_counter_ns() + LEAD_NS
        for worker, flight in zip(chosen, flights, strict=True):
            with suppress(OSError):  # one that has ended is told of below
                print(json.dumps({**flight, "start_ns": start_ns}), file=worker.stdin, flush=True)
        return [json.loads(self._line(worker, "in mid-trial")) for worker in chosen]

    def _line(self, worker: Popen[str], when: str) -> str:
        if worker.stdout is None or not (line := worker.stdout.readline()):
            raise ServiceError(f"a worker ({self._kind}) ended with status {worker.wait(10)} {when}")
        return line

    def close(self) -> None:
        """End the workers: their standard input closes."""
        for worker in self.workers:
            try:
                worker.communicate(timeout=TIMEOUT_S + 5)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.communicate()


def _copies(folder: Path) -> AbstractContextManager[Arrangement]:
    return closing(Arrangement("copy", folder, [], {}))


@contextmanager
def _over_http(folder: Path) -> Iterator[Arrangement]:
    """With `xedge serve http` for topics only, under a guard: gone with this process too."""
    host, port = "127.0.0.1", str(_free_port())
    command = ["env", f"XEDGE_TOPIC_MODEL={folder}", sys.executable, "-P", "-m", "xedge.cli", "serve", "http"]
    command += ["--host", host, "--port", port, "--task", "topic", "--log-level", "warning"]

    def is_ready() -> bool:
        try:
            with urllib.request.urlopen(f"http://{host}:{port}/health", timeout=10):
                return True
        except urllib.error.HTTPError as exc:
            raise ServiceError(f"the HTTP service has no model: {exc.read().decode()[:500]}") from None
        except OSError:
            return False

    with tempfile.TemporaryFile("w+") as said:
        guard = children.start(command, said)
        try:
            if (problem := children.wait_ready(guard, said, is_ready, timeout_s=60)) is not None:
                raise ServiceError(f"the HTTP service did not get ready: {problem}")
            with closing(Arrangement("http", folder, [host, port], {}, service=_below(guard))) as arrangement:
                yield arrangement
        finally:
            children.end(guard)


@contextmanager
def _over_mqtt(folder: Path) -> Iterator[Arrangement]:
    name = f"copy-or-serve-{secrets.token_hex(4)}"
    with Broker(name=name) as at, IsolatedService(str(folder), *at.address, name, None, None) as service:
        (host, port), topics = service.address, Topics(*service.prefixes)
        where = [host, str(port), topics.request, topics.result("worker-{}")]
        shared = {"service": _below(service._guard), "broker": _below(at._guard)}
        with closing(Arrangement("mqtt", folder, where, at.describe(), **shared)) as arrangement:
            yield arrangement


ARRANGEMENTS = {COPY: _copies, HTTP: _over_http, MQTT: _over_mqtt}


def memory_mb(pid: int) -> tuple[float, str]:
    """Return the memory of a process in MB and what was read.

    "PSS" counts a page that n processes share as 1/n of a page, so it may be added up; only Linux tells it. "RSS"
    counts it in every process.
    """
    with suppress(OSError):
        said = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
        if match := re.search(r"^Pss:\s*(\d+)", said, re.MULTILINE):
            return int(match[1]) * 1024 / 1e6, "PSS"
    said = _ps("-o", "rss=", "-p", str(pid))
    return (int(said) * 1024 / 1e6 if said.strip() else math.nan), "RSS"


def _below(guard: Popen[bytes] | None) -> list[int]:
    """The processes that a guard runs; itself is of the measuring, not of the measured."""
    pairs = [[int(word) for word in line.split()] for line in _ps("-A", "-o", "pid=,ppid=").splitlines()]
    pids = [guard.pid] if guard is not None else []
    for above in pids:  # grows while it is read
        pids += [child for child, parent in pairs if parent == above]
    return pids[1:]


def _ps(*options: str) -> str:
    try:
        return subprocess.run(["ps", *options], capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        raise ServiceError("there is no `ps` here to find processes with: install procps") from None
