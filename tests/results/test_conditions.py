"""Conditions as typed data: what is missing has its default, what is malformed is refused with its place."""

from __future__ import annotations

import pytest
from sample_rows import conditions, measurement, trial

from xedge.core.exceptions import MeasurementError
from xedge.results.conditions import Conditions, typed
from xedge.results.measurement import Measurement


def test_missing_and_null_parts_have_their_defaults():
    assert typed({}) == typed({"noise_floor": None, "git_commit": None, "timeout_s": None}) == Conditions()
    assert typed({"services": {"edge": {"servers": 4, "engine": "onnx"}}}).service("edge").servers == 4
    assert typed({}).service("edge").servers == 1
    assert not typed({}).loses("edge")


def test_conditions_of_a_measurement_are_read_whatever_else_they_hold():
    facts = measurement(note={"by": "hand"}).typed_conditions
    assert (facts.timeout_ms, facts.host.cores, facts.noise_floor.ceiling_hz) == (5000, 2, 12_000)
    assert (facts.scenario.workload.kind, facts.scenario.seed) == ("poisson", 7)
    assert measurement(note={"by": "hand"}).conditions["note"] == {"by": "hand"}


@pytest.mark.parametrize(
    ("malformed", "place"),
    [
        ({"host": {"cores": "two"}}, r"Expected `int \| null`, got `str` - at `\$.host.cores`"),
        ({"broker": "mosquitto"}, "broker"),
        ({"scenario": {"placements": {"edge": {"link": {"loss": 2}}}}}, "loss"),
    ],
)
def test_a_part_of_another_kind_is_refused_with_its_place(malformed, place):
    with pytest.raises(MeasurementError, match=f"malformed conditions: .*{place}"):
        Measurement(trial(n=10), conditions() | malformed)
