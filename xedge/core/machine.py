"""Facts of the machine that figures depend on: hardware, load, versions of packages, commit of the project."""

import importlib.metadata
import os
import platform
import re
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from xedge.core.paths import project_root

_REPORTING = ("pandas", "papermill", "nbconvert")
PACKAGES = ("xedge", "numpy", "onnx", "onnxruntime", "torch", "paho-mqtt", "msgspec", "amqtt", *_REPORTING)


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that can change a figure or a report."""
    installed = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            installed[name] = importlib.metadata.version(name)
    return installed


def host() -> dict[str, Any]:
    """Return what the machine is: CPU, cores this process may use, memory, operating system."""
    facts: dict[str, Any] = {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "os": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        facts["memory_gib"] = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    return facts


def load_average() -> float | None:
    """Return the one-minute load average: who else was busy; None where the system keeps none."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def git_commit(folder: Path | None = None) -> dict[str, Any] | None:
    """Return the commit checked out at `folder` (by default the project) and whether files differ; None outside git."""
    git = ["git", "-C", str(folder or project_root())]
    commit = _output([*git, "rev-parse", "HEAD"])
    return {"commit": commit, "dirty": _output([*git, "status", "--porcelain"]) != ""} if commit else None


def _output(command: list[str]) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


@cache
def _cpu_model() -> str:
    with suppress(OSError):
        if match := re.search(r"(?mi)^model name\s*:(.*)$", Path("/proc/cpuinfo").read_text("utf-8", "replace")):
            return match[1].strip()
    return _output(["sysctl", "-n", "machdep.cpu.brand_string"]) or platform.processor() or platform.machine()


def multiplies_bytes() -> bool:
    """Return whether the processor multiplies bytes exactly; x86 without VNNI may overflow 16 bits where it adds up."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    with suppress(OSError):
        return "vnni" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    return False


def peak_memory_mb() -> float | None:
    """Return the most memory this process has had in use at once, in MB; None where the system does not say.

    Not `getrusage`: a child inherits its parent's peak there.
    """
    with suppress(OSError):
        status = Path("/proc/self/status").read_text(encoding="ascii")
        if peak := re.search(r"^VmHWM:\s*(\d+) kB", status, re.MULTILINE):
            return int(peak[1]) * 1024 / 1e6
    return None
