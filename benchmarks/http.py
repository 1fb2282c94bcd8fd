"""HTTP service against a bare FastAPI echo: latency from the due time at 1000 requests/s, open loop."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import urllib.request
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import perf_counter_ns, sleep
from typing import Any

import numpy as np
from fastapi import FastAPI, Response
from numpy.typing import NDArray

from benchmarks.harness import Table, pooled
from xedge.scenario.arrivals import Poisson
from xedge.scenario.sources import Texts
from xedge.serving.broker import _free_port
from xedge.text.callers.http.bodies import TextForTopics
from xedge.text.copies.copies import model_folder

CONNECTIONS = 16
LEAD_NS, SPIN_NS = 100_000_000, 300_000
RATE_HZ = 1000.0


def make_echo() -> Any:
    """The limit: FastAPI and uvicorn with a checked body, and nothing to do."""
    app = FastAPI()

    @app.post("/predict")
    async def echo(wanted: TextForTopics) -> Response:
        return Response(json.dumps({"text_length": len(wanted.text)}), media_type="application/json")

    @app.get("/health")
    async def health() -> None:
        return None

    return app


@contextmanager
def service(name: str, port: int) -> Iterator[int]:
    """One of the two in a process of its own; ready when it answers."""
    command = {
        "xedge": ["-P", "-m", "xedge.cli", "serve", "http", "--log-level", "warning"],
        "echo": [
            "-m",
            "uvicorn",
            "benchmarks.http:make_echo",
            "--factory",
            "--no-access-log",
            "--log-level",
            "warning",
        ],
    }[name]
    folders = {f"XEDGE_{task.upper()}_MODEL": str(model_folder(task)) for task in ("topic", "sentiment")}
    with subprocess.Popen(
        [sys.executable, *command, "--port", str(port)], env=os.environ | folders, stdout=subprocess.DEVNULL
    ) as process:
        try:
            while True:
                with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    break
                if process.poll() is not None:
                    raise RuntimeError(f"{name} did not start")
                sleep(0.05)
            yield port
        finally:
            process.terminate()


def fly(port: int, due_ns: list[int], bodies: list[bytes]) -> NDArray[np.float64]:
    """Send each body when it is due, over keep-alive connections; return latencies in ms."""
    head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
    packets = [head.format(len(body)).encode() + body for body in bodies]
    idle: deque[socket.socket] = deque()
    for _ in range(CONNECTIONS):
        made = socket.create_connection(("127.0.0.1", port))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        idle.append(made)
    busy: dict[socket.socket, tuple[int, bytearray]] = {}
    answered, start_ns = np.full(len(packets), np.inf), perf_counter_ns() + LEAD_NS

    def read(timeout_s: float) -> None:
        for one in select.select(list(busy), [], [], timeout_s)[0]:
            number, got = busy[one]
            got += one.recv(65536)
            head_end = got.find(b"\r\n\r\n")
            if head_end < 0:
                continue
            length = int(got[:head_end].lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            if len(got) >= head_end + 4 + length:
                answered[number] = perf_counter_ns() - start_ns - due_ns[number]
                if not got.startswith(b"HTTP/1.1 200"):
                    raise RuntimeError(bytes(got))
                del busy[one]
                idle.append(one)

    for number, packet in enumerate(packets):
        while (left_ns := start_ns + due_ns[number] - perf_counter_ns()) > 0 or not idle:
            read(max(left_ns - SPIN_NS, 0) / 1e9 if idle else 1.0)
        one = idle.popleft()
        one.sendall(packet)
        busy[one] = number, bytearray()
    while busy:
        read(1.0)
    return answered / 1e6


def measured_ms(port: int, rate_hz: float, duration_s: float, seed: int) -> NDArray[Any]:
    """Latencies of one flight from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.http", *map(str, (port, rate_hz, duration_s, seed))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return np.array(json.loads(done.stdout))


def main(rounds: int = 8, duration_s: float = 2.0) -> list[str]:
    table, ports = Table(), {name: _free_port() for name in ("echo", "xedge")}
    print(f"HTTP at {RATE_HZ:g} requests/s, Poisson, {rounds} × {duration_s:g} s an arm in turn, {CONNECTIONS} sockets")
    with service("echo", ports["echo"]), service("xedge", ports["xedge"]):
        latency: dict[str, list[Any]] = {name: [] for name in ports}
        for number in range(rounds):
            for name in list(ports) if number % 2 == 0 else list(ports)[::-1]:
                latency[name].append(measured_ms(ports[name], RATE_HZ, duration_s, number))
    for name, found in latency.items():
        table.row(f"{name} p50", pooled(found, 0.5), "ms", 1.0 if name == "xedge" else None)
        table.row(f"{name} p99", pooled(found, 0.99), "ms")
    for p in (0.5, 0.99):
        ratios = [np.quantile(a, p) / np.quantile(b, p) for a, b in zip(latency["xedge"], latency["echo"], strict=True)]
        table.row(f"xedge / echo p{p * 100:g}, median of the rounds", float(np.median(ratios)), "×")
    return table.missed


def _client(port: int, rate_hz: float, duration_s: float, seed: int) -> None:
    import gc

    due_ns = Poisson(rate_hz=rate_hz, duration_s=duration_s).due_ns(seed).tolist()
    bodies = [json.dumps({"text": text}).encode() for text in Texts().inputs(len(due_ns), (), seed)]
    gc.collect()
    gc.freeze()
    gc.disable()
    print(json.dumps(fly(port, due_ns, bodies).tolist()))


if __name__ == "__main__":
    if sys.argv[1:]:
        _client(int(sys.argv[1]), *map(float, sys.argv[2:4]), int(sys.argv[4]))
    else:
        sys.exit(bool(main()))
