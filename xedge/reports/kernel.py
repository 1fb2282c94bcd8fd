"""Papermill in one place: run a notebook in a kernel of this interpreter and say truly how it ended."""

import gc
import logging
import math
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any, NoReturn

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
LONGEST_SOCKET_PATH = 90  # systems differ: 104 bytes and more, with a number at its end
_OPTIONS = {
    "kernel_name": "python3",
    "language": "python",
    "progress_bar": False,
    "request_save_on_cell_execute": False,
    "autosave_cell_every": 0,
    "start_timeout": 120,
    "coalesce_streams": True,
}


@dataclass
class Execution:
    """How a notebook ran: the cells as far as they came, the cell that ended it and why."""

    notebook: Any
    cell: int = -1
    error: dict[str, Any] | None = None
    interruption: BaseException | None = None

    @property
    def status(self) -> str:
        """Return "completed", "failed" or "interrupted"."""
        return "interrupted" if self.interruption is not None else "failed" if self.error else "completed"


def execute(
    source: Path,
    parameters: Mapping[str, Any],
    env: Mapping[str, str],
    timeout_s: float,
    on_cell: Callable[[int, int], None],
) -> Execution:
    """Run a notebook with papermill and return how it ended; this never raises for what the notebook does.

    Args:
        source: the notebook; it is not changed.
        parameters: values by name, as Python values of the types annotated.
        env: the whole environment of the kernel.
        timeout_s: the longest that one cell may take, seconds.
        on_cell: called with (cells done, cells in all) when a cell starts.
    """
    import nbformat
    import papermill

    execution, reply = Execution(None), dict[str, Any]()  # what the hooks saw: never the notebook's outputs
    timeout_s = max(1, math.ceil(timeout_s))  # nbclient wants whole seconds

    def started(notebook: Any) -> None:
        execution.notebook = notebook

    def cell_started(cell: Any, cell_index: int) -> None:  # noqa: ARG001 - nbclient passes both by name
        execution.cell = cell_index
        on_cell(cell_index, len(execution.notebook.cells))

    def cell_failed(cell: Any, cell_index: int, execute_reply: dict[str, Any]) -> None:  # noqa: ARG001
        execution.cell = cell_index
        reply.update(execute_reply["content"])

    hooks = {"on_notebook_start": started, "on_cell_start": cell_started, "on_cell_error": cell_failed}
    path = str(source).replace("{", "{{").replace("}", "}}")  # papermill formats its paths
    caught: BaseException | None = None
    with (
        tempfile.TemporaryFile() as words,
        tempfile.TemporaryDirectory(prefix="xedge-", ignore_cleanup_errors=True) as sockets,
        terminated_as_exception(),
        _quiet_loggers(),
    ):
        manager = _manager_class(env, words, f"{sockets}/k")
        options = {"kernel_manager_class": manager, "execution_timeout": timeout_s, **hooks}
        try:
            papermill.execute_notebook(path, None, dict(parameters), **_OPTIONS, **options)
        except BaseException as exc:  # an interruption too: the caller writes the report and raises it again
            caught = exc.with_traceback(None)  # its frames hold tasks that would complain when they are collected
        if caught is not None:
            gc.collect()
            execution.interruption = None if isinstance(caught, Exception) else caught
        if caught is not None or reply:
            words.seek(0)
            execution.error = _error(reply, caught, timeout_s, words.read()[-8000:].decode(errors="replace"))
    if execution.notebook is None:
        execution.notebook = nbformat.read(source, as_version=4)  # type: ignore[no-untyped-call]
    cells = execution.notebook.cells  # papermill's banners go: the report says how it ended
    cells[:] = [cell for cell in cells if "papermill-error-cell-tag" not in cell.metadata.get("tags", [])]
    return execution


def _manager_class(env: Mapping[str, str], words: IO[bytes], sockets: str) -> type[Any]:
    """Return a kernel manager for this very interpreter, whatever a kernelspec called python3 points to.

    Its sockets begin with the path `sockets`: ports are chosen before they are bound, and of many kernels that start at
    once two would take the same. Where a path is too long for a socket, or there are none, it has ports all the same.
    """
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    class Manager(AsyncKernelManager):
        @property
        def kernel_spec(self) -> KernelSpec:
            spec = get_kernel_dict()
            spec["argv"] = [sys.executable, *spec["argv"][1:]]
            return KernelSpec(**spec)

        async def start_kernel(self, **kwargs: Any) -> None:  # type: ignore[override]
            if sys.platform != "win32" and len(sockets) < LONGEST_SOCKET_PATH:
                self.transport, self.ip = "ipc", sockets
            await super().start_kernel(**{**kwargs, "env": dict(env), "stderr": words})

    return Manager


@contextmanager
def _quiet_loggers() -> Iterator[None]:
    """Keep papermill and asyncio from logging what the report says better."""
    levels = {logger: logger.level for logger in map(logging.getLogger, ("papermill", "asyncio"))}
    try:
        for logger in levels:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


@contextmanager
def terminated_as_exception() -> Iterator[None]:
    """Turn SIGTERM into SystemExit(143), so that the kernel is shut down and the report written."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _error(reply: dict[str, Any], caught: BaseException | None, timeout_s: int, words: str) -> dict[str, Any]:
    kind, message = reply.get("ename", "Error"), reply.get("evalue", "")
    trace = "\n".join(reply.get("traceback", []))
    if not reply:
        kind, message = type(caught).__name__, str(caught)
    if kind == "DeadKernelError":  # what its process wrote before it died, without the chatter of ipykernel
        trace = "\n".join(line for line in words.splitlines() if not line.startswith("[IPKernelApp]"))
    message = {
        "DeadKernelError": "the kernel died while this cell ran: killed, out of memory, or a crash in compiled code",
        "CellTimeoutError": f"this cell took longer than the {timeout_s} s allowed: raise timeout_s, or ask for less",
        "SystemExit": f"the cell left the notebook (exit status {message or 0}); the cells after it did not run",
        "KeyboardInterrupt": "interrupted by the user",
    }.get(kind, message)
    if isinstance(caught, SystemExit):
        message = f"ended from outside (exit status {caught.code})"
    return {"type": kind, "message": _ANSI.sub("", message), "traceback": _ANSI.sub("", trace)}
