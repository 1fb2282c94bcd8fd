"""Scenario in, measurement out: interleaved trials on common seeds, beside the noise floor and a check of the links."""

from __future__ import annotations

import itertools
import math
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from time import perf_counter, time
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xedge.core import machine
from xedge.core.exceptions import ConfigurationError
from xedge.core.paths import registered_folder
from xedge.core.progress import Progress, grouped
from xedge.results.measurement import Measurement
from xedge.results.steadiness import transient_requests, warm_up_requests
from xedge.runs.calibration import check_links, noise_floor
from xedge.runs.sender import Flight, Log, Sender
from xedge.scenario.scenario import External
from xedge.scenario.sources import matching
from xedge.serving.boxes import Boxes
from xedge.serving.broker import Broker
from xedge.serving.messages import ErrorAnswer, Result, encode_request

if TYPE_CHECKING:
    from xedge.scenario.scenario import AnyService, Scenario

SWITCH_INTERVAL_S = 0.0005  # how long a busy thread may keep the interpreter from the others; Python's default is 5 ms
READINGS = ("arrived_ns", "started_ns", "finished_ns", "departed_ns")
_result, _error = msgspec.json.Decoder(Result), msgspec.json.Decoder(ErrorAnswer)


def measure(
    scenario: Scenario,
    replications: int,
    *,
    strict: bool,
    progress: bool,
    broker: Broker | None,
    calibration: Measurement | None,
) -> Measurement:
    """Run the scenario; see `Scenario.measure`."""
    if replications < 1:
        raise ConfigurationError(f"replications={replications}: at least one is needed, five for honest intervals")
    # Topics of its own: on a shared broker no other service answers these requests, and none of ours others'.
    prefix = "/".join(part for part in (scenario.topic_prefix, f"xedge-{secrets.token_hex(4)}") if part)
    model = str(registered_folder(scenario.model) or scenario.model)  # the same version for every trial
    running = msgspec.structs.replace(scenario, topic_prefix=prefix, model=model)
    plans = [_Plan(running, number) for number in range(replications)]
    began, load_before = datetime.now(UTC).isoformat(timespec="seconds"), machine.load_average()
    tables: list[pd.DataFrame] = []
    services: dict[str, Any] = {}
    total = sum(len(plan.due_ns) for plan in plans) * len(scenario.placements)
    with (
        undisturbed(),
        broker or Broker(name=prefix) as used,
        Sender() as sender,
        Progress(total, "requests", "measuring", progress) as bar,
    ):
        for name in scenario.placements:  # a model or source that does not fit is told before anything is measured
            plans[0].payloads(plans[0].service(name, used))
        if calibration is None:
            floor = noise_floor(used, sender, running, plans[0].due_ns)
            links = check_links(used, sender, running)
        else:
            floor, links = _taken_over(calibration, scenario, used)
        begun = perf_counter()
        for plan in plans:
            for name in _order(list(scenario.placements), plan.replication):
                done = sum(len(table) for table in tables)
                table, facts = _trial(used, sender, plan, name, _ticker(bar, done, plan.due_ns))
                tables.append(table)
                services[name] = facts
        rows = pd.concat(tables, ignore_index=True)
        bar.finish(_sentence(rows, perf_counter() - begun))
        broker_facts = used.describe()
    return Measurement(
        rows,
        {
            "scenario": scenario.as_dict(),
            "replications": replications,
            "strict": strict,
            "timeout_s": scenario.timeout_s,
            "started_at": began,
            "broker": broker_facts | {"qos": scenario.qos, "tcp_nodelay": True},
            "host": machine.host() | {"load_average_before": load_before},
            "versions": machine.versions(),
            "git_commit": machine.git_commit(),
            "calibrated_at": began if calibration is None else _calibrated_at(calibration),
            "noise_floor": floor,
            "link_check": links,
            "services": services,
            "switch_interval_s": SWITCH_INTERVAL_S,
            "trials": [plan.facts(name) for plan in plans for name in scenario.placements],
        },
    )


def _taken_over(calibration: Measurement, scenario: Scenario, broker: Broker) -> tuple[Any, Any]:
    """The noise floor and the link check of a measurement taken behind the same broker and links."""
    before = calibration.conditions
    earlier = msgspec.convert(before["scenario"], type(scenario), strict=False)
    links = {name: placement.links for name, placement in scenario.placements.items()}
    if {key: before["broker"].get(key) for key in broker.describe()} != broker.describe():
        raise ConfigurationError("calibration: it was taken behind another kind of broker; leave it out")
    if earlier.qos != scenario.qos:
        raise ConfigurationError(f"calibration: it was taken with QoS {earlier.qos}, not {scenario.qos}; leave it out")
    if other := [name for name in links if links[name] != _links_of(earlier, name)]:
        raise ConfigurationError(f"calibration: the links of {', '.join(other)} are not those it checked; leave it out")
    return before["noise_floor"], before["link_check"]


def _calibrated_at(calibration: Measurement) -> Any:
    return calibration.conditions.get("calibrated_at", calibration.conditions["started_at"])


def _links_of(scenario: Scenario, name: str) -> Any:
    return scenario.placements[name].links if name in scenario.placements else None


class _Plan:
    """One replication's schedule and seeds, the same for every placement."""

    def __init__(self, scenario: Scenario, replication: int) -> None:
        streams = np.random.SeedSequence([scenario.seed, replication]).generate_state(3)
        self.scenario, self.replication = scenario, replication
        self.schedule_seed, self.content_seed, self.link_seed = (int(s) for s in streams)
        self.device = f"sensor-{secrets.token_hex(4)}"
        self.due_ns = scenario.workload.due_ns(self.schedule_seed)
        self.timestamps_us = np.maximum.accumulate(self.due_ns // 1000) + np.arange(len(self.due_ns))
        if len(self.due_ns) == 0:
            raise ConfigurationError(
                f"replication {replication}: no request falls due within {scenario.workload.duration_s:g} s at "
                f"{scenario.workload.rate_hz:g} requests/s; make the workload longer"
            )

    def service(self, name: str, broker: Broker) -> AnyService:
        """The service of a placement, on this replication's links and not yet started unless it is external."""
        one, placement = self.scenario, self.scenario.placements[name]
        if isinstance(placement, External):
            return placement.running(broker)
        return placement.service(one.model, broker, qos=one.qos, seed=self.link_seed, prefix=one.topic_prefix)

    def payloads(self, service: AnyService) -> list[bytes]:
        """One encoded request a due time, its `timestamp_us` the wall clock of the schedule."""
        engine, binary = service.engine, self.scenario.encoding == "msgpack"
        encode: Any = encode_request
        if engine.takes_text:
            from xedge.text.requests import encode_text_request as encode
        self.source = matching(self.scenario.source, engine.takes_text)
        inputs: Any = self.source.inputs(len(self.due_ns), engine.input_shape, self.content_seed)
        if not engine.takes_text:
            inputs = inputs.astype(engine.input_dtype)
        self.timestamps_us += round(time() * 1e6) - int(self.timestamps_us[0])
        stamps = self.timestamps_us.tolist()
        return [
            encode(self.device, stamp, row, binary=binary, trace=True)
            for stamp, row in zip(stamps, inputs, strict=True)
        ]

    def flight(self, service: AnyService, payloads: list[bytes]) -> Flight:
        """The schedule with these payloads to that service, for the sender."""
        due, one = self.due_ns.tobytes(), self.scenario
        flight = Flight(*service.address, self.device, due, payloads, one.timeout_s, one.qos)
        if isinstance(service, Boxes):
            flight.boxes, flight.box = len(service.services), service.assign(len(payloads)).tobytes()
        return flight

    def facts(self, placement: str) -> dict[str, Any]:
        """What the conditions say of this trial."""
        return {
            "placement": placement,
            "replication": self.replication,
            "schedule_seed": self.schedule_seed,
            "content_seed": self.content_seed,
            "link_seed": self.link_seed,
            "horizon_s": self.scenario.workload.duration_s,
        }


def _trial(
    broker: Broker, sender: Sender, plan: _Plan, name: str, tick: Callable[[float], None]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Start the service, fly the schedule, stop the service; return its rows and what it says of itself."""
    service = plan.service(name, broker)
    payloads = plan.payloads(service)
    with service:
        flight = plan.flight(service, payloads)
        log = sender.fly(flight, tick)
    rows = _rows(plan, name, flight, log)
    load = _load(plan, service)
    rows["warm_up"] = rows["request"] < warm_up_requests(len(rows), *load)
    facts = service.describe() | {"counts": dict(service.counts), "refused": dict(service.refused)}
    facts |= {"source": plan.source.as_dict(), "transient_requests": transient_requests(*load)}
    return rows, facts


def _rows(plan: _Plan, placement: str, flight: Flight, log: Log) -> pd.DataFrame:
    """One row a scheduled request; times in nanoseconds from the schedule's zero."""
    n = len(flight.payloads)
    columns: dict[str, Any] = {name: np.full(n, -1, np.int64) for name in (*READINGS, "received_ns")}
    prediction, errors, answered = np.full(n, math.nan), np.full(n, None, object), np.zeros(n, bool)
    places = {int(stamp): place for place, stamp in enumerate(plan.timestamps_us)}
    for received_ns, is_error, payload in log.replies:
        try:
            answer: Any = _error.decode(payload) if is_error else _result.decode(payload)
        except msgspec.DecodeError:
            continue  # not of a service of ours
        place = places.get(answer.timestamp_us)
        if place is None or answered[place]:
            continue  # of another sender with our name, or delivered twice (QoS 1)
        answered[place], columns["received_ns"][place] = True, received_ns - log.start_ns
        if is_error:
            errors[place] = f"{answer.reason}: {answer.error}"
            continue
        if isinstance(answer.prediction, float):
            prediction[place] = answer.prediction
        elif answer.label is not msgspec.UNSET:  # of a text model: how sure it is of its label
            prediction[place] = max(answer.prediction)
        for name in READINGS if answer.trace else ():
            columns[name][place] = getattr(answer.trace, name) - log.start_ns
    columns["sent_ns"] = np.frombuffer(log.sent_ns, np.int64)
    _drop_strange_clocks(columns)
    rows = pd.DataFrame({"placement": placement, "replication": plan.replication, "request": np.arange(n)})
    rows["warm_up"], rows["due_ns"] = False, plan.due_ns
    for name in ("sent_ns", *READINGS, "received_ns"):
        rows[name] = pd.array(columns[name], dtype="Int64")
        rows.loc[columns[name] == -1, name] = pd.NA
    rows["due_ns"] = rows["due_ns"].astype("Int64")
    rows["status"] = _status(columns, errors, plan, np.frombuffer(flight.box, np.uint8))
    rows["prediction"], rows["payload_bytes"] = prediction, [len(payload) for payload in flight.payloads]
    rows["error"] = errors
    return rows


def _drop_strange_clocks(columns: dict[str, Any]) -> None:
    """Forget a service's readings that do not lie between ours: they are of another machine's clock."""
    edges = [columns[name] for name in ("sent_ns", *READINGS, "received_ns")]
    strange = np.any([after < before for before, after in itertools.pairwise(edges)], axis=0)
    for name in READINGS:
        columns[name][strange] = -1


def _status(columns: dict[str, Any], errors: NDArray[Any], plan: _Plan, box: NDArray[np.uint8]) -> NDArray[Any]:
    """How each request ended.

    Nothing on the path to one service reorders, so an unanswered request is lost if a later one was answered; else it
    may still be on its way, and has timed out. One answered after the time-out has timed out too.
    """
    received, sent = columns["received_ns"], columns["sent_ns"]
    answered, number = received >= 0, np.arange(len(sent))
    of_box = box if box.size else np.zeros(len(sent), np.uint8)
    last = {one: np.max(number[answered & (of_box == one)], initial=-1) for one in np.unique(of_box)}
    overtaken = number < np.array([last[one] for one in of_box])
    status = np.where(answered, "ok", np.where(overtaken, "lost", "timeout")).astype(object)
    status[answered & (received - plan.due_ns > plan.scenario.timeout_s * 1e9)] = "timeout"
    status[np.array([error is not None for error in errors])] = "error"
    status[(sent < 0) & ~answered] = "not_sent"
    return status


def _load(plan: _Plan, service: AnyService) -> tuple[float, int]:
    """The utilisation that the workload means for the service, and how many servers share it."""
    facts = service.describe()
    servers = int(facts.get("servers", 1)) * int(facts.get("boxes", 1))
    return plan.scenario.workload.rate_hz * service.busy_ms / 1e3, servers


def _order(placements: list[str], replication: int) -> Iterator[str]:
    """A B, B A, A B, …: a drift of the machine touches all alike."""
    return iter(placements if replication % 2 == 0 else placements[::-1])


def _ticker(bar: Progress, before: int, due_ns: NDArray[Any]) -> Callable[[float], None]:
    return lambda elapsed_s: bar.update(before + int(np.searchsorted(due_ns, elapsed_s * 1e9)))


def _sentence(rows: pd.DataFrame, elapsed_s: float) -> str:
    bad = rows["status"].value_counts().drop("ok", errors="ignore")
    fate = ", ".join(f"{grouped(count)} {status.replace('_', ' ')}" for status, count in bad.items()) or "all answered"
    return f"{grouped(len(rows))} requests in {elapsed_s:.1f} s, {fate}"


@contextmanager
def undisturbed() -> Iterator[None]:
    """While trials run, no thread keeps the interpreter from the others for longer than `SWITCH_INTERVAL_S`."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
