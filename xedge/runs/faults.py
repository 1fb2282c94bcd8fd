"""Faults carried out in a trial with the real thing: the broker, the service, its links; what happened and when."""

import threading
from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import Any, Self

from xedge.core.exceptions import BrokerError, ConfigurationError, ServiceError
from xedge.scenario.faults import Fault, of_placement
from xedge.scenario.scenario import Scenario
from xedge.serving.broker import Broker
from xedge.serving.faults import Breakable
from xedge.serving.start import Service

AGAIN_S = 0.2  # between two tries to start what could not be started


def check(scenario: Scenario, placement: str, service: Service, broker: Broker) -> None:
    """Refuse faults that this broker, or what serves a placement, does not allow.

    Raises:
        ConfigurationError: the broker is not xedge's own, or the service cannot be broken.
    """
    for fault in of_placement(scenario.faults, placement):
        if fault.kind == "broker_restart":
            if broker.kind == "external":
                raise ConfigurationError(
                    f"fault {fault}: the broker at {broker.url} runs already and is not xedge's to restart; "
                    "let xedge start one (leave out broker= and XEDGE_BROKER)"
                )
        elif not isinstance(service, Breakable) or (fault.kind == "link_down" and not hasattr(service, "cut_links")):
            raise ConfigurationError(
                f"fault {fault}: {type(service).__name__}, which serves {placement!r}, offers nothing for it "
                "(xedge.serving.faults.Breakable)"
            )


class Faults:
    """The faults of one trial, one after the other in a thread of their own; entered inside the service.

    `begin` says when the schedule began. On exit, what is going on is mended at once, and what is to come is left out.
    `happened` then has one entry a fault, in seconds after the start of the trial: {"kind", "at_s" and "duration_s" as
    asked, "begin_s" and "end_s" as it was, "failure": why it could not be done or mended, or ""}.
    """

    def __init__(self, faults: Sequence[Fault], service: Service, broker: Broker) -> None:
        self._faults, self._service, self._broker = faults, service, broker
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self.happened: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def begin(self, start_ns: int) -> None:
        """Carry them out at their times after `start_ns`, on the monotonic clock."""
        if self._faults:
            self._thread = threading.Thread(target=self._run, args=(start_ns,), name="xedge-faults", daemon=True)
            self._thread.start()

    def _run(self, start_ns: int) -> None:
        for fault in self._faults:
            if self._over.wait(max(start_ns / 1e9 + fault.at_s - perf_counter_ns() / 1e9, 0.0)):
                return
            failure, begin_ns = "", perf_counter_ns()
            try:
                self._carry_out(fault)
            except Exception as exc:  # the trial's rows are worth more than the fault
                failure = f"{type(exc).__name__}: {exc}"
            begin_s, end_s = ((at_ns - start_ns) / 1e9 for at_ns in (begin_ns, perf_counter_ns()))
            asked = {"kind": fault.kind, "at_s": fault.at_s, "duration_s": fault.duration_s}
            was = {"begin_s": round(begin_s, 4), "end_s": round(end_s, 4), "failure": failure}
            self.happened.append(asked | was)

    def _carry_out(self, fault: Fault) -> None:
        service: Any = self._service

        def wait() -> None:
            self._over.wait(fault.duration_s)

        match fault.kind:
            case "link_down":
                service.cut_links(fault.duration_s)
                wait()
            case "stall":
                service.stall(wait)
            case "service_kill":
                service.kill()
                wait()
                self._until_it_starts(service.revive)
            case "broker_restart":
                self._broker.interrupt()
                wait()
                self._until_it_starts(self._broker.resume)

    def _until_it_starts(self, start: Callable[[], object]) -> None:
        """Try until the trial is over, and then for the last time."""
        while True:
            last = self._over.is_set()
            try:
                start()
            except (BrokerError, ServiceError):
                if last:
                    raise
                self._over.wait(AGAIN_S)
            else:
                return
