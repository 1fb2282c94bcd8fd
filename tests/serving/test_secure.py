"""Brokers with TLS, users and an ACL: the shipped configuration in a real mosquitto, and what goes wrong before one."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from helpers import WAIT_S, request_bytes, unique_prefix
from secured import FOLDER, Secured, credentials, secured

import xedge
from xedge.core.exceptions import BrokerError, ServiceError
from xedge.runs.sender import Flight, Sender
from xedge.runs.trial import fly
from xedge.scenario.routes import Topics
from xedge.scenario.scenario import Replication, Scenario
from xedge.serving.broker import _probe, find_mosquitto
from xedge.serving.connection import Connection
from xedge.serving.external import IsolatedService, ping
from xedge.serving.services import EdgeMLService
from xedge.serving.start import Setting, service_of

INPUT = [0.5] * 32


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    with secured(tmp_path_factory.mktemp("secured") / "secrets") as running:
        yield running


class Hearing:
    """A connection turned by hand that keeps what it hears; connected and subscribed on entry."""

    def __init__(self, url: str, *topics: str) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self._connection = Connection("test", url, 0, list(topics), lambda *message: self.heard.append(message))
        self._connected = self._connection.connected(WAIT_S)

    def __enter__(self) -> Hearing:
        self._connected.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._connected.__exit__(*exc)

    def publish(self, topic: str, payload: bytes) -> None:
        self._connection.publish(topic, payload, 1)
        assert self._connection.turn_until(lambda: not self._connection.pending_bytes, WAIT_S)

    def wait(self, n: int) -> list[tuple[str, bytes]]:
        assert self._connection.turn_until(lambda: len(self.heard) >= n, WAIT_S)
        return self.heard


# What TLS changes below MQTT


class OneRecord:
    """A TLS server that puts its SUBACK and three messages in one record, and then says nothing more."""

    def __init__(self, folder: Path, name: str = "broker") -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
        self._context.set_alpn_protocols(["x-amzn-mqtt-ca", "mqtt"])
        self.protocol: str | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        try:
            with self._context.wrap_socket(self._listener.accept()[0], server_side=True) as peer:
                self.protocol = peer.selected_alpn_protocol()
                peer.recv(4096)  # CONNECT
                peer.sendall(b"\x20\x02\x00\x00")
                subscribe = peer.recv(4096)
                message = b"\x30\x04\x00\x01tx"
                peer.sendall(b"\x90\x03" + subscribe[2:4] + b"\x00" + 3 * message)
                peer.recv(4096)  # until the client leaves
        except OSError:
            pass

    def close(self) -> None:
        self._listener.close()
        self._thread.join(WAIT_S)


def test_messages_that_share_a_tls_record_are_all_read_at_once(secure: Secured) -> None:
    server, heard = OneRecord(secure.folder), []
    url = f"mqtts://localhost:{server.port}?ca={secure.ca}&alpn=mqtt"
    connection = Connection("test", url, 0, ["t"], lambda *message: heard.append(message))
    with connection.connected(WAIT_S):
        assert connection.turn_until(lambda: len(heard) == 3, 10), f"{len(heard)} of 3: the rest waits inside TLS"
    server.close()
    assert server.protocol == "mqtt"


def test_websockets_send_at_once_and_say_what_they_cost(secure: Secured, caplog: pytest.LogCaptureFixture) -> None:
    with Hearing(secure.url("lab", "wss", secure.websockets), "lab/t") as lab:
        wrapped = lab._connection._client.socket()._socket
        assert wrapped.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        lab.publish("lab/t", b"x" * 2000)
        assert lab.wait(1) == [("lab/t", b"x" * 2000)]
    assert "websockets cost" in caplog.text
    assert "mqtts://" in caplog.text


# One sentence for everything that is refused


def urls(secure: Secured, what: str) -> str:
    """Return a URL with one thing wrong."""
    wrong = secure.folder / "wrong"
    wrong.write_text("wrong-horse")
    return {
        "wrong password": lambda: secure.url("press-7", password_file=str(wrong)),
        "no password": lambda: secure.url("press-7", password_file=""),
        "no user": lambda: f"mqtts://localhost:{secure.tls}?ca={secure.ca}",
        "unknown CA": lambda: secure.url("press-7", ca=""),
        "no client certificate": lambda: f"mqtts://localhost:{secure.certificates}?ca={secure.ca}",
        "plain client, TLS port": lambda: f"mqtt://localhost:{secure.tls}",
        "TLS client, plain port": lambda: f"mqtts://localhost:{secure.plain}?ca={secure.ca}",
    }[what]()


REFUSALS = {
    "wrong password": r"refused: Not authorized: check the user 'press-7' and the password \(.*wrong\)",
    "no password": r"check the user 'press-7' and the password \(none was given: XEDGE_BROKER_PASSWORD",
    "no user": r"it may want a user \(write mqtts://USER@…\)",
    "unknown CA": r"is not trusted \(.*\): give the file of the CA",
    "no client certificate": r"closed the connection before it answered.*: it may want a client certificate \(\?cert=",
    "plain client, TLS port": r"closed the connection before it answered: is it a port for TLS \(write mqtts://\)",
    "TLS client, plain port": r"no TLS is spoken at .*; if that is a plain port, write mqtt://",
}


@pytest.mark.parametrize("what", REFUSALS)
def test_a_refusal_says_in_a_sentence_what_to_try(secure: Secured, what: str) -> None:
    with pytest.raises(BrokerError, match=REFUSALS[what]) as refusal:
        xedge.Broker(urls(secure, what), name=unique_prefix()).start()
    assert "\n" not in str(refusal.value)
    assert "wrong-horse" not in str(refusal.value)


def test_a_certificate_for_another_name_is_refused(secure: Secured) -> None:
    credentials().certify(secure.folder, "elsewhere", "subjectAltName=DNS:elsewhere.example")
    server = OneRecord(secure.folder, "elsewhere")
    with pytest.raises(BrokerError, match=r"is for another name \(.*\): use a name"):
        _probe(f"mqtts://localhost:{server.port}?ca={secure.ca}", 0)
    server.close()


def test_a_service_that_cannot_log_in_says_so_and_leaves_nothing_running(secure: Secured, models: Path) -> None:
    service = EdgeMLService("anomaly_detector", urls(secure, "wrong password"))
    with pytest.raises(BrokerError, match="Not authorized"):
        service.start()
    assert not service.is_running


def test_a_sender_that_cannot_log_in_says_so_and_flies_again(secure: Secured) -> None:
    with Sender() as sender:
        for what in ("no client certificate", "wrong password"):
            with pytest.raises(BrokerError, match=REFUSALS[what]):
                sender.fly(Flight(urls(secure, what), 0, [""], "d", bytes(8), [b"x"], 1.0))
        with pytest.raises(BrokerError, match="No such file"):
            sender.fly(Flight(secure.url("lab", ca="/nowhere"), 0, [""], "d", bytes(8), [b"x"], 1.0))


def test_what_an_acl_hides_is_named_when_a_ping_is_not_answered(secure: Secured, models: Path) -> None:
    with EdgeMLService("anomaly_detector", secure.url("lab"), topic_prefix="lab/acl"):
        assert ping(secure.url("lab"), 0, "lab/acl").service == "edge"
        with pytest.raises(ServiceError, match=r"'press-7' write there and read lab/acl/.*\? An ACL denies without a"):
            ping(secure.url("press-7"), 0, "lab/acl", timeout_s=0.5)


# One device cannot read or answer for another


@pytest.fixture
def edge(secure: Secured, models: Path) -> Iterator[EdgeMLService]:
    """The edge service as the shipped configuration has it."""
    with EdgeMLService("anomaly_detector", secure.url("edge")) as running:
        yield running


@pytest.mark.parametrize("how", ["password", "certificate"])
def test_one_device_cannot_read_or_answer_for_another(secure: Secured, edge: EdgeMLService, how: str) -> None:
    url = secure.url if how == "password" else secure.certified
    topics = Topics()
    answers = "ml/inference/result/#", "ml/inference/error/#", "ml/inference/request", "#"
    with Hearing(url("press-7"), topics.result("press-7")) as one, Hearing(url("press-8"), *answers) as other:
        one.publish(topics.request, request_bytes(INPUT, "press-7", 1, request_id=11))
        [(_, genuine)] = one.wait(1)
        other.publish(topics.result("press-7"), genuine.replace(b'"request_id":11', b'"request_id":12'))
        other.publish(topics.request, request_bytes(INPUT, "press-8", 2, request_id=22))
        own = other.wait(1)
        assert {json.loads(payload)["request_id"] for _, payload in own} == {22}  # and nothing of press-7's
        one.publish(topics.request, request_bytes(INPUT, "press-7", 3, request_id=13))
        assert [json.loads(payload)["request_id"] for _, payload in one.wait(2)] == [11, 13]  # and nothing of press-8's
    assert edge.counts["answered"] == 3


def test_a_request_in_anothers_name_brings_that_device_an_answer_with_another_id(
    secure: Secured, edge: EdgeMLService
) -> None:
    """What no ACL on one request topic can stop: the nonce tells it apart."""
    topics = Topics()
    with Hearing(secure.url("press-7"), topics.result("press-7")) as one, Hearing(secure.url("press-8")) as other:
        other.publish(topics.request, request_bytes(INPUT, "press-7", 1, request_id=99))
        assert json.loads(one.wait(1)[0][1])["request_id"] == 99  # press-7 has asked nothing under that number


class Impostor:
    """Answers every request it can hear at once, with the right name and time stamp, but without knowing its id."""

    def __init__(self, port: int) -> None:
        self._connection = Connection("impostor", "localhost", port, ["+/ml/inference/request"], self._hear)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ending = False

    def _hear(self, topic: str, payload: bytes) -> None:
        if payload.startswith(b"{"):
            request = json.loads(payload)
            answer = {name: request[name] for name in ("device_id", "timestamp_us")}
            answer |= {"prediction": 99.0, "inference_time_ms": 0.0}
            for guess in ({}, {"request_id": request["request_id"] ^ 1}):
                place = topic.replace("request", f"result/{request['device_id']}")
                self._connection.publish(place, json.dumps(answer | guess).encode(), 0)

    def _run(self) -> None:
        with self._connection.connected(WAIT_S):
            while not self._ending:
                self._connection.turn(0.1)
                self._connection.flush()

    def __enter__(self) -> Impostor:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._ending = True
        self._thread.join(WAIT_S)


def test_foreign_answers_with_the_right_time_stamp_are_not_taken(secure: Secured, models: Path) -> None:
    slow = xedge.Edge(link=xedge.Link(delay_ms=20))  # the impostor is faster
    workload = xedge.Constant(rate_hz=50, duration_s=1)
    scenario = Scenario(model="anomaly_detector", workload=workload, placements={"edge": slow}, topic_prefix="t")
    broker = xedge.Broker(f"mqtt://localhost:{secure.plain}", name=unique_prefix())
    service = service_of(slow, Setting("anomaly_detector", broker, prefix="t"))
    with Impostor(secure.plain), Sender() as sender:
        table, facts = fly(scenario, Replication.of(scenario, 0), service, "edge", broker, sender, lambda _: None)
    assert set(table["status"]) == {"ok"}
    assert (table["prediction"] < 99).all()
    assert facts["known_by"] == "request_id"
    assert facts["foreign"] > len(table)


# All of it: services, sender, commands


def test_a_measurement_over_tls(secure: Secured, models: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    password = secure.password("lab")
    monkeypatch.setenv("XEDGE_BROKER", secure.url("lab", password_file=""))
    monkeypatch.setenv("XEDGE_BROKER_PASSWORD", password)
    far = secure.url("lab")
    with EdgeMLService("anomaly_detector", far, topic_prefix="lab/far"):
        scenario = xedge.Scenario(
            model="anomaly_detector",
            workload=xedge.Poisson(rate_hz=100, duration_s=0.6),
            placements={
                "thread": xedge.Edge(),
                "external": xedge.External(topic_prefix="lab/far", broker=far),
            },
            topic_prefix="lab",
        )
        measurement = scenario.measure(1, progress=False)
    assert set(measurement.rows["status"]) == {"ok"}
    said = measurement.conditions
    assert said["broker"]["url"] == f"mqtts://localhost:{secure.tls}"
    assert said["broker"]["tls"].startswith("TLSv1.")
    assert {trial["known_by"] for trial in said["trials"]} == {"request_id"}
    measurement.save(tmp_path / "saved")
    saved = b"".join(path.read_bytes() for path in (tmp_path / "saved").rglob("*") if path.is_file())
    assert password.encode() not in saved
    shown = measurement._repr_html_() + repr(measurement)
    assert said["broker"]["tls"] in shown
    assert password not in shown + repr(scenario)


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "xedge.cli", *map(str, words)]


def call(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*words), capture_output=True, text=True, timeout=WAIT_S, check=False)


def options(secure: Secured, user: str, password_of: str = "") -> list[object]:
    where = ["--broker", f"mqtts://localhost:{secure.tls}", "--ca", secure.ca]
    return [*where, "--user", user, "--password-file", secure.folder / f"{password_of or user}.password"]


@contextmanager
def served(secure: Secured) -> Iterator[None]:
    """`xedge serve edge` over TLS."""
    words = "serve", "edge", "--model", "anomaly_detector", *options(secure, "edge"), "--metrics-interval", 0.2
    with subprocess.Popen(command(*words), stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout.readline().endswith(f"ml/inference/request at mqtts://localhost:{secure.tls}\n")
            yield
        finally:
            running.terminate()


def test_serve_and_health_over_tls_with_no_password_in_the_list_of_processes(secure: Secured, models: Path) -> None:
    with served(secure):
        listed = subprocess.run(["ps", "-A", "-ww", "-o", "args="], capture_output=True, text=True, check=True).stdout
        assert "edge.password" in listed
        assert secure.password("edge") not in listed
        assert call("health", *options(secure, "lab")).stdout.startswith("edge serves")
    wrong = call("health", *options(secure, "lab", password_of="edge"))
    assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)
    assert "check the user 'lab'" in wrong.stderr
    assert secure.password("edge") not in wrong.stderr


@pytest.mark.long
def test_top_and_measure_over_tls(secure: Secured, models: Path, tmp_path: Path) -> None:
    placements = {"external": {"tier": "external", "service": "edge"}, "process": {"tier": "edge", "run_in": "process"}}
    scenario = {"model": "anomaly_detector", "placements": placements, "topic_prefix": "lab"}
    scenario["workload"] = {"kind": "constant", "rate_hz": 50, "duration_s": 0.4}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(scenario))
    with served(secure):
        assert "edge" in call("top", *options(secure, "lab"), "--updates", 1).stdout
        how = "--replications", 1, "--no-strict", *options(secure, "lab"), "--out", tmp_path / "m"
        done = call("measure", tmp_path / "s.yaml", *how)
    assert (tmp_path / "m" / "conditions.json").is_file(), done.stderr
    assert set(xedge.Measurement.load(tmp_path / "m").rows["status"]) == {"ok"}


def test_a_container_gets_files_and_the_name_of_a_variable(
    secure: Secured, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XEDGE_CONTAINER_ENGINE", "sh")
    monkeypatch.setenv("SOME_PASSWORD", "wrong-horse")
    url = secure.url("lab", password_file="", password_env="SOME_PASSWORD")
    words = IsolatedService("anomaly_detector", url, 0, "lab", "image", None)._command()
    assert words[words.index("--env") + 1] == "SOME_PASSWORD"
    assert f"{secure.ca}:/run/xedge/ca:ro" in words
    given = words[words.index("--broker") + 1]
    assert given == f"mqtts://lab@localhost:{secure.tls}?ca=/run/xedge/ca&password_env=SOME_PASSWORD"
    assert "wrong-horse" not in " ".join(words)


# Certificates and passwords


def test_credentials_made_again_add_a_device_and_keep_the_rest(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    make = credentials().make
    assert make(folder, ["press-7"], []) == ["cloud", "edge", "lab", "press-7"]
    assert folder.stat().st_mode & 0o777 == 0o700
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "passwords"}
    assert make(folder, ["press-8"], []) == ["cloud", "edge", "lab", "press-7", "press-8"]
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert [line.partition(":")[0] for line in (folder / "passwords").read_text().splitlines()] == make(folder, [], [])
    make(folder, [], ["10.0.0.7"])
    assert (folder / "broker.crt").read_bytes() != before["broker.crt"]
    assert (folder / "ca.crt").read_bytes() == before["ca.crt"]
    compose = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
    assert {Path(secret["file"]).name for secret in compose["secrets"].values()} <= {
        path.name for path in folder.iterdir()
    }


@pytest.mark.parametrize("device", ["a/b", "a+", "ca", "", "%u", "a:b"])
def test_a_device_whose_name_would_open_others_topics_is_refused(tmp_path: Path, device: str) -> None:
    with pytest.raises(SystemExit, match="user "):
        credentials().make(tmp_path / "secrets", [device], [])
