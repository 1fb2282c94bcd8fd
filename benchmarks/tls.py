"""TLS against plain MQTT: the same edge service and sender through one mosquitto with a listener of each kind."""

from __future__ import annotations

import getpass
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np

from benchmarks.harness import Table, open_loop_ms, pooled
from xedge.core.exceptions import BrokerError
from xedge.runs.sender import Sender
from xedge.serving.broker import MOSQUITTO_CONFIG, Broker, _free_port, find_mosquitto
from xedge.serving.services import EdgeMLService

CREDENTIALS = Path(__file__).resolve().parents[1] / "containers/credentials.py"
TLS = """listener {port} 127.0.0.1
cafile {folder}/ca.crt
certfile {folder}/broker.crt
keyfile {folder}/broker.key
"""


def brokers(folder: Path, ports: dict[str, int]) -> dict[str, Broker]:
    """Plain and TLS, both of the mosquitto on these ports, as soon as it answers."""
    files = {"mqtt": "", "mqtts": f"?ca={folder}/ca.crt"}
    made = {name: Broker(f"{name}://127.0.0.1:{ports[name]}{files[name]}", name=f"bench-{name}") for name in ports}
    for broker in made.values():
        for attempt in range(50):
            try:
                broker.start()
                break
            except BrokerError:
                if attempt == 49:
                    raise
                sleep(0.1)
    return made


def main(rounds: int = 16, duration_s: float = 1.5) -> list[str]:
    table = Table()
    if (mosquitto := find_mosquitto()) is None:
        print("tls: skipped, mosquitto is not installed")
        return table.missed
    with tempfile.TemporaryDirectory() as name, Sender() as sender:
        folder, ports = Path(name), {"mqtt": _free_port(), "mqtts": _free_port()}
        runpy.run_path(str(CREDENTIALS))["make"](folder, [], [])
        config = MOSQUITTO_CONFIG.format(port=ports["mqtt"]) + TLS.format(port=ports["mqtts"], folder=folder)
        (folder / "mosquitto.conf").write_text(f"user {getpass.getuser()}\n{config}")
        with subprocess.Popen([mosquitto, "-c", str(folder / "mosquitto.conf")], stderr=subprocess.DEVNULL) as running:
            try:
                at = brokers(folder, ports)
                how = at["mqtts"].describe()["tls"]
                print(f"TLS at 500 requests/s, Poisson, {rounds} × {duration_s:g} s in turn, {how}")
                compare(table, sender, at, rounds, duration_s)
            finally:
                running.terminate()
    return table.missed


def compare(table: Table, sender: Sender, at: dict[str, Broker], rounds: int, duration_s: float) -> None:
    """Print the latencies of both and their ratios, round by round."""
    latency: dict[str, list[Any]] = {name: [] for name in at}
    for number in range(rounds):
        for name in list(at) if number % 2 == 0 else list(at)[::-1]:
            with EdgeMLService("anomaly_detector", *at[name].address):
                latency[name].append(open_loop_ms(sender, at[name], 500, duration_s, number))
    for name, found in latency.items():
        table.row(f"{name} p50", pooled(found, 0.5), "ms")
        table.row(f"{name} p99", pooled(found, 0.99), "ms")
    for p, limit in ((0.5, 1.6), (0.99, None)):
        ratios = [np.quantile(s, p) / np.quantile(m, p) for s, m in zip(latency["mqtts"], latency["mqtt"], strict=True)]
        table.row(f"mqtts / mqtt p{p * 100:g}, median of the rounds", float(np.median(ratios)), "×", limit)
        low, high = np.quantile(ratios, [0.25, 0.75])
        table.row("  quartiles of the rounds", float(low), f"… {high:.3f} ×")


if __name__ == "__main__":
    sys.exit(bool(main()))
