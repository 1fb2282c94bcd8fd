"""How much load a placement takes: measured rate by rate, searching for the highest that meets a deadline."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import msgspec

from xedge.core.exceptions import ConfigurationError
from xedge.core.progress import Progress
from xedge.reports import run as report
from xedge.reports.publish import Prose, _conditions
from xedge.results.measurement import Measurement
from xedge.results.statistics import minimum_samples, shortest_section
from xedge.results.steadiness import warm_up_requests
from xedge.results.words import level_name, number
from xedge.serving.broker import Broker
from xedge.serving.start import Setting, service_of
from xedge.studies.load.curve import Limit, LoadCurve
from xedge.studies.load.probe import Probe, judge, tried
from xedge.studies.load.search import Search

if TYPE_CHECKING:
    from xedge.runs.scenario import Scenario

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

    The rate doubles until saturation, then the gap between met and failed is halved (on a logarithmic scale) until
    it is as narrow as `resolution`; then the knee and the edge of saturation are narrowed down to a quarter of an
    octave. Every probe is a measurement of its own at one rate; all rates and placements share their seeds, so
    that a higher rate is the same sequence of requests, closer together. Placements that want the same rate next are
    measured in turns. An invalid probe is repeated once. Noise floor and links are measured with the first probe.

    Args:
        scenario: what is measured; its workload says the kind of arrivals, not the rate and duration.
        deadline_ms: what the latency may be at most.
        p: the share of requests that must meet it.
        resolution: how close the highest met and the lowest failed rate are to come, as a share.
        replications: trials of every probe.
        requests: fewest requests of a trial, warm-up apart; a trial lasts as long as they take, 0.3 s at least.
        budget_s: no probe starts that would take the search beyond this; what was found by then is returned, and
            the doubts say so.
        first_hz: the first rate; by default half of what the slowest placement takes one by one.
        strict: a sender that could not keep time makes a probe INVALID; False makes it a doubt.
        progress: show progress.
        broker: one that runs already; by default one is started.

    Raises:
        ConfigurationError: numbers that cannot be meant; nothing was measured.
        ModelError, BrokerError, ServiceError: what the measurement needs is not there.
    """
    _check(scenario, deadline_ms, p, replications, requests)
    began, arms = perf_counter(), list(scenario.placements)
    with (
        nullcontext(broker) if broker else Broker(name="load") as used,
        Progress(USUAL_PROBES * len(arms), "probes", "searching", progress) as bar,
    ):
        busy = {arm: _busy(scenario, arm, used) for arm in arms}
        taken: list[Measurement] = []

        def take(rate_hz: float, together: list[str]) -> Measurement | None:
            one = _at(scenario, together, rate_hz, requests, busy)
            length_s = replications * len(together) * (one.workload.duration_s + BESIDE_S)
            if taken and perf_counter() - began + length_s > budget_s:
                return None
            first = taken[0] if taken else None
            taken.append(one.measure(replications, strict=strict, progress=False, broker=used, calibration=first))
            done = sum(len(each.placements) for each in taken)
            bar.total = max(bar.total, done + len(arms))
            bar.update(done)
            return taken[-1]

        curve = explore(take, Search(first_hz or _first_hz(busy), resolution), arms, deadline_ms, p)
        bar.finish(_sentence(curve, perf_counter() - began))
    return curve


def explore(
    take: Callable[[float, list[str]], Measurement | None],
    search: Search,
    arms: Sequence[str],
    deadline_ms: float,
    p: float,
) -> LoadCurve:
    """Take one measurement after the other until all is found, or nothing more can be taken.

    Args:
        take: measures the placements named at a rate in Hz, or returns None where there is no time for it.
        search: the rates to choose from.
        arms: the placements.
        deadline_ms: what the latency may be at most.
        p: the share of requests that must meet it.
    """
    taken: list[Measurement] = []
    probes: list[Probe] = []
    wanted, ended = _wanted(search, probes, arms), ""
    while wanted and not ended:
        before = len(taken)
        for step, together in wanted.items():
            if (one := take(search.rate_hz(step), together)) is not None:
                taken.append(one)
                probes += [judge(one, arm, deadline_ms, p) for arm in together]
        ended = "no time was left for the next rate" if len(taken) == before else ""
        ceiling_hz = (taken[0].conditions.get("noise_floor") or {}).get("ceiling_hz") if taken else None
        search = replace(search, top_hz=float(ceiling_hz or math.inf))
        wanted = _wanted(search, probes, arms)
    return LoadCurve(tuple(taken), deadline_ms, p, search.resolution, ended)


def _check(scenario: Scenario, deadline_ms: float, p: float, replications: int, requests: int) -> None:
    if not {"rate_hz", "duration_s"} <= set(scenario.workload.as_dict()):
        raise ConfigurationError("load: a trace has one rate only; give arrivals whose rate can be chosen, as Poisson")
    if not 0 < deadline_ms < scenario.timeout_s * 1e3:
        raise ConfigurationError(
            f"load: deadline_ms={deadline_ms:g} must lie between 0 and the scenario's time-out, "
            f"{scenario.timeout_s * 1e3:g} ms"
        )
    shortest, fewest = shortest_section(p), minimum_samples(p)
    if replications < 1 or requests < shortest or replications * requests < fewest:
        raise ConfigurationError(
            f"load: {replications} replication(s) of {requests} requests are too few for {level_name(p)}: give at "
            f"least {shortest} requests a replication and {fewest} in all"
        )


def _busy(scenario: Scenario, arm: str, broker: Broker) -> tuple[float, int]:
    """How long one request keeps the placement busy, in ms, and its servers: the least that several starts say."""
    placement = scenario.placements[arm]
    told: list[tuple[float, int]] = []
    for _ in range(STARTS):
        prefix = "/".join(part for part in (scenario.topic_prefix, f"xedge-{secrets.token_hex(4)}") if part)
        with service_of(placement, Setting(scenario.model, broker, scenario.qos, prefix=prefix)) as service:
            told.append((service.busy_ms, service.servers))
    return min(told)


def _first_hz(busy: dict[str, tuple[float, int]]) -> float:
    slowest_ms = max(busy_ms for busy_ms, _ in busy.values())
    if slowest_ms <= 0:
        raise ConfigurationError("load: a service does not say how long it computes; give first_hz, the first rate")
    return float(f"{1e3 * FIRST_UTILISATION / slowest_ms:.2g}")


def _wanted(search: Search, probes: Sequence[Probe], arms: Sequence[str]) -> dict[int, list[str]]:
    """Which step which placements want to try next."""
    wanted: dict[int, list[str]] = {}
    for arm in arms:
        found = {search.step(rate): one for rate, one in tried(probes, arm).items()}
        if sum(one.times for one in found.values()) < MOST_PROBES and (step := search.next_step(found)) is not None:
            wanted.setdefault(step, []).append(arm)
    return dict(sorted(wanted.items()))


def _at(
    scenario: Scenario, arms: list[str], rate_hz: float, requests: int, busy: dict[str, tuple[float, int]]
) -> Scenario:
    """Return the scenario with these placements only, at a rate and for as long as the requests take."""
    spare = requests + math.ceil(3 * math.sqrt(requests))  # so many are hardly ever fewer than wanted
    warm_up = max(warm_up_requests(2 * spare, rate_hz * busy[arm][0] / 1e3, busy[arm][1]) for arm in arms)
    duration_s = max((spare + warm_up) / rate_hz, SHORTEST_S)
    arrivals: Any = scenario.workload
    workload = msgspec.structs.replace(arrivals, rate_hz=rate_hz, duration_s=duration_s)
    return msgspec.structs.replace(
        scenario, workload=workload, placements={arm: scenario.placements[arm] for arm in arms}
    )


def _sentence(curve: LoadCurve, elapsed_s: float) -> str:
    found = [f"{arm} {number(met)}/s" if (met := curve.limit(arm).met_hz) else f"{arm} none" for arm in curve.arms]
    return f"{len(curve.probes)} rates in {elapsed_s:.0f} s; deadline met up to: {', '.join(found)}"


def publish(curve: LoadCurve, name: str = "load") -> Prose:
    """Put the limits on top of the report that is being made, save all rows there, and return the conclusion.

    Args:
        curve: what to publish.
        name: the folder that the data is saved in, beside the page.
    """
    conclusion = curve.conclusion()
    report.record("verdict", curve.verdict)
    report.record("headline", [_headline(curve, curve.limit(arm)) for arm in curve.arms[:4]])
    report.record("estimates", {arm: _estimates(curve, arm) for arm in curve.arms})
    report.record("conclusion", conclusion)
    report.record("conditions", _conditions(curve.measurements[0].conditions))
    if (folder := report.data_dir()) is not None:
        curve.save(folder / name, format="csv")
    return Prose(conclusion)


def _headline(curve: LoadCurve, limit: Limit) -> dict[str, str]:
    label = f"{limit.arm}, highest rate with {level_name(curve.p)} ≤ {curve.deadline_ms:g} ms"
    failed = f"not shown at {number(limit.failed_hz)}/s" if limit.failed_hz else "the highest tried"
    if limit.met_hz is None:
        value, why = ("none", failed) if limit.failed_hz else ("not known", "no valid probe")
        return {"label": label, "value": value, "unit": "", "detail": why}
    return {"label": label, "value": number(limit.met_hz), "unit": "/s", "detail": failed}


def _estimates(curve: LoadCurve, arm: str) -> dict[str, Any]:
    limit, knee, (steady, stuck) = curve.limit(arm), curve.knee(arm), curve.saturation(arm)
    found = {"highest_hz": _between(limit.met_hz, limit.met_hz, limit.failed_hz)}
    if knee is not None:
        found["knee_hz"] = _between(knee.rate_hz, knee.low_hz, knee.high_hz)
    return {**found, "steady_hz": _between(steady, steady, stuck)}


def _between(value: float | None, low: float | None, high: float | None) -> dict[str, Any]:
    """A rate and its bracket, in the form that `report.record` wants."""
    if value is None:
        return {"value": None, "low": None, "high": high, "text": "none" + (f" (not {number(high)})" if high else "")}
    ends = ("…" if end is None else number(end) for end in (low, high))
    return {"value": value, "low": low, "high": high, "text": f"{number(value)} ({' to '.join(ends)})"}
