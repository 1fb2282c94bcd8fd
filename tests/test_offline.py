"""Nothing calls out: a report and the text models run in a network of their own, where every packet is seen."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from offline import LEFT

from xedge.text.registry.registry import Registry

ROOT = Path(__file__).resolve().parents[1]
UNSHARE = ["unshare", "--net", "--mount", *([] if sys.platform == "linux" and os.geteuid() == 0 else ["-r"])]
CALLS = {
    "by name": "import urllib.request; urllib.request.urlopen('http://telemetry.example/', timeout=1)",
    "by address": "import socket; socket.create_connection(('203.0.113.9', 443), timeout=1)",
    "without an answer": "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'a', ('203.0.113.9', 8125))",
}
SEEN = {
    "by name": "left loopback: UDP to 198.51.100.53 port 53, asking for telemetry.example",
    "by address": "left loopback: TCP to 203.0.113.9 port 443",
    "without an answer": "left loopback: UDP to 203.0.113.9 port 8125",
}


def offline(*command: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command as `tests/offline.py` does; skip where the kernel gives no network of one's own."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("needs Linux with unshare and ip")
    script = [*UNSHARE, sys.executable, str(ROOT / "tests" / "offline.py")]
    if (probe := subprocess.run([*script, "true"], capture_output=True, text=True, timeout=180)).returncode:
        pytest.skip(f"no network of one's own: {probe.stderr.strip().splitlines()[-1]}")
    kept = os.environ | ({} if os.geteuid() == 0 else {"XEDGE_BROKER": "embedded"}) | env  # no other users in there
    return subprocess.run([*script, *command], capture_output=True, text=True, timeout=590, env=kept, cwd=ROOT)


@pytest.mark.parametrize("how", CALLS)
def test_process_that_calls_out_is_seen(how: str) -> None:
    done = offline(sys.executable, "-c", CALLS[how])
    assert (done.returncode, SEEN[how] in done.stderr) == (LEFT, True)


def test_call_of_a_child_that_hides_its_failure_is_seen() -> None:
    waiting = "import subprocess, sys; subprocess.run([sys.executable, '-I', '-c', sys.argv[1]], stderr=-3)"
    done = offline(sys.executable, "-c", waiting, CALLS["by name"])
    assert (done.returncode, SEEN["by name"] in done.stderr) == (LEFT, True)


def test_loopback_is_no_way_out() -> None:
    code = (
        "import socket; server = socket.create_server(('127.0.0.1', 0)); socket.create_connection(server.getsockname())"
    )
    done = offline(sys.executable, "-c", code)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.long
def test_report_sends_nothing_beyond_loopback(models: Path, tmp_path: Path) -> None:
    options = ["-p", "duration_s", "0.5", "--out", str(tmp_path)]
    done = offline(sys.executable, "-P", "-m", "xedge.cli", "report", "00_quickstart", *options)
    assert done.returncode in (0, 3), done.stderr  # measured, perhaps on a busy machine
    assert "left loopback" not in done.stderr
    assert (tmp_path / "quickstart.html").is_file()


@pytest.mark.long
def test_text_models_send_nothing_beyond_loopback(text_registry: Registry) -> None:
    code = """import runpy, sys
from xedge.text.registry.registry import Registry
registry = Registry()
print("version", registry.promote("topic", registry.resolve("topic").version).version)  # by MLflow
sys.argv = ["first_answer"]
runpy.run_module("xedge.text.first_answer", run_name="__main__")"""
    done = offline(sys.executable, "-P", "-c", code)
    assert (done.returncode, "left loopback" in done.stderr) == (0, False), done.stderr
    assert "version 1" in done.stdout
    assert '"positive"' in done.stdout


@pytest.mark.long
def test_notebook_server_asks_nobody_for_updates_or_news(tmp_path: Path) -> None:
    """`make lab`, asked as a browser asks it."""
    options = re.findall(r"--LabApp\S+", (ROOT / "Makefile").read_text("utf-8"))
    assert len(options) == 2
    code = """import json, subprocess, sys, time, urllib.request
port, command = 18888, [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--port", "18888"]
server = subprocess.Popen([*command, "--IdentityProvider.token=", *sys.argv[1:]], stderr=subprocess.DEVNULL)
for path in ("status", "lab/api/update", "lab/api/news"):
    for _ in range(1800):
        try:
            base = "" if path.startswith("lab") else "api/"
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{base}{path}", timeout=30) as answer:
                print(path, answer.status)
            break
        except OSError:
            time.sleep(0.1)
server.terminate()
server.wait()"""
    done = offline(sys.executable, "-c", code, *options, HOME=str(tmp_path))
    assert (done.returncode, "left loopback" in done.stderr) == (0, False), done.stderr
    assert done.stdout.splitlines() == ["status 200", "lab/api/update 200", "lab/api/news 200"]
