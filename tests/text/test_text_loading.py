"""Loading a text model: once for many threads, within its time limit, swapped under load, and under fork."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import wait_until
from versions import write_text_version

from xedge import text
from xedge.core.exceptions import ConfigurationError, RegistryError
from xedge.text import loading
from xedge.text.model import TextModel
from xedge.text.registry.registry import Registry

TEXT = "The council approved a plan to rebuild the old harbour."


@pytest.fixture
def registry(tmp_path: Path, empty_registry: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A registry of this test's own that the environment names, and a process that has loaded nothing."""
    registry = Registry(shutil.copytree(empty_registry, tmp_path / "registry"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.uri)
    loading._begin()
    yield registry
    loading._begin()


@pytest.fixture
def promote(registry: Registry, tmp_path: Path) -> Callable[..., Path]:
    """Register and promote another version, with answers of its own."""
    seeds = iter(range(1, 100))

    def register(task: str = "topic") -> Path:
        folder = write_text_version(tmp_path / f"{task}-{next(seeds)}", task, len(list(tmp_path.iterdir())))
        return registry.promote(task, registry.register(task, folder).version).folder

    return register


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The versions that were really loaded, in order; the registry's own checks do not count."""
    seen: list[str] = []
    load = loading._open

    def counting(task, version, registry):
        seen.append(version.version)
        return load(task, version, registry)

    monkeypatch.setattr(loading, "_open", counting)
    return seen


def in_threads(n: int, work: Callable[[int], object]) -> list[object]:
    """Run `work(k)` in n threads that begin at once; return what each returned or raised."""
    results: list[object] = [None] * n
    barrier = threading.Barrier(n)

    def run(k: int) -> None:
        barrier.wait()
        try:
            results[k] = work(k)
        except BaseException as exc:
            results[k] = exc

    threads = [threading.Thread(target=run, args=(k,)) for k in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(180)
    return results


def test_sixteen_cold_threads_load_once(promote, loads):
    promote()
    for _ in range(5):
        loading._begin()
        loads.clear()
        models = in_threads(16, lambda _: text.get_model("topic"))
        assert loads == ["1"]
        assert len({id(model) for model in models}) == 1
        assert isinstance(models[0], TextModel)


def test_two_tasks_are_loaded_each_by_itself(promote, loads):
    promote("topic")
    text.predict_topic(TEXT)
    assert loading.loaded() == ["topic"]
    promote("sentiment")
    text.predict_sentiment(TEXT)
    assert (loading.loaded(), loads) == (["topic", "sentiment"], ["1", "1"])


def test_failed_load_raises_in_every_thread_and_the_next_call_tries_again(registry, promote, loads):
    errors = in_threads(16, lambda _: text.predict_topic(TEXT))
    assert {type(error) for error in errors} == {RegistryError}
    assert {error.reason for error in errors} == {"no model"}
    assert all("xedge-topic@production" in str(error) and registry.where in str(error) for error in errors)
    assert len({id(error) for error in errors}) == 16  # a traceback each
    promote()
    assert text.predict_topic(TEXT)["model_version"] == "1"
    assert loads == ["1"]


def test_corrupt_version_is_told_and_a_whole_one_taken_up(registry, promote):
    folder = promote()
    kept = (folder / "golden.json").read_text()
    (folder / "golden.json").write_text("{}")
    with pytest.raises(RegistryError, match=r"xedge-topic@production.*is corrupt: .*golden\.json") as caught:
        text.predict_topic(TEXT)
    assert caught.value.reason == "corrupt"
    assert registry.where in str(caught.value)
    (folder / "golden.json").write_text(kept)
    assert text.predict_topic(TEXT)["model_version"] == "1"


@pytest.mark.parametrize("value", ["soon", "-1", "nan", "inf"])
def test_time_limit_that_is_none_is_refused(promote, monkeypatch, value):
    promote()
    monkeypatch.setenv("XEDGE_TEXT_LOAD_TIMEOUT_S", value)
    with pytest.raises(ConfigurationError, match=f"XEDGE_TEXT_LOAD_TIMEOUT_S is '{value}': give a number of seconds"):
        text.predict_topic(TEXT)


class Gate:
    """Holds up the first load, and lets the others pass."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.open = threading.Event(), threading.Event()
        self._load = loading._open
        self._calls = Counter[str]()
        monkeypatch.setattr(loading, "_open", self)

    def __call__(self, task, version, registry):
        self._calls[task] += 1
        if self._calls[task] == 1:
            self.entered.set()
            assert self.open.wait(180)
        return self._load(task, version, registry)


def loaders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("xedge-load")]


def test_load_left_behind_at_the_limit_is_tried_again_and_does_not_undo_the_later(promote, monkeypatch):
    promote()
    gate = Gate(monkeypatch)
    with pytest.raises(RegistryError, match=r"xedge-topic@production .* was not loaded within 0\.05 s") as caught:
        text.get_model("topic", timeout_s=0.05)
    assert caught.value.reason == "timeout"
    assert gate.entered.is_set()
    assert len(loaders()) == 1  # still held up: the call did not wait for it
    promote()
    assert text.predict_topic(TEXT)["model_version"] == "2"
    gate.open.set()
    wait_until(lambda: not loaders(), "the load left behind ends")
    assert text.predict_topic(TEXT)["model_version"] == "2"


def test_load_that_ends_after_the_limit_is_used(promote, monkeypatch):
    promote()
    gate = Gate(monkeypatch)
    with pytest.raises(RegistryError, match="was not loaded within"):
        text.get_model("topic", timeout_s=0.05)
    gate.open.set()
    wait_until(lambda: loading.loaded() == ["topic"], "the load left behind ends")
    assert text.predict_topic(TEXT)["model_version"] == "1"


def test_reload_takes_up_what_is_in_production_now_and_loads_only_if_it_changed(registry, promote, loads):
    promote()
    promote("sentiment")
    text.predict_topic(TEXT)
    assert text.reload_model() == {"topic": "1"}  # sentiment is not loaded here
    promote()
    assert text.predict_topic(TEXT)["model_version"] == "1"
    assert text.reload_model("topic") == {"topic": "2"}
    assert text.predict_topic(TEXT)["model_version"] == "2"
    model = text.get_model("topic")
    assert text.reload_model("topic") == {"topic": "2"}
    assert text.get_model("topic") is model
    registry.rollback("topic")
    assert text.reload_model() == {"topic": "1"}
    assert loads == ["1", "2", "1"]


def test_reload_that_fails_leaves_the_model_that_was_there(promote, monkeypatch):
    promote()
    before = text.predict_topic(TEXT)
    (promote() / "model.onnx").unlink()
    with pytest.raises(RegistryError, match="corrupt"):
        text.reload_model()
    assert text.predict_topic(TEXT) == before


def test_reload_does_not_join_a_load_that_read_the_alias_before(promote, monkeypatch):
    promote()
    gate = Gate(monkeypatch)
    cold = threading.Thread(target=text.predict_topic, args=(TEXT,))
    cold.start()
    assert gate.entered.wait(120)
    promote()
    assert text.reload_model("topic") == {"topic": "2"}
    gate.open.set()
    cold.join(120)
    assert text.predict_topic(TEXT)["model_version"] == "2"


@pytest.mark.long
def test_ten_reloads_under_thirty_thousand_calls_of_eight_threads(registry, promote):
    texts = [TEXT, "A late goal wins the cup.", ""]
    versions = [promote(), promote()]
    wanted = {str(k): TextModel.load(folder).probabilities(texts).max(axis=1) for k, folder in enumerate(versions, 1)}
    assert abs(wanted["1"][:2] - wanted["2"][:2]).min() > 1e-3  # the two versions do answer otherwise
    calls, turn = 30_000 // 8, 30_000 // 8 // 10

    def ask(k: int) -> Counter[str]:
        seen: Counter[str] = Counter()
        for number in range(calls):
            if k == 0 and number % turn == 0:
                registry.promote("topic", 1 + (number // turn) % 2)
                text.reload_model("topic")
            if number % 50:
                answers = [text.predict_topic(texts[number % 3], 1)]
                expected = [number % 3]
            else:
                answers, expected = text.predict_topics(texts, 1), [0, 1, 2]
            (version,) = {answer["model_version"] for answer in answers}  # a batch is answered by one version
            for answer, place in zip(answers, expected, strict=True):
                gap = answer["predictions"][0]["confidence"] - wanted[version][place]
                assert abs(gap) < 1e-6, f"version {version} answered with another's probability"
            seen[version] += 1
        return seen

    results = in_threads(8, ask)
    assert [type(result) for result in results] == [Counter] * 8, results
    assert [sum(seen.values()) for seen in results] == [calls] * 8
    assert set().union(*results) == {"1", "2"}


def test_folder_in_the_environment_is_used_without_a_registry(registry, promote, monkeypatch, tmp_path):
    folder = write_text_version(tmp_path / "v7", seed=70)
    monkeypatch.setenv("XEDGE_TOPIC_MODEL", str(folder))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(tmp_path / "nothing"))
    assert text.predict_topic(TEXT)["model_version"] == "v7"
    (folder / "labels.json").unlink()
    with pytest.raises(RegistryError, match=r"XEDGE_TOPIC_MODEL: .*labels\.json") as caught:
        text.reload_model("topic")
    assert caught.value.reason == "corrupt"
    assert text.predict_topic(TEXT)["model_version"] == "v7"


def test_model_of_another_task_is_refused(registry, monkeypatch, tmp_path):
    monkeypatch.setenv("XEDGE_TOPIC_MODEL", str(write_text_version(tmp_path / "v", "sentiment")))
    with pytest.raises(RegistryError, match="holds a model for 'sentiment', not for 'topic'"):
        text.predict_topic(TEXT)


def run(script: str, registry: Registry, **environment: str) -> str:
    """Run a script in a process of its own, with this registry as GOOD, and return what it printed."""
    path = Path(registry.where).parent / "script.py"
    path.write_text(PRELUDE + script)
    env = os.environ | {"GOOD": registry.uri, "MLFLOW_TRACKING_URI": registry.uri, **environment}
    command = [sys.executable, "-W", "error", "-W", "ignore:This process:DeprecationWarning", str(path)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


PRELUDE = '''
import os, signal, socket, sys, threading, time
from xedge import text
from xedge.core.exceptions import RegistryError
from xedge.text import forks, loading

def silent_server():
    """A registry that accepts and never answers."""
    server = socket.create_server(("127.0.0.1", 0))
    kept = []
    def accept():
        while True:
            kept.append(server.accept())
    threading.Thread(target=accept, daemon=True).start()
    return f"http://127.0.0.1:{server.getsockname()[1]}", kept

def in_child(work):
    """Fork; return what work() returned in the child, which is killed if it hangs."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, str(work()).encode())
        except BaseException as exc:
            os.write(writer, repr(exc).encode())
        os._exit(0)
    os.close(writer)
    killer = threading.Timer(30, os.kill, (child, signal.SIGKILL))
    killer.start()
    said = os.read(reader, 10_000).decode()
    os.waitpid(child, 0)
    killer.cancel()
    return said or "hung"

def version():
    return text.predict_topic("A late goal wins the cup.")["model_version"]
'''


@pytest.mark.long
def test_time_limit_returns_though_the_registry_never_answers(registry, promote):
    promote()
    script = """
os.environ["MLFLOW_TRACKING_URI"], kept = silent_server()
begun = time.monotonic()
try:
    version()
except RegistryError as exc:
    assert exc.reason == "timeout", exc
    assert os.environ["MLFLOW_TRACKING_URI"] in str(exc) and "xedge-topic@production" in str(exc), exc
assert time.monotonic() - begun >= 0.5
while not kept:
    time.sleep(0.01)
hanging = [thread for thread in threading.enumerate() if thread.name == "xedge-load-topic"]
assert len(hanging) == 1, hanging  # it is still being waited for, but not by the call
os.environ["MLFLOW_TRACKING_URI"], os.environ["XEDGE_TEXT_LOAD_TIMEOUT_S"] = os.environ["GOOD"], "60"
print(version(), hanging[0].is_alive())
"""
    assert run(script, registry, XEDGE_TEXT_LOAD_TIMEOUT_S="0.5").split() == ["1", "True"]


def test_poll_takes_up_what_is_promoted(registry, promote):
    promote()
    script = """
print(version(), flush=True)
while version() == "1":
    time.sleep(0.01)
print(version(), [thread.name for thread in threading.enumerate()].count("xedge-text-poll"))
"""
    path = Path(registry.where).parent / "script.py"
    path.write_text(PRELUDE + script)
    env = os.environ | {"XEDGE_TEXT_POLL_S": "0.05"}
    with subprocess.Popen([sys.executable, str(path)], env=env, stdout=subprocess.PIPE, text=True) as process:
        killer = threading.Timer(60, process.kill)
        killer.start()
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "1"
        promote()
        assert process.stdout.readline().split() == ["2", "1"]
        killer.cancel()


def test_poll_that_fails_is_said_once_and_the_model_stays(registry, promote):
    promote()
    script = """
import logging
records = []
handler = logging.Handler()
handler.emit = records.append
logging.getLogger("xedge.text").addHandler(handler)
version()
os.environ["MLFLOW_TRACKING_URI"] = "/nowhere"
while not records:
    time.sleep(0.01)
time.sleep(0.5)  # ten further looks
print(version(), len(records), records[0].levelname, "no model is registered" in records[0].getMessage())
"""
    assert run(script, registry, XEDGE_TEXT_POLL_S="0.05").split() == ["1", "1", "WARNING", "True"]


@pytest.mark.long
def test_poll_of_a_server_that_is_down_does_not_tell_every_try_to_connect(registry, promote):
    promote()
    script = """
import logging
records, looks = [], threading.Semaphore(0)
handler = logging.Handler()
handler.emit = records.append
logging.getLogger().addHandler(handler)
version()
reload = loading.reload_model
def counted(task, timeout_s=None):
    try:
        return reload(task, timeout_s)
    finally:
        looks.release()
loading.reload_model = counted
os.environ["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"
for _ in range(3):
    looks.acquire()
print(version(), *sorted({record.name for record in records if record.levelno >= logging.WARNING}))
"""
    env = {"XEDGE_TEXT_POLL_S": "0.05", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
    assert run(script, registry, **env).split() == ["1", "xedge.text"]


def test_poll_goes_on_after_an_error_of_any_kind(registry, promote):
    promote()
    script = """
from xedge.text import loading
version()
find, failed = loading._find, threading.Event()
def fail(task):
    failed.set()
    raise KeyError("no error of xedge")
loading._find = fail
failed.wait()
loading._find = find
os.environ["MLFLOW_TRACKING_URI"] = os.environ["LATER"]
for _ in range(1000):
    if version() == "2":
        break
    time.sleep(0.01)
print(version())
"""
    later = Registry(shutil.copytree(registry.where, Path(registry.where).with_name("later")))
    later.promote("topic", later.register("topic", later.resolve("topic").folder).version)
    assert run(script, registry, XEDGE_TEXT_POLL_S="0.05", LATER=later.uri).split() == ["2"]


def test_poll_interval_that_is_none_is_refused_at_every_call(registry, promote, monkeypatch):
    promote()
    monkeypatch.setenv("XEDGE_TEXT_POLL_S", "often")
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="XEDGE_TEXT_POLL_S is 'often'"):
            text.predict_topic(TEXT)


@pytest.mark.long
def test_fork_while_a_load_hangs_leaves_a_child_that_loads_by_itself(registry, promote):
    promote()
    script = """
forks.WAIT_S = 0.5
os.environ["MLFLOW_TRACKING_URI"], kept = silent_server()
threading.Thread(target=lambda: text.get_model("topic", 30), daemon=True).start()
while not kept:
    time.sleep(0.01)

def work():
    os.environ["MLFLOW_TRACKING_URI"] = os.environ["GOOD"]
    assert not loading._slots["topic"].under_way
    return version()

print(in_child(work), loading._slots["topic"].lock.locked(), len(loading._slots["topic"].under_way))
"""
    assert run(script, registry).split() == ["1", "False", "1"]


def test_fork_at_any_moment_of_a_load_leaves_parent_and_child_answering(registry, promote):
    promote()
    script = """
answers = []
for number in range(12):
    loading._begin()
    cold = [threading.Thread(target=version) for _ in range(4)]
    for thread in cold:
        thread.start()
    time.sleep(number * 0.01 if number else 0)
    answers.append(in_child(version))
    for thread in cold:
        thread.join()
    answers.append(version())
print(*sorted(set(answers)))
"""
    assert run(script, registry).split() == ["1"]


@pytest.mark.long
def test_fork_amid_continuous_reloads_gets_its_turn(registry, promote):
    """Four threads reload all the time, so without an order there is always a load under way."""
    promote()
    script = """
from xedge.text.registry.registry import Registry
version()
over = threading.Event()
def reload():
    while not over.is_set():
        text.reload_model()
        Registry().promote("topic", 1)
threads = [threading.Thread(target=reload) for _ in range(4)]
for thread in threads:
    thread.start()
held = []
def work():
    held.append(len(forks._holders))
    return version() + str(held[-1])
print(*sorted({in_child(work) for _ in range(6)}))
over.set()
for thread in threads:
    thread.join()
"""
    assert run(script, registry).split() == ["10"]


def test_fork_waits_for_a_load_under_way(registry, promote):
    """The child begins only when imports and files are done with: their locks would be held in it for ever."""
    promote()
    script = """
load, entered, ended = loading._open, threading.Event(), threading.Event()

def slowly(*arguments):
    entered.set()
    time.sleep(0.5)
    ended.set()
    return load(*arguments)

loading._open = slowly
threading.Thread(target=version).start()
entered.wait()
print(in_child(ended.is_set))
"""
    assert run(script, registry).split() == ["True"]


def test_fork_of_a_process_alone_keeps_the_model_and_otherwise_loads_anew(registry, promote):
    promote()
    script = """
version()
mine = id(text.get_model("topic"))
while threading.active_count() > 1:  # the thread that loaded it is ending
    time.sleep(0.001)
same = lambda: version() + str(id(text.get_model("topic")) == mine)
def child_of(work):
    return in_child_alone(work)

def in_child_alone(work):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, work().encode())
        os._exit(0)
    os.waitpid(child, 0)
    return os.read(reader, 1000).decode()

alone = in_child_alone(same)
busy = threading.Event()
threads = [threading.Thread(target=lambda: [version() for _ in iter(busy.is_set, True)]) for _ in range(3)]
for thread in threads:
    thread.start()
answers = {in_child(same) for _ in range(10)}
busy.set()
print(alone, *answers)
"""
    assert run(script, registry).split() == ["1True", "1False"]
