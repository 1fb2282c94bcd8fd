"""An edge service in a process or a container of its own, started for a trial and gone after it."""

import os
import secrets
import shutil
import sys
import tempfile
from functools import cached_property
from typing import Any, Self

from xedge.core import children
from xedge.core.exceptions import BrokerError, ConfigurationError, ServiceError
from xedge.models.engines import OnnxEngine
from xedge.models.kinds import NUMBERS
from xedge.models.lookup import model_path
from xedge.scenario.sources import InputSpec
from xedge.serving.external import ExternalService

READY_TIMEOUT_S = 60.0


class IsolatedService(ExternalService):
    """`xedge serve edge` under a guard: ready on entry, ended on exit, and ended with this process.

    Args:
        model: the name of a model in `models/`, or its path.
        host: the broker's host.
        port: the broker's port.
        topic_prefix: the service gets a level of its own below it.
        image: the container image to run it in; None runs a plain process.
        cpus: how much of the processors' time the container may use, 1.0 is one core.
        options: more words for `xedge serve edge`.
    """

    def __init__(
        self, model: str, host: str, port: int, topic_prefix: str, image: str | None, cpus: float | None, *options: str
    ) -> None:
        own = secrets.token_hex(4)
        self.address, self.prefixes = (host, port), [f"{topic_prefix}/{own}" if topic_prefix else own]
        self._service = ""
        self._model, self._image, self._cpus, self._options = model_path(model, ".onnx"), image, cpus, options
        self._name = f"xedge-{own}"

    @cached_property
    def takes(self) -> InputSpec:
        """What one request contains: the model is loaded here once to know it, the service has its own."""
        return OnnxEngine(self._model).spec

    def __enter__(self) -> Self:
        with tempfile.TemporaryFile("w+") as said:
            self._guard = children.start(self._command(), said)
            try:
                self._wait_ready(said)
                self.begin()
            except BaseException:
                children.end(self._guard)
                raise
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            super().__exit__(*exc)
        finally:
            children.end(self._guard)

    def describe(self) -> dict[str, Any]:
        """Return what the service says of itself, and what it ran in."""
        limits = {"image": self._image, "cpus": self._cpus} if self._image else {}
        return super().describe() | {"run_in": "container" if self._image else "process"} | limits

    def _command(self) -> list[str]:
        host, port = self.address
        options = ["--broker-host", host, "--broker-port", str(port), "--topic-prefix", self.prefixes[0]]
        options += ["--metrics-interval", "0", *self._options]
        if self._image is None:
            return [sys.executable, "-P", "-m", "xedge.cli", "serve", "edge", *options, "--model", str(self._model)]
        volume = f"{self._model}:/app/models/model.onnx:ro"
        if self.takes.kind != NUMBERS:
            volume = f"{self._model.parent}:/app/models:ro"
        run = [container_engine(), "run", "--rm", "--name", self._name, "--network", "host", "--pull", "never"]
        run += [
            "--no-healthcheck",
            "--read-only",
            "--cap-drop",
            "all",
            "--volume",
            volume,
        ]
        run += ["--cpus", str(self._cpus)] if self._cpus else []
        return [*run, self._image, *options]

    def _wait_ready(self, said: Any) -> None:
        if (words := children.wait_ready(self._guard, said, self._answers, READY_TIMEOUT_S)) is not None:
            raise ServiceError(f"the edge service in a {'container' if self._image else 'process'} ended: {words}")

    def _answers(self) -> bool:
        try:
            self.ask(timeout_s=0.5)
        except (ServiceError, BrokerError):
            return False
        return True


def container_engine() -> str:
    """Return the path of podman or docker, or of what XEDGE_CONTAINER_ENGINE names.

    Raises:
        ConfigurationError: there is none.
    """
    wanted = os.environ.get("XEDGE_CONTAINER_ENGINE")
    for name in [wanted] if wanted else ["podman", "docker"]:
        if name and (path := shutil.which(name)):
            return path
    raise ConfigurationError(f"no container engine: install podman or docker ({wanted or 'neither'} was found)")
