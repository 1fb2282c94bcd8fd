"""A study on top of a report: its findings merged with those published before, and its data beside the page."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np

from xedge.core import files
from xedge.core.exceptions import ConfigurationError
from xedge.reports import run as report
from xedge.reports.study import Findings, Headline, Study
from xedge.results import showing, statistics, words
from xedge.results.answer import percent
from xedge.results.doubt import Doubt
from xedge.results.evidence import COMPARED_LEVELS
from xedge.results.measurement import Measurement
from xedge.results.statistics import Estimate
from xedge.results.tables import PaperTable

CURVE_POINTS = 60
MOST_HEADLINES = 4


class Prose(str):
    """Text that a notebook shows as a paragraph; `html`, where there is some, is what it shows instead."""

    html: str | None = None

    def _repr_markdown_(self) -> str:
        return str(self).replace("~", "\\~")

    def _repr_html_(self) -> str | None:
        return self.html


def publish(study: Study | Measurement, name: str = "") -> Prose:
    """Put a study on top of the report that is being made, save its data there, and return its conclusion.

    A notebook may publish several, each under a name of its own: the worst verdict stands on top, and numbers and
    conclusions are told apart by the name. In a notebook that nobody makes a report of, nothing is written and the
    conclusion is returned all the same.

    Args:
        study: a measurement, or anything else with `findings()`.
        name: stands before its numbers and its files; needed where a notebook publishes more than one.

    Raises:
        ConfigurationError: this run has published another one under this name.
    """
    shown, before = findings(study) if isinstance(study, Measurement) else study.findings(), report.recorded()
    if name in (names := before.get("published", [])):
        raise ConfigurationError(f"publish: {name!r} is published already: give every study a name of its own")
    for key, value in _merged(before, shown, name).items():
        report.record(key, value)
    report.record("published", [*names, name])
    if (folder := report.data_dir()) is not None:
        for part, file in shown.files.items():
            path = (name or part) if len(shown.files) == 1 else "-".join(filter(None, (name, part)))
            files.saved(partial(file.save, format="csv"), folder / path)
        for part, table in _tables(study).items():
            files.saved(table.save, folder / "tables" / "-".join(filter(None, (name, part))))
    prose = Prose(shown.conclusion)
    if isinstance(study, Measurement):
        prose.html = showing.conclusion_html(study)
    return prose


def _tables(study: Any) -> dict[str, PaperTable]:
    """The tables of a measurement, or the one that a study offers with `table()`."""
    if isinstance(study, Measurement):
        return study.tables()
    return {"table": PaperTable(study.table())} if hasattr(study, "table") else {}


def findings(measurement: Measurement) -> Findings:
    """Return the findings of one measurement: its answer with the numbers it rests on, and its doubts."""
    answer, placements = measurement.answer(), measurement.placements
    latencies = {name: _latencies(measurement, name) for name in placements}
    return Findings(
        conclusion=measurement.conclusion(),
        verdict=measurement.verdict.word,
        headline=[Headline(number.label, number.value, number.unit, minor=number.minor) for number in answer.numbers],
        estimates={name: _numbers(measurement, name, latencies[name]) for name in placements},
        measurements={"": measurement},
        files={"measurement": measurement},
        answer=answer.sentence,
        doubts=measurement.checks(),
    )


def _latencies(measurement: Measurement, placement: str) -> dict[float, Estimate | str]:
    """Level → latency in ms, or why there is none: "saturated", "> 5000 ms (timed out)"."""
    if placement in measurement.verdict.saturated:
        return dict.fromkeys(COMPARED_LEVELS, "saturated")
    timeout_s = measurement.conditions.get("timeout_s")
    estimates = {p: measurement.estimate(placement, p) for p in COMPARED_LEVELS}
    known = {p: e for p, e in estimates.items() if e.value is not None and np.isfinite(e.value)}
    return {p: known[p] if p in known else words.milliseconds(e, timeout_s) for p, e in estimates.items()}


def _numbers(measurement: Measurement, placement: str, latencies: Mapping[float, Estimate | str]) -> dict[str, Any]:
    numbers: dict[str, Any] = {"answered_hz": measurement.evidence[placement].rates_hz["answered_hz"]}
    deadline_ms = measurement.typed_conditions.scenario.deadline_ms
    if deadline_ms is not None:
        share = percent(measurement.goodput(placement, deadline_ms))
        ends = {"value": share.value, "low": share.low, "high": share.high}
        numbers["in_time_percent"] = ends | {"text": words.percentage(share).removesuffix(" %")}
    of = measurement.evidence[placement]
    if of.accuracy is not None:
        share = percent(of.accuracy)
        ends = {"value": share.value, "low": share.low, "high": share.high}
        numbers["accuracy_percent"] = ends | {"text": words.accuracy(of.accuracy).removesuffix(" %")}
    for p, latency in latencies.items():
        number = {"value": None, "text": latency} if isinstance(latency, str) else latency
        numbers[f"{words.level_name(p)}_ms"] = number
    if of.roc_auc is not None:
        numbers["roc_auc"] = of.roc_auc
    return numbers


def _merged(before: Mapping[str, Any], shown: Findings, name: str) -> dict[str, Any]:
    """Return what to record: `shown` under `name` beside what is recorded already."""
    prefix = f"{name}: " if name else ""
    headline = [*before.get("headline", []), *(replace(n, label=prefix + n.label).record() for n in shown.headline)]
    if len(headline) > MOST_HEADLINES:
        headline = [number for number in headline if not number.get("minor")][:MOST_HEADLINES]
    conditions, curves = dict(before.get("conditions", {})), dict(before.get("distributions", {}))
    for part, measurement in shown.measurements.items():
        names = [word for word in (name, part) if word]
        curves |= {": ".join([*names, of]): _curve(measurement, of) for of in measurement.placements}
        conditions = _joined(conditions, shown_conditions(measurement.conditions), " ".join(names))
    merged = {
        "headline": headline,
        "estimates": before.get("estimates", {}) | {f"{prefix}{of}": n for of, n in shown.estimates.items()},
        "distributions": curves,
        "conclusion": "\n\n".join(filter(None, [before.get("conclusion"), f"{prefix}{shown.conclusion}"])),
        "conditions": _joined(conditions, shown.conditions, name),
        **shown.facts,
    }
    if answers := [before.get("answer"), f"{prefix}{shown.answer}" if shown.answer else ""]:
        merged["answer"] = "\n\n".join(filter(None, answers))
    listed = [{"about": prefix, **asdict(doubt)} for doubt in shown.doubts or _lenient(shown.measurements)]
    merged["doubts"] = [*before.get("doubts", []), *listed]
    if verdicts := [word for word in (shown.verdict, before.get("verdict")) if word]:
        merged["verdict"] = max(verdicts, key=report.VERDICTS.index)
    return merged


def _lenient(measurements: Mapping[str, Measurement]) -> list[Doubt]:
    """The severe doubts that `strict=False` let pass: the page of a study must not hide them."""
    lenient = {name: each for name, each in measurements.items() if not each.typed_conditions.strict}
    doubts = [(name, doubt) for name, each in lenient.items() for doubt in each.checks() if doubt.severity == "severe"]
    return [replace(d, placement=": ".join(filter(None, (name, d.placement))) or None) for name, d in doubts]


def _joined(before: Mapping[str, Any], now: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The conditions of both; what differs is told apart by the name of the later one."""
    added = {key if before.get(key, value) == value else f"{key} ({name})": value for key, value in now.items()}
    return {**before, **added}


def _curve(measurement: Measurement, placement: str) -> dict[str, list[float]]:
    """The distribution in few points, for a small figure: share answered within, by latency."""
    pooled = np.concatenate(measurement.latencies_ms(placement))
    latency_ms, share = statistics.ecdf(pooled, CURVE_POINTS)
    return {"latency_ms": [float(f"{x:.4g}") for x in latency_ms], "share": [round(float(y), 4) for y in share]}


def shown_conditions(conditions: Mapping[str, Any]) -> dict[str, Any]:
    """Return the conditions a reader asks for first; all of them are in the data."""
    broker, floor, host = (conditions.get(key) or {} for key in ("broker", "noise_floor", "host"))
    floors = [f"{level} {floor[f'{level}_ms']} ms" for level in ("p50", "p95", "p99") if f"{level}_ms" in floor]
    sides = "on xedge's side" if broker.get("kind") == "external" else "on both sides"
    reached = ", ".join(filter(None, [broker.get("version"), broker.get("tls")]))
    wanted = {
        "broker": f"{reached}, QoS {broker.get('qos')}, TCP_NODELAY {sides}" if broker else "none",
        "noise floor (echo)": ", ".join(floors) or "not measured",
        "ceiling (echo)": f"{floor['ceiling_hz']}/s" if "ceiling_hz" in floor else "not measured",
        "load average before": host.get("load_average_before"),
        "seed": (conditions.get("scenario") or {}).get("seed"),
    }
    for name, check in (conditions.get("link_check") or {}).items():
        asked, measured_ms = check.get("requested_ms") or {}, check.get("measured_ms") or {}
        levels = (
            f"{k.removesuffix('_ms')} {measured_ms[k]} ms measured for {asked_ms} ms" for k, asked_ms in asked.items()
        )
        wanted[f"links of {name}, both ways"] = ", ".join(levels) or "nothing came back"
    for name, facts in (conditions.get("services") or {}).items():
        wanted[f"engine of {name}"] = (
            f"{facts['engine']} {facts['version']} on {facts['device']}, {facts['threads']} thread(s), "
            f"batches up to {facts['max_batch']}, first call {facts['first_call_ms']} ms"
        )
    return wanted
