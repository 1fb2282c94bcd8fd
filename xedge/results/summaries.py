"""The rows of a measurement, and the numbers and words made of them: sections, parts, tables, comparisons."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from xedge.core.exceptions import MeasurementError
from xedge.results.statistics import (
    Estimate,
    FloatArray,
    batches,
    paired_difference,
    quantile_estimate,
    shortest_section,
)

STAMPS = ("due_ns", "sent_ns", "arrived_ns", "started_ns", "finished_ns", "departed_ns", "received_ns")
PARTS = ("lateness", "uplink", "queueing", "inference", "downlink", "residual")
STATUSES = ("ok", "error", "timeout", "lost", "not_sent")
LEVELS = (0.50, 0.90, 0.95, 0.99)
COMPARED_LEVELS = (0.50, 0.95, 0.99)
COLUMNS = {
    "placement": "string",
    "replication": "int64",
    "request": "int64",
    "warm_up": "bool",
    **dict.fromkeys(STAMPS, "Int64"),
    "status": "string",
    "prediction": "float64",
    "payload_bytes": "int64",
    "error": "string",
}


def typed(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a copy of `rows` with the columns of the schema first and in its dtypes; further columns stay.

    Raises:
        MeasurementError: a column is missing or of another kind, or a status unknown: named in the message.

    """
    if missing := [name for name in COLUMNS if name not in rows.columns]:
        raise MeasurementError(f"the rows lack the columns {', '.join(missing)}: a measurement needs all of the schema")
    further = [name for name in rows.columns if name not in COLUMNS]
    try:
        table = rows[[*COLUMNS, *further]].astype(COLUMNS).reset_index(drop=True)
    except (TypeError, ValueError) as error:
        raise MeasurementError(f"a column of the rows is not of its kind: {error}") from error
    if unknown := sorted(set(table["status"].dropna()) - set(STATUSES)) or table["status"].isna().any():
        raise MeasurementError(f"unknown status {unknown}: every row is one of {', '.join(STATUSES)}")
    return table


def level_name(p: float) -> str:
    """Return "p99" for 0.99 and "p99.9" for 0.999."""
    return f"p{100 * p:.10g}"


def measured(rows: pd.DataFrame, placement: str) -> pd.DataFrame:
    """Return the rows of `placement` without the warm-up."""
    return rows[(rows["placement"] == placement) & ~rows["warm_up"]]


def trials(rows: pd.DataFrame, placement: str) -> Iterator[tuple[int, pd.DataFrame]]:
    """Yield (replication, its rows in the order of the schedule, warm-up included) of `placement`."""
    of_placement = rows[rows["placement"] == placement].sort_values(["replication", "request"], kind="stable")
    for replication, trial in of_placement.groupby("replication", sort=True):
        yield int(replication), trial


def milliseconds_between(rows: pd.DataFrame, begin: str, end: str) -> FloatArray:
    """Return `end` − `begin` of every row in ms, shape (n,), NaN without a reading."""
    nanoseconds = np.asarray((rows[end] - rows[begin]).to_numpy(dtype=np.float64, na_value=np.nan))
    return nanoseconds / 1e6


def latency_ms(rows: pd.DataFrame) -> FloatArray:
    """Return received − due of every row in ms: +inf if timed out or lost, NaN if an error or never sent."""
    latency = milliseconds_between(rows, "due_ns", "received_ns")
    status = rows["status"].to_numpy(dtype=object)
    latency[np.isin(status, ("timeout", "lost"))] = np.inf
    latency[np.isin(status, ("error", "not_sent"))] = np.nan
    return latency


def replications(rows: pd.DataFrame, placement: str) -> dict[int, FloatArray]:
    """Return replication → latencies in ms, in the order of the schedule, warm-up and NaN left out."""
    found = {}
    for replication, trial in trials(rows, placement):
        latency = latency_ms(trial[~trial["warm_up"]])
        found[replication] = latency[~np.isnan(latency)]
    return found


def sections(arrays: Sequence[npt.ArrayLike], p: float) -> Sequence[npt.ArrayLike]:
    """Return the replications as they are, or contiguous batches of a single one, to estimate level `p`."""
    return arrays if len(arrays) != 1 else batches(arrays[0], shortest=shortest_section(p))


def estimates(rows: pd.DataFrame, placement: str) -> dict[float, Estimate]:
    """Return level → estimate of the latency in ms at p50, p90, p95, p99."""
    arrays = list(replications(rows, placement).values())
    return {p: quantile_estimate(sections(arrays, p), p) for p in LEVELS}


def parts_ns(rows: pd.DataFrame) -> pd.DataFrame:
    """Return where the time of every answered row went: columns `PARTS`, Int64 ns, same index.

    They add up to received − due exactly. A reading that is missing takes the one before it: its part is 0
    and the time falls to the next part that was read (a service that tells nothing leaves it in `residual`).
    """
    answered = rows[(rows["status"] == "ok") & rows["received_ns"].notna()]
    columns, before = {}, answered["due_ns"]
    for part, stamp in zip(PARTS, STAMPS[1:], strict=True):
        now = answered[stamp].fillna(before)
        columns[part], before = now - before, now
    return pd.DataFrame(columns, index=answered.index)


def breakdown(rows: pd.DataFrame, placements: Sequence[str]) -> pd.DataFrame:
    """Return one row a placement and part, with `median_ms`, `mean_ms` and `share` of the mean latency.

    The means add up to the row `latency`; medians do not.
    """
    found = []
    for placement in placements:
        parts = parts_ns(measured(rows, placement)).astype("float64") / 1e6
        table = parts.assign(latency=parts.sum(axis=1))
        total = table["latency"].mean()
        found += [
            {
                "placement": placement,
                "part": part,
                "median_ms": table[part].median(),
                "mean_ms": table[part].mean(),
                "share": table[part].mean() / total if total else math.nan,
            }
            for part in table.columns
        ]
    return pd.DataFrame(found, columns=["placement", "part", "median_ms", "mean_ms", "share"])


def rates_hz(rows: pd.DataFrame, placement: str) -> dict[str, float]:
    """Return `offered_hz`, `sent_hz`, `answered_hz`: events in the trials' measured part over its length.

    Answers are counted in the window shifted by the trial's shortest latency: a long way is no deficit.
    """
    counts, length = np.zeros(3), 0.0
    for _, trial in trials(rows, placement):
        due = trial["due_ns"].to_numpy(dtype=np.float64)
        begin, end = due[~trial["warm_up"]].min(initial=np.inf), due.max(initial=-np.inf)
        if end <= begin or not math.isfinite(begin):
            continue
        length += (end - begin) / 1e9
        sent = trial["sent_ns"].to_numpy(dtype=np.float64, na_value=np.inf)
        answered = trial["status"].isin(["ok", "error"]) & trial["received_ns"].notna()
        received = trial["received_ns"].to_numpy(dtype=np.float64, na_value=np.inf)[answered]
        shift = np.min(received - due[answered], initial=np.inf) if answered.any() else 0.0
        counts += [np.sum((at >= begin) & (at < end)) for at in (due, sent, received - shift)]
    values = counts / length if length else np.full(3, np.nan)
    return dict(zip(("offered_hz", "sent_hz", "answered_hz"), map(float, values), strict=True))


def utilisation(rows: pd.DataFrame, placement: str, servers: int = 1) -> float:
    """Return the share of the trials' measured part in which a server of `placement` was busy; NaN if it tells nothing.

    Requests of one batch have the same readings `started` and `finished` and count once.
    """
    busy = length = 0.0
    for _, trial in trials(rows, placement):
        due = trial["due_ns"].to_numpy(dtype=np.float64)
        begin, end = due[~trial["warm_up"]].min(initial=np.inf), due.max(initial=-np.inf)
        spans = trial[["started_ns", "finished_ns"]].dropna().drop_duplicates().to_numpy(dtype=np.float64)
        if end > begin and len(spans):
            length += end - begin
            busy += float(np.diff(np.clip(spans, begin, end), axis=1).sum())
    return busy / (length * servers) if length else math.nan


def summary(
    rows: pd.DataFrame, placements: Sequence[str], saturated: Sequence[str], servers: Mapping[str, int] | None = None
) -> pd.DataFrame:
    """Return one row a placement: rates in Hz, utilisation, counts by status, percentiles in ms with `_low`, `_high`.

    NaN where there are too few requests or the placement is saturated (no steady state has percentiles); inf
    where too many requests timed out. `servers` says how many batches a placement can have in inference at once,
    where that is not one.
    """
    table = []
    for placement in placements:
        own = measured(rows, placement)
        counts = own["status"].value_counts()
        row: dict[str, Any] = {"placement": placement, "requests": len(own), **rates_hz(rows, placement)}
        row["utilisation"] = utilisation(rows, placement, (servers or {}).get(placement, 1))
        row |= {status: int(counts.get(status, 0)) for status in STATUSES}
        for p, estimate in estimates(rows, placement).items():
            for suffix, value in (("", estimate.value), ("_low", estimate.low), ("_high", estimate.high)):
                none = value is None or placement in saturated
                row[f"{level_name(p)}_ms{suffix}"] = math.nan if none or value is None else max(value, 0.0)
        table.append(row)
    return pd.DataFrame(table)


def count(n: int) -> str:
    """Return 20000 as "20 000", with a space that does not break."""
    return f"{n:,}".replace(",", "\u202f")


def percent(share: float, digits: int = 0) -> str:
    """Return 0.123 as "12 %"."""
    return f"{100 * share:.{digits}f} %"


def number(value: float) -> str:
    """Return a number with three significant digits and never an exponent: "0.171", "12.3", "1 320"."""
    return count(round(value)) if abs(value) >= 100 else f"{value:.3g}"


def decimals(value: float, half: float | None) -> int:
    """Return how many decimals to print: two digits of the half-width, or four of the value; at most 3."""
    basis, digits = (half, 1) if half else (value, 3)
    return min(max(digits - math.floor(math.log10(abs(basis))), 0), 3) if basis else 3


def milliseconds(estimate: Estimate, timeout_s: float | None = None, unit: str = " ms") -> str:
    """Return "1.213 ± 0.021 ms", "> 5000 ms (timed out)" or "too few (n < 299)": as people read it."""
    if estimate.value is None:
        return f"too few (n < {estimate.needed})" if estimate.too_few else "not known"
    if math.isinf(estimate.value):
        return f"> {1000 * timeout_s:.0f}{unit} (timed out)" if timeout_s else "timed out"
    places = decimals(estimate.value, estimate.half_width)
    interval = "" if estimate.half_width is None else f" ± {estimate.half_width:.{places}f}"
    return f"{estimate.value:.{places}f}{interval}{unit}"


@dataclass(frozen=True)
class Comparison:
    """How much slower `b` is than `a` at p50, p95 and p99: paired differences b − a of the latency in ms.

    `note` says why there are none, where a placement is saturated.
    """

    a: str
    b: str
    differences: Mapping[float, Estimate]
    note: str = ""

    def table(self) -> pd.DataFrame:
        """Return one row a level with the `difference_ms` b − a, its interval and what it rests on."""
        return pd.DataFrame(
            [(level_name(p), e.value, e.low, e.high, e.n, e.sections, e.method) for p, e in self.differences.items()],
            columns=["level", "difference_ms", "low_ms", "high_ms", "n", "sections", "method"],
        )

    def __str__(self) -> str:
        if self.note:
            return self.note
        return "; ".join(self._clause(p, estimate) for p, estimate in self.differences.items()) + "."

    def _clause(self, p: float, estimate: Estimate) -> str:
        name, value = level_name(p), estimate.value
        if value is None:
            known = milliseconds(estimate) if estimate.too_few else "both timed out"
            return f"at {name} {self.a} and {self.b} cannot be compared: {known}"
        faster, slower = (self.a, self.b) if value >= 0 else (self.b, self.a)
        if math.isinf(value):
            return f"at {name} {faster} is faster: {slower} timed out"
        positive = Estimate(abs(value), None, None, estimate.n, estimate.sections, estimate.method)
        if estimate.low is None or estimate.high is None:
            return f"at {name} {faster} is {milliseconds(positive)} faster than {slower} (no interval)"
        if estimate.low <= 0 <= estimate.high:
            return f"at {name} no difference is shown: {self.b} − {self.a} is {milliseconds(estimate)}"
        low, high = sorted((abs(estimate.low), abs(estimate.high)))
        positive = Estimate(abs(value), low, high, estimate.n, estimate.sections, estimate.method)
        return f"at {name} {faster} is {milliseconds(positive)} faster than {slower}"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{level_name(p)}</th><td>{html.escape(milliseconds(e))}</td><td>{html.escape(e.method)}</td></tr>"
            for p, e in self.differences.items()
        )
        head = f"<tr><th></th><th>{html.escape(self.b)} − {html.escape(self.a)}</th><th>interval</th></tr>"
        return f"<p>{html.escape(str(self))}</p>" + (f"<table>{head}{rows}</table>" if rows else "")


def compare(rows: pd.DataFrame, a: str, b: str, saturated: Sequence[str] = ()) -> Comparison:
    """Compare placements `a` and `b` over the replications that both have (common random numbers)."""
    if stuck := [placement for placement in (a, b) if placement in saturated]:
        note = f"{' and '.join(stuck)} saturated: no steady state, so no percentiles of {a} and {b} to compare."
        return Comparison(a, b, {}, note)
    of_a, of_b = replications(rows, a), replications(rows, b)
    both = sorted(of_a.keys() & of_b.keys())
    if not both:
        raise MeasurementError(f"{a} and {b} share no replication: measure them in one scenario to compare them")
    arms = [of_a[key] for key in both], [of_b[key] for key in both]
    return Comparison(a, b, {p: _difference(*arms, p) for p in COMPARED_LEVELS})


def _difference(a: Sequence[FloatArray], b: Sequence[FloatArray], p: float) -> Estimate:
    if len(a) > 1:
        return paired_difference(a, b, p)
    pairs = min(len(sections(a, p)), len(sections(b, p)))  # an arm with failures is shorter: as many batches
    return paired_difference(batches(a[0], pairs), batches(b[0], pairs), p)
