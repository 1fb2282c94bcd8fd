"""Two measurements merged: only those that were taken alike, the replications numbered on."""

from collections.abc import Mapping
from typing import Any

from xedge.core.exceptions import MeasurementError

ALIKE = ("versions", "host", "broker", "timeout_s", "scenario")  # what two measurements must share to be merged
FREE = {  # and what below those they may differ in
    "scenario": ("seed", "replications"),
    "host": ("load_average_before",),
    "broker": ("host", "port", "url", "name"),
}


def check_alike(conditions: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Refuse to merge what was not taken alike.

    Raises:
        MeasurementError: the message names what differs.
    """
    if unlike := [key for key in ALIKE if _comparable(conditions, key) != _comparable(other, key)]:
        differing = "; ".join(_difference(conditions, other, key) for key in unlike)
        raise MeasurementError(f"these measurements do not belong together, they differ in {differing}")


def merged_conditions(
    conditions: Mapping[str, Any], other: Mapping[str, Any], offset: int, replications: int
) -> dict[str, Any]:
    """Return the conditions of both, the trials of `other` numbered from `offset`, `replications` in all."""
    trials = [{**trial, "replication": trial.get("replication", 0) + offset} for trial in other.get("trials") or []]
    origin = {key: value for key, value in other.items() if key not in {*ALIKE, "trials"}}
    return {
        **conditions,
        "trials": [*(conditions.get("trials") or []), *trials],
        "replications": replications,
        "merged": [*conditions.get("merged", []), {**origin, "scenario": other.get("scenario")}],
    }


def _comparable(conditions: Mapping[str, Any], key: str) -> Any:
    value = conditions.get(key)
    free = FREE.get(key, ())
    return {k: v for k, v in value.items() if k not in free} if isinstance(value, dict) else value


def _difference(conditions: Mapping[str, Any], other: Mapping[str, Any], key: str) -> str:
    """Return "versions (numpy: 1.26 and 2.4)": the key and what is below it that differs."""
    a, b = _comparable(conditions, key), _comparable(other, key)
    if not isinstance(a, dict) or not isinstance(b, dict):
        return f"{key} ({a} and {b})"
    names = [name for name in {**a, **b} if a.get(name) != b.get(name)]
    return f"{key} ({'; '.join(f'{name}: {a.get(name)} and {b.get(name)}' for name in names)})"
