"""The three ways to give workers a model, as real processes: a copy each, or one service over HTTP or MQTT."""

import json
import math
import os
import secrets
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Self

from xedge.core import children
from xedge.core.exceptions import ServiceError
from xedge.scenario.routes import Topics
from xedge.serving.broker import Broker, _free_port
from xedge.serving.external import IsolatedService
from xedge.text.copies.worker import TIMEOUT_S

COPY, HTTP, MQTT = "a copy each", "shared over HTTP", "shared over MQTT"
READY_TIMEOUT_S = 60.0
LEAD_NS = 100_000_000  # from handing out a flight to its zero
Parts = dict[str, list[int]]  # what processes are for -> their ids


class Arrangement:
    """Workers of one kind, started one by one, and the processes that they share."""

    def __init__(
        self, kind: str, where: Callable[[int], list[str]], shared: Parts, facts: dict[str, Any], folder: Path
    ) -> None:
        self._kind, self._where, self.shared, self.facts = kind, where, shared, facts
        self._env = os.environ | {"XEDGE_TOPIC_MODEL": str(folder)}
        self.workers: list[subprocess.Popen[str]] = []

    def grow(self, count: int) -> None:
        """Start workers until there are `count`; each has answered once."""
        new = []
        while len(self.workers) < count:
            command = [
                sys.executable,
                "-P",
                "-m",
                "xedge.text.copies.worker",
                self._kind,
                *self._where(len(self.workers)),
            ]
            worker = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=self._env,
            )
            self.workers.append(worker)
            new.append(worker)
        for worker in new:
            if worker.stdout is None or worker.stdout.readline() != "ready\n":
                raise ServiceError(f"a worker ({self._kind}) ended with status {worker.wait(10)} before it was ready")

    def fly(self, flights: Sequence[dict[str, Any]]) -> list[list[list[int]]]:
        """Let the first workers fly one flight each at the same time; return their logs."""
        chosen = self.workers[: len(flights)]
        start_ns = perf_counter_ns() + LEAD_NS
        for worker, flight in zip(chosen, flights, strict=True):
            assert worker.stdin is not None
            with suppress(OSError):  # one that has ended is told of below
                worker.stdin.write(json.dumps({**flight, "start_ns": start_ns}) + "\n")
                worker.stdin.flush()
        logs = []
        for worker in chosen:
            assert worker.stdout is not None
            line = worker.stdout.readline()
            if not line:
                raise ServiceError(f"a worker ({self._kind}) ended with status {worker.wait(10)} in mid-trial")
            logs.append(json.loads(line))
        return logs

    def close(self) -> None:
        """End the workers: their standard input closes."""
        for worker in self.workers:
            for stream in (worker.stdin, worker.stdout):
                with suppress(OSError):
                    assert stream is not None
                    stream.close()
        for worker in self.workers:
            try:
                worker.wait(TIMEOUT_S + 5)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait(5)


@contextmanager
def _closing(arrangement: Arrangement) -> Iterator[Arrangement]:
    try:
        yield arrangement
    finally:
        arrangement.close()


@contextmanager
def _copies(folder: Path) -> Iterator[Arrangement]:
    with _closing(Arrangement("copy", lambda _: [], {}, {}, folder)) as arrangement:
        yield arrangement


@contextmanager
def _over_http(folder: Path) -> Iterator[Arrangement]:
    with _HttpService(folder) as service:
        where = [service.host, str(service.port)]
        parts = {"service": _below(service._guard)}
        with _closing(Arrangement("http", lambda _: where, parts, {}, folder)) as arrangement:
            yield arrangement


@contextmanager
def _over_mqtt(folder: Path) -> Iterator[Arrangement]:
    name = f"copy-or-serve-{secrets.token_hex(4)}"
    with (
        Broker(name=name) as broker,
        IsolatedService(str(folder), broker.host, broker.port, name, None, None) as service,
    ):
        (host, port), (prefix,) = service.address, service.prefixes
        topics = Topics(prefix)
        parts = {"service": _below(service._guard), "broker": _below(broker._guard)}

        def where(number: int) -> list[str]:
            return [host, str(port), topics.request, topics.result(f"worker-{number}")]

        with _closing(Arrangement("mqtt", where, parts, broker.describe(), folder)) as arrangement:
            yield arrangement


ARRANGEMENTS = {COPY: _copies, HTTP: _over_http, MQTT: _over_mqtt}


class _HttpService:
    """`xedge serve http` for topics only, under a guard: ready on entry, ended on exit, and ended with this process."""

    def __init__(self, folder: Path) -> None:
        self.host, self.port, self._folder = "127.0.0.1", _free_port(), folder

    def __enter__(self) -> Self:
        command = ["env", f"XEDGE_TOPIC_MODEL={self._folder}", sys.executable, "-P", "-m", "xedge.cli", "serve", "http"]
        command += ["--host", self.host, "--port", str(self.port), "--task", "topic", "--log-level", "warning"]
        with tempfile.TemporaryFile("w+") as said:
            self._guard = children.start(command, said)
            try:
                problem = children.wait_ready(self._guard, said, self._is_ready, READY_TIMEOUT_S)
            except BaseException:
                children.end(self._guard)
                raise
            if problem is not None:
                children.end(self._guard)
                raise ServiceError(f"the HTTP service did not get ready: {problem}")
        return self

    def __exit__(self, *_exc: object) -> None:
        children.end(self._guard)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.host}:{self.port}/health", timeout=10):
                return True
        except urllib.error.HTTPError as exc:
            raise ServiceError(f"the HTTP service has no model: {exc.read().decode()[:500]}") from None
        except OSError:
            return False


def memory_mb(pid: int) -> tuple[float, str]:
    """Return the memory of a process in MB and what was read.

    "PSS" counts a page that n processes share as 1/n of a page, so it may be added up; only Linux tells it. "RSS"
    counts it in every process.
    """
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024 / 1e6, "PSS"
    except OSError:
        pass
    said = _ps("-o", "rss=", "-p", str(pid))
    return (int(said) * 1024 / 1e6 if said.strip() else math.nan), "RSS"


def _below(guard: subprocess.Popen[bytes] | None) -> list[int]:
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


def last_words(said: str) -> str:
    """Return the end of what a process said, in one line."""
    return " / ".join(said.strip().splitlines()[-3:]) or "it said nothing"
