"""A measurement put on top of a report: verdict, headline numbers, conditions, and its data beside the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from xedge.core.exceptions import ConfigurationError
from xedge.reports import run as report
from xedge.results import rows, statistics, summary, words
from xedge.results.measurement import Measurement
from xedge.results.statistics import Estimate

CURVE_POINTS = 60


class Prose(str):
    """Text that a notebook shows as a paragraph."""

    __slots__ = ()

    def _repr_markdown_(self) -> str:
        return str(self).replace("~", "\\~")


def publish(measurement: Measurement, name: str = "measurement") -> Prose:
    """Put a measurement on top of the report that is being made, save its data there, and return its conclusion.

    A notebook may publish several, each under a name of its own: the worst verdict stands on top, and numbers and
    conclusions are told apart by the name. In a notebook that nobody makes a report of, nothing is written and the
    conclusion is returned all the same.

    Args:
        measurement: what to publish.
        name: the folder its rows and conditions are saved in, beside the page.

    Raises:
        ConfigurationError: this run has published another one under this name.
    """
    conclusion = measurement.conclusion()
    before = report.recorded()
    prefix = "" if name == "measurement" else f"{name}: "
    numbers = {f"{prefix}{placement}": _numbers(measurement, placement) for placement in measurement.placements}
    estimates = {**before.get("estimates", {}), **numbers}
    curves = {f"{prefix}{placement}": _curve(measurement, placement) for placement in measurement.placements}
    if before.get("distributions", {}).keys() & curves.keys():
        raise ConfigurationError(f"publish: {name!r} is published already: give every measurement a name of its own")
    verdicts = [measurement.verdict.word, before.get("verdict") or "VALID"]
    told = [before["conclusion"]] if before.get("conclusion") else []
    report.record("verdict", max(verdicts, key=report.VERDICTS.index))
    report.record("estimates", estimates)
    report.record("headline", headline(estimates))
    report.record("distributions", {**before.get("distributions", {}), **curves})
    report.record("conclusion", "\n\n".join([*told, f"{prefix}{conclusion}"]))
    report.record("conditions", _merged(before.get("conditions", {}), _conditions(measurement.conditions), name))
    if (folder := report.data_dir()) is not None:
        measurement.save(folder / name, format="csv")
    return Prose(conclusion)


def reasons(measurements: Mapping[str, Measurement]) -> str:
    """Return a paragraph, after an empty line, for each of the named measurements that is not VALID, and why."""
    return "".join(f"\n\n{name}: {one.verdict}." for name, one in measurements.items() if not one.verdict.valid)


def _numbers(measurement: Measurement, placement: str) -> dict[str, dict[str, Any]]:
    """The rate answered and p50, p95, p99 of one placement, in the form that `report.record` wants."""
    answered = rows.rates_hz(measurement.rows, placement)["answered_hz"]
    found: dict[str, dict[str, Any]] = {"answered_hz": {"value": answered}}
    saturated = placement in measurement.verdict.saturated
    for p, estimate in summary.estimates(measurement.rows, placement).items():
        if p in summary.COMPARED_LEVELS:
            found[f"{words.level_name(p)}_ms"] = _number(estimate, measurement, saturated)
    return found


def _number(estimate: Estimate, measurement: Measurement, saturated: bool) -> dict[str, Any]:
    if saturated:
        return {"value": None, "text": "saturated"}
    text = words.milliseconds(estimate, measurement.conditions.get("timeout_s"), "")
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "text": text}


def headline(estimates: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[dict[str, str]]:
    """Return the four numbers to begin with: p50 and p99 of two placements, or p99 alone of more."""
    levels = {"p50_ms": "half answered within", "p99_ms": "99 % answered within"}
    wanted = [(name, level) for level in levels for name in estimates if level in estimates[name]]
    if len(estimates) > 2:
        wanted = [(name, level) for name, level in wanted if level == "p99_ms"]
    return [_told(f"{name}, {levels[level]}", estimates[name][level]) for name, level in wanted[:4]]


def _told(label: str, number: Mapping[str, Any]) -> dict[str, str]:
    value, _, margin = number["text"].partition(" ± ")
    detail = f"± {margin} (95 %)" if margin else "no steady state" * (value == "saturated")
    return {"label": label, "value": value, "unit": "ms" if value[:1].isdigit() else "", "detail": detail}


def _curve(measurement: Measurement, placement: str) -> dict[str, list[float]]:
    """The distribution in few points, for a small figure: share answered within, by latency."""
    pooled = np.concatenate(measurement.latencies_ms(placement))
    latency_ms, share = statistics.ecdf(pooled, CURVE_POINTS)
    return {"latency_ms": [float(f"{x:.4g}") for x in latency_ms], "share": [round(float(y), 4) for y in share]}


def _merged(before: dict[str, Any], now: dict[str, Any], name: str) -> dict[str, Any]:
    """The conditions of both; what differs is told apart by the name of the later measurement."""
    return before | {key if before.get(key, value) == value else f"{key} ({name})": value for key, value in now.items()}


def _conditions(conditions: dict[str, Any]) -> dict[str, Any]:
    """The conditions a reader asks for first; all of them are in the data."""
    broker, floor, host = (conditions.get(key) or {} for key in ("broker", "noise_floor", "host"))
    wanted = {
        "broker": f"{broker.get('version')}, QoS {broker.get('qos')}, TCP_NODELAY on both sides",
        "noise floor (echo)": ", ".join(f"{level} {floor.get(f'{level}_ms')} ms" for level in ("p50", "p95", "p99")),
        "ceiling (echo)": f"{floor.get('ceiling_hz')}/s",
        "load average before": host.get("load_average_before"),
        "seed": (conditions.get("scenario") or {}).get("seed"),
    }
    for name, check in (conditions.get("link_check") or {}).items():
        asked, got = check.get("requested_ms") or {}, check.get("measured_ms") or {}
        wanted[f"links of {name}, both ways"] = (
            ", ".join(f"{level.removesuffix('_ms')} {got[level]} ms measured for {asked[level]} ms" for level in asked)
            or "nothing came back"
        )
    for name, facts in (conditions.get("services") or {}).items():
        wanted[f"engine of {name}"] = (
            f"{facts['engine']} {facts['version']} on {facts['device']}, {facts['threads']} thread(s), "
            f"batches up to {facts['max_batch']}, first call {facts['first_call_ms']} ms"
        )
    return wanted
