"""The queue discipline as arithmetic: tables of times in, tables of times out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xedge.scenario.station import Station
from xedge.studies.queueing import responses


def flown(arrivals, services, servers=1, max_batch=1):
    """Start and end of every request, by a station that is asked at arrivals and ends only."""
    station, times, drawn = Station(servers, max_batch), {}, iter(services)

    def begin():
        while (batch := station.begin()) is not None:
            ends = batch.started_ns + next(drawn)
            times.update(dict.fromkeys(batch.requests, (batch.started_ns, ends)))
            station.end(batch.requests, ends)

    def end_until(now):
        while station.next_ns is not None and station.next_ns <= now:
            list(station.ended(station.next_ns))
            begin()

    for request, arrived in enumerate(arrivals):
        end_until(arrived)
        station.arrive(request, arrived)
        begin()
    end_until(10**18)
    assert len(station) == 0
    return [times[request] for request in range(len(arrivals))]


@pytest.mark.parametrize(
    ("servers", "max_batch", "expected"),
    [
        (1, 1, [(0, 10), (10, 20), (20, 30), (50, 60)]),
        (2, 1, [(0, 10), (1, 11), (10, 20), (50, 60)]),
        (1, 2, [(0, 10), (10, 20), (10, 20), (50, 60)]),
        (3, 9, [(0, 10), (1, 11), (2, 12), (50, 60)]),
    ],
)
def test_station_begins_and_ends_as_the_table_says(servers, max_batch, expected):
    assert flown([0, 1, 2, 50], [10] * 4, servers, max_batch) == expected


def test_one_server_is_the_exact_queue_of_theory():
    rng = np.random.default_rng(3)
    arrivals = np.cumsum(rng.exponential(10, 500)).astype(int)
    services = rng.exponential(8, 500).astype(int) + 1
    ends = np.array([end for _, end in flown(arrivals.tolist(), services.tolist())])
    assert np.array_equal(ends - arrivals, responses(arrivals.astype(float), services.astype(float)))


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=60),
    st.integers(1, 4),
    st.integers(1, 5),
    st.randoms(use_true_random=False),
)
def test_station_serves_everybody_in_order_and_overfills_nothing(gaps, servers, max_batch, random):
    arrivals = np.cumsum(gaps).tolist()
    services = [random.randint(0, 30) for _ in arrivals]
    times = flown(arrivals, services, servers, max_batch)
    starts = [start for start, _ in times]
    assert starts == sorted(starts)
    assert all(start >= arrived for start, arrived in zip(starts, arrivals, strict=True))
    for now in starts:
        batches = {(start, end) for start, end in times if start <= now < end}
        assert sum(start <= now < end for start, end in times) <= servers * max_batch
        assert len(batches) <= servers * max_batch


def test_station_asked_late_begins_when_the_server_became_free():
    station = Station()
    for request, arrived in enumerate((0, 1, 2)):
        station.arrive(request, arrived)
    batch = station.begin()
    station.end(batch.requests, batch.started_ns + 5)
    assert station.begin() is None
    assert list(station.ended(1000)) == [[0, 1, 2][:1]]  # asked at 1000, the server was free at 5
    assert station.begin().started_ns == 5


def test_station_that_computes_for_real_begins_no_earlier_than_it_is_asked():
    station = Station()
    station.arrive("a", 0)
    station.arrive("b", 70)
    batch = station.begin(not_before_ns=100)
    assert (batch.started_ns, batch.requests) == (100, ["a", "b"])
    assert not station.can_begin
    station.release(130)
    station.arrive("c", 110)
    assert station.begin().started_ns == 130
