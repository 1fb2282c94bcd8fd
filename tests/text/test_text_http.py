"""`xedge serve http` as a real process: answers, refusals, health with and without a model, workers and endings."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from helpers import children_of, is_alive, wait_until

from xedge.core.exceptions import ConfigurationError
from xedge.serving.broker import _free_port
from xedge.serving.messages import MAX_PAYLOAD_BYTES
from xedge.text import TOPICS, predict_sentiment, predict_topic
from xedge.text.callers.http import Keys, create_app, find_keys, server
from xedge.text.callers.http import app as application
from xedge.text.callers.http.keys import VARIABLE, Rates
from xedge.text.registry.registry import Registry

LIMIT_S = 180
TEXT = "The striker scored twice in the final, and the fans were delighted."
BEGUN = b"POST /topic HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"


class Service:
    """A running `xedge serve http`; `line` is what it said when it was ready."""

    def __init__(self, process: subprocess.Popen[str], client: httpx.Client, line: str) -> None:
        self.process, self.client, self.line = process, client, line

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Send the signal; return status, the rest of stdout, and stderr."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=LIMIT_S)
        return self.process.returncode, out, err


@contextmanager
def serving(*options: str, until_ready: bool = True, **env: str) -> Iterator[Service]:
    port = _free_port()
    command = [sys.executable, "-P", "-m", "xedge.cli", "serve", "http", "--port", str(port), *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | env
    ) as process:
        watchdog = threading.Timer(LIMIT_S, process.kill)
        watchdog.start()
        try:
            assert process.stdout is not None
            line = process.stdout.readline() if until_ready else ""
            assert bool(line) is until_ready, process.stderr and process.stderr.read()
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=180, trust_env=False) as client:
                yield Service(process, client, line)
        finally:
            watchdog.cancel()
            process.kill()


@pytest.fixture(scope="module")
def service(text_registry: Registry) -> Iterator[Service]:
    with serving() as running:
        yield running


def test_ready_line_names_the_address(service: Service) -> None:
    address = str(service.client.base_url).rstrip("/")
    assert service.line == f"http service ready on {address} (1 worker)\n"


@pytest.mark.parametrize("text", [TEXT, "", "¿Qué?", "💶", "a\0b", "long " * 20_000])
def test_answers_are_those_of_the_functions(service: Service, text: str) -> None:
    topic = service.client.post("/topic", json={"text": text, "top_k": 8}).json()
    sentiment = service.client.post("/sentiment", json={"text": text}).json()
    both = service.client.post("/predict", json={"text": text})
    assert topic == predict_topic(text, top_k=8)
    assert sentiment == predict_sentiment(text)
    assert both.status_code == 200
    assert both.headers["content-type"] == "application/json"
    assert both.json() == {"topic": predict_topic(text), "sentiment": sentiment}
    assert [one["topic"] in TOPICS for one in both.json()["topic"]["predictions"]] == [True] * 3


BAD = {
    "not_json": (b"hello", 422, "not JSON"),
    "empty": (b"", 422, "JSON object"),
    "not_utf8": (b'{"text": "\xff"}', 422, "UTF-8"),
    "a_list": (b'["a"]', 422, "JSON object"),
    "a_string": (b'"a"', 422, "JSON object"),
    "no_text": (b"{}", 422, "text"),
    "null": (b'{"text": null}', 422, "text"),
    "a_number": (b'{"text": 3}', 422, "text"),
    "top_k_zero": (b'{"text": "a", "top_k": 0}', 422, "top_k"),
    "top_k_in_words": (b'{"text": "a", "top_k": "3"}', 422, "top_k"),
    "top_k_true": (b'{"text": "a", "top_k": true}', 422, "top_k"),
    "mistyped": (b'{"text": "a", "topk": 3}', 422, "topk"),
    "too_large": (json.dumps({"text": "a" * MAX_PAYLOAD_BYTES}).encode(), 413, str(MAX_PAYLOAD_BYTES)),
    "deeply_nested": (b'{"text": ' + b"[" * 100_000, 422, ""),
}


@pytest.mark.parametrize("path", ["/predict", "/topic"])
@pytest.mark.parametrize("case", BAD)
def test_bad_input(service: Service, path: str, case: str) -> None:
    body, status, words = BAD[case]
    answer = service.client.post(path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"error"}
    assert words in answer.json()["error"]
    assert len(answer.text) < 500
    assert service.client.post(path, json={"text": TEXT}).status_code == 200


def test_body_without_a_length_is_limited_too(service: Service) -> None:
    chunks = (b"a" * 65_536 for _ in range(64))
    answer = service.client.post("/topic", content=chunks, headers={"content-type": "application/json"})
    assert answer.status_code == 413


def test_text_that_is_no_unicode_is_answered_like_any_other(service: Service) -> None:
    answer = service.client.post(
        "/topic", content=b'{"text": "a \\ud800"}', headers={"content-type": "application/json"}
    )
    assert answer.json() == predict_topic("a \ud800")


def test_wrong_paths_and_methods(service: Service) -> None:
    assert service.client.get("/predict").status_code == 405
    answer = service.client.post("/predicts", json={"text": TEXT})
    assert answer.status_code == 404
    assert "/docs" in answer.json()["error"]


def test_health_and_description(service: Service) -> None:
    health = service.client.get("/health")
    facts = health.json()
    assert (health.status_code, facts["status"]) == (200, "ok")
    assert facts["models"] == {
        "topic": predict_topic(TEXT)["model_version"],
        "sentiment": predict_sentiment(TEXT)["model_version"],
    }
    assert facts["uptime_s"] > 0
    page = service.client.get("/docs")
    assert page.status_code == 200
    assert all(path in page.text for path in ("POST /predict", "POST /topic", "GET /health", "BothAnswers"))
    assert not re.search(r"<script|//", page.text.replace("<!doctype html>", ""))  # nothing is loaded from anywhere
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    described = service.client.get("/openapi.json").json()
    assert set(described["paths"]) == {"/predict", "/topic", "/sentiment", "/health"}
    assert "#/components/schemas/BothAnswers" in json.dumps(described["paths"]["/predict"]["post"]["responses"]["200"])


def test_concurrent_callers_each_get_their_own_answer(service: Service) -> None:
    texts = [f"{word} number {number}" for number in range(40) for word in ("Football", "Bank", "Vaccine", "Film")]
    expected = {text: predict_topic(text, top_k=2) for text in texts}

    def ask(text: str) -> Any:
        with httpx.Client(base_url=service.client.base_url, timeout=180, trust_env=False) as client:
            return [client.post("/topic", json={"text": text, "top_k": 2}).json() for _ in range(3)]

    with ThreadPoolExecutor(16) as pool:
        for text, answers in zip(texts, pool.map(ask, texts), strict=True):
            assert answers == [expected[text]] * 3


def test_a_caller_that_leaves_in_the_middle_harms_nobody(service: Service) -> None:
    url = service.client.base_url
    for _ in range(5):
        with socket.create_connection((url.host, url.port)) as rude:
            rude.sendall(b"POST /topic HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    assert service.client.post("/topic", json={"text": TEXT}).status_code == 200


def raw(service: Service) -> socket.socket:
    """A connection to the service, on which nothing has been said."""
    url = service.client.base_url
    return socket.create_connection((url.host, url.port), timeout=LIMIT_S)


def said(connection: socket.socket) -> bytes:
    """Everything that comes on a connection until its other end closes it."""
    parts = []
    with suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            parts.append(part)
    return b"".join(parts)


def test_headers_without_an_end_are_refused(service: Service) -> None:
    with raw(service) as flood:
        sent = 0
        with suppress(OSError):  # it closes in the middle
            flood.sendall(b"POST /topic HTTP/1.1\r\nHost: x\r\nX-Long: ")
            while sent < 300 * server.MAX_HEAD_BYTES:
                sent += flood.send(b"a" * 65_536)
        answer = said(flood)
    assert sent < 300 * server.MAX_HEAD_BYTES
    assert not answer or answer.startswith(b"HTTP/1.1 431 ")
    assert service.client.post("/topic", json={"text": TEXT}).status_code == 200


def test_headers_of_usual_size_are_no_flood(service: Service) -> None:
    for _ in range(20):
        answer = service.client.post("/topic", json={"text": TEXT * 200}, headers={"X-Long": "a" * 8000})
        assert answer.status_code == 200


def test_half_open_connections_make_room_for_others(service: Service) -> None:
    idle = [raw(service) for _ in range(server.MAX_CONNECTIONS + 60)]
    try:
        with httpx.Client(base_url=service.client.base_url, timeout=30, trust_env=False) as fresh:
            assert fresh.post("/topic", json={"text": TEXT}).status_code == 200
        assert said(idle[0]).startswith(b"HTTP/1.1 408 ")
    finally:
        for connection in idle:
            connection.close()


@pytest.mark.long
def test_request_that_does_not_end_is_refused(service: Service) -> None:
    with ExitStack() as stack:
        connections = [stack.enter_context(raw(service)) for _ in range(3)]
        for connection, start in zip(connections, (b"", b"POST /topic HTTP/1.1\r\nHost: x\r\n", BEGUN), strict=True):
            connection.sendall(start)
        for connection in connections:
            assert said(connection).startswith(b"HTTP/1.1 408 Request Timeout\r\n")


KEYS = ["0123456789abcdef-first", "second_key/of+16=chars", "the-third-of-them"]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def guarded(text_registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service for other machines too, with three keys from a file, one request/s each."""
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text(f"# of the press line\n{KEYS[0]}\n\n {KEYS[1]} \n{KEYS[2]}")
    options = ["--host", "0.0.0.0", "--key-file", str(file), "--rate", "1", "--access-log", "--log-level", "debug"]
    with serving(*options) as running:
        yield running


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        bearer("0123456789abcdef-firsT"),
        bearer(f"{KEYS[0]}0"),
        bearer(KEYS[0][:-1]),
        bearer(f"{KEYS[0]},{KEYS[1]}"),
        bearer("é" * 20),
        bearer("a" * 60_000),
        {"Authorization": KEYS[0]},
        {"Authorization": f"Basic {KEYS[0]}"},
        {"X-API-Key": KEYS[0]},
    ],
)
@pytest.mark.parametrize("path", ["/predict", "/nowhere", "/topic/", "//topic", "/docs/../topic"])
def test_request_without_a_key_that_is_known_is_refused(guarded: Service, path: str, headers: dict[str, str]) -> None:
    sent = [(name.encode(), value.encode()) for name, value in headers.items()]
    answer = guarded.client.post(path, json={"text": TEXT}, headers=sent)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"error"}
    assert "Authorization: Bearer KEY" in answer.json()["error"]


def test_two_authorizations_are_none(guarded: Service) -> None:
    both = [(b"Authorization", f"Bearer {key}".encode()) for key in KEYS]
    assert guarded.client.post("/topic", json={"text": TEXT}, headers=both).status_code == 401


def test_every_key_is_let_in_and_those_who_watch_need_none(guarded: Service) -> None:
    assert "(1 worker, <3 API keys>)" in guarded.line
    for key in KEYS[:2]:
        answer = guarded.client.post("/topic", json={"text": TEXT}, headers=bearer(key))
        assert answer.json() == predict_topic(TEXT)
    assert guarded.client.get("/health").json()["status"] == "ok"
    assert "401: <a href='#Refusal'>" in guarded.client.get("/docs").text
    described = guarded.client.get("/openapi.json").json()
    assert described["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    predict = described["paths"]["/predict"]["post"]
    assert predict["security"] == [{"HTTPBearer": []}]
    assert {"401", "429"} <= predict["responses"].keys()
    assert "security" not in described["paths"]["/health"]["get"]


def test_refused_body_is_not_waited_for(guarded: Service) -> None:
    with raw(guarded) as connection:
        connection.sendall(BEGUN)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 401 ")


def test_key_that_asks_too_often_is_told_when_to_come_again_and_others_are_not(guarded: Service) -> None:
    wait_until(
        lambda: guarded.client.post("/topic", json={"text": "a"}, headers=bearer(KEYS[0])).status_code == 429,
        "two requests within a second",
    )
    answer = guarded.client.post("/topic", json={"text": "a"}, headers=bearer(KEYS[2]))
    assert answer.status_code == 200
    answers = [guarded.client.post("/topic", content=b"no JSON", headers=bearer(KEYS[0])) for _ in range(40)]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.headers["retry-after"] == "1"
    assert refused.json() == {"error": "too many requests, at most 1 requests/s a key: send it again in 1 s"}
    wait_until(
        lambda: guarded.client.post("/topic", json={"text": "a"}, headers=bearer(KEYS[0])).status_code == 200,
        "the key is let in again",
    )


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_keys_stand_nowhere(text_registry: Registry, workers: int) -> None:
    options = ["--workers", str(workers), "--access-log", "--log-level", "debug"]
    with serving(*options, XEDGE_HTTP_KEYS=" ".join(KEYS)) as running:
        for key in (*KEYS, "wrong_key/of+16=chars"):
            running.client.post("/topic", json={"text": TEXT}, headers=bearer(key))
        shown = running.line + "".join(
            running.client.get(path, headers=bearer(KEYS[0])).text
            for path in ("/health", "/docs", "/openapi.json", "/nowhere")
        )
        shown += subprocess.run(["ps", "-A", "-o", "args"], capture_output=True, text=True, check=True).stdout
        _, out, err = running.end()
    assert '"POST /topic HTTP/1.1" 200' in err
    assert '"POST /topic HTTP/1.1" 401' in err
    for key in (*KEYS, "wrong_key/of+16=chars"):
        assert key not in shown + out + err


def test_keys_show_nothing_and_errors_name_the_place_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = Keys(KEYS)
    assert repr(keys) == "<3 API keys>"
    assert not any(key in f"{vars(keys)}" for key in KEYS)
    assert [keys.number(f"bearer {key}".encode()) for key in KEYS] == [0, 1, 2]
    file = tmp_path / "keys"
    for content, words in (
        ("", "there is no key"),
        ("# only words\n", "there is no key"),
        ("short", "key 1: a key has at least 16"),
        (f"{KEYS[0]}\ntwo words with spaces", "key 2: "),
        ("schlüsselschlüssel", "key 1: "),
    ):
        file.write_text(content, encoding="utf-8")
        with pytest.raises(ConfigurationError) as caught:
            find_keys(file)
        assert words in str(caught.value)
        assert str(file) in str(caught.value)
        assert not any(word in str(caught.value) for word in (KEYS[0], "two words", "schlüssel"))
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        find_keys(tmp_path / "nowhere")
    monkeypatch.delenv(VARIABLE, raising=False)
    assert find_keys() is None
    monkeypatch.setenv(VARIABLE, " ")
    assert find_keys() is None
    monkeypatch.setenv(VARIABLE, " ".join(KEYS))
    assert repr(find_keys()) == "<3 API keys>"


def test_rate_lets_a_second_of_requests_through_at_once_and_then_its_rate() -> None:
    rates = Rates(4)
    assert [rates.wait_s(0, 100.0) for _ in range(6)] == [0, 0, 0, 0, 0.25, 0.25]
    assert rates.wait_s(1, 100.0) == 0  # another caller
    assert [rates.wait_s(0, 100.25), rates.wait_s(0, 100.25)] == [0, 0.25]
    assert [rates.wait_s(0, 500.0) for _ in range(5)] == [0, 0, 0, 0, 0.25]
    slow = Rates(0.5)
    assert [slow.wait_s(0, 0.0), slow.wait_s(0, 0.0), slow.wait_s(0, 2.0)] == [0, 2, 0]


def test_connections_of_a_worker_can_be_fewer(text_registry: Registry) -> None:
    with serving("--connections", "2") as running, ExitStack() as stack:
        idle = [stack.enter_context(raw(running)) for _ in range(3)]
        assert said(idle[0]).startswith(b"HTTP/1.1 408 ")


def test_mounted_application_loads_at_its_first_request(text_registry: Registry) -> None:
    from starlette.applications import Starlette

    async def ask() -> list[httpx.Response]:
        site = Starlette()
        site.mount("/ml", create_app())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(site), base_url="http://test") as client:
            several = [client.post("/ml/topic", json={"text": TEXT}) for _ in range(3)]
            return [*await asyncio.gather(*several), await client.get("/ml/health"), await client.get("/ml/nowhere")]

    *topics, health, nowhere = asyncio.run(ask())
    assert [answer.json() for answer in topics] == [predict_topic(TEXT)] * 3
    assert health.status_code == 200
    assert nowhere.json()["error"].endswith("see /ml/docs")


def test_request_under_way_at_the_end_is_finished(text_registry: Registry) -> None:
    body = json.dumps({"text": TEXT}).encode()
    with serving() as running, raw(running) as slow:
        slow.sendall(b"POST /topic HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        slow.sendall(b"Content-Length: %d\r\n\r\n" % len(body) + body[:5])
        wait_until(lambda: running.client.get("/health").status_code == 200, "the beginning was read")
        running.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not accepts(running), "it takes no new connections")
        slow.sendall(body[5:])
        answer = said(slow)
        status, _, err = running.end(signal.SIGCONT)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert (status, "Traceback" in err) == (0, False)


def accepts(running: Service) -> bool:
    try:
        raw(running).close()
    except OSError:
        return False
    return True


def test_request_that_is_not_whole_when_time_is_up_is_told_to_come_again() -> None:
    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        await receive()

    async def cancelled() -> list[Any]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        never = asyncio.Event()
        task = asyncio.create_task(server.ending_app(lambda: app)({"type": "http"}, never.wait, send))
        await asyncio.sleep(0)
        task.cancel()
        await task
        return sent

    start, body = asyncio.run(cancelled())
    assert start["status"] == 503
    assert b"the service is ending" in body["body"]


def test_hangup_takes_up_the_version_in_production(text_registry: Registry, tmp_path: Path) -> None:
    own = Registry(tmp_path / "registry")
    for task in ("topic", "sentiment"):
        own.promote(task, own.register(task, text_registry.resolve(task).folder).version)
    with serving(MLFLOW_TRACKING_URI=str(tmp_path / "registry")) as running:
        own.promote("topic", own.register("topic", text_registry.resolve("topic").folder).version)
        assert running.client.get("/health").json()["models"]["topic"] == "1"
        running.process.send_signal(signal.SIGHUP)
        wait_until(lambda: running.client.get("/health").json()["models"]["topic"] == "2", "version 2 is loaded")
        assert running.end()[0] == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_answers_are_sent_without_delay(host: str) -> None:
    listening = server._listen(host, 0)
    with listening:
        assert listening.proto == socket.IPPROTO_TCP  # for others asyncio leaves Nagle's algorithm on


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_with_status_0(text_registry: Registry, number: int) -> None:
    with serving() as running:
        assert running.client.post("/predict", json={"text": TEXT}).status_code == 200
        status, out, err = running.end(number)
    assert (status, out) == (0, "http service ended\n")
    assert "POST" not in err
    assert "Traceback" not in err


def test_access_log_if_asked_for(text_registry: Registry) -> None:
    with serving("--access-log") as running:
        running.client.post("/predict", json={"text": TEXT})
        _, _, err = running.end()
    assert re.search(r'INFO .*"POST /predict HTTP/1\.1" 200', err)


@pytest.mark.long
def test_several_workers_answer_are_replaced_and_end_together(text_registry: Registry) -> None:
    with serving("--workers", "2", "--log-format", "json") as running:

        def workers() -> set[int]:
            with httpx.Client(base_url=running.client.base_url, timeout=180, trust_env=False) as fresh:
                return {fresh.get("/health").json()["process"]}

        seen: set[int] = set()
        wait_until(lambda: len(seen.update(workers()) or seen) >= 2, "an answer of both workers")
        os.kill(min(seen), signal.SIGKILL)
        before = set(seen)
        wait_until(lambda: seen.update(workers()) or seen - before, "an answer of a new worker")
        processes = children_of(running.process.pid)
        status, out, err = running.end()
    assert (status, out) == (0, "http service ended\n")
    wait_until(lambda: not any(map(is_alive, processes | seen)), "the end of all workers")
    for line in err.splitlines():
        assert json.loads(line)["level"] in ("INFO", "WARNING", "ERROR")


def test_workers_end_with_their_parent(text_registry: Registry) -> None:
    with serving("--workers", "2") as running:
        processes = children_of(running.process.pid)
        assert processes
        running.process.kill()
        wait_until(lambda: not any(map(is_alive, processes)), "the end of the workers")


@pytest.mark.long
def test_health_before_and_after_there_is_a_model(text_registry: Registry, tmp_path: Path) -> None:
    own = Registry(tmp_path / "registry")
    with serving(until_ready=False, MLFLOW_TRACKING_URI=str(tmp_path / "registry")) as running:

        def health() -> httpx.Response | None:
            try:
                return running.client.get("/health")
            except httpx.ConnectError:
                return None

        before = wait_until(health, "an answer without a model")
        assert before.status_code == 503
        assert before.json()["status"] == "unavailable"
        assert "no model is registered as xedge-topic" in before.json()["error"]
        refused = running.client.post("/topic", json={"text": TEXT})
        assert refused.status_code == 503
        assert refused.json()["error"].startswith("no model for topic: ")
        assert int(refused.headers["retry-after"]) > 0
        own.promote("topic", own.register("topic", text_registry.resolve("topic").folder).version)
        wait_until(lambda: running.client.post("/topic", json={"text": TEXT}).status_code == 200, "a topic")
        assert running.client.post("/sentiment", json={"text": TEXT}).status_code == 503
        assert running.client.post("/predict", json={"text": TEXT}).status_code == 503
        own.promote("sentiment", own.register("sentiment", text_registry.resolve("sentiment").folder).version)
        wait_until(lambda: running.client.get("/health").status_code == 200, "health")
        assert running.process.stdout is not None
        assert "http service ready on" in running.process.stdout.readline()
        status, _, err = running.end()
    assert status == 0
    assert err.count("no model for topic") == 1


def test_loading_goes_on_after_an_error_of_any_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = iter([KeyError("no error of xedge"), None])

    def get_model(_task: str) -> None:
        if (outcome := next(outcomes)) is not None:
            raise outcome

    monkeypatch.setattr(application, "get_model", get_model)
    monkeypatch.setattr(application, "RETRY_S", 0.01)
    topics = application.Loader(["topic"])
    topics.run()
    topics.check("topic")


def test_one_task_only(text_registry: Registry) -> None:
    with serving("--task", "sentiment") as running:
        assert running.client.post("/sentiment", json={"text": TEXT}).json() == predict_sentiment(TEXT)
        assert running.client.post("/predict", json={"text": TEXT}).status_code == 404
        assert set(running.client.get("/health").json()["models"]) == {"sentiment"}


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--port", "{busy}"], 1, "cannot listen on"),
        (["--host", "203.0.113.1"], 1, "203.0.113.1"),
        (["--workers", "0"], 2, "--workers"),
        (["--host", "0.0.0.0"], 2, "XEDGE_HTTP_KEYS"),
        (["--host", "::"], 2, "listen on 127.0.0.1"),
        (["--rate", "-1"], 2, "--rate -1"),
        (["--rate", "nan"], 2, "--rate nan"),
        (["--connections", "0"], 2, "--connections 0"),
        (["--key-file", "{nowhere}"], 2, "cannot be read"),
    ],
)
def test_what_cannot_be_served_is_told_in_a_line(options: list[str], status: int, words: str) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        given = [option.format(busy=busy.getsockname()[1], nowhere="/nowhere/keys") for option in options]
        command = [sys.executable, "-P", "-m", "xedge.cli", "serve", "http", *given]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == status
    [line] = done.stderr.splitlines()
    assert line.startswith("xedge: ")
    assert words in line
