"""The rows of a measurement, one a scheduled request: their schema, and the times they say of each request."""

import math

import numpy as np
import pandas as pd

from xedge.core.exceptions import MeasurementError
from xedge.results.statistics import FloatArray

STAMPS = ("due_ns", "sent_ns", "read_ns", "arrived_ns", "started_ns", "finished_ns", "departed_ns", "received_ns")
PARTS = ("lateness", "broker in", "uplink", "queueing", "inference", "downlink", "broker out")
STATUSES = ("ok", "error", "overloaded", "timeout", "lost", "not_sent")
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
OF_TRUTH = {"label": "string", "answer": "string", "content": "Int64"}  # there where the source knows what is right


def typed(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a copy of `rows` with the columns of the schema first and in its dtypes; further columns stay.

    Raises:
        MeasurementError: a column is missing or of another kind, or a status unknown: named in the message.
    """
    rows = rows if "read_ns" in rows.columns else rows.assign(read_ns=pd.NA)  # measured before this was read
    if missing := [name for name in COLUMNS if name not in rows.columns]:
        raise MeasurementError(f"the rows lack the columns {', '.join(missing)}: a measurement needs all of the schema")
    try:
        kinds = COLUMNS | {name: kind for name, kind in OF_TRUTH.items() if name in rows.columns}
        table = rows[[*COLUMNS, *rows.columns.difference(COLUMNS, sort=False)]].astype(kinds).reset_index(drop=True)
    except (TypeError, ValueError) as error:
        raise MeasurementError(f"a column of the rows is not of its kind: {error}") from error
    if unknown := sorted(set(table["status"].fillna("missing")) - set(STATUSES)):
        raise MeasurementError(f"unknown status {', '.join(unknown)}: every row is one of {', '.join(STATUSES)}")
    return table


def nanoseconds(rows: pd.DataFrame, *stamps: str, missing: float = math.nan) -> list[FloatArray]:
    """Return the readings of each of `stamps` in ns, shape (n,), with `missing` where there is none."""
    return [rows[stamp].to_numpy(dtype=np.float64, na_value=missing) for stamp in stamps]


def milliseconds_between(rows: pd.DataFrame, begin: str, end: str) -> FloatArray:
    """Return `end` − `begin` of every row in ms, shape (n,), NaN without a reading."""
    first, last = nanoseconds(rows, begin, end)
    return (last - first) / 1e6


def latency_ms(rows: pd.DataFrame) -> FloatArray:
    """Return received − due of every row in ms: +inf if timed out, lost or overloaded, NaN if error or not sent."""
    latency = milliseconds_between(rows, "due_ns", "received_ns")
    status = rows["status"].to_numpy(dtype=object)
    latency[np.isin(status, ("timeout", "lost", "overloaded"))] = np.inf
    latency[np.isin(status, ("error", "not_sent"))] = np.nan
    return latency


def possible_shift(due: FloatArray, sent: FloatArray, received: FloatArray) -> FloatArray:
    """Return m_i ≥ 0, by how much each latency of a trial may be too long because of the sender; one unit, shape (n,).

    Latency counts from the time a request was due, so a late sender makes it longer, never shorter. Let x_i be the time
    a request is sent, r_i the time its answer is received, and l_i = x_i − due_i ≥ 0 its lateness. Where links and
    services are queues that keep the order, an answer leaves when the slowest path through them does: r_i = max over
    j ≤ i of (x_j + the work on the path from j to i). Send everything when due instead, and the path that was the
    slowest is still there and begins l_j earlier, so r_i falls by at most l_j. Each step of that path is a request that
    waited for the one before it, so both were on their way at the same time: from j to i the intervals [due, received]
    overlap one by one. Hence

        r_i − m_i ≤ r_i of a punctual sender ≤ r_i,    m_i = largest l_j, j ≤ i, in i's chain of overlapping intervals,

    and since quantiles are monotone, the quantile of a punctual sender lies between those of latency − m and of
    latency. Services that batch, or whose requests share a processor, are not exactly such queues; there it is an
    approximation. A request that was never sent occupied nothing and would have: it makes latencies too short, and is
    judged apart.

    `due`, `sent` and `received` are in the order of the schedule, warm-up included; NaN is never sent or received. A
    request that was sent but not answered is on its way until a later request is answered, which cannot overtake it;
    one that was not sent is never on its way.

    >>> due, sent = np.array([0.0, 1, 2, 9]), np.array([0.5, 1, 2, 9])
    >>> possible_shift(due, sent, np.array([1.2, 2.1, 3.0, 10]))  # three wait for each other, the fourth for none
    array([0.5, 0.5, 0.5, 0. ])
    """
    is_sent = ~np.isnan(sent)
    lateness = np.where(is_sent, np.maximum(sent - due, 0.0), 0.0)
    answered = np.where(np.isnan(received), np.inf, received)
    next_answer = np.minimum.accumulate(answered[::-1])[::-1]
    until = np.where(is_sent, np.where(np.isnan(received), next_answer, received), -np.inf)
    on_its_way = np.maximum.accumulate(np.r_[-np.inf, until])[:-1]
    chain = np.cumsum(due > on_its_way)
    step = np.max(lateness, initial=0.0) + 1.0  # lifts every chain above those before it
    return np.asarray(np.maximum.accumulate(lateness + step * chain) - step * chain)


def least_latency_ms(trial: pd.DataFrame, timeout_ms: float = math.inf) -> FloatArray:
    """Return the least that the latencies of a trial can have been with a punctual sender, ms, at most `timeout_ms`.

    The latency less what `possible_shift` says, at least 0; NaN if an error or never sent. Of a request that was not
    answered it is known that it took the time-out, less the same.
    """
    due, sent, received = nanoseconds(trial, "due_ns", "sent_ns", "received_ns")
    latency, waited = latency_ms(trial), (received - due) / 1e6
    answered_late = (trial["status"] == "timeout").to_numpy(bool) & ~np.isnan(waited) & math.isfinite(timeout_ms)
    known = np.where(answered_late, waited, np.minimum(latency, timeout_ms))
    return np.clip(known - possible_shift(due, sent, received) / 1e6, 0.0, timeout_ms)


def parts_ns(rows: pd.DataFrame) -> pd.DataFrame:
    """Return where the time of every answered row went: columns `PARTS`, Int64 ns, same index.

    They add up to received − due exactly. A reading that is missing takes the one before it: its part is 0 and the time
    falls to the next part that was read (a service without readings leaves all of it in `broker out`).
    """
    answered = rows[(rows["status"] == "ok") & rows["received_ns"].notna()]
    columns, before = {}, answered["due_ns"]
    for part, stamp in zip(PARTS, STAMPS[1:], strict=True):
        now = answered[stamp].fillna(before)
        columns[part], before = now - before, now
    return pd.DataFrame(columns, index=answered.index)
