"""Schedule, seeds and inputs of a replication: pure, repeatable, and the same for every placement."""

from __future__ import annotations

import numpy as np
import pytest

from xedge import Poisson, Texts, Vibration
from xedge.core.exceptions import ConfigurationError
from xedge.scenario.placements import Edge
from xedge.scenario.scenario import Replication, Scenario
from xedge.scenario.sources import InputSpec

SPEC = InputSpec((32,), "float32")


def scenario(**changes):
    fields = {"model": "m", "workload": Poisson(rate_hz=50, duration_s=2), "placements": {"edge": Edge()}, "seed": 7}
    return Scenario(**{**fields, **changes})


def test_replication_is_the_same_again_and_another_is_another():
    first, again, other = (Replication.of(scenario(), number) for number in (0, 0, 1))
    assert np.array_equal(first.due_ns, again.due_ns)
    assert np.array_equal(first.inputs(scenario(), SPEC), again.inputs(scenario(), SPEC))
    assert not np.array_equal(first.due_ns, other.due_ns)
    assert len({first.schedule_seed, first.content_seed, first.link_seed, other.schedule_seed}) == 4


def test_inputs_have_the_shape_and_type_of_the_model():
    replication = Replication.of(scenario(), 0)
    inputs = replication.inputs(scenario(), SPEC)
    assert inputs.shape == (len(replication.due_ns), 32)
    assert inputs.dtype == np.float32


@pytest.mark.parametrize(("source", "spec"), [(Texts(), SPEC), (Vibration(), InputSpec((-1,), "int32", "text"))])
def test_a_source_that_does_not_fit_the_model_is_refused(source, spec):
    with pytest.raises(ConfigurationError, match="the model takes"):
        Replication.of(scenario(), 0).inputs(scenario(source=source), spec)


def test_a_schedule_without_a_request_is_refused():
    with pytest.raises(ConfigurationError, match="make the workload longer"):
        Replication.of(scenario(workload=Poisson(rate_hz=0.001, duration_s=0.001)), 0)
