"""What the arrangement itself costs: an echo gives the noise floor, the ceiling and a check of every link."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xedge.core.exceptions import MeasurementError
from xedge.results.statistics import minimum_samples, quantile
from xedge.runs.sender import Flight, Sender
from xedge.scenario.channel import Channel
from xedge.scenario.link import Link
from xedge.scenario.scenario import Replication, Scenario
from xedge.serving.broker import Broker
from xedge.serving.endpoint import Endpoint
from xedge.serving.services import EchoService

DEVICE = "xedge-echo"
PAYLOAD_BYTES = 500
FLOOR_REQUESTS, CEILING_REQUESTS, CEILING_WINDOW = 1000, 4000, 128
LINK_REQUESTS, LINK_RATE_HZ = 400, 400.0
MOST_CROSSINGS = 20_000  # messages of a placement that the arithmetic follows over all its trials
COMPARED = (0.5, 0.9, 0.99)
SPARE_S = 1.0  # how long to wait for a message after the links should have released it


class Crossing(NamedTuple):
    """Messages behind links, shape (n,) each: when sent, s from the start, and the delay added, ms; nan is lost.

    `bare_ms` is the median round trip without links, which has been taken off what was measured.
    """

    sent_s: NDArray[np.float64]
    requested_ms: NDArray[np.float64]
    measured_ms: NDArray[np.float64]
    bare_ms: float = 0.0


def noise_floor(broker: Broker, sender: Sender, scenario: Scenario, due_ns: NDArray[np.int64]) -> dict[str, Any]:
    """Measure an echo behind the same broker, loop and sender on the first `FLOOR_REQUESTS` of a schedule.

    Returns:
        p50_ms, p95_ms and p99_ms of the latency from the due time, n, and ceiling_hz: the rate at which
        `CEILING_REQUESTS` came back with never more than `CEILING_WINDOW` on their way.
    """
    with _echo(broker, scenario) as echo:
        due_ns = due_ns[:FLOOR_REQUESTS]
        _, received_ns = _round_trips(echo, sender, scenario, due_ns)
        latency_ms = (received_ns - due_ns)[_answered(received_ns, echo)] / 1e6
        at_once = np.zeros(CEILING_REQUESTS, np.int64)
        _, received_ns = _round_trips(echo, sender, scenario, at_once, window=CEILING_WINDOW)
        ceiling_hz = _answered(received_ns, echo).sum() / np.nanmax(received_ns) * 1e9
    return quantiles_ms(latency_ms) | {"n": len(latency_ms), "ceiling_hz": round(ceiling_hz)}


def check_links(broker: Broker, sender: Sender, scenario: Scenario) -> dict[str, Any]:
    """For every placement behind links: the added delay asked for and the added delay an echo measured.

    Returns:
        {placement: {"requested_ms": {p50_ms, p95_ms, p99_ms}, "measured_ms": the same, "n": echoes that came back,
        "off_ms": {p50_ms, …} of |measured - requested| message by message, "lost": {"requested": messages, "measured":
        messages, "differing": messages}}}; without the quantiles where nothing comes back.
    """
    due_ns = np.round(np.arange(LINK_REQUESTS) / LINK_RATE_HZ * 1e9).astype(np.int64)
    return {name: _summary(crossing) for name, crossing in _cross(broker, sender, scenario, due_ns).items()}


def measure_links(scenario: Scenario) -> dict[str, Crossing]:
    """Send echoes on the scenario's schedule behind the links of each of its placements; its model is not used.

    Returns:
        For every placement behind links, what each message was asked and measured to take. Asked is arithmetic on these
        very messages; measured is the echo's round trip less the median round trip of an echo without links.
    """
    with Broker(name="xedge-links") as broker, Sender() as sender:
        return _cross(broker, sender, scenario, scenario.workload.due_ns(scenario.seed))


def _cross(broker: Broker, sender: Sender, scenario: Scenario, due_ns: NDArray[np.int64]) -> dict[str, Crossing]:
    behind = {name: p.links for name, p in scenario.placements.items() if not all(link.is_free for link in p.links)}
    if not behind:
        return {}
    with _echo(broker, scenario) as echo:
        sent_ns, received_ns = _round_trips(echo, sender, scenario, due_ns)
        bare_ns = float(np.median((received_ns - sent_ns)[_answered(received_ns, echo)]))
    crossings: dict[str, Crossing] = {}
    for name, (up, down) in behind.items():
        wait_s = float(np.nanmax(requested_ms(up, down, due_ns, scenario.seed), initial=0.0)) / 1e3 + SPARE_S
        with _echo(broker, scenario, uplink=up, downlink=down) as echo:
            sent_ns, received_ns = _round_trips(echo, sender, scenario, due_ns, wait_s)
        asked = requested_ms(up, down, np.where(np.isnan(sent_ns), due_ns, sent_ns).astype(np.int64), scenario.seed)
        measured = (received_ns - sent_ns - bare_ns) / 1e6
        too_late = (asked > scenario.timeout_s * 1e3) | (measured > scenario.timeout_s * 1e3)  # as good as lost
        asked, measured = (np.where(too_late, np.nan, delays) for delays in (asked, measured))
        crossings[name] = Crossing(sent_ns / 1e9, asked, measured, bare_ns / 1e6)
    return crossings


def requested_ms(up: Link, down: Link, arrived_ns: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """Return what both links add to messages that are answered at once, by arithmetic: ms, shape (n,); nan is lost."""
    added, _ = _crossing_ms(up, down, arrived_ns, seed)
    return added


def _crossing_ms(
    up: Link, down: Link, arrived_ns: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What both links add to each message, and how long of it it waited for those before it: ms, nan is lost."""
    channels = Channel(up, seed), Channel(down, seed, "downlink")
    added, waited = np.full((2, len(arrived_ns)), np.nan)
    for number, arrived in enumerate(arrived_ns.tolist()):
        there = channels[0].release_ns(arrived, PAYLOAD_BYTES)
        back = None if there is None else channels[1].release_ns(there, PAYLOAD_BYTES)
        if back is not None:
            added[number], waited[number] = back - arrived, channels[0].waited_ns + channels[1].waited_ns
    return added / 1e6, waited / 1e6


def delays_by_level(scenario: Scenario, replicated: Sequence[Replication]) -> dict[str, list[dict[str, float | None]]]:
    """Return what links add to the requests of the trials, at the rate offered and in this order, by arithmetic.

    Nothing overtakes: where a delay falls faster than messages follow each other, they wait for those before them, and
    the delays are no longer those of the link's tables.

    Returns:
        {placement: [{"p": level, "effective_ms": quantile of what the links add, "drawn_ms": the same without that
        waiting, "published_ms": what `Link.published_ms` has, or None}, …]}, of every placement behind links that lose
        no TCP segments, at the levels published (else p50, p90, p99) for which there are messages enough; of at most
        the first `MOST_CROSSINGS` messages.
    """
    most, levels = MOST_CROSSINGS // len(replicated), {}
    for name, placement in scenario.placements.items():
        up, down = placement.links
        if (up.is_free and down.is_free) or up.segment_loss != 0 or down.segment_loss != 0:
            continue
        each = [_crossing_ms(up, down, replication.due_ns[:most], replication.link_seed) for replication in replicated]
        effective, waited = np.concatenate(each, axis=1)
        effective, drawn = (delays[~np.isnan(delays)] for delays in (effective, effective - waited))
        published = dict(up.published_ms or []) if up.published_ms == down.published_ms else {}
        known = [p for p in published or COMPARED if 0 < p < 1 and len(drawn) >= minimum_samples(p)]
        levels[name] = [
            {
                "p": p,
                "published_ms": published.get(p),
                "drawn_ms": round(quantile(drawn, p), 3),
                "effective_ms": round(quantile(effective, p), 3),
            }
            for p in known
        ]
    return levels


def with_levels(
    links: dict[str, Any], scenario: Scenario, replicated: Sequence[Replication]
) -> dict[str, dict[str, Any]]:
    """Return the link check with what `delays_by_level` says of these trials as `by_level` of each placement."""
    delays = delays_by_level(scenario, replicated)
    return {name: check | ({"by_level": delays[name]} if name in delays else {}) for name, check in links.items()}


def quantiles_ms(values_ms: NDArray[Any]) -> dict[str, float]:
    """Return the plain p50, p95 and p99 (inverse empirical CDF), rounded to microseconds."""
    p50, p95, p99 = np.quantile(values_ms, [0.5, 0.95, 0.99], method="inverted_cdf")
    return {"p50_ms": round(float(p50), 3), "p95_ms": round(float(p95), 3), "p99_ms": round(float(p99), 3)}


def _summary(crossing: Crossing) -> dict[str, Any]:
    lost, missing = (np.isnan(delays) for delays in crossing[1:3])
    both = ~lost & ~missing
    asked, measured = crossing.requested_ms[both], crossing.measured_ms[both]
    counts = {"requested": lost, "measured": missing, "differing": lost != missing}
    facts: dict[str, Any] = {"n": int((~missing).sum()), "lost": {word: int(n.sum()) for word, n in counts.items()}}
    if both.any():
        quantiles = {"requested": asked, "measured": measured, "off": np.abs(measured - asked)}
        facts |= {f"{word}_ms": quantiles_ms(values) for word, values in quantiles.items()}
    return facts


def _echo(broker: Broker, scenario: Scenario, **links: Link) -> EchoService:
    prefix, qos = scenario.topic_prefix, scenario.qos
    host, port = broker.address
    return EchoService(DEVICE, host, port, topic_prefix=prefix, qos=qos, seed=scenario.seed, **links)


def _round_trips(
    echo: EchoService,
    sender: Sender,
    scenario: Scenario,
    due_ns: NDArray[np.int64],
    wait_s: float = math.inf,
    window: int = 0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """When every message was sent and came back, nanoseconds from the start; nan is never."""
    payloads = [b"%08d" % number + b"x" * (PAYLOAD_BYTES - 8) for number in range(len(due_ns))]
    where, wait_s = (*echo.address, echo.prefixes, DEVICE), min(wait_s, scenario.timeout_s)
    log = sender.fly(Flight(*where, due_ns.tobytes(), payloads, wait_s, scenario.qos, window))
    sent_ns = np.frombuffer(log.sent_ns, np.int64).astype(float)
    sent_ns[sent_ns < 0] = np.nan
    received_ns = np.full(len(due_ns), np.nan)
    number_of = {payload: number for number, payload in enumerate(payloads)}
    for received, _, payload in log.replies:
        if (number := number_of.get(payload)) is not None:  # else it is not of the echo
            received_ns[number] = received - log.start_ns
    return sent_ns, received_ns


def _answered(received_ns: NDArray[np.float64], echo: EchoService) -> NDArray[np.bool_]:
    answered: NDArray[np.bool_] = ~np.isnan(received_ns)
    if not answered.any():
        raise MeasurementError(f"the echo behind {Endpoint.at(*echo.address).place} answered nothing")
    return answered
