"""The sentence a run begins with, in every situation it may find, and the three numbers behind it."""

from __future__ import annotations

import pandas as pd
import pytest
from sample_rows import conditions, measurement, trial, with_status

from xedge.core.exceptions import ConfigurationError
from xedge.results.answer import meets
from xedge.results.measurement import Measurement
from xedge.results.rows import STAMPS
from xedge.results.statistics import Estimate


def places(replications=5, n=1000, strict=True, **away_ms):
    """Placements of these ways, with noise of their own."""
    rows = [
        trial(name, r, n, away_ms=ms, seed=seed)
        for r in range(replications)
        for seed, (name, ms) in enumerate(away_ms.items())
    ]
    return Measurement(pd.concat(rows, ignore_index=True), conditions(strict=strict))


TWINS = {"edge": 0.0, "gate": 0.0}


@pytest.mark.parametrize(
    ("taken", "deadline_ms", "sentence"),
    [
        (
            measurement(),
            50,
            "Run it at the edge: 100 % of requests answered within 50 ms, cloud 0 %; "
            "the gap is 108 ms at p99, which is far beyond every doubt.",
        ),
        (
            measurement(),
            500,
            "Both meet the deadline: edge 100 %, cloud 100 % of requests answered within 500 ms; "
            "edge is faster by 108 ms at p99, which is far beyond every doubt.",
        ),
        (
            measurement(),
            0.1,
            "No placement meets the deadline: edge 0 %, cloud 0 % of requests answered within 0.1 ms.",
        ),
        (
            measurement(),
            None,
            "Run it at the edge: faster than cloud by 108 ms at p99, which is far beyond every doubt.",
        ),
        (
            measurement(replications=2),
            None,
            "Run it at the edge: faster than cloud by 100 ms at p50, which is far beyond every doubt.",
        ),
        (places(**TWINS), None, "Either edge or gate; the difference is within the noise."),
        (
            places(**TWINS),
            50,
            "Both meet the deadline: edge 100 %, gate 100 % of requests answered within 50 ms; "
            "either will do: the difference is within the noise.",
        ),
        (
            places(**TWINS, far=50.0),
            20,
            "Edge and gate meet the deadline: edge 100 %, gate 100 %, far 0 % of requests answered within 20 ms; "
            "either will do: the difference is within the noise.",
        ),
        (
            with_status("timeout"),
            50,
            "Run it at the edge: 100 (99.9–100) % of requests answered within 50 ms; "
            "cloud cannot keep up with the rate.",
        ),
        (places(edge=0.0), 50, "Edge meets the deadline: 100 (99.9–100) % of requests answered within 50 ms."),
    ],
)
def test_the_sentence_says_where_to_run_it(taken, deadline_ms, sentence):
    assert taken.answer(deadline_ms).sentence == sentence
    if deadline_ms is None:
        assert repr(taken).startswith(sentence)


def test_a_deadline_that_too_few_requests_decide_is_left_open():
    text = places(replications=3, n=120, edge=0.0).answer(50).sentence
    assert text.startswith("Not decided, measure longer: 100 (98.")
    assert text.endswith("99 % are wanted.")
    both = places(replications=3, n=120, edge=0.0, far=200.0).answer(50).sentence
    assert both.startswith("Not decided for edge, measure longer: edge 100 % (not shown to be enough), far 0 % of")


def test_an_invalid_or_saturated_run_says_what_cannot_be_concluded():
    rows = pd.concat([trial("edge", r, n=2000) for r in range(3)], ignore_index=True)
    for stamp in STAMPS[1:]:
        rows.loc[rows["request"] % 25 == 0, stamp] += 5_000_000
    invalid = Measurement(rows, conditions()).answer(50).sentence
    assert invalid == "Whether it meets 50 ms cannot be said from this run: the sender could not keep time."
    lenient = Measurement(rows, conditions(strict=False))
    assert lenient.answer(50).sentence.startswith("Under severe doubt, see below: edge meets the deadline: 100 ")
    assert "✓" not in lenient._repr_html_()
    assert "VALID, but severe doubts" in repr(lenient)
    cloud = with_status("timeout").rows
    saturated = Measurement(cloud[cloud["placement"] == "cloud"], conditions())
    assert saturated.answer(50).sentence == (
        "Cloud does not keep up with 99.7 requests/s, so whether it meets 50 ms at this rate cannot be said."
    )


def test_a_service_that_ended_is_the_reason_and_not_the_sender():
    trials = [{"placement": "edge", "replication": 0, "failure": "killed by signal 9"}]
    rows, told = measurement().rows, measurement().conditions | {"trials": trials}
    assert Measurement(rows, told).answer().sentence == (
        "Where to run it cannot be said from this run: edge broke off while it was measured."
    )


def test_a_placement_that_is_faster_at_the_median_only_asks_for_a_deadline():
    rows = [trial("edge", r, seed=1) for r in range(5)] + [trial("far", r, away_ms=2.0, seed=2) for r in range(5)]
    rows = pd.concat(rows, ignore_index=True)
    slow = (rows["placement"] == "edge") & (rows["request"] % 30 == 7)
    for stamp in ("finished_ns", "departed_ns", "received_ns"):
        rows.loc[slow, stamp] += 9_000_000
    taken = Measurement(rows, conditions())
    assert taken.answer().sentence == "Give a deadline (deadline_ms) to decide: edge is faster at p50, far at p99."
    assert taken.answer(6).sentence.startswith(
        "Choose far: 100 % of requests answered within 6 ms, edge 96.6 %; the gap is "
    )


def test_three_numbers_with_their_intervals_are_behind_the_sentence():
    numbers = measurement().answer(50).numbers
    assert [(number.label, number.unit) for number in numbers] == [
        ("edge, answered within 50 ms", "%"),
        ("cloud, answered within 50 ms", "%"),
        ("cloud slower than edge, p99", "ms"),
    ]
    assert str(numbers[0]) == "100 (99.9–100) %"
    assert numbers[2].value.low < 108 < numbers[2].value.high


@pytest.mark.parametrize(
    ("ends", "met"), [((0.995, 1.0), True), ((0.5, 0.98), False), ((0.98, 0.995), None), ((None, None), None)]
)
def test_a_deadline_is_met_by_the_whole_interval(ends, met):
    assert meets(Estimate(0.99, *ends, 100, 1, "")) is met


def test_a_deadline_of_the_scenario_is_the_default_and_another_may_be_given():
    scenario = {**conditions()["scenario"], "deadline_ms": 50.0}
    taken = Measurement(measurement().rows, conditions(scenario=scenario))
    assert taken.answer().sentence == measurement().answer(50).sentence
    assert taken.answer(500).sentence == measurement().answer(500).sentence
    with pytest.raises(ConfigurationError, match="deadline_ms=0: give the milliseconds"):
        taken.answer(0)
