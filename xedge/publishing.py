"""A measurement put on top of a report: verdict, headline numbers, conditions, and its data beside the page."""

from __future__ import annotations

from typing import Any

from xedge import report, summaries
from xedge.measurement import Measurement
from xedge.statistics import Estimate


class Prose(str):
    """Text that a notebook shows as a paragraph."""

    __slots__ = ()

    def _repr_markdown_(self) -> str:
        return str(self).replace("~", "\\~")


def publish(measurement: Measurement, name: str = "measurement") -> Prose:
    """Put a measurement on top of the report that is being made, save its data there, and return its conclusion.

    In a notebook that nobody makes a report of, nothing is written and the conclusion is returned all the same.

    Args:
        measurement: what to publish.
        name: the folder its rows and conditions are saved in, beside the page.
    """
    conclusion = measurement.conclusion()
    report.record("verdict", measurement.verdict.word)
    report.record("headline", _headline(measurement))
    report.record("conclusion", conclusion)
    report.record("conditions", _conditions(measurement.conditions))
    if (folder := report.data_dir()) is not None:
        measurement.save(folder / name, format="csv")
    return Prose(conclusion)


def _headline(measurement: Measurement) -> list[dict[str, str]]:
    """The medians of the first two placements, the difference, and the worst p99."""
    names = measurement.placements[:2]
    found = [_number(measurement, name, 0.5, f"{name}, half answered within") for name in names]
    found += [_number(measurement, name, 0.99, f"{name}, 99 % answered within") for name in names]
    return found


def _number(measurement: Measurement, placement: str, p: float, label: str) -> dict[str, str]:
    if placement in measurement.verdict.saturated:
        return {"label": label, "value": "saturated", "unit": "", "detail": "no steady state"}
    estimate = summaries.estimates(measurement.rows, placement)[p]
    shown = summaries.milliseconds(estimate, measurement.conditions.get("timeout_s"), "")
    value, _, margin = shown.partition(" ± ")
    unit = "ms" if value[:1].isdigit() else ""
    return {"label": label, "value": value, "unit": unit, "detail": _detail(estimate, margin)}


def _detail(estimate: Estimate, margin: str) -> str:
    return f"± {margin} (95 %)" if margin else f"{estimate.n} requests"


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
        asked, got = check["requested_ms"], check["measured_ms"]
        wanted[f"links of {name}, both ways"] = ", ".join(
            f"{level.removesuffix('_ms')} {got[level]} ms measured for {asked[level]} ms" for level in asked
        )
    for name, facts in (conditions.get("services") or {}).items():
        wanted[f"engine of {name}"] = (
            f"{facts['engine']} {facts['version']} on {facts['device']}, {facts['threads']} thread(s), "
            f"batches up to {facts['max_batch']}, first call {facts['first_call_ms']} ms"
        )
    return wanted
