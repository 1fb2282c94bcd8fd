"""The edge service as a container: the image is built and run for real, as containers/README.md says."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import numpy as np
import pytest
import yaml
from helpers import WAIT_S, Device, request_bytes, unique_prefix, wait_until
from secured import secured

import xedge
from xedge.models.engines import OnnxEngine
from xedge.serving.broker import Broker
from xedge.serving.external import ping

ROOT = Path(__file__).resolve().parents[2]
IMAGE, CLOUD_IMAGE = "localhost/xedge-edge:test", "localhost/xedge-cloud:test"
MODEL = "anomaly_detector"
MEMORY_BYTES = 256 * 2**20
HARDENED = ("--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--security-opt=no-new-privileges",
            f"--memory={MEMORY_BYTES}")  # fmt: skip
MAX_IMAGE_BYTES, MAX_CLOUD_IMAGE_BYTES, MAX_RSS_BYTES = 400e6, 1.2e9, 120e6
_numbers = itertools.count(1)

Start = Callable[..., "Container"]


def podman(*arguments: str, settings: dict[str, str], timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    """Run podman to its end; the caller looks at the status."""
    return subprocess.run(
        ["podman", *arguments], env=os.environ | settings, capture_output=True, text=True, timeout=timeout_s
    )


class Container:
    """A service in a container on the host's network, with a read-only root and no capabilities."""

    prefix = ""
    image = IMAGE

    def __init__(self, settings: dict[str, str], port: int, *options: str, **environment: Any) -> None:
        self._settings, self.name = settings, f"xedge-test-{os.getpid()}-{next(_numbers)}"
        given = {"MQTT_BROKER_HOST": "127.0.0.1", "MQTT_BROKER_PORT": port, **environment}
        variables = [f"--env={name}={value}" for name, value in given.items()]
        self._command = ["--name", self.name, "--network=host", *HARDENED, *variables, *options, self.image]

    def __enter__(self) -> Self:
        done = self.podman("run", "--detach", *self._command)
        assert done.returncode == 0, done.stderr
        return self

    def __exit__(self, *_exc: object) -> None:
        self.podman("rm", "--force", "--time=0", self.name)

    def podman(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return podman(*arguments, settings=self._settings)

    def inspect(self, what: str) -> str:
        return self.podman("inspect", "--format", f"{{{{{what}}}}}", self.name).stdout.strip()

    @property
    def output(self) -> str:
        """All that the service has printed."""
        done = self.podman("logs", self.name)
        return done.stdout + done.stderr

    @property
    def pid(self) -> int:
        """The service's process as this machine numbers it."""
        return int(self.inspect(".State.Pid"))

    @property
    def status(self) -> dict[str, str]:
        """What /proc says of the service's process."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def wait_ready(self) -> Self:
        def is_ready() -> bool:
            assert self.inspect(".State.Status") == "running", self.output
            return "ready" in self.output

        wait_until(is_ready, f"{self.name} ready")
        return self

    def wait_ended(self) -> int:
        """Return the exit status of a service that ends by itself."""
        wait_until(lambda: self.inspect(".State.Status") in ("exited", "stopped"), f"{self.name} ended")
        return int(self.inspect(".State.ExitCode"))

    def health(self, *options: str) -> subprocess.CompletedProcess[str]:
        return self.podman("exec", self.name, "xedge", "health", "--service", "edge", *options)


@pytest.fixture(scope="module")
def settings() -> Iterator[dict[str, str]]:
    """What podman must be told on this machine; skips where no container can be run."""
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed")
    if os.geteuid() != 0:
        pytest.skip("containers/base needs root")
    made = subprocess.run(
        [sys.executable, ROOT / "containers/base"], capture_output=True, text=True, timeout=300, check=False
    )
    if made.returncode != 0:
        pytest.skip(f"no base image: {(made.stderr.strip() or 'containers/base failed').splitlines()[-1]}")
    found = dict(line.removeprefix("export ").split("=", 1) for line in made.stdout.splitlines())
    tried = podman("run", "--rm", "--network=host", "localhost/python:3.11-slim", "python3", "-V", settings=found)
    if tried.returncode != 0:
        pytest.skip(f"podman cannot run a container here: {tried.stderr.strip()[-300:]}")
    yield found
    podman("image", "prune", "--force", settings=found)  # images that a newer build has taken the name of


def build(name: str, tag: str, settings: dict[str, str]) -> None:
    """Build the image of containers/`name` from the checkout."""
    built = podman(
        "build", "--pull=never", "--format=docker", "--network=host",
        f"--file={ROOT}/containers/{name}/Dockerfile", f"--tag={tag}", str(ROOT),
        settings=settings | {"CONTAINERS_CONF": settings["XEDGE_BUILD_CONF"]}, timeout_s=600,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]


@pytest.fixture(scope="module")
def image(settings: dict[str, str]) -> dict[str, str]:
    """The image, built from the checkout; returns podman's settings."""
    build("ml-inference", IMAGE, settings)
    return settings


@pytest.fixture(scope="module")
def mount(models: Path) -> str:
    """The option that puts a reference model where MODEL_PATH looks by default."""
    return f"--volume={models / MODEL}.onnx:/app/models/model.onnx:ro"


@pytest.fixture(scope="module")
def engine(models: Path) -> OnnxEngine:
    """The same model in this process, to compare answers with."""
    return OnnxEngine(models / f"{MODEL}.onnx")


@pytest.mark.long
def test_container_serves_over_tls_with_the_secrets_that_compose_gives_it(
    image: dict[str, str], mount: str, tmp_path: Path
) -> None:
    service = yaml.safe_load((ROOT / "containers/compose.yaml").read_text("utf-8"))["services"]["edge"]
    with secured(tmp_path / "secrets") as broker:
        url = service["environment"]["XEDGE_BROKER"].replace("broker:8883", f"localhost:{broker.tls}")
        mounts = [f"--volume={broker.folder}/{name}:/run/secrets/{name}:ro" for name in service["secrets"]]
        with Container(image, 1, mount, *mounts, XEDGE_BROKER=url) as running:
            running.wait_ready()
            assert running.health().stdout.startswith("edge serves")
            assert ping(broker.url("lab"), 0).service == "edge"
            assert broker.password("edge") not in running.output + running.inspect(".Config.Env")


@pytest.fixture(scope="module")
def edge(image: dict[str, str], mount: str, any_broker: Broker) -> Iterator[Container]:
    """A ready service under its own prefix, which tests share."""
    prefix = f"{unique_prefix()}/container"
    with Container(image, any_broker.port, mount, XEDGE_TOPIC_PREFIX=prefix) as running:
        running.prefix = prefix
        yield running.wait_ready()


@pytest.fixture
def device(edge: Container, any_broker: Broker) -> Iterator[Device]:
    with Device(any_broker, edge.prefix) as client:
        yield client


@pytest.fixture
def start(image: dict[str, str], prefix: str, free_port: int) -> Iterator[Start]:
    """Start a container of this test's own, by default where no broker is; it is removed afterwards."""
    begun: list[Container] = []

    def begin(*options: str, port: int = free_port, **environment: Any) -> Container:
        container = Container(image, port, *options, **{"XEDGE_TOPIC_PREFIX": prefix, **environment})
        begun.append(container.__enter__())
        return container

    yield begin
    for container in begun:
        container.__exit__()


@pytest.fixture
def free_port() -> int:
    """A port of loopback on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def features(engine: OnnxEngine) -> np.ndarray[Any, Any]:
    return np.random.default_rng(3).normal(size=engine.input_shape).astype(engine.input_dtype)


def prediction_of(engine: OnnxEngine, features: Any) -> Any:
    return engine.predict(np.asarray(features, engine.input_dtype)[np.newaxis])[0].ravel()


def test_ml_container_starts(edge: Container) -> None:
    assert edge.inspect(".State.Status") == "running"
    assert edge.output.count("ready") == 1


def test_model_loads(edge: Container, any_broker: Broker, engine: OnnxEngine) -> None:
    said = ping(any_broker.host, any_broker.port, edge.prefix, "edge").description
    assert said["sha256"] == engine.describe()["sha256"]
    assert tuple(said["input_shape"]) == engine.input_shape


def test_mqtt_subscription(edge: Container, device: Device, features: Any) -> None:
    assert f"{edge.prefix}/ml/inference/request" in edge.output
    device.request(features, "press-7")
    assert device.wait(1)[0][0] == f"{edge.prefix}/ml/inference/result/press-7"


def test_inference_request(device: Device, features: Any, engine: OnnxEngine) -> None:
    for number in range(100):
        device.request(features, "press", number)
    assert [answer["timestamp_us"] for answer in device.results(100)] == list(range(100))
    device.send(b"{}")  # names no device, so it is only counted
    assert device.ask([1.0, 2.0], "press")["reason"] == "wrong_shape"
    assert "prediction" in device.ask(features, "press")  # and it serves on


def test_inference_result(device: Device, features: Any, engine: OnnxEngine) -> None:
    answer = device.ask(features, "press", 1_700_000_000_000_000)
    assert set(answer) == {"device_id", "timestamp_us", "prediction", "inference_time_ms"}
    assert (answer["device_id"], answer["timestamp_us"]) == ("press", 1_700_000_000_000_000)
    np.testing.assert_allclose(np.ravel(answer["prediction"]), prediction_of(engine, features), rtol=1e-4, atol=1e-6)


def test_inference_latency(device: Device, features: Any) -> None:
    for number in range(20):
        begun = perf_counter()
        took_ms = device.ask(features, "press", number)["inference_time_ms"]
        assert 0 < took_ms < (perf_counter() - begun) * 1e3


def test_end_to_end(edge: Container, any_broker: Broker) -> None:
    """Sensor, broker, container, result: xedge's own sender measures the container as a placement."""
    scenario = xedge.Scenario(
        model=MODEL,
        workload=xedge.Constant(rate_hz=100, duration_s=2),
        placements={"container": xedge.External(topic_prefix=edge.prefix, broker=any_broker.url, service="edge")},
        source=xedge.Vibration(),
        seed=7,
    )
    rows = scenario.measure(replications=1, strict=False, broker=any_broker).rows
    answered = rows[(rows["placement"] == "container") & (rows["status"] == "ok")]
    assert len(rows) == 2 * 100
    assert len(answered) == len(rows)
    assert rows["request"].tolist() == list(range(200))


def test_container_that_xedge_starts_is_measured_beside_thread_and_process(
    image: dict[str, str], any_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in image.items():
        monkeypatch.setenv(name, value)
    kinds = {"thread": xedge.Edge(), "process": xedge.Edge(run_in="process")}
    kinds["container"] = xedge.Edge(run_in="container", image=IMAGE, cpus=0.5)
    scenario = xedge.Scenario(model=MODEL, workload=xedge.Constant(rate_hz=50, duration_s=1), placements=kinds)
    measurement = scenario.measure(replications=1, strict=False, progress=False, broker=any_broker)
    assert set(measurement.rows["status"]) == {"ok"}
    said = measurement.conditions["services"]["container"]
    assert (said["run_in"], said["image"], said["cpus"]) == ("container", IMAGE, 0.5)
    left = podman("ps", "--all", "--format", "{{.Names}}", settings=image).stdout.split()
    prefix = said["external"].rpartition("/")[2]
    assert f"xedge-{prefix}" not in left


def test_container_is_confined(edge: Container, device: Device, features: Any) -> None:
    status = edge.status
    assert status["Uid"].split() == ["10001"] * 4
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    assert int(edge.inspect(".HostConfig.Memory")) == MEMORY_BYTES
    tried = edge.podman("exec", edge.name, "sh", "-c", "touch /x /app/x /app/models/x /tmp/x")
    assert tried.stderr.lower().count("read-only file system") == 4
    assert "prediction" in device.ask(features)


def test_memory_is_small(edge: Container, device: Device, features: Any) -> None:
    for number in range(500):
        device.request(features, "press", number)
    device.results(500)
    assert int(edge.status["VmHWM"].removesuffix("kB")) * 1024 <= MAX_RSS_BYTES


def test_image_is_small_and_plain(image: dict[str, str]) -> None:
    found = podman("image", "inspect", IMAGE, settings=image)
    described = json.loads(found.stdout)[0]
    assert described["Size"] <= MAX_IMAGE_BYTES
    assert described["User"] == "10001:10001"
    listed = podman(
        "run", "--rm", "--network=host", "--no-healthcheck", "--entrypoint=python", IMAGE, "-c",
        "import importlib.util as u, os; print([n for n in ('torch', 'IPython', 'pandas', 'pip') "
        "if u.find_spec(n)], os.environ['ORT_DISABLE_TELEMETRY'], os.path.getsize('/etc/pip.conf'))",
        settings=image,
    )  # fmt: skip
    assert listed.stdout.split() == ["[]", "1", "0"], listed.stderr


def test_sigterm_ends_with_status_0(start: Start, mount: str, any_broker: Broker) -> None:
    container = start(mount, port=any_broker.port).wait_ready()
    assert container.podman("stop", "--time=60", container.name).returncode == 0
    assert container.inspect(".State.ExitCode") == "0"  # 137 if podman had had to kill it
    assert "edge service ended" in container.output.splitlines()[-1]


def test_sigterm_while_waiting_for_the_broker(start: Start, mount: str) -> None:
    container = start(mount, XEDGE_CONNECT_TIMEOUT_S=60, XEDGE_LOG_LEVEL="debug")
    wait_until(lambda: has_handler(container, signal.SIGTERM), "the service minds SIGTERM")
    assert container.podman("stop", "--time=60", container.name).returncode == 0
    assert container.inspect(".State.ExitCode") != "137"
    assert "Traceback" not in container.output


def has_handler(container: Container, number: signal.Signals) -> bool:
    return bool(int(container.status["SigCgt"], 16) >> (number - 1) & 1)


@pytest.mark.parametrize("case", ["missing", "not-onnx", "unreadable"])
def test_unusable_model_is_one_line_before_any_connection(
    start: Start, tmp_path: Path, models: Path, case: str
) -> None:
    file = tmp_path / "model.onnx"
    if case == "not-onnx":
        file.write_text("<html>not found</html>")
    elif case == "unreadable":
        shutil.copy(models / f"{MODEL}.onnx", file)
        file.chmod(0o600)  # of root; the service is not root
    options = [f"--volume={file}:/app/models/model.onnx:ro"] if file.exists() else []
    container = start(*options, XEDGE_CONNECT_TIMEOUT_S=600)
    assert container.wait_ended() == 2
    (line,) = container.output.splitlines()
    assert "/app/models/model.onnx" in line


def test_broker_away_beyond_the_connect_timeout(start: Start, mount: str, free_port: int) -> None:
    container = start(mount, XEDGE_CONNECT_TIMEOUT_S=1, XEDGE_LOG_LEVEL="error")
    assert container.wait_ended() == 1
    (line,) = container.output.splitlines()
    assert f"127.0.0.1:{free_port}" in line


def test_broker_away_at_start_and_returning(
    start: Start, mount: str, free_port: int, prefix: str, features: Any
) -> None:
    container = start(mount, XEDGE_CONNECT_TIMEOUT_S=60)
    wait_until(lambda: has_handler(container, signal.SIGTERM), "the service is under way")
    assert container.inspect(".State.Status") == "running"
    assert "ready" not in container.output
    for _ in range(2):  # the second time the service finds its way back by itself
        with Broker(port=free_port, name="tests-returning") as broker, Device(broker, prefix) as client:
            container.wait_ready()
            answer = ask_until_answered(client, features)
            assert answer["device_id"] == "sensor"
    assert container.podman("stop", "--time=60", container.name).returncode == 0
    assert container.inspect(".State.ExitCode") == "0"


def ask_until_answered(client: Device, features: Any) -> dict[str, Any]:
    """Ask again and again, because what is asked while nobody is subscribed is lost."""

    def answered() -> bool:
        client.request(features)
        return bool(client.messages)

    wait_until(answered, "an answer")
    return json.loads(client.messages[0][1])


def test_health_asks_the_service_not_the_process(start: Start, mount: str, any_broker: Broker) -> None:
    container = start(mount, port=any_broker.port).wait_ready()
    assert container.podman("healthcheck", "run", container.name).returncode == 0
    assert container.health().returncode == 0
    pid = container.pid
    os.kill(pid, signal.SIGSTOP)  # the process is there and does nothing
    try:
        done = container.health("--timeout", "1")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert container.health().returncode == 0


def test_two_containers_on_one_broker(edge: Container, start: Start, mount: str, any_broker: Broker) -> None:
    """In a container every service is process 1: nothing that must differ may be made of that number."""
    second = start(mount, port=any_broker.port).wait_ready()
    for _ in range(3):
        assert edge.health("--timeout", "60").returncode == 0
        assert second.health("--timeout", "60").returncode == 0
    second.podman("stop", "--time=60", second.name)
    assert "0 reconnects" in second.output


def test_health_without_a_broker(start: Start, mount: str) -> None:
    container = start(mount, XEDGE_CONNECT_TIMEOUT_S=60)
    assert container.health("--timeout", "1").returncode == 1
    assert container.podman("healthcheck", "run", container.name).returncode == 1


def test_clients_that_are_not_ours(edge: Container, any_broker: Broker, features: Any, engine: OnnxEngine) -> None:
    if not (shutil.which("mosquitto_pub") and shutil.which("mosquitto_sub")):
        pytest.skip("mosquitto's clients are not installed")
    where = ["-h", any_broker.host, "-p", str(any_broker.port), "-t"]
    base = f"{edge.prefix}/ml/inference"
    hears = ["mosquitto_sub", *where, f"{base}/result/their-press", "-C", "1", "-W", str(int(WAIT_S))]
    says = ["mosquitto_pub", *where, f"{base}/request", "-s"]
    with subprocess.Popen(hears, stdout=subprocess.PIPE) as hearing:

        def heard() -> bool:
            subprocess.run(says, input=request_bytes(features, "their-press"), check=True, timeout=WAIT_S)
            return hearing.poll() is not None

        wait_until(heard, "mosquitto_sub has heard")
        answer = json.loads(hearing.stdout.read())
    np.testing.assert_allclose(np.ravel(answer["prediction"]), prediction_of(engine, features), rtol=1e-4, atol=1e-6)


class CloudContainer(Container):
    """The cloud service in a container."""

    image = CLOUD_IMAGE


@pytest.mark.long
@pytest.mark.long
def test_cloud_image_is_a_cpu_build_that_answers(
    settings: dict[str, str], models: Path, any_broker: Broker, prefix: str, engine: OnnxEngine, features: Any
) -> None:
    build("ml-cloud", CLOUD_IMAGE, settings)
    described = json.loads(podman("image", "inspect", CLOUD_IMAGE, settings=settings).stdout)[0]
    assert described["Size"] <= MAX_CLOUD_IMAGE_BYTES
    assert described["User"] == "10001:10001"
    mount = f"--volume={models / MODEL}.pt:/app/models/model.pt:ro"
    options = [mount, f"--memory={4 * MEMORY_BYTES}", "--env=XEDGE_TOPIC_PREFIX=" + prefix]
    with CloudContainer(settings, any_broker.port, *options) as cloud, Device(any_broker, prefix) as client:
        cloud.wait_ready()
        answer = client.ask(features)
        assert answer["prediction"] == pytest.approx(float(prediction_of(engine, features)[0]), abs=1e-4)
        assert answer["cloud_latency_ms"] >= 100
        assert cloud.podman("exec", cloud.name, "xedge", "health", "--service", "cloud").returncode == 0
        assert cloud.podman("stop", "--time=60", cloud.name).returncode == 0
        assert cloud.inspect(".State.ExitCode") == "0"
