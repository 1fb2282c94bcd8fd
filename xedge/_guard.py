"""Runs a command no longer than its parent lives: ends it when standard input closes. Standard library only."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from typing import Any


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
    threading.Thread(target=lambda: os._exit(child.wait() & 0xFF), daemon=True).start()
    sys.stdin.buffer.read()
    end()


if __name__ == "__main__":
    main(sys.argv[1:])
