"""Runs a command no longer than its parent lives: ends it when standard input closes. Standard library only."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from time import perf_counter, sleep
from typing import IO, Any


def main(command: list[str]) -> None:
    """Start the command, then wait for the parent's end of the pipe to close, a SIGTERM, or the command's own end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def end(*_: Any) -> None:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(3)
        child.kill()
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGUSR1, lambda *_: child.send_signal(signal.SIGSTOP))
    signal.signal(signal.SIGUSR2, lambda *_: child.send_signal(signal.SIGCONT))
    threading.Thread(target=lambda: os._exit(child.wait() & 0xFF), daemon=True).start()
    sys.stdin.buffer.read()
    end()


def start(command: list[str], said: IO[str]) -> subprocess.Popen[bytes]:
    """Start `command` under a guard, in a session of its own; what it says on standard error goes to `said`."""
    guard, null = [sys.executable, "-I", __file__, *command], subprocess.DEVNULL
    return subprocess.Popen(guard, stdin=subprocess.PIPE, stdout=null, stderr=said, start_new_session=True)


def wait_ready(
    guard: subprocess.Popen[bytes], said: IO[str], is_ready: Callable[[], bool], timeout_s: float, every_s: float = 0.05
) -> str | None:
    """Wait until `is_ready()` holds and return None; else the last words of what ended or took longer than allowed.

    `guard` is what `start` returned, `said` what it was given; `is_ready` asks once, every `every_s`, whether the
    command is of use now; an exception in it ends the wait.
    """
    end_s = perf_counter() + timeout_s
    while not is_ready():
        if guard.poll() is not None or perf_counter() > end_s:
            said.seek(0)
            return " / ".join(said.read().strip().splitlines()[-3:]) or "it said nothing"
        sleep(every_s)
    return None


def ending(status: int) -> str:
    """Return in words with what the command of a guard that ended with `status` ended."""
    try:
        return signal.Signals(256 - status).name if status > 128 else f"status {status}"
    except ValueError:
        return f"status {status}"


def kill(guard: subprocess.Popen[bytes]) -> None:
    """Kill what a guard runs, and the guard, at once; neither can do anything about it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(guard.pid, signal.SIGKILL)
    end(guard)


def stall(guard: subprocess.Popen[bytes], wait: Callable[[], object]) -> None:
    """Stop what a guard runs while `wait()` waits; the guard itself goes on, and still ends it with this process."""
    guard.send_signal(signal.SIGUSR1)
    try:
        wait()
    finally:
        guard.send_signal(signal.SIGUSR2)


def end(guard: subprocess.Popen[bytes]) -> None:
    """End a guard and what it runs, and wait for it."""
    if guard.stdin is not None:
        with contextlib.suppress(OSError):
            guard.stdin.close()
    try:
        guard.wait(10)
    except subprocess.TimeoutExpired:
        guard.kill()
        guard.wait(5)


if __name__ == "__main__":
    main(sys.argv[1:])
