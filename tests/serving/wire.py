"""Two ends of a wire, each run in a network namespace of its own: one sends on schedule, one answers at once."""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
from time import perf_counter_ns

KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
STAMP = struct.Struct("<q")
LONGEST_S = 10.0
PAUSE_NS = 300_000_000


def answer(kind: str, host: str, port: int, size: int) -> None:
    """Answer every message with the time it came; all namespaces of a host read one clock."""
    listener = socket.socket(socket.AF_INET, KINDS[kind])
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    if kind == "udp":
        while True:
            _, back = listener.recvfrom(size)
            listener.sendto(STAMP.pack(perf_counter_ns()), back)
    listener.listen(1)
    peer = listener.accept()[0]
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while len(peer.recv(size, socket.MSG_WAITALL)) == size:
        peer.sendall(STAMP.pack(perf_counter_ns()))


def send(kind: str, host: str, port: int, size: int, due_ns: list[int]) -> list[tuple[int, int, int]]:
    """Send a message at every due time; return when each was sent, arrived and was answered, in nanoseconds."""
    wire = socket.socket(socket.AF_INET, KINDS[kind])
    wire.connect((host, port))
    if kind == "tcp":
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    flags = socket.MSG_WAITALL if kind == "tcp" else 0
    wire.sendall(bytes(size))  # the first message also waits until the neighbour is found
    wire.recv(STAMP.size, flags)
    sent: list[int] = []
    back: list[tuple[int, int]] = []
    start_ns = perf_counter_ns() + PAUSE_NS
    while len(back) < len(due_ns) and perf_counter_ns() < start_ns + due_ns[-1] + LONGEST_S * 1e9:
        next_ns = start_ns + due_ns[len(sent)] if len(sent) < len(due_ns) else None
        left_s = 0.1 if next_ns is None else (next_ns - perf_counter_ns()) / 1e9
        if left_s <= 0:
            sent.append(perf_counter_ns())
            wire.sendall(bytes(size))
        elif select.select([wire], [], [], left_s)[0]:
            data = wire.recv(STAMP.size, flags)
            back.append((STAMP.unpack(data)[0], perf_counter_ns()))
    return [(at, *times) for at, times in zip(sent, back, strict=False)]


if __name__ == "__main__":
    role, kind, host, port, size = sys.argv[1:]
    if role == "answer":
        answer(kind, host, int(port), int(size))
    else:
        json.dump(send(kind, host, int(port), int(size), json.load(sys.stdin)), sys.stdout)
