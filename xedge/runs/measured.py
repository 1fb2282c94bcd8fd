"""Scenario in, measurement out: interleaved trials on common seeds, beside the noise floor and a check of the links."""

import secrets
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xedge.core import machine
from xedge.core.exceptions import ConfigurationError
from xedge.core.progress import Progress, grouped
from xedge.models.kinds import registered_folder
from xedge.results.conditions import check_alike
from xedge.results.measurement import Measurement
from xedge.results.unfinished import Unfinished
from xedge.runs.calibration import check_links, noise_floor, with_levels
from xedge.runs.faults import check
from xedge.runs.live import INTERVAL_S, Live, asked
from xedge.runs.sender import SWITCH_INTERVAL_S, Sender
from xedge.runs.trial import Requests, fly
from xedge.runs.truth import Truth
from xedge.scenario.placements import Device, model_of
from xedge.scenario.scenario import Replication, Scenario
from xedge.serving.broker import Broker
from xedge.serving.start import Service, Setting, service_of


def measure(
    scenario: Scenario,
    replications: int,
    *,
    strict: bool,
    progress: bool,
    watch: bool | None,
    broker: Broker | None,
    calibration: Measurement | None,
    resume: str | Path | None,
) -> Measurement:
    """Run the scenario; see `Scenario.measure`."""
    if replications < 1:
        raise ConfigurationError(f"replications={replications}: at least one is needed, five for honest intervals")
    # Topics of its own: on a shared broker no other service answers these requests, and none of ours others'.
    prefix = "/".join(part for part in (scenario.topic_prefix, f"xedge-{secrets.token_hex(4)}") if part)
    broker = broker or Broker(name=prefix)
    running = msgspec.structs.replace(_pinned(scenario), topic_prefix=prefix)
    replicated = [Replication.of(running, number) for number in range(replications)]
    plan = [(replication, name) for replication in replicated for name in _order(scenario, replication.number)]
    metrics_s = INTERVAL_S if asked(watch) else 0.0
    began, load_before = datetime.now(UTC).isoformat(timespec="seconds"), machine.load_average()
    with ExitStack() as stack:
        sender = None
        if any(not isinstance(placement, Device) for placement in scenario.placements.values()):
            stack.enter_context(broker)
            sender = stack.enter_context(Sender())
        requests_in_all = sum(len(each.due_ns) for each, _ in plan)
        bar = stack.enter_context(Progress(requests_in_all, "requests", "measuring", progress))
        bar.phase("preparing")
        for name in scenario.placements:  # what does not fit is an error before anything is measured
            answering = service(running, replicated[0], name, broker)
            check(running, name, answering, broker)
            requests = Requests(running, replicated[0], answering)
            truth = Truth.of(running, replicated[0], name, answering.takes, requests.contents)
            if truth is not None:
                truth.check(name, answering)
        conditions: dict[str, Any] = {
            "scenario": scenario.as_dict(),
            "replications": replications,
            "strict": strict,
            "watched": bool(metrics_s),
            "timeout_s": scenario.timeout_s,
            "started_at": began,
            "broker": {} if sender is None else broker.describe() | {"qos": scenario.qos, "tcp_nodelay": True},
            "host": machine.host() | {"load_average_before": load_before},
            "versions": machine.versions(),
            "git_commit": machine.git_commit(),
            "calibrated_at": began if calibration is None else _calibrated_at(calibration),
            "switch_interval_s": SWITCH_INTERVAL_S,
            "trials": [_facts(running, replication, name) for replication, name in plan],
        }
        if resume is not None:
            kept = _resumed(resume, conditions)
        else:
            if sender is None:
                floor, links = {}, {}
            elif calibration is None:
                bar.phase("echo: what broker and sender cost by themselves")
                floor = noise_floor(broker, sender, running, replicated[0].due_ns)
                bar.phase("links: the delay asked for against the delay of an echo")
                links = check_links(broker, sender, running)
            else:
                floor, links = _taken_over(calibration, scenario, broker)
            links = with_levels(links, running, replicated)
            kept = Unfinished.begin(conditions | {"noise_floor": floor, "link_check": links})
        begun = perf_counter()
        with kept.guarded():
            for number, (replication, name) in enumerate(plan):
                if number not in kept:
                    bar.phase(f"measuring {number + 1} of {len(plan)} ({name})")
                    answering = service(running, replication, name, broker, metrics_s)
                    with Live(answering).connected() if metrics_s and answering.prefixes else nullcontext() as live:
                        tick = _ticker(bar, kept.requests, replication.due_ns, live)
                        kept.add(number, *fly(running, replication, answering, name, broker, sender, tick))
            measurement = Measurement(*kept.result())
        bar.finish(_sentence(measurement.rows, perf_counter() - begun))
    return measurement


def _resumed(folder: str | Path, conditions: dict[str, Any]) -> Unfinished:
    """Return the trials kept in `folder`, if those that `conditions` plan are the same, on the same machine."""
    kept = Unfinished.read(folder)
    check_alike(kept.conditions, conditions)
    for name in ("seed", "replications"):
        before, now = ({**each["scenario"], **each}[name] for each in (kept.conditions, conditions))
        if before != now:
            raise ConfigurationError(f"resume: {folder} was begun with {name}={before}, not {now}")
    kept.conditions["resumed_at"] = [*kept.conditions.get("resumed_at", []), conditions["started_at"]]
    return kept


def service(
    scenario: Scenario, replication: Replication, placement: str, broker: Broker, metrics_s: float = 0.0
) -> Service:
    """Return the service of a placement on the replication's links, not yet entered."""
    of, prefix = scenario.placements[placement], scenario.topic_prefix
    model = model_of(of, scenario.model)
    return service_of(of, Setting(model, broker, scenario.qos, replication.link_seed, prefix, metrics_s))


def _pinned(scenario: Scenario) -> Scenario:
    """The scenario with models from a registry named by their folders: the same version for every trial."""

    def folder(model: str) -> str:
        return str(registered_folder(model) or model)

    placements: dict[str, Any] = dict(scenario.placements)
    for name, placement in placements.items():
        if model := getattr(placement, "model", None):
            placements[name] = msgspec.structs.replace(placement, model=folder(model))
    return msgspec.structs.replace(scenario, model=folder(scenario.model), placements=placements)


def _facts(scenario: Scenario, replication: Replication, placement: str) -> dict[str, Any]:
    """What the conditions say of one trial."""
    return {
        "placement": placement,
        "replication": replication.number,
        "schedule_seed": replication.schedule_seed,
        "content_seed": replication.content_seed,
        "link_seed": replication.link_seed,
        "horizon_s": scenario.workload.duration_s,
    }


def _taken_over(calibration: Measurement, scenario: Scenario, broker: Broker) -> tuple[Any, Any]:
    """The noise floor and the link check of a measurement taken behind the same broker and links."""
    before = calibration.conditions
    earlier = type(scenario).from_dict(before["scenario"])
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


def _order(scenario: Scenario, replication: int) -> list[str]:
    """A B, B A, A B, …: a drift of the machine touches all alike."""
    return list(scenario.placements)[:: 1 if replication % 2 == 0 else -1]


def _ticker(bar: Progress, before: int, due_ns: NDArray[Any], live: Live | None) -> Callable[[float], None]:
    def tick(elapsed_s: float) -> None:
        bar.update(before + int(np.searchsorted(due_ns, elapsed_s * 1e9)))
        if live is not None:
            bar.live(live.text())

    return tick


def _sentence(rows: pd.DataFrame, elapsed_s: float) -> str:
    bad = rows["status"].value_counts().drop("ok", errors="ignore")
    fate = ", ".join(f"{grouped(count)} {status.replace('_', ' ')}" for status, count in bad.items()) or "all answered"
    apart = f", {grouped(warm_up)} of them warm-up" if (warm_up := int(rows["warm_up"].sum())) else ""
    return f"{grouped(len(rows))} requests{apart}, in {elapsed_s:.1f} s, {fate}"
