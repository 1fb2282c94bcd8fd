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
from xedge.runs.faults import Faults
from xedge.runs.sender import Flight, Log, Sender
from xedge.scenario.faults import FAULTS, of_placement
from xedge.scenario.scenario import Replication, Scenario
from xedge.scenario.sources import matching
from xedge.serving.broker import Broker
from xedge.serving.messages import ErrorAnswer, Result, encode_request
from xedge.serving.start import Service

READINGS = ("read_ns", "arrived_ns", "started_ns", "finished_ns", "departed_ns")
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
        contents = zip(self.timestamps_us, replication.inputs(scenario, spec), strict=True)
        self.payloads: list[bytes] = [
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
    sender: Sender,
    tick: Callable[[float], None],
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Enter the service, fly the schedule, carry out its faults, leave the service; return rows and what was said."""
    requests = Requests(scenario, replication, service)
    with service, Faults(of_placement(scenario.faults, placement), service, broker) as faults:
        routes, returns_ids = (
            service.routes(len(requests.payloads)),
            service.describe().get("returns_request_id") is True,
        )
        flight = Flight(
            *service.address,
            service.prefixes,
            requests.device_id,
            replication.due_ns.tobytes(),
            requests.payloads,
            scenario.timeout_s,
            scenario.qos,
            routes=routes.tobytes(),
            ids=np.array(requests.ids, np.int64).tobytes() if returns_ids else b"",
        )
        log = sender.fly(flight, tick, faults.begin)
    outages = [(at[0] - log.start_ns, at[1] - log.start_ns) for at in sorted([*log.outages, *service.outages])]
    table = rows(requests, replication, placement, log, routes, scenario.timeout_s, returns_ids)
    explain(table, outages, service.failure, faults.happened)
    utilisation = scenario.workload.rate_hz * service.busy_ms / 1e3
    table["warm_up"] = table["request"] < warm_up_requests(len(table), utilisation, service.servers)
    facts = service.describe() | {"counts": dict(service.counts), "refused": dict(service.refused)}
    facts |= {"sender_reconnects": log.reconnects, "failure": service.failure, "faults": faults.happened}
    facts["known_by"], facts["foreign"] = requests.known_by, requests.foreign
    facts["outages"] = [(round(begin / 1e9, 4), round(end / 1e9, 4)) for begin, end in outages]
    transient = transient_requests(utilisation, service.servers)
    return table, facts | {"source": requests.source, "transient_requests": transient}


def rows(
    requests: Requests,
    replication: Replication,
    placement: str,
    log: Log,
    routes: NDArray[np.uint8],
    timeout_s: float,
    returns_ids: bool = False,
) -> pd.DataFrame:
    """Return one row a scheduled request, as `xedge.results.rows` wants them; times from the schedule's zero."""
    n = len(requests.payloads)
    readings: dict[str, Any] = {name: np.full(n, -1, np.int64) for name in (*READINGS, "received_ns")}
    prediction, errors = np.full(n, math.nan), np.full(n, None, object)
    for index, received_ns, is_error, answer in requests.answers(log.replies, returns_ids):
        readings["received_ns"][index] = received_ns - log.start_ns
        if is_error:
            errors[index] = f"{answer.reason}: {answer.error}"
            continue
        prediction[index] = _confidence(answer)
        for name in READINGS if answer.trace else ():
            reading_ns = getattr(answer.trace, name)
            readings[name][index] = -1 if reading_ns is UNSET else _since(log.start_ns, reading_ns)
    readings["sent_ns"] = np.frombuffer(log.sent_ns, np.int64)
    _drop_strange_clocks(readings)
    table = pd.DataFrame({"placement": placement, "replication": replication.number, "request": np.arange(n)})
    table["warm_up"], table["due_ns"] = False, pd.array(replication.due_ns, dtype="Int64")
    for name in ("sent_ns", *READINGS, "received_ns"):
        table[name] = pd.array(readings[name], dtype="Int64")
        table.loc[readings[name] == -1, name] = pd.NA
    table["status"] = statuses(replication.due_ns, readings["sent_ns"], readings["received_ns"], routes, timeout_s)
    refused = np.array([error is not None for error in errors])
    table.loc[refused, "status"] = "error"
    table.loc[refused & np.array([str(error).startswith("overloaded: ") for error in errors]), "status"] = "overloaded"
    table["prediction"], table["payload_bytes"] = prediction, [len(payload) for payload in requests.payloads]
    return table.assign(error=errors)


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


def _confidence(answer: Result) -> float:
    """The number answered; of a text model, how sure it is of its label; NaN for an answer of another form."""
    if isinstance(answer.prediction, float):
        return answer.prediction
    return max(answer.prediction) if answer.label is not UNSET else math.nan


def _since(start_ns: int, reading_ns: int) -> int:
    """The reading from the schedule's zero; -1 for one that no clock of this host can show."""
    return reading_ns - start_ns if abs(reading_ns - start_ns) < 2**62 else -1


def _drop_strange_clocks(readings: dict[str, Any]) -> None:
    """Forget a service's readings that do not lie between ours: they are of another machine's clock."""
    edges = [readings[name] for name in ("sent_ns", *READINGS, "received_ns")]
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
