"""How much load a placement takes: measured rate by rate, searching for the highest that meets a deadline."""

import math
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from time import perf_counter
from typing import Any

import msgspec

from xedge.core.exceptions import ConfigurationError
from xedge.core.progress import Progress
from xedge.results.measurement import Measurement
from xedge.results.statistics import minimum_samples, shortest_section
from xedge.results.steadiness import warm_up_requests
from xedge.results.words import level_name, number
from xedge.runs.scenario import Scenario
from xedge.scenario.placements import model_of
from xedge.serving.broker import Broker
from xedge.serving.start import Setting, service_of
from xedge.studies.load.curve import LoadCurve
from xedge.studies.load.limits import Probe, judge, tried
from xedge.studies.load.search import Search
from xedge.studies.points import Points

STARTS = 3  # of a service, to learn how long it computes: a busy moment of the host only makes it longer
FIRST_UTILISATION = 0.5  # of the slowest placement at the first rate, requests taken one by one
SHORTEST_S = 0.3  # of a trial: a hiccup of the host is to be a small part of it
MOST_PROBES = 30  # of a placement
BESIDE_S = 0.2  # what a trial takes beside its requests
USUAL_PROBES = 10  # of a placement: what the progress begins with


def measure(
    scenario: Scenario,
    deadline_ms: float,
    *,
    p: float = 0.99,
    resolution: float = 0.05,
    replications: int = 5,
    requests: int = 300,
    budget_s: float = 300.0,
    first_hz: float | None = None,
    strict: bool = True,
    progress: bool = True,
    broker: Broker | None = None,
) -> LoadCurve:
    """Search, for every placement, the highest rate at which a share `p` of the requests meets the deadline.

    The rate doubles until saturation, then the gap between met and failed is halved (on a logarithmic scale) until it
    is as narrow as `resolution`; then the knee and the edge of saturation are narrowed down to a quarter of an octave.
    Every probe is a measurement of its own at one rate; all rates and placements share their seeds, so that a higher
    rate is the same sequence of requests, closer together. Placements that want the same rate next are measured in
    turns. An invalid or undecided probe is repeated once, twice as long: what is too short to show that answers keep
    pace with the rate decides nothing. Noise floor and links are measured with the first probe.

    Args:
        scenario: what is measured; its workload says the kind of arrivals, not the rate and duration.
        deadline_ms: what the latency may be at most.
        p: the share of requests that must meet it.
        resolution: how close the highest met and the lowest failed rate are to come, as a share.
        replications: trials of every probe.
        requests: fewest requests of a trial, warm-up apart; a trial lasts as long as they take, 0.3 s at least.
        budget_s: no probe starts that would take the search beyond this; the curve so far is returned and says so.
        first_hz: the first rate; by default half of what the slowest placement takes one by one.
        strict: a sender that could not keep time makes a probe INVALID; False makes it a doubt.
        progress: show progress.
        broker: one that runs already; by default one is started.

    Raises:
        ConfigurationError: an invalid argument; nothing was measured.
        ModelError, BrokerError, ServiceError: what the measurement needs is not there.
    """
    _check(scenario, deadline_ms, p, replications, requests)
    began, placements = perf_counter(), list(scenario.placements)
    with (
        nullcontext(broker) if broker else Broker(name="load") as used,
        Progress(USUAL_PROBES * len(placements), "probes", "searching", progress) as bar,
    ):
        busy = {name: _busy(scenario, name, used) for name in placements}
        points, before = Points(used, replications, strict), Counter[tuple[float, str]]()

        def measure_at(rate_hz: float, together: list[str]) -> Measurement | None:
            times = 1 + max(before[rate_hz, name] for name in together)
            point = _at(scenario, together, rate_hz, times * requests, busy)
            length_s = replications * len(together) * (point.workload.duration_s + BESIDE_S)
            if points.measurements and perf_counter() - began + length_s > budget_s:
                return None
            measurement = points.measure(point)
            before.update((rate_hz, name) for name in together)
            done = sum(len(each.placements) for each in points.measurements)
            bar.total = max(bar.total, done + len(placements))
            bar.update(done)
            return measurement

        curve = explore(measure_at, Search(first_hz or _first_hz(busy), resolution), placements, deadline_ms, p)
        bar.finish(_sentence(curve, perf_counter() - began))
    return curve


def explore(
    measure_at: Callable[[float, list[str]], Measurement | None],
    search: Search,
    placements: Sequence[str],
    deadline_ms: float,
    p: float,
) -> LoadCurve:
    """Measure at one rate after the other until limit, knee and saturation are known, or there is no time left.

    `measure_at` measures the placements named at a rate in Hz, or returns None where there is no time for it.
    """
    measurements: list[Measurement] = []
    probes: list[Probe] = []
    wanted, ended = _wanted(search, probes, placements), ""
    while wanted and not ended:
        before = len(measurements)
        for step, together in wanted.items():
            if (measurement := measure_at(search.rate_hz(step), together)) is not None:
                measurements.append(measurement)
                probes += [judge(measurement, name, deadline_ms, p) for name in together]
        ended = "no time was left for the next rate" if len(measurements) == before else ""
        floor = (measurements[0].conditions.get("noise_floor") or {}) if measurements else {}
        search = replace(search, top_hz=float(floor.get("ceiling_hz") or math.inf))
        wanted = _wanted(search, probes, placements)
    return LoadCurve(tuple(measurements), deadline_ms, p, search.resolution, ended)


def _check(scenario: Scenario, deadline_ms: float, p: float, replications: int, requests: int) -> None:
    if not {"rate_hz", "duration_s"} <= set(scenario.workload.as_dict()):
        raise ConfigurationError("load: a trace has one rate only; give arrivals whose rate can be chosen, as Poisson")
    if not 0 < deadline_ms < scenario.timeout_s * 1e3:
        text = f"must lie between 0 and the scenario's time-out, {scenario.timeout_s * 1e3:g} ms"
        raise ConfigurationError(f"load: deadline_ms={deadline_ms:g} {text}")
    shortest, fewest = shortest_section(p), minimum_samples(p)
    if replications < 1 or requests < shortest or replications * requests < fewest:
        raise ConfigurationError(
            f"load: {replications} replication(s) of {requests} requests are too few for {level_name(p)}: give at "
            f"least {shortest} requests a replication and {fewest} in all"
        )


def _busy(scenario: Scenario, name: str, broker: Broker) -> tuple[float, int]:
    """How long one request keeps the placement busy, in ms, and its servers: the least that several starts say."""
    placement = scenario.placements[name]
    starts: list[tuple[float, int]] = []
    for _ in range(STARTS):
        prefix = "/".join(part for part in (scenario.topic_prefix, f"xedge-{secrets.token_hex(4)}") if part)
        setting = Setting(model_of(placement, scenario.model), broker, scenario.qos, prefix=prefix)
        with service_of(placement, setting) as service:
            starts.append((service.busy_ms, service.servers))
    return min(starts)


def _first_hz(busy: dict[str, tuple[float, int]]) -> float:
    if (slowest_ms := max(busy_ms for busy_ms, _ in busy.values())) <= 0:
        raise ConfigurationError("load: a service does not say how long it computes; give first_hz, the first rate")
    return float(f"{1e3 * FIRST_UTILISATION / slowest_ms:.2g}")


def _wanted(search: Search, probes: Sequence[Probe], placements: Sequence[str]) -> dict[int, list[str]]:
    """Which step which placements want to try next."""
    wanted: dict[int, list[str]] = {}
    for name in placements:
        steps = {search.step(rate_hz): attempt for rate_hz, attempt in tried(probes, name).items()}
        if (
            sum(attempt.times for attempt in steps.values()) < MOST_PROBES
            and (step := search.next_step(steps)) is not None
        ):
            wanted.setdefault(step, []).append(name)
    return dict(sorted(wanted.items()))


def _at(
    scenario: Scenario, placements: list[str], rate_hz: float, requests: int, busy: dict[str, tuple[float, int]]
) -> Scenario:
    """Return the scenario with these placements only, at a rate and for as long as the requests take."""
    spare = requests + math.ceil(3 * math.sqrt(requests))  # so many are hardly ever fewer than wanted
    warm_up = max(warm_up_requests(2 * spare, rate_hz * busy[name][0] / 1e3, busy[name][1]) for name in placements)
    duration_s = max((spare + warm_up) / rate_hz, SHORTEST_S)
    arrivals: Any = scenario.workload
    workload = msgspec.structs.replace(arrivals, rate_hz=rate_hz, duration_s=duration_s)
    kept = {name: scenario.placements[name] for name in placements}
    return msgspec.structs.replace(scenario, workload=workload, placements=kept)


def _sentence(curve: LoadCurve, elapsed_s: float) -> str:
    limits = [(name, curve.limit(name).met_hz) for name in curve.placements]
    listed = ", ".join(f"{name} {number(met_hz)}/s" if met_hz else f"{name} none" for name, met_hz in limits)
    return f"{len(curve.probes)} rates in {elapsed_s:.0f} s; deadline met up to: {listed}"
