"""One model a task and process: loaded once at the first call, within a time limit, swapped whole, safe under fork."""

from __future__ import annotations

import copy
import logging
import os
import threading
from concurrent.futures import Future
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

from xedge.core.exceptions import ConfigurationError, ModelError, RegistryError
from xedge.text import forks
from xedge.text.labels import TASKS
from xedge.text.registry.versions import ModelVersion, check_task, configured, configured_folder, variable_of

if TYPE_CHECKING:
    from xedge.text.model import TextModel
    from xedge.text.registry.registry import Registry

TIMEOUT_S = 60.0
_log = logging.getLogger("xedge.text")


class _Slot:
    """The model of one task in this process; the lock is held for a few assignments only, never while loading."""

    def __init__(self, task: str, model: TextModel | None = None, version: ModelVersion | None = None) -> None:
        self.task, self.model, self.version = task, model, version
        self.lock = threading.Lock()
        self.under_way: list[Future[TextModel]] = []
        self._began = 0.0  # when the load began that `model` is from

    def get(self, timeout_s: float | None) -> TextModel:
        """Return the model, or that of the load under way, or of a new one."""
        with self.lock:
            if self.model is not None:
                return self.model
            load = self.under_way[-1] if self.under_way else self._start()
        return self._wait(load, timeout_s)

    def reload(self, timeout_s: float | None) -> TextModel:
        """Return the model of a new load: one under way may have read the alias before it was moved."""
        with self.lock:
            load = self._start()
        return self._wait(load, timeout_s)

    def _start(self) -> Future[TextModel]:
        """Begin a load in a daemon thread: nothing else can be left behind at a time limit."""
        load: Future[TextModel] = Future()
        threading.Thread(target=self._run, args=(load,), name=f"xedge-load-{self.task}", daemon=True).start()
        self.under_way.append(load)
        return load

    def _run(self, load: Future[TextModel]) -> None:
        try:
            with forks.held_off():
                end = partial(load.set_result, self._load())
        except BaseException as exc:
            end = partial(load.set_exception, exc)
        self._forget(load)  # first, so that who asks again after an error begins anew
        end()

    def _forget(self, load: Future[TextModel]) -> None:
        with self.lock:
            if load in self.under_way:
                self.under_way.remove(load)

    def _wait(self, load: Future[TextModel], timeout_s: float | None) -> TextModel:
        limit_s = _seconds("XEDGE_TEXT_LOAD_TIMEOUT_S", TIMEOUT_S) if timeout_s is None else timeout_s
        try:
            error = load.exception(limit_s)
        except TimeoutError:
            self._forget(load)  # left behind: the next call begins anew
            raise RegistryError(
                f"{_asked(self.task)} was not loaded within {limit_s:g} s: check that the place answers, or allow more "
                f"time by XEDGE_TEXT_LOAD_TIMEOUT_S; the next call tries again",
                "timeout",
            ) from None
        if error is not None:  # every waiting thread raises one of its own: it carries its thread's traceback
            raise copy.copy(error).with_traceback(error.__traceback__) from error.__cause__
        return load.result()

    def _load(self) -> TextModel:
        began = perf_counter()
        _start_polling()
        version, registry = _find(self.task)
        with self.lock:
            if self.model is not None and registry is not None and version == self.version:
                self._began = max(self._began, began)
                return self.model
        model = _open(self.task, version, registry)
        with self.lock:
            if began >= self._began:  # one that was left behind does not undo what came after it
                self.model, self.version, self._began = model, version, began
        _log.info("%s: version %s loaded in %.2f s", self.task, model.version, perf_counter() - began)
        return model


def get(task: str, timeout_s: float | None = None) -> TextModel:
    """Return the task's model, loaded if it is not yet; see `xedge.text.get_model`."""
    slot = _slots.get(task) or _slots[check_task(task)]
    return slot.model or slot.get(timeout_s)


def reload(task: str, timeout_s: float | None = None) -> TextModel:
    """Return the task's model as the registry has it now, used from here on; see `xedge.text.reload_model`."""
    return _slots[check_task(task)].reload(timeout_s)


def loaded() -> list[str]:
    """Return the tasks whose models this process has loaded."""
    return [task for task, slot in _slots.items() if slot.model is not None]


def _find(task: str) -> tuple[ModelVersion, Registry | None]:
    """Return the version to load and the registry it is from, None for a folder that the environment names."""
    from xedge.text.registry.registry import Registry

    if folder := configured_folder(task):
        return ModelVersion("", folder.name, "", folder), None
    registry = Registry()
    return registry.resolve(task), registry


def _open(task: str, version: ModelVersion, registry: Registry | None) -> TextModel:
    from xedge.text.model import load_version

    try:
        return load_version(version.folder, task, version.version)
    except ModelError as exc:
        if registry is None:
            raise RegistryError(f"{variable_of(task)}: {exc}", "corrupt") from exc
        raise registry.corrupt(version, exc) from exc


def _asked(task: str) -> str:
    from xedge.text.registry.stores import store_at

    folder = configured_folder(task)
    return str(folder) if folder else f"{configured(task)} of the model registry {store_at(None).where}"


def _seconds(variable: str, usual: float) -> float:
    value = os.environ.get(variable, "").strip() or str(usual)
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < threading.TIMEOUT_MAX:
        raise ConfigurationError(f"{variable} is {value!r}: give a number of seconds, 0 or more")
    return seconds


def _start_polling() -> None:
    """Begin to look at the aliases every `XEDGE_TEXT_POLL_S` seconds, if set, in one thread of this process."""
    global _poller
    interval_s = _seconds("XEDGE_TEXT_POLL_S", 0)
    with _poller_lock:
        if interval_s > 0 and _poller is None:
            _poller = threading.Thread(target=_poll, args=(interval_s,), name="xedge-text-poll", daemon=True)
            _poller.start()


def _poll(interval_s: float) -> None:
    pause, failing = threading.Event(), set[str]()
    while not pause.wait(interval_s):
        for task in loaded():
            try:
                reload(task)
                failing.discard(task)
            except Exception as exc:  # whatever it was, the next look may find the registry well again
                if task not in failing:
                    _log.warning("%s: the version loaded before goes on answering: %s", task, exc)
                failing.add(task)


def _is_to_tell(record: logging.LogRecord) -> bool:
    """Keep back what a library says of each try to connect during a load: the load's error says it all, once."""
    return record.levelno >= logging.ERROR or not str(record.threadName).startswith("xedge-load")


def _begin() -> None:
    global _slots, _poller, _poller_lock
    _slots = {task: _Slot(task) for task in TASKS}
    _poller, _poller_lock = None, threading.Lock()


def _before_fork() -> None:
    global _was_alone
    _was_alone = threading.active_count() == 1


def _after_fork_in_child() -> None:
    """Begin anew; a model is kept only if no other thread can have been using it when the fork came."""
    before = _slots
    _inherited.append(before)  # never freed: freeing may need a lock that another thread of the parent held
    _begin()
    if _was_alone:
        for task, slot in before.items():
            _slots[task] = _Slot(task, slot.model, slot.version)


_slots: dict[str, _Slot]
_poller: threading.Thread | None
_poller_lock: threading.Lock
_was_alone = False
_inherited: list[dict[str, _Slot]] = []
_begin()
logging.getLogger("urllib3.connectionpool").addFilter(_is_to_tell)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
