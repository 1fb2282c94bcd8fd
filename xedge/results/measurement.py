"""A measurement: rows, one a scheduled request, with the conditions they were taken under."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from xedge.core.exceptions import MeasurementError
from xedge.results import comparison, rows, storage, summary, words
from xedge.results import verdict as checks
from xedge.results.rows import typed
from xedge.results.statistics import Estimate, FloatArray, share_estimate
from xedge.results.words import percent

if TYPE_CHECKING:
    from xedge.results.figures import ReportFigure

_SAME = ("versions", "host", "broker", "timeout_s", "scenario")  # what two measurements must share to be one
_FREE = {  # and what below those they may differ in
    "scenario": ("seed", "replications"),
    "host": ("load_average_before",),
    "broker": ("host", "port", "url", "name"),
}
_NAMED = ("xedge", "python", "onnxruntime", "torch", "paho-mqtt")  # the versions worth a line; all are in the JSON
_MARKS = {"VALID": "✓", "SATURATED": "▲", "INVALID": "✗"}
_COLOURS = {"VALID": "#1a7f37", "SATURATED": "#9a6700", "INVALID": "#b42318"}


@dataclass(frozen=True, eq=False, repr=False)
class Measurement:
    """Rows of one or more trials and their conditions, frozen together.

    `rows` is a table with the columns of `xedge.results.rows.COLUMNS`, one row a scheduled request, nothing left
    out (times in ns since the start of the trial, NA where there is no reading); `conditions` is a dictionary
    that JSON can hold. Both are copied; treat them as read-only and take `.copy()` of the rows to change them.

    Raises:
        MeasurementError: the rows are empty or not of the schema, or the conditions are not JSON.

    """

    rows: pd.DataFrame
    conditions: dict[str, Any]

    def __post_init__(self) -> None:
        rows = typed(self.rows)
        if rows.empty:
            raise MeasurementError("no rows: a measurement has one row for every scheduled request")
        try:
            conditions = json.loads(json.dumps(dict(self.conditions), default=_plain))
        except TypeError as error:
            raise MeasurementError(f"the conditions cannot be written as JSON: {error}") from error
        object.__setattr__(self, "rows", rows)
        object.__setattr__(self, "conditions", conditions)

    @property
    def placements(self) -> list[str]:
        """The placements measured, in the order of the rows."""
        return checks.placements_of(self.rows)

    @cached_property
    def verdict(self) -> checks.Verdict:
        """VALID, INVALID or SATURATED, with reasons."""
        return checks.verdict(self.rows, self.conditions)

    @cached_property
    def _doubts(self) -> tuple[checks.Doubt, ...]:
        return tuple(checks.doubts(self.rows, self.conditions))

    def checks(self) -> list[checks.Doubt]:
        """Return the doubts about these figures, in words, severe ones first."""
        return list(self._doubts)

    def latencies_ms(self, placement: str) -> list[FloatArray]:
        """Return the latency received − due in ms, one array a replication, warm-up apart.

        Timed out or lost requests are +inf; requests answered with an error or never sent are left out.
        """
        return list(rows.replications(self.rows, self._known(placement)).values())

    def summary(self) -> pd.DataFrame:
        """Return one row a placement: rates in Hz, utilisation, counts by status, p50 p90 p95 p99 in ms with intervals.

        NaN stands for too few requests or no steady state, inf for "more than the time-out".
        """
        facts = self.conditions.get("services") or {}
        servers = {name: one.get("servers", 1) * one.get("boxes", 1) for name, one in facts.items()}
        return summary.summary(self.rows, self.placements, self.verdict.saturated, servers)

    def breakdown(self) -> pd.DataFrame:
        """Return the median and mean of every part of the latency, in ms, one row a placement and part."""
        return rows.breakdown(self.rows, self.placements)

    def compare(self, a: str, b: str) -> comparison.Comparison:
        """Return how much slower `b` is than `a`, paired by replication, with intervals."""
        return comparison.compare(self.rows, self._known(a), self._known(b), self.verdict.saturated)

    def goodput(self, placement: str, deadline_ms: float) -> Estimate:
        """Return the share of scheduled requests answered within `deadline_ms`, with its interval.

        Requests that failed in any way did not meet the deadline. Wilson's interval for as many independent requests as
        these, who meet the same queues, are worth (`xedge.results.statistics.share_estimate`).
        """
        own = [trial[~trial["warm_up"]] for _, trial in rows.trials(self.rows, self._known(placement))]
        return share_estimate([rows.latency_ms(trial) <= deadline_ms for trial in own])

    def plot(self) -> ReportFigure:
        """Return the report's figure: the distribution, the tail, where the time goes, and when."""
        from xedge.results.figures import figure

        return figure(self)

    def save(self, path: str | Path, format: storage.Format | None = None) -> Path:  # noqa: A002
        """Write a folder with the rows, `conditions.json` and `verdict.json`, replacing a measurement there.

        The rows are `rows.parquet` where pyarrow is installed, else `rows.csv.gz`; `format` decides otherwise.
        The folder appears complete or not at all.

        Raises:
            MeasurementError: `path` is there and is no measurement.
            MissingExtraError: parquet was asked for without pyarrow.

        """
        reasons = [str(reason) for reason in self.verdict.reasons]
        verdict = {"verdict": self.verdict.word, "reasons": reasons}
        return storage.write(Path(path), self.rows, self.conditions, verdict, format)

    @classmethod
    def load(cls, path: str | Path) -> Measurement:
        """Read the folder that `save` wrote; the rows come back with exactly the dtypes and values they had."""
        return cls(*storage.read(Path(path)))

    def merge(self, other: Measurement) -> Measurement:
        """Return one measurement of both, the replications of `other` numbered after those of this one.

        Raises:
            MeasurementError: they were not taken alike (versions, host, broker, time-out, scenario apart from
                seed and replications); the message names what differs.

        """
        if unlike := [key for key in _SAME if _comparable(self, key) != _comparable(other, key)]:
            differing = "; ".join(_difference(self, other, key) for key in unlike)
            raise MeasurementError(f"these measurements do not belong together, they differ in {differing}")
        if self.rows.equals(other.rows):
            raise MeasurementError("both measurements have the same rows: merging would count every request twice")
        offset = int(self.rows["replication"].max()) + 1
        moved = other.rows.assign(replication=other.rows["replication"] + offset)
        trials = [{**one, "replication": one.get("replication", 0) + offset} for one in _trials(other)]
        origin = {key: value for key, value in other.conditions.items() if key not in {*_SAME, "trials"}}
        conditions = {
            **self.conditions,
            "trials": [*_trials(self), *trials],
            "replications": offset + int(other.rows["replication"].max()) + 1,
            "merged": [*self.conditions.get("merged", []), {**origin, "scenario": other.conditions.get("scenario")}],
        }
        return Measurement(pd.concat([self.rows, moved], ignore_index=True), conditions)

    def conclusion(self) -> str:
        """Return a paragraph in plain words: how fast, who is faster by how much, where the time goes, doubts."""
        found = [] if self.verdict.valid else [f"{self.verdict}."]
        if len(self.placements) > 1:
            first, *others = sorted(self.placements, key=self._median)
            found += [_sentence(str(self.compare(first, other))) for other in others]
        found += [_sentence(f"{name} {self._speed(name)}.") for name in self.placements]
        parts = self.breakdown()
        found += [f"At {name} {_where(parts[parts['placement'] == name])}." for name in self.placements]
        texts = [str(doubt) for doubt in self._doubts if doubt not in self.verdict.reasons]
        none = "No check raised a doubt." if self.verdict.valid else "No further doubt."
        found.append(f"Doubts: {'; '.join(texts)}." if texts else none)
        return " ".join(found)

    def _known(self, placement: str) -> str:
        if placement not in self.placements:
            known = ", ".join(self.placements)
            raise MeasurementError(f"no placement {placement!r} in this measurement: it has {known}")
        return placement

    @cached_property
    def _estimates(self) -> dict[str, dict[float, Estimate]]:
        return {name: summary.estimates(self.rows, name) for name in self.placements}

    def _median(self, placement: str) -> float:
        value = self._estimates[placement][0.5].value
        return math.inf if value is None or placement in self.verdict.saturated else value

    def _latency(self, placement: str, p: float, unit: str = " ms") -> str:
        """Return the percentile as people read it, or why there is none."""
        if placement in self.verdict.saturated:
            return "saturated"
        return words.milliseconds(self._estimates[placement][p], self.conditions.get("timeout_s"), unit)

    def _speed(self, placement: str) -> str:
        offered, answered = (rows.rates_hz(self.rows, placement)[key] for key in ("offered_hz", "answered_hz"))
        if placement in self.verdict.saturated:
            return f"was saturated: it answered {words.number(answered)} of {words.number(offered)} requests/s"
        return (
            f"answered {words.number(answered)} of {words.number(offered)} requests/s, half of them within "
            f"{self._latency(placement, 0.5)} and 99 % within {self._latency(placement, 0.99)}"
        )

    def _table(self, unit: str = "") -> list[list[str]]:
        """Return the summary in words: the heads, then a row a placement."""
        heads = ["placement", "requests", "offered/s", "sent/s", "answered/s", "failed"]
        table = [heads + [f"{words.level_name(p)}, ms" for p in summary.LEVELS]]
        for name in self.placements:
            own = rows.measured(self.rows, name)
            rates = [f"{rate:.4g}" for rate in rows.rates_hz(self.rows, name).values()]
            failed = words.count(int((own["status"] != "ok").sum()))
            latencies = [self._latency(name, p, unit) for p in summary.LEVELS]
            table.append([name, words.count(len(own)), *rates, failed, *latencies])
        return table

    def __repr__(self) -> str:
        table = self._table()
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in table]
        texts = [f"  - {doubt}" for doubt in self._doubts] or ["  no check raised a doubt"]
        return "\n".join([f"Measurement: {self.verdict.word}", *lines, _method(self), *texts])

    def _repr_html_(self) -> str:
        badge = (
            f'<span style="background:{_COLOURS[self.verdict.word]};color:#fff;font-weight:bold;'
            f'padding:1px 8px;border-radius:3px">{_MARKS[self.verdict.word]} {self.verdict.word}</span>'
        )
        heads, *rows = [[html.escape(cell) for cell in row] for row in self._table()]
        head = "".join(f"<th>{cell}</th>" for cell in heads)
        body = "".join(f"<tr><th>{row[0]}</th><td>{'</td><td>'.join(row[1:])}</td></tr>" for row in rows)
        texts = "".join(f"<li>{doubt.severity}: {html.escape(str(doubt))}</li>" for doubt in self._doubts)
        listed = f"Doubts:<ul>{texts}</ul>" if texts else "No check raised a doubt."
        return (
            f"<div><p>{badge} {html.escape(_headline(self.conditions))}</p>"
            f'<table style="color:inherit"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
            f"<p><small>{html.escape(_method(self))}</small></p>{listed}"
            f"<p><small>{html.escape(_surroundings(self.conditions))}</small></p></div>"
        )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _where(parts: pd.DataFrame) -> str:
    """Return "the time goes to inference (62 %), uplink (20 %)" for the parts of one placement."""
    shares = parts[parts["part"] != "latency"].nlargest(3, "share")
    words = [f"{row.part} ({percent(row.share)})" for row in shares.itertuples() if row.share >= 0.05]
    return f"the time goes to {', '.join(words)} of the mean latency" if words else "nothing was answered"


def _method(measurement: Measurement) -> str:
    """Return what the columns mean, and the noise floor to read them against."""
    runs = measurement.rows["replication"].nunique()
    kind = f"{runs} replications" if runs > 1 else "the batches of one replication"
    text = f"Latency from the time a request was due; ± is a 95 % interval (Student t over {kind})."
    floor = measurement.conditions.get("noise_floor") or {}
    levels = [f"{level} {floor[f'{level}_ms']:.3g}" for level in ("p50", "p95", "p99") if f"{level}_ms" in floor]
    return f"{text} Noise floor (echo): {', '.join(levels)} ms." if levels else text


def _headline(conditions: Mapping[str, Any]) -> str:
    scenario = conditions.get("scenario") or {}
    workload = scenario.get("workload") or {}
    parts = [_name(scenario.get("model")), _name(workload.get("kind"))]
    parts += [f"{workload['rate_hz']:g} requests/s"] if "rate_hz" in workload else []
    parts += [f"{workload['duration_s']:g} s"] if "duration_s" in workload else []
    if runs := conditions.get("replications"):
        parts.append(f"{runs} replication{'s' * (runs != 1)}")
    return " · ".join(part for part in parts if part)


def _name(value: Any) -> str:
    return str((value.get("name") or value.get("kind") or "") if isinstance(value, Mapping) else value or "")


def _surroundings(conditions: Mapping[str, Any]) -> str:
    """Return one line of conditions: broker, host, versions, seed, commit, time."""
    broker, host = conditions.get("broker") or {}, conditions.get("host") or {}
    parts = [" ".join(str(broker[key]) for key in ("kind", "version") if broker.get(key))]
    parts += [f"{host[key]}{' cores' * (key == 'cores')}" for key in ("cpu", "cores", "os") if host.get(key)]
    versions = conditions.get("versions") or {}
    parts += [f"{name} {versions[name]}" for name in _NAMED if name in versions]
    seed = (conditions.get("scenario") or {}).get("seed")
    parts += [f"seed {seed}"] if seed is not None else []
    parts += [_commit(conditions["git_commit"])] if conditions.get("git_commit") else []
    parts += [str(conditions["started_at"])] if conditions.get("started_at") else []
    return " · ".join(part for part in parts if part)


def _commit(commit: Any) -> str:
    if isinstance(commit, Mapping):
        return f"commit {str(commit.get('commit'))[:10]}{' (changed)' if commit.get('dirty') else ''}"
    return f"commit {str(commit)[:10]}"


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{value!r} is of type {type(value).__name__}")


def _trials(measurement: Measurement) -> list[dict[str, Any]]:
    return list(measurement.conditions.get("trials") or [])


def _comparable(measurement: Measurement, key: str) -> Any:
    value = measurement.conditions.get(key)
    free = _FREE.get(key, ())
    return {k: v for k, v in value.items() if k not in free} if isinstance(value, dict) else value


def _difference(one: Measurement, other: Measurement, key: str) -> str:
    """Return "versions (numpy: 1.26 and 2.4)": the key and what is below it that differs."""
    a, b = _comparable(one, key), _comparable(other, key)
    if not isinstance(a, dict) or not isinstance(b, dict):
        return f"{key} ({a} and {b})"
    names = [name for name in {**a, **b} if a.get(name) != b.get(name)]
    return f"{key} ({'; '.join(f'{name}: {a.get(name)} and {b.get(name)}' for name in names)})"
