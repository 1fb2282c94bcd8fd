"""containers/compose.yaml and the Dockerfiles, without a container: what they name is there and means something."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from xedge.serving.endpoint import Endpoint

FOLDER = Path(__file__).resolve().parents[2] / "containers"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
OURS = [name for name, service in COMPOSE["services"].items() if "build" in service]


def expanded(text: str) -> str:
    """Return the text as it is where no variable is set: ${NAME:-default} is the default."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def dockerfile(service: dict[str, Any]) -> str:
    return (FOLDER / service["build"]["context"] / service["build"]["dockerfile"]).read_text(encoding="utf-8")


def test_compose_has_broker_edge_and_cloud() -> None:
    assert list(COMPOSE["services"]) == ["broker", "edge", "cloud"]
    assert OURS == ["edge", "cloud"]
    for service in COMPOSE["services"].values():
        assert service["image"]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
    [published] = COMPOSE["services"]["broker"]["ports"]
    assert expanded(published).startswith("127.0.0.1:")


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_compose_mounts_what_the_checkout_has(name: str) -> None:
    for volume in COMPOSE["services"][name]["volumes"]:
        source, _target, mode = volume.split(":")
        assert (FOLDER / source).exists(), volume
        assert mode == "ro"
    assert set(COMPOSE["services"][name].get("depends_on", [])) <= set(COMPOSE["services"])


@pytest.mark.parametrize("name", OURS)
def test_compose_sets_what_its_image_knows(name: str) -> None:
    service = COMPOSE["services"][name]
    text = dockerfile(service)
    assert set(service["build"].get("args", {})) <= set(re.findall(r"^ARG (\w+)", text, re.MULTILINE))
    for variable in service["environment"]:
        assert re.search(rf"^(ENV|   ) {variable}=", text, re.MULTILINE), variable
    at = Endpoint.read(service["environment"]["XEDGE_BROKER"])
    assert at.host in COMPOSE["services"]
    assert (at.is_tls, at.user) == (True, name)
    assert {file.removeprefix("/run/secrets/") for file in (at.ca, at.password_file)} == set(service["secrets"])
    model = Path(expanded(service["environment"]["MODEL_PATH"]))
    [mount] = service["volumes"]
    assert model.parent.as_posix() == mount.split(":")[1]
    assert model.name == f"anomaly_detector{'.onnx' if name == 'edge' else '.pt'}"


@pytest.mark.parametrize("name", OURS)
def test_compose_gives_options_that_the_command_takes(name: str) -> None:
    [entry] = re.findall(r'^ENTRYPOINT \["xedge", "serve", "(\w+)"\]$', dockerfile(COMPOSE["services"][name]), re.M)
    options = [expanded(word) for word in COMPOSE["services"][name].get("command", [])]
    command = [sys.executable, "-m", "xedge.cli", "serve", entry, *options, "--model", "no_such_model"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert entry == name
    assert done.returncode == 2
    assert done.stderr.startswith("xedge: no model file")  # the options were understood: only the model is not there


@pytest.mark.parametrize(("package", "cuda", "status"), [("nvidia", 0, 1), ("nvidia", 1, 0), ("numpy", 0, 0)])
def test_cloud_build_stops_at_cuda_libraries(tmp_path: Path, package: str, cuda: int, status: int) -> None:
    [check] = re.findall(r"^RUN (if .*?fi)$", dockerfile(COMPOSE["services"]["cloud"]), re.MULTILINE | re.DOTALL)
    (tmp_path / "lib/python3.11/site-packages" / package).mkdir(parents=True)
    script = check.replace("/app/venv", str(tmp_path))
    done = subprocess.run(["sh", "-c", script], env={"CUDA": str(cuda), "PATH": "/usr/bin:/bin"}, capture_output=True)
    assert done.returncode == status, done.stderr
    assert (b"PIP_EXTRA_INDEX_URL" in done.stderr) == (status == 1)
