"""One trial: a service entered, a schedule flown, and the fate of every request as a row."""

import itertools
import math
import secrets
from collections.abc import Callable, Sequence
from time import time
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from msgspec import UNSET
from numpy.typing import NDArray

from xedge.models.kinds import NUMBERS, model_kind
from xedge.results.rows import nanoseconds
from xedge.results.steadiness import transient_requests, warm_up_requests
from xedge.runs.device import OnDevice
from xedge.runs.faults import Faults
from xedge.runs.outcome import READINGS, STAMPS, Outcome
from xedge.runs.sender import Flight, Log, Sender
from xedge.runs.sensor import Readings
from xedge.runs.truth import Truth
from xedge.scenario.faults import FAULTS, of_placement
from xedge.scenario.scenario import Replication, Scenario
from xedge.scenario.sources import matching
from xedge.serving.broker import Broker
from xedge.serving.messages import ErrorAnswer, Result, encode_request
from xedge.serving.start import Service

_result, _error = msgspec.json.Decoder(Result), msgspec.json.Decoder(ErrorAnswer)


class Requests:
    """The encoded requests of one trial and their answers: each has a random `request_id` of 63 bits, its nonce.

    Nobody who has not read a request can answer it. Answers without an id are known by the device's name and the
    wall-clock time stamp, but only where no answer has one and the service does not say that ids come back; `known_by`
    says which it was, and `foreign` how many messages were left out.
    """

    def __init__(self, scenario: Scenario, replication: Replication, service: Service) -> None:
        spec, binary = service.takes, scenario.encoding == "msgpack"
        encode: Any = encode_request if spec.kind == NUMBERS else model_kind(spec.kind).encode_request
        self.device_id = f"sensor-{secrets.token_hex(4)}"
        self.ids = [secrets.randbits(63) for _ in range(len(replication.due_ns))]
        self.known_by, self.foreign = "request_id", 0
        self.timestamps_us = (round(time() * 1e6) + replication.due_ns // 1000).tolist()
        self.contents: Any = replication.inputs(scenario, spec)
        self.payloads: list[bytes] = []
        if not isinstance(service, OnDevice):  # which sends nothing
            contents = zip(self.timestamps_us, self.contents, strict=True)
            self.payloads = [
                encode(self.device_id, stamp, content, binary=binary, trace=True, request_id=request_id)
                for request_id, (stamp, content) in zip(self.ids, contents, strict=True)
            ]
        self.source: dict[str, Any] = matching(scenario.source, spec).as_dict()

    def answers(self, replies: list[tuple[int, bool, bytes]], returns_ids: bool) -> list[tuple[int, int, bool, Any]]:
        """Return (request, received_ns, whether it is an error, answer) of each request's first answer.

        Args:
            replies: (received_ns, whether on an error topic, payload) as they came.
            returns_ids: the service says that it returns a `request_id`, so answers without one are not its own.
        """
        came = [(received_ns, is_error, _decoded(is_error, payload)) for received_ns, is_error, payload in replies]
        index_of: dict[int, int] = {request_id: index for index, request_id in enumerate(self.ids)}
        if not returns_ids and not any(answer is not None and answer.request_id in index_of for *_, answer in came):
            stamped = any(answer is not None and answer.request_id is UNSET for *_, answer in came)
            self.known_by = "timestamp_us" if stamped else "request_id"
        waiting: dict[int, list[int]] = {}
        for index, key in reversed([*enumerate(self.ids if self.known_by == "request_id" else self.timestamps_us)]):
            waiting.setdefault(key, []).append(index)
        taken: list[tuple[int, int, bool, Any]] = []
        for received_ns, is_error, answer in came:
            key = None if answer is None else getattr(answer, self.known_by)
            if key not in waiting or (self.known_by == "timestamp_us" and answer.request_id is not UNSET):
                self.foreign += 1
            elif waiting[key]:
                taken.append((waiting[key].pop(), received_ns, is_error, answer))
        return taken


def _decoded(is_error: bool, payload: bytes) -> Any:
    try:
        return _error.decode(payload) if is_error else _result.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # not of a service of ours


def fly(
    scenario: Scenario,
    replication: Replication,
    service: Service,
    placement: str,
    broker: Broker,
    sender: Sender | None,
    tick: Callable[[float], None],
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Enter the service, fly the schedule, carry out its faults, leave the service; return rows and what was said.

    There is no sender where nothing is sent, and nothing there that the faults of others touch.
    """
    requests = Requests(scenario, replication, service)
    log, timeout_s = None, scenario.timeout_s
    of_it = [] if isinstance(service, OnDevice) else of_placement(scenario.faults, placement)
    with service, Faults(of_it, service, broker) as faults:
        routes = service.routes(len(replication.due_ns))
        if isinstance(service, OnDevice):
            outcome = _computed(service, requests, replication, timeout_s, tick)
        else:
            assert sender is not None
            returns_ids = service.describe().get("returns_request_id") is True
            flight = Flight(
                *service.address,
                service.prefixes,
                requests.device_id,
                replication.due_ns.tobytes(),
                requests.payloads,
                timeout_s,
                scenario.qos,
                routes=routes.tobytes(),
                ids=np.array(requests.ids, np.int64).tobytes() if returns_ids else b"",
            )
            log = sender.fly(flight, tick, faults.begin)
            outcome = replied(requests, log, returns_ids)
    start_ns, outages = (log.start_ns, log.outages) if log is not None else (0, [])
    away = [(begin - start_ns, end - start_ns) for begin, end in sorted([*outages, *service.outages])]
    table = rows(outcome, replication, placement, routes, timeout_s)
    table["payload_bytes"] = [len(payload) for payload in requests.payloads] or 0
    explain(table, away, service.failure, faults.happened)
    utilisation = scenario.workload.rate_hz * service.busy_ms / 1e3
    table["warm_up"] = table["request"] < warm_up_requests(len(table), utilisation, service.servers)
    facts = service.describe() | {"counts": dict(service.counts), "refused": dict(service.refused)}
    reconnects = log.reconnects if log is not None else 0
    facts |= {"sender_reconnects": reconnects, "failure": service.failure, "faults": faults.happened}
    facts["known_by"], facts["foreign"] = requests.known_by, requests.foreign
    facts["outages"] = [(round(begin / 1e9, 4), round(end / 1e9, 4)) for begin, end in away]
    truth = Truth.of(scenario, replication, placement, service.takes, requests.contents)
    if truth is not None:
        table = truth.told(table, outcome.predictions, outcome.labels)
        facts |= truth.facts(outcome.predictions)
    transient = transient_requests(utilisation, service.servers)
    return table, facts | {"source": requests.source, "transient_requests": transient}


def _computed(
    service: OnDevice, requests: Requests, replication: Replication, timeout_s: float, tick: Callable[[float], None]
) -> Outcome:
    """Let the device answer its own readings. What it hands to the engine has arrived there."""
    contents = requests.contents
    inputs: Any = contents if isinstance(contents, list) else np.ascontiguousarray(contents)
    data = inputs if isinstance(inputs, list) else inputs.tobytes()
    shape, dtype = list(np.shape(inputs)), str(getattr(inputs, "dtype", "text"))
    answers = service.answer(Readings(replication.due_ns.tobytes(), data, shape, dtype, timeout_s), tick)
    outcome = Outcome(len(answers.predictions))
    sent, started, finished = (
        np.frombuffer(each, np.int64) for each in (answers.sent_ns, answers.started_ns, answers.finished_ns)
    )
    started = np.where(finished < 0, -1, started)
    values = {"sent_ns": sent, "read_ns": sent, "arrived_ns": sent, "started_ns": started}
    outcome.readings = values | dict.fromkeys(("finished_ns", "departed_ns", "received_ns"), finished)
    outcome.predictions = answers.predictions
    if names := service.describe().get("labels"):
        outcome.labels = [None if each is None else names[int(np.argmax(each))] for each in answers.predictions]
    for index, (reason, said) in answers.refused.items():
        outcome.errors[index] = f"{reason}: {said}"
    return outcome


def replied(requests: Requests, log: Log, returns_ids: bool = False) -> Outcome:
    """Return what the replies in the sender's log say of each request; what answers none of them is passed over."""
    outcome = Outcome(len(requests.payloads))
    readings = outcome.readings
    for index, received_ns, is_error, answer in requests.answers(log.replies, returns_ids):
        readings["received_ns"][index] = received_ns - log.start_ns
        if is_error:
            outcome.errors[index] = f"{answer.reason}: {answer.error}"
            continue
        outcome.predictions[index] = answer.prediction
        outcome.labels[index] = None if answer.label is UNSET else answer.label
        for name in READINGS if answer.trace else ():
            reading_ns = getattr(answer.trace, name)
            readings[name][index] = -1 if reading_ns is UNSET else _since(log.start_ns, reading_ns)
    readings["sent_ns"] = np.frombuffer(log.sent_ns, np.int64)
    _drop_strange_clocks(readings)
    return outcome


def rows(
    outcome: Outcome, replication: Replication, placement: str, routes: NDArray[np.uint8], timeout_s: float
) -> pd.DataFrame:
    """Return one row a scheduled request, as `xedge.results.rows` wants them; times from the schedule's zero."""
    n, readings = outcome.n, outcome.readings
    table = pd.DataFrame({"placement": placement, "replication": replication.number, "request": np.arange(n)})
    table["warm_up"], table["due_ns"] = False, pd.array(replication.due_ns, dtype="Int64")
    for name in STAMPS:
        table[name] = pd.array(readings[name], dtype="Int64")
        table.loc[readings[name] == -1, name] = pd.NA
    table["status"] = statuses(replication.due_ns, readings["sent_ns"], readings["received_ns"], routes, timeout_s)
    refused = np.array([error is not None for error in outcome.errors])
    table.loc[refused, "status"] = "error"
    table.loc[refused & np.array([str(error).startswith("overloaded: ") for error in outcome.errors]), "status"] = (
        "overloaded"
    )
    table["prediction"] = [_confidence(*each) for each in zip(outcome.predictions, outcome.labels, strict=True)]
    table["payload_bytes"] = 0
    return table.assign(error=outcome.errors)


def explain(
    table: pd.DataFrame, outages: list[tuple[int, int]], failure: str, faults: Sequence[dict[str, Any]] = ()
) -> None:
    """Write into `error` why each request without a result has none, as far as it is known.

    `outages` are from when to when sender or service had no connection to the broker, ns from the schedule's zero;
    `failure` is what ended the service; `faults` are those that happened as the scenario asked, and say it in the end.
    """
    due, received = nanoseconds(table, "due_ns", "received_ns")
    status, reason = table["status"].to_numpy(object), table["error"].to_numpy(object, copy=True)
    words = {"timeout": "no answer within the time-out", "lost": "not answered, though a later request was"}
    words |= {"not_sent": "the sender could not hand it to the broker"}
    for word, text in words.items():
        reason[status == word] = text
    reason[(status == "timeout") & ~np.isnan(received)] = "answered after the time-out"
    missing = np.isin(status, list(words))
    if failure:
        last = np.max(due[~np.isnan(received)], initial=-math.inf)
        reason[missing & (due > last)] = f"the service ended: {failure}"
    spans = [(begin, end, "the connection to the broker was away {}") for begin, end in outages]
    for fault in faults:
        text = f"{FAULTS[fault['kind']]} {{}}, as the scenario asked"
        spans.append((round(1e9 * fault["begin_s"]), round(1e9 * fault["end_s"]), text))
    for begin, end, text in spans:  # what was on its way when this began has nobody to answer it
        last = np.max(due[received < begin], initial=-math.inf)
        span = f"from {begin / 1e9:.2f} to {end / 1e9:.2f} s"
        reason[missing & (due > last) & (due <= end)] = text.format(span)
    table["error"] = reason


def _confidence(prediction: Any, label: str | None) -> float:
    """The number answered; of a text model, how sure it is of its label; NaN for an answer of another form."""
    if isinstance(prediction, float):
        return prediction
    return math.nan if label is None else max(prediction)


def _since(start_ns: int, reading_ns: int) -> int:
    """The reading from the schedule's zero; -1 for one that no clock of this host can show."""
    return reading_ns - start_ns if abs(reading_ns - start_ns) < 2**62 else -1


def _drop_strange_clocks(readings: dict[str, Any]) -> None:
    """Forget a service's readings that do not lie between ours: they are of another machine's clock."""
    edges = [readings[name] for name in STAMPS]
    edges[1] = np.where(edges[1] == -1, edges[0], edges[1])  # a service of an older xedge does not say when it read
    strange = np.any([after < before for before, after in itertools.pairwise(edges)], axis=0)
    for name in READINGS:
        readings[name][strange] = -1


def statuses(
    due_ns: NDArray[np.int64],
    sent_ns: NDArray[np.int64],
    received_ns: NDArray[np.int64],
    routes: NDArray[np.uint8],
    timeout_s: float,
) -> NDArray[np.object_]:
    """Return how each request ended, shape (n,): "ok", "lost", "timeout" or "not_sent"; -1 ns is never.

    Nothing on the path to one service reorders, so an unanswered request is lost if a later one on its route was
    answered; else it may still be on its way, and has timed out. One answered after the time-out has timed out too.
    """
    answered, number = received_ns >= 0, np.arange(len(sent_ns))
    last = {route: np.max(number[answered & (routes == route)], initial=-1) for route in np.unique(routes)}
    overtaken = number < np.array([last[route] for route in routes])
    status = np.where(answered, "ok", np.where(overtaken, "lost", "timeout")).astype(object)
    status[answered & (received_ns - due_ns > timeout_s * 1e9)] = "timeout"
    status[(sent_ns < 0) & ~answered] = "not_sent"
    return status
