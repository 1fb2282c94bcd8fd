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

_log = logging.getLogger("xedge.text")


class _Slot:
    """The model of one task in this process; the lock is held for a few assignments only, never while loading."""

    def __init__(self, task: str, model: TextModel | None = None, version: ModelVersion | None = None) -> None:
        self.task, self.model, self.version = task, model, version
        self.lock = threading.Lock()
        self.under_way: list[Future[TextModel]] = []
        self._began = 0.0  # when the load began that `model` is from

    def get(self, timeout_s: float | None, anew: bool = False) -> TextModel:
        """Return the model, or that of the load under way, or of a new one.

        `anew` asks for a new one in any case: a load under way may have read the alias before it was moved.
        """
        with self.lock:
            if self.model is not None and not anew:
                return self.model
            load = self.under_way[-1] if self.under_way and not anew else self._start()
        limit_s = _seconds("XEDGE_TEXT_LOAD_TIMEOUT_S", 60) if timeout_s is None else timeout_s
        try:
            error = load.exception(limit_s)
        except TimeoutError:
            self._forget(load)  # left behind: the next call begins anew
            from xedge.text.registry.stores import store_at

            asked = f"{configured(self.task)} of the model registry {store_at(None).where}"
            raise RegistryError(
                f"{configured_folder(self.task) or asked} was not loaded within {limit_s:g} s: check that the place "
                f"answers, or allow more time by XEDGE_TEXT_LOAD_TIMEOUT_S; the next call tries again",
                "timeout",
            ) from None
        if error is not None:  # every waiting thread raises one of its own: it carries its thread's traceback
            raise copy.copy(error).with_traceback(error.__traceback__) from error.__cause__
        return load.result()

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


def get_model(task: str, timeout_s: float | None = None) -> TextModel:
    """Return the loaded model for "topic" or "sentiment", loading it if this process has not yet.

    That is waited for at most `timeout_s`; None is `XEDGE_TEXT_LOAD_TIMEOUT_S`, else 60 s.

    Raises:
        ConfigurationError: no such task.
        RegistryError: the model could not be loaded; `reason` is "timeout" after `timeout_s`.
    """
    slot = _slots.get(task) or _slots[check_task(task)]
    return slot.model or slot.get(timeout_s)


def reload_model(task: str | None = None, timeout_s: float | None = None) -> dict[str, str]:
    """Take up the version in production now and return it for each task; calls under way end with their own version.

    `task` None is every model that this process has loaded; each is waited for as by `get_model`.

    Raises:
        ConfigurationError: no such task.
        RegistryError: it could not be loaded; the version loaded before stays and goes on answering.
    """
    names = [check_task(task)] if task else loaded()
    return {name: _slots[name].get(timeout_s, anew=True).version for name in names}


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

    if registry is not None:
        return registry.load(task, version)
    from xedge.text.registry import signing

    try:
        signing.check(version.folder)
        return load_version(version.folder, task, version.version)
    except ModelError as exc:
        raise RegistryError(f"{variable_of(task)}: {exc}", "corrupt") from exc


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
                reload_model(task)
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
    _inherited.append(_slots)  # never freed: freeing may need a lock that another thread of the parent held
    _begin()
    if _was_alone:
        _slots.update({task: _Slot(task, slot.model, slot.version) for task, slot in _inherited[-1].items()})


_slots: dict[str, _Slot]
_poller: threading.Thread | None
_poller_lock: threading.Lock
_was_alone = False
_inherited: list[dict[str, _Slot]] = []
_begin()
logging.getLogger("urllib3.connectionpool").addFilter(_is_to_tell)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
