"""The `xedge` command as people run it: in a process of its own, with signals, statuses and one-line errors."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from helpers import Client, Device, children_of, is_alive, request_bytes, wait_until

import xedge
from xedge.models.reference import reference_inputs
from xedge.results.measurement import Measurement
from xedge.serving.broker import Broker, _free_port, find_mosquitto

COMMAND = [sys.executable, "-m", "xedge.cli"]
LIMIT_S = 180.0
INPUTS = reference_inputs("anomaly_detector", 3, 13)


def environment(**given: str) -> dict[str, str]:
    ours = ("XEDGE_", "MQTT_", "MODEL_PATH")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | given


def call(*arguments: Any, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=LIMIT_S, check=False,
        env=env or environment(),
    )  # fmt: skip


@contextmanager
def running(*arguments: Any, **given: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command in the background and the line that says it is ready; killed in the end if it must be."""
    with subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment(**given),
    ) as process:  # fmt: skip
        watchdog = threading.Timer(LIMIT_S, process.kill)
        watchdog.start()
        try:
            assert process.stdout is not None
            line = process.stdout.readline().strip()
            assert "ready" in line, (line, process.stderr.read() if process.stderr and not line else "")
            yield process, line
        finally:
            watchdog.cancel()
            process.kill()


def end(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[int, str, str]:
    """Send the signal; return status, the rest of stdout, and stderr."""
    process.send_signal(number)
    out, err = process.communicate(timeout=LIMIT_S)
    return process.returncode, out, err


def assert_one_line(done: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    assert done.returncode == status, done
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("xedge: ")
    for word in words:
        assert word in line


def where(broker: Broker, prefix: str) -> list[Any]:
    return ["--broker-host", broker.host, "--broker-port", broker.port, "--topic-prefix", prefix]


def test_version_of_the_installed_command() -> None:
    script = shutil.which("xedge", path=str(Path(sys.executable).parent))
    assert script is not None, "the package is not installed with its command"
    done = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=LIMIT_S, check=True)
    assert done.stdout.strip() == f"xedge {xedge.__version__}"
    assert call("--version").stdout == done.stdout


@pytest.mark.parametrize(
    "command",
    ["build", "broker", "serve", "measure", "report", "sweep", "index", "runs", "compare", "registry", "health", "top"],
)
def test_help_of_every_command(command: str) -> None:
    done = call(command, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: xedge {command}") or "usage:" in done.stdout
    assert done.stderr == ""


def test_build_help_names_its_options() -> None:
    said = call("build", "--help").stdout
    assert all(word in said for word in ("--force", "--quick", "MODEL"))


def test_unknown_command_is_a_usage_error() -> None:
    done = call("fly")
    assert done.returncode == 2
    assert "usage:" in done.stderr


def test_build_of_an_unknown_model() -> None:
    assert_one_line(call("build", "no_such_model"), 2, "no_such_model")


@pytest.mark.parametrize("tier", ["edge", "cloud"])
@pytest.mark.usefixtures("models")
def test_serve_answers_and_ends_with_a_summary(any_broker: Broker, prefix: str, tier: str) -> None:
    with running("serve", tier, "--model", "anomaly_detector", *where(any_broker, prefix)) as (process, line):
        assert line == f"{tier} service ready on {prefix}/ml/inference/request at {any_broker.host}:{any_broker.port}"
        with Device(any_broker, prefix) as device:
            # The first message after the ready line must be answered: nothing may be lost between the two.
            answer = device.ask(INPUTS[0])
            assert 0 <= answer["prediction"] <= 1
            assert ("cloud_latency_ms" in answer) == (tier == "cloud")
            assert device.ask([1.0])["reason"] == "wrong_shape"
        status, out, err = end(process)
    assert status == 0
    [summary] = out.splitlines()
    assert summary.startswith(f"{tier} service ended: 2 received, 1 answered, refused: 1 wrong_shape;")
    assert "Traceback" not in err


@pytest.mark.usefixtures("models")
def test_serve_ends_with_ctrl_c_too(any_broker: Broker, prefix: str) -> None:
    with running("serve", "edge", "--model", "anomaly_detector", *where(any_broker, prefix)) as (process, _):
        status, out, err = end(process, signal.SIGINT)
    assert (status, err) == (0, "")
    assert out.startswith("edge service ended: 0 received")


def test_serve_takes_its_settings_from_the_environment(any_broker: Broker, models: Path) -> None:
    given = {
        "MODEL_PATH": str(models / "anomaly_detector.onnx"),
        "MQTT_BROKER_HOST": any_broker.host,
        "MQTT_BROKER_PORT": str(any_broker.port),
    }
    with running("serve", "edge", **given) as (process, line):
        assert line.endswith(f"on ml/inference/request at {any_broker.host}:{any_broker.port}")
        with Device(any_broker, "") as device:
            assert device.ask(INPUTS[1], "env")["device_id"] == "env"
        assert end(process)[0] == 0


def test_serve_prefers_its_options_to_the_environment(any_broker: Broker, prefix: str, models: Path) -> None:
    given = {"MODEL_PATH": "/nowhere.onnx", "MQTT_BROKER_HOST": "nowhere.invalid", "MQTT_BROKER_PORT": "1"}
    model = models / "anomaly_detector.onnx"
    with running("serve", "edge", "--model", model, *where(any_broker, prefix), **given) as (process, _):
        assert end(process)[0] == 0


@pytest.mark.usefixtures("models")
def test_serve_cloud_delays_as_told(any_broker: Broker, prefix: str) -> None:
    arguments = ["--model", "anomaly_detector", "--cloud-latency-ms", 75, *where(any_broker, prefix)]
    with running("serve", "cloud", *arguments) as (process, _), Device(any_broker, prefix) as device:
        assert device.ask(INPUTS[0])["cloud_latency_ms"] >= 150
        assert end(process)[0] == 0


@pytest.mark.skipif(not shutil.which("mosquitto_pub"), reason="mosquitto's clients are not installed")
@pytest.mark.usefixtures("models")
def test_serve_answers_mosquittos_own_client(any_broker: Broker, prefix: str) -> None:
    with (
        running("serve", "edge", "--model", "anomaly_detector", *where(any_broker, prefix)) as (process, _),
        Client(any_broker, f"{prefix}/ml/inference/result/pump") as listener,
    ):
        subprocess.run(
            ["mosquitto_pub", "-h", any_broker.host, "-p", str(any_broker.port), "-t", f"{prefix}/ml/inference/request",
             "-m", request_bytes(INPUTS[2], "pump", 9).decode()],
            check=True, timeout=LIMIT_S,
        )  # fmt: skip
        [(_, payload)] = listener.wait(1)
        assert json.loads(payload)["timestamp_us"] == 9
        assert end(process)[0] == 0


@pytest.mark.parametrize("option", ["--device=cpu", "--cloud-latency-ms=5"])
def test_serve_edge_refuses_what_only_the_cloud_has(option: str) -> None:
    done = call("serve", "edge", "--model", "anomaly_detector", option)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"unrecognized arguments: {option}" in done.stderr


@pytest.mark.parametrize("command", [["list"], ["promote", "topic", "1"], ["rollback", "topic"]])
def test_registry_that_is_not_there_is_refused_and_not_made(command: list[str], tmp_path: Path) -> None:
    place = tmp_path / "typo"
    assert_one_line(call("registry", *command, "--registry", place), 1, f"no model registry at {place}", "make text")
    assert not place.exists()


@pytest.mark.parametrize("tier", ["edge", "cloud"])
def test_serve_without_its_model_says_so_before_it_connects(tier: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0)
        port = listening.getsockname()[1]
        done = call("serve", tier, "--model", "no_such_model", "--broker-host", "127.0.0.1", "--broker-port", port)
        assert_one_line(done, 2, "no_such_model", "xedge build")
        with pytest.raises(BlockingIOError):
            listening.accept()


def test_serve_with_no_model_named() -> None:
    assert_one_line(call("serve", "edge"), 2, "--model", "MODEL_PATH")


@pytest.mark.usefixtures("models")
def test_serve_where_no_broker_is() -> None:
    port = _free_port()
    arguments = ["--model", "anomaly_detector", "--broker-host", "127.0.0.1", "--broker-port", port]
    done = call("serve", "edge", *arguments, env=environment(XEDGE_CONNECT_TIMEOUT_S="1"))
    assert_one_line(done, 1, f"127.0.0.1:{port}")


@pytest.mark.usefixtures("models")
def test_serve_at_a_port_that_cannot_be() -> None:
    arguments = ["--model", "anomaly_detector", "--broker-host", "127.0.0.1", "--broker-port", 70000]
    done = call("serve", "edge", *arguments, env=environment(XEDGE_CONNECT_TIMEOUT_S="1"))
    assert done.returncode in {1, 2}
    assert "Traceback" not in done.stderr
    assert "70000" in done.stderr


def test_serve_with_a_port_in_the_environment_that_is_no_number() -> None:
    done = call("serve", "edge", "--model", "m", env=environment(MQTT_BROKER_PORT="mqtt"))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "mqtt" in done.stderr


def test_serve_with_a_broker_in_the_environment_that_is_none() -> None:
    """A slip in it must not end in a connection without TLS to this machine."""
    done = call("serve", "edge", "--model", "m", env=environment(XEDGE_BROKER="mqtts:/host"))
    assert_one_line(done, 2, "XEDGE_BROKER is 'mqtts:/host'", "mqtt://host:port")


def test_log_level_in_the_environment_that_is_none() -> None:
    done = call("serve", "edge", "--model", "no_such_model", env=environment(XEDGE_LOG_LEVEL="loud"))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "loud" in done.stderr


@pytest.mark.parametrize("kind", ["mosquitto", "embedded"])
def test_broker_serves_until_told_to_end(kind: str) -> None:
    if kind == "mosquitto" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    port = _free_port()
    with running("broker", "--port", port, "--kind", kind) as (process, line):
        assert line.startswith(f"mqtt://127.0.0.1:{port} ")
        guards = children_of(process.pid)
        pids = {*guards, *(child for guard in guards for child in children_of(guard))}
        assert len(pids) == 2
        with Broker(f"mqtt://127.0.0.1:{port}", name=f"cli-{kind}") as outside, Client(outside, "t") as client:
            client.publish("t", b"hello")
            client.wait(1)
        status, _, err = end(process)
        assert (status, err) == (0, "")
        wait_until(lambda: not any(is_alive(pid) for pid in pids), "guard and broker are gone")


def test_broker_that_dies_is_a_failure() -> None:
    with running("broker", "--port", _free_port()) as (process, _):
        [guard] = children_of(process.pid)
        os.kill(guard, signal.SIGTERM)
        _, err = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 1
        assert err == "xedge: the broker ended by itself\n"


@pytest.mark.parametrize("kind", ["mosquitto", "embedded"])
def test_broker_on_a_port_in_use(any_broker: Broker, kind: str) -> None:
    if kind == "mosquitto" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    assert_one_line(call("broker", "--port", any_broker.port, "--kind", kind), 1, f"port {any_broker.port}")


SCENARIO = """
model: anomaly_detector
workload: {kind: poisson, rate_hz: 100, duration_s: 0.5}
placements:
  near: {tier: edge}
  far: {tier: cloud, link: {delay_ms: 5}}
seed: 3
"""


@pytest.mark.usefixtures("models")
def test_measure_saves_the_measurement(any_broker: Broker, prefix: str, tmp_path: Path) -> None:
    scenario, out = tmp_path / "scenario.yaml", tmp_path / "runs" / "first"
    scenario.write_text(SCENARIO + f"topic_prefix: {prefix}\n")
    given = environment(XEDGE_BROKER=any_broker.url)
    done = call("measure", scenario, "--out", out, "--replications", 1, env=given)
    assert "Traceback" not in done.stderr
    word = json.loads((out / "verdict.json").read_text())["verdict"]
    assert done.returncode == (0 if word == "VALID" else 3)
    assert ("INVALID" in done.stdout) == (word == "INVALID")
    assert f"saved in {out}" in done.stdout
    measurement = Measurement.load(out)
    assert done.stdout.splitlines()[0] == str(measurement.answer())  # first of all
    assert measurement.placements == ["near", "far"]
    assert set(measurement.rows["status"]) == {"ok"}
    assert measurement.conditions["broker"]["kind"] == "external"
    assert measurement.conditions["scenario"]["seed"] == 3
    before = {path: path.read_bytes() for path in out.iterdir()}
    assert_one_line(call("measure", scenario, "--out", out, env=given), 2, "holds a measurement already, which is kept")
    assert {path: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.long
@pytest.mark.usefixtures("models")
def test_measure_whose_save_fails_says_where_the_measurement_is(
    any_broker: Broker, prefix: str, tmp_path: Path
) -> None:
    scenario, out, scratch = tmp_path / "scenario.yaml", tmp_path / "out", tmp_path / "scratch"
    scenario.write_text(SCENARIO + f"topic_prefix: {prefix}\n")
    scratch.mkdir()
    (tmp_path / "sitecustomize.py").write_text(
        "import pathlib\nrename = pathlib.Path.rename\n"
        f"def full(self, target):\n    if str(target) == {str(out)!r}:\n"
        "        raise OSError(28, 'No space left on device')\n    return rename(self, target)\n"
        "pathlib.Path.rename = full\n"
    )
    given = environment(XEDGE_BROKER=any_broker.url, TMPDIR=str(scratch), PYTHONPATH=str(tmp_path))
    done = call("measure", scenario, "--out", out, "--replications", 1, env=given)
    assert done.returncode == 1, done
    said = done.stderr.splitlines()[-1]
    assert said.startswith(f"xedge: {out} could not be written (No space left on device): it is saved in {scratch}")
    assert Measurement.load(said.rpartition(" ")[2]).placements == ["near", "far"]


@pytest.mark.long
@pytest.mark.usefixtures("models")
def test_measure_fails_at_a_limit(any_broker: Broker, prefix: str, tmp_path: Path) -> None:
    scenario = tmp_path / "scenario.yaml"
    of_file = 'thresholds: ["near.answered_hz > 1", "near.answered_hz < 1"]'
    scenario.write_text(SCENARIO + f"topic_prefix: {prefix}\n{of_file}\n")
    given = environment(XEDGE_BROKER=any_broker.url)
    limits = ["--fail-if", "far.answered_hz > 1", "--fail-if", "far.answered_hz < 1"]
    done = call("measure", scenario, "--replications", 1, *limits, env=given)
    assert done.returncode == 4, done
    for placement in ("far", "near"):
        assert f"xedge: {placement}.answered_hz is " in done.stderr
        assert f"failed by {placement}.answered_hz > 1" in done.stderr
    assert done.stderr.count("failed by") == 2


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--fail-if", "moon.p99_ms > 20"], "the placements are near, far"),
        (["--fail-if", "near.p99_ms over 20"], "cannot be read"),
        (["--out", "/proc/xedge/m"], "cannot write in /proc/xedge"),
    ],
)
def test_measure_checks_limits_and_place_before_it_measures(tmp_path: Path, arguments: list[str], word: str) -> None:
    scenario = tmp_path / "scenario.yaml"
    scenario.write_text(SCENARIO)
    given = environment(XEDGE_BROKER="mqtt://127.0.0.1:1")  # nobody answers there
    assert_one_line(call("measure", scenario, *arguments, env=given), 2, word)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("model: [unclosed", "scenario"),
        ("just words", "scenario"),
        (SCENARIO + "speed: 9\n", "speed"),
        (SCENARIO.replace("rate_hz: 100", "rate_hz: -1"), "rate_hz"),
        (SCENARIO.replace("tier: edge", "tier: moon"), "moon"),
        (SCENARIO.replace("model: anomaly_detector", "model: no_such_model"), "no_such_model"),
    ],
)
def test_measure_of_a_scenario_that_cannot_be_meant(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(text)
    done = call("measure", path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "\nxedge: " in f"\n{done.stderr}"
    assert "Traceback" not in done.stderr
    assert word in done.stderr


def test_measure_of_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert_one_line(call("measure", tmp_path / "none.yaml"), 2, "none.yaml")


def test_models_lists_what_is_there(models: Path, tmp_path: Path) -> None:
    listed = call("models", models)
    assert listed.returncode == 0
    assert all(text in listed.stdout for text in ("anomaly_detector", "float32 1024", "reference", "accuracy"))
    assert call("models", tmp_path).stdout.startswith(f"no model in {tmp_path}: `xedge build`")
