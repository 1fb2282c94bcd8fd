"""From the sender's log to rows: who answered what, and how every request ended."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from xedge import Constant
from xedge.runs.sender import Log
from xedge.runs.trial import Requests, replied, rows, statuses
from xedge.scenario.placements import Edge
from xedge.scenario.scenario import Replication, Scenario
from xedge.scenario.sources import InputSpec

MS = 1_000_000
SCENARIO = Scenario(model="m", workload=Constant(rate_hz=100, duration_s=0.05), placements={"edge": Edge()})
ONE_ROUTE = np.zeros(5, np.uint8)


class Numbers:
    """What a trial asks a service before it begins."""

    takes = InputSpec((32,), "float32")


@pytest.fixture
def requests():
    return Requests(SCENARIO, Replication.of(SCENARIO, 0), Numbers())


def table(requests, replies, **further):
    """The rows of five requests sent on time, with these replies, each (index, ms, further fields)."""
    due_ns = Replication.of(SCENARIO, 0).due_ns
    log = Log(0, due_ns.tobytes(), [(round(ms * MS), "error" in b, json.dumps(b).encode()) for ms, b in replies])
    outcome = replied(requests, log, **further)
    return rows(outcome, Replication.of(SCENARIO, 0), "edge", ONE_ROUTE, timeout_s=1.0)


def result(requests, index, **fields):
    body = {"device_id": requests.device_id, "timestamp_us": 0, "prediction": index / 10, "inference_time_ms": 0.1}
    return body | {"request_id": requests.ids[index]} | fields


def test_answers_find_their_requests_by_id_in_any_order(requests):
    found = table(requests, [(60 + k, result(requests, k)) for k in (3, 0, 4, 1, 2)])
    assert found["status"].tolist() == ["ok"] * 5
    assert found["prediction"].tolist() == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert found["received_ns"].tolist() == [(60 + k) * MS for k in range(5)]


def test_answers_without_an_id_are_known_by_their_time_stamp(requests):
    found = table(requests, [(60, unsigned(requests, k)) for k in range(4)])
    assert found["status"].tolist() == ["ok"] * 4 + ["timeout"]
    assert (requests.known_by, requests.foreign) == ("timestamp_us", 0)


@pytest.mark.parametrize("foreign", [0, 5, (1 << 63) - 1])
def test_an_answer_to_another_trial_is_nobodys(requests, foreign):
    stamp = requests.timestamps_us[2]  # with the right name and time stamp
    found = table(requests, [(60, result(requests, 2) | {"request_id": foreign, "timestamp_us": stamp})])
    assert found["received_ns"].isna().all()
    assert (requests.known_by, requests.foreign) == ("request_id", 1)


def unsigned(requests, index, **fields):
    """An answer with the right name and time stamp, and no id."""
    body = result(requests, index, timestamp_us=requests.timestamps_us[index], **fields)
    return {name: value for name, value in body.items() if name != "request_id"}


def test_an_answer_without_an_id_is_not_taken_where_others_have_one(requests):
    found = table(
        requests, [(55, unsigned(requests, 2, prediction=9.0)), *((60 + k, result(requests, k)) for k in range(5))]
    )
    assert found["prediction"].tolist() == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert (requests.known_by, requests.foreign) == ("request_id", 1)


def test_an_answer_without_an_id_is_not_taken_where_the_service_says_that_ids_come_back(requests):
    found = table(requests, [(60, unsigned(requests, k)) for k in range(5)], returns_ids=True)
    assert found["status"].tolist() == ["timeout"] * 5
    assert (requests.known_by, requests.foreign) == ("request_id", 5)


def test_ids_cannot_be_guessed_from_each_other(requests):
    other = Requests(SCENARIO, Replication.of(SCENARIO, 0), Numbers())
    assert len({*requests.ids, *other.ids}) == 10
    assert len(set(np.diff(requests.ids))) == 4  # no step leads from one to the next
    assert np.median([*requests.ids, *other.ids]) > 2**56


def test_the_first_of_two_answers_counts_and_nonsense_counts_nothing(requests):
    strange = [{"a": 1}, result(requests, 1) | {"trace": 3}, [], "x"]
    replies = [(60, result(requests, 1)), (70, result(requests, 1, prediction=9.0)), *((80, body) for body in strange)]
    found = table(requests, replies)
    assert found["status"].tolist() == ["lost", "ok", "timeout", "timeout", "timeout"]
    assert found["prediction"][1] == 0.1


def test_readings_of_no_clock_of_this_host_are_left_out(requests):
    clock = {"arrived_ns": 2**63 - 1, "started_ns": 1, "finished_ns": 2, "departed_ns": 3}
    found = table(requests, [(60, result(requests, 0, trace=clock))])
    assert found["status"][0] == "ok"
    assert found.loc[0, ["arrived_ns", "started_ns", "finished_ns", "departed_ns"]].isna().all()


def test_a_service_that_does_not_say_when_it_read_keeps_its_other_readings(requests):
    names = ("arrived_ns", "started_ns", "finished_ns", "departed_ns")
    start_ns = 0
    clock = {name: start_ns + 55 + place for place, name in enumerate(names)}
    found = table(requests, [(60, result(requests, 0, trace=clock))])
    assert found.loc[0, list(names)].notna().all()
    assert pd.isna(found.loc[0, "read_ns"])


def test_an_error_answer_is_an_error_with_its_reason(requests):
    body = {"device_id": "x", "timestamp_us": 1, "error": "rows differ", "reason": "wrong_shape"}
    found = table(requests, [(60, body | {"request_id": requests.ids[0]})])
    assert (found["status"][0], found["error"][0]) == ("error", "wrong_shape: rows differ")


def test_every_request_ends_in_one_of_the_statuses():
    due_ns = np.arange(5) * MS
    received_ns = np.array([5, -1, 2000, -1, -1]) * MS
    sent_ns = np.array([0, 1, 2, 3, -1])
    status = statuses(due_ns, sent_ns, received_ns, ONE_ROUTE, timeout_s=1.0)
    assert status.tolist() == ["ok", "lost", "timeout", "timeout", "not_sent"]
