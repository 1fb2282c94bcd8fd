"""The rows of a measurement, one a scheduled request: their schema, and the numbers made of them."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd

from xedge.core.exceptions import MeasurementError
from xedge.results.lateness import possible_shift, punctual
from xedge.results.statistics import FloatArray

STAMPS = ("due_ns", "sent_ns", "arrived_ns", "started_ns", "finished_ns", "departed_ns", "received_ns")
PARTS = ("lateness", "uplink", "queueing", "inference", "downlink", "residual")
STATUSES = ("ok", "error", "timeout", "lost", "not_sent")
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
    if unknown := sorted(set(table["status"].fillna("missing")) - set(STATUSES)):
        raise MeasurementError(f"unknown status {', '.join(unknown)}: every row is one of {', '.join(STATUSES)}")
    return table


def placements_of(rows: pd.DataFrame) -> list[str]:
    """Return the placements in the order in which the rows first name them."""
    return [str(name) for name in rows["placement"].unique()]


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


def least_latency_ms(trial: pd.DataFrame, timeout_ms: float = math.inf) -> FloatArray:
    """Return the least that the latencies of a trial can have been with a punctual sender, ms, at most `timeout_ms`.

    The latency less what `xedge.results.lateness.possible_shift` says; NaN if an error or never sent. Of a request that
    was not answered it is known that it took the time-out, less the same.
    """
    readings = (
        trial[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in ("due_ns", "sent_ns", "received_ns")
    )
    latency, waited = latency_ms(trial), milliseconds_between(trial, "due_ns", "received_ns")
    answered_late = np.isinf(latency) & ~np.isnan(waited) & math.isfinite(timeout_ms)
    known = np.where(answered_late, waited, np.minimum(latency, timeout_ms))
    return np.minimum(punctual(known, possible_shift(*readings) / 1e6), timeout_ms)


def replications(
    rows: pd.DataFrame, placement: str, measure: Callable[[pd.DataFrame], FloatArray] = latency_ms
) -> dict[int, FloatArray]:
    """Return replication → latencies in ms, in the order of the schedule, warm-up and NaN left out."""
    latencies = {}
    for replication, trial in trials(rows, placement):
        latency = measure(trial)[~trial["warm_up"].to_numpy()]
        latencies[replication] = latency[~np.isnan(latency)]
    return latencies


def parts_ns(rows: pd.DataFrame) -> pd.DataFrame:
    """Return where the time of every answered row went: columns `PARTS`, Int64 ns, same index.

    They add up to received − due exactly. A reading that is missing takes the one before it: its part is 0
    and the time falls to the next part that was read (a service without readings leaves it in `residual`).
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
    table = []
    for placement in placements:
        parts = parts_ns(measured(rows, placement)).astype("float64") / 1e6
        parts = parts.assign(latency=parts.sum(axis=1))
        total = parts["latency"].mean()
        table += [
            {
                "placement": placement,
                "part": part,
                "median_ms": parts[part].median(),
                "mean_ms": parts[part].mean(),
                "share": parts[part].mean() / total if total else math.nan,
            }
            for part in parts.columns
        ]
    return pd.DataFrame(table, columns=["placement", "part", "median_ms", "mean_ms", "share"])


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
    """Return the share of the trials' measured part in which a server of `placement` was busy; NaN without readings.

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
