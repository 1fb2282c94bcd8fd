"""What a notebook says about its own run: facts on top of the report and in run.json."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xedge.core import files
from xedge.core.exceptions import ConfigurationError
from xedge.reports import estimates

VERDICTS = ("VALID", "SATURATED", "INVALID")  # the worst last
FOLDER_VARIABLE = "XEDGE_REPORT_DIR"


def data_dir() -> Path | None:
    """Return the folder a notebook saves its data in while a report is made of it; None when interactive."""
    folder = os.environ.get(FOLDER_VARIABLE)
    return Path(folder) if folder else None


def record(key: str, value: Any) -> None:
    """Put one fact on top of the report and into its run.json; does nothing when interactive.

    Args:
        key: `verdict` ("VALID", "INVALID" or "SATURATED"), `headline` (up to four mappings with label,
            value, unit and detail, the last two optional), `conclusion` (a sentence or two; an empty line begins a
            paragraph), `conditions` (a mapping), `estimates` (what the summary table and the index over several runs
            show: {"edge": {"p99_ms": estimate, "knee_hz": {"value": 410, "low": 395, "high": 425}, "load": 0.7}}, the
            unit at the end of each name), `distributions` (what the index draws small: {"edge": {"latency_ms": […],
            "share": […]}}), or a name of your own, which goes to run.json only.
        value: anything that JSON can hold; numbers and arrays of NumPy too.

    Raises:
        ConfigurationError: a verdict, headline, conditions or estimates of another form.
    """
    _check_record(key, value)
    if key == "estimates":
        value = estimates.checked(value)
    folder = data_dir()
    if folder is not None:
        files.write_json(folder / "record.json", {**recorded(), key: value})


def recorded() -> dict[str, Any]:
    """Return what this run has recorded so far; nothing when interactive."""
    folder = data_dir()
    return {} if folder is None else files.read_json(folder / "record.json")


def _check_record(key: str, value: Any) -> None:
    if key == "verdict" and value not in VERDICTS:
        raise ConfigurationError(f"record: the verdict is {value!r}, expected one of {', '.join(VERDICTS)}")
    if key == "conditions" and not isinstance(value, Mapping):
        raise ConfigurationError(f"record: conditions is a {type(value).__name__}, expected a mapping")
    if key == "distributions" and not _are_curves(value):
        raise ConfigurationError("record: distributions is {of what: {latency_ms: [numbers], share: [as many]}}")
    if key == "headline":
        is_list = isinstance(value, list | tuple) and len(value) <= 4
        if not is_list or not all(isinstance(entry, Mapping) and {"label", "value"} <= entry.keys() for entry in value):
            raise ConfigurationError("record: headline is a list of up to four {label, value, unit, detail}")


def _are_curves(value: Any) -> bool:
    """Return whether `value` is what the index can draw: of what → as many latencies in ms as shares."""
    axes = ("latency_ms", "share")
    return isinstance(value, Mapping) and all(
        isinstance(curve, Mapping) and curve.keys() == set(axes) and len(curve[axes[0]]) == len(curve[axes[1]])
        for curve in value.values()
    )
