"""Under what conditions a notebook ran: versions, host, git commit, the command that repeats it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xedge


def versions() -> dict[str, str]:
    """Return the versions of what ran and exported the notebook."""
    found = {"python": platform.python_version(), "xedge": xedge.__version__}
    for package in ("papermill", "nbconvert"):
        found[package] = importlib.metadata.version(package)
    return found


def host() -> dict[str, Any]:
    """Return the CPU's model, the number of cores this process may use and the operating system."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": _cpu(), "cores": cores, "os": platform.platform(terse=False)}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    mac = ["sysctl", "-n", "machdep.cpu.brand_string"]
    return _output(mac) or platform.processor() or platform.machine()


def git(folder: Path) -> dict[str, Any] | None:
    """Return the commit that `folder` is checked out at and whether files differ from it; None outside git."""
    commit = _output(["git", "-C", str(folder), "rev-parse", "HEAD"])
    if not commit:
        return None
    return {"commit": commit, "dirty": _output(["git", "-C", str(folder), "status", "--porcelain"]) != ""}


def _output(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def command(notebook: str, changed: Mapping[str, Any]) -> str:
    """Return the command that runs `notebook` again with these values: `xedge report NAME -p rate_hz 500`."""
    words = ["xedge", "report", notebook]
    for name, value in changed.items():
        words += ["-p", name, as_text(value)]
    return shlex.join(words)


def as_text(value: Any) -> str:
    """Return a parameter's value as one types it: true, none, 50,100."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    if isinstance(value, list):
        parts = [as_text(one) for one in value]
        plain = parts and not any(set(part) & set(",'\"[] ") or not part for part in parts)
        return ",".join(parts) if plain else str(value)
    return str(value)
