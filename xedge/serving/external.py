"""A service outside this process: one that runs already, wherever that is, or one that is started for a trial."""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import cached_property
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from xedge.core import children
from xedge.core.exceptions import BrokerError, ConfigurationError, ServiceError
from xedge.core.plain import printable
from xedge.models.engines import OnnxEngine
from xedge.models.kinds import NUMBERS
from xedge.models.lookup import model_path
from xedge.scenario.routes import Topics, random_routes
from xedge.scenario.sources import InputSpec
from xedge.serving.connection import first_message
from xedge.serving.endpoint import FILES, Endpoint
from xedge.serving.messages import Ping, Pong, encode

READY_TIMEOUT_S = 60.0


def ping(host: str, port: int, topic_prefix: str = "", service: str = "", timeout_s: float = 5.0) -> Pong:
    """Ask a service under `topic_prefix` over the broker whether it serves, and return its answer.

    `service` is its name, "edge" or "cloud"; empty takes whoever answers first within `timeout_s`.

    Raises:
        BrokerError: no broker there.
        ServiceError: nobody answered in time.
    """
    topics, me = Topics(topic_prefix), f"ping-{secrets.token_hex(4)}"
    question = topics.ping, encode(Ping(me, service))
    answer = first_message("xedge-ping", host, port, topics.pong(me), question, timeout_s)
    if answer is None:
        at = Endpoint.at(host, port)
        who = f"no {service or 'xedge'} service answers on {topics.ping} at {at.place} within {timeout_s:g} s"
        acl = f", and may the user {at.user!r} write there and read {topics.pong('+')}? An ACL denies without a word"
        raise ServiceError(f"{who}; is it running{acl if at.user or at.cert else '?'}")
    try:
        return msgspec.json.decode(answer, type=Pong)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        said = f"what answers on {topics.ping} at {Endpoint.at(host, port).place} is no xedge service"
        raise ServiceError(f"{said}: {printable(str(exc))}") from None


class ExternalService:
    """What a trial needs of a service that runs already: where it is, what it takes, what it says of itself.

    Raises:
        ServiceError: nobody answers there.
    """

    failure, outages = "", ()

    def __init__(self, host: str, port: int, topic_prefix: str, service: str = "") -> None:
        self.address, self.prefixes, self._service = (host, port), [topic_prefix], service
        self._before = self._after = self._ask()

    @property
    def takes(self) -> InputSpec:
        """What one request contains, as the service says."""
        facts = self._before.description
        kind = facts.get("input_kind") or ("text" if "labels" in facts else "numbers")
        made_by = str(facts.get("input_made_by", ""))
        return InputSpec(tuple(facts["input_shape"]), str(facts["input_dtype"]), kind, made_by)

    def routes(self, requests: int) -> NDArray[np.uint8]:
        """Return to which of the `prefixes` each request goes: all to the one."""
        return random_routes(0, 1, requests)

    @property
    def servers(self) -> int:
        """How many batches it may have in inference at once."""
        return int(self._before.description.get("servers", 1))

    def __enter__(self) -> Self:
        self._before = self._after = self._ask()
        return self

    def __exit__(self, *exc: object) -> None:
        if exc[0] is not None:
            return
        try:
            self._after = self._ask()
        except (ServiceError, BrokerError) as gone:  # what was answered before counts
            self.failure = str(gone)

    def _ask(self, timeout_s: float = 5.0) -> Pong:
        return ping(*self.address, self.prefixes[0], self._service, timeout_s)

    @property
    def busy_ms(self) -> float:
        """How long one request on average keeps the service busy, as it said when asked."""
        facts = self._before.description
        return float(facts.get("warm_inference_ms", 0.0)) * float(facts.get("compute_scale", 1.0)) / self.servers

    @property
    def counts(self) -> dict[str, int]:
        """What the service counted during the trial."""
        return {name: count - self._before.counts.get(name, 0) for name, count in self._after.counts.items()}

    @property
    def refused(self) -> dict[str, int]:
        """Requests the service refused during the trial, by reason."""
        return {name: count - self._before.refused.get(name, 0) for name, count in self._after.refused.items()}

    def describe(self) -> dict[str, Any]:
        """Return what the service says of itself, and where it was asked."""
        return self._after.description | {"external": f"{Endpoint.at(*self.address)}/{self.prefixes[0]}"}


class IsolatedService(ExternalService):
    """`xedge serve edge` under a guard: ready on entry, ended on exit, and ended with this process.

    Args:
        model: the name of a model in `models/`, or its path.
        host, port: where the broker is; the host may be a URL, of which only the password's place is passed on.
        topic_prefix: the service gets a level of its own below it.
        image: the container image to run it in; None runs a plain process.
        cpus: how much of the processors' time the container may use, 1.0 is one core.
        options: more words for `xedge serve edge`.
    """

    tier = "edge"

    def __init__(
        self, model: str, host: str, port: int, topic_prefix: str, image: str | None, cpus: float | None, *options: str
    ) -> None:
        self._own = secrets.token_hex(4)
        prefix = f"{topic_prefix}/{self._own}" if topic_prefix else self._own
        self.address, self.prefixes, self._service = (host, port), [prefix], ""
        self._model, self._image, self._cpus, self._options = model_path(model, ".onnx"), image, cpus, options
        self._run_in = "container" if image else "process"

    @property
    def guard(self) -> subprocess.Popen[bytes]:
        """The process that it runs below."""
        return self._guard

    @cached_property
    def engine(self) -> OnnxEngine:
        """The model, loaded here to know what it takes; the service has its own."""
        return OnnxEngine(self._model)

    @property
    def takes(self) -> InputSpec:
        """What one request contains."""
        return self.engine.spec

    def __enter__(self) -> Self:
        self.revive()
        return self

    def revive(self) -> None:
        """Start it, also once more after `kill`; its counts begin anew.

        Raises:
            ServiceError: it ended, or did not answer in time.
        """
        with tempfile.TemporaryFile("w+") as said, ExitStack() as failed:
            self._guard = children.start(self._command(), said)
            failed.callback(children.end, self._guard)
            if (words := children.wait_ready(self._guard, said, self._answers, READY_TIMEOUT_S)) is not None:
                raise ServiceError(f"the edge service in a {self._run_in} ended: {words}")
            super().__enter__()
            failed.pop_all()

    def kill(self) -> None:
        """Kill its process, as in a fault: what waits in it is gone."""
        children.kill(self._guard)

    def stall(self, wait: Callable[[], object]) -> None:
        """Stop its process while `wait()` waits."""
        children.stall(self._guard, wait)

    def __exit__(self, *exc: object) -> None:
        try:
            super().__exit__(*exc)
            if (status := self._guard.poll()) is not None:
                self.failure = f"its {self._run_in} ended by itself ({children.ending(status)})"
        finally:
            children.end(self._guard)

    def describe(self) -> dict[str, Any]:
        """Return what the service says of itself, and what it ran in."""
        limits = {"image": self._image, "cpus": self._cpus} if self._image else {}
        return super().describe() | {"run_in": self._run_in} | limits

    def _command(self) -> list[str]:
        at = Endpoint.at(*self.address)
        options = [
            "--topic-prefix",
            self.prefixes[0],
            "--metrics-interval",
            "0",
            *self._options,
        ]  # the last of two holds
        if self._image is None:
            serve = [sys.executable, "-P", "-m", "xedge.cli", "serve", self.tier, "--broker", at.url]
            return [*serve, *options, "--model", str(self._model)]
        file = self.takes.kind == NUMBERS
        volume = f"{self._model}:/app/models/model.onnx:ro" if file else f"{self._model.parent}:/app/models:ro"
        run = [container_engine(), "run", "--rm", "--name", f"xedge-{self._own}", "--network", "host"]
        run += ["--pull", "never", "--no-healthcheck", "--read-only", "--cap-drop", "all", "--volume", volume]
        files = {name: file for name in FILES if (file := getattr(at, name))}
        for name, file in files.items():
            run += ["--volume", f"{file}:/run/xedge/{name}:ro"]
        run += ["--env", at.password_env] if at.password_env else []  # its value comes from our own environment
        there = msgspec.structs.replace(at, **{name: f"/run/xedge/{name}" for name in files})
        run += ["--cpus", str(self._cpus)] if self._cpus else []
        return [*run, self._image, "--broker", there.url, *options]

    def _answers(self) -> bool:
        with suppress(ServiceError, BrokerError):
            self._ask(timeout_s=0.5)
            return True
        return False


def container_engine() -> str:
    """Return the path of podman or docker, or of what XEDGE_CONTAINER_ENGINE names.

    Raises:
        ConfigurationError: there is none.
    """
    wanted = os.environ.get("XEDGE_CONTAINER_ENGINE")
    for name in [wanted] if wanted else ["podman", "docker"]:
        if path := shutil.which(name):
            return path
    raise ConfigurationError(f"no container engine: install podman or docker ({wanted or 'neither'} was found)")
