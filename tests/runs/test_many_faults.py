"""Very many faults at random times: no request without a status, no row lost, nothing left behind."""

from __future__ import annotations

import os
from collections import Counter

import msgspec
import numpy as np
import pytest
from helpers import children_of, counted, sound, wait_until, xedge_threads

from xedge import Cloud, Edge, Fault, Link, Poisson, Scenario
from xedge.scenario.faults import FAULTS
from xedge.serving.broker import Broker

#: All hundred take ten minutes on a quiet machine: a trial has 2 s, and half a second more for what is not answered.
MEASUREMENTS, A_TRIAL = counted(100), 5
PLACEMENTS = {
    "edge": Edge(),
    "cloud": Cloud(link=Link(delay_ms=5, jitter_ms=[(0, 0), (1, 5)])),
    "boxes": Edge(boxes=2),
}


def drawn(rng, placement):
    """Five faults one after the other, in the planned two seconds; those that take longer push the next ones back."""
    begins = np.arange(A_TRIAL) * 0.36 + rng.uniform(0.05, 0.2, A_TRIAL)
    lengths = rng.uniform(0.01, 0.15, A_TRIAL)
    kinds = rng.permutation([*FAULTS, rng.choice(list(FAULTS))])
    asked = zip(begins.tolist(), lengths.tolist(), kinds.tolist(), strict=True)
    return [Fault(at_s=at, kind=kind, duration_s=s, placement=placement) for at, s, kind in asked]


@pytest.mark.long
@pytest.mark.usefixtures("nothing_is_left")
def test_a_thousand_random_faults_in_two_hundred_trials_lose_no_request(record_property):
    children, tally, statuses, done = children_of(os.getpid()), Counter(), Counter(), Counter()
    with Broker(name="many-faults") as broker:
        undisturbed = Scenario(
            model="anomaly_detector", workload=Poisson(rate_hz=100, duration_s=1), placements=PLACEMENTS
        )
        calibrations = [
            msgspec.structs.replace(undisturbed, qos=qos).measure(1, progress=False, broker=broker) for qos in (0, 1)
        ]
        for number in range(MEASUREMENTS):
            rng = np.random.default_rng([19, number])
            names = rng.permutation(list(PLACEMENTS))[:2].tolist()
            asked = Scenario(
                model="anomaly_detector",
                workload=Poisson(rate_hz=100, duration_s=2),
                placements={name: PLACEMENTS[name] for name in names},
                faults=[fault for name in names for fault in drawn(rng, name)],
                timeout_s=0.5,
                qos=int(number % 4 == 0),
                seed=number,
            )
            whole = asked.measure(1, progress=False, broker=broker, calibration=calibrations[asked.qos])
            requests = [len(own) for _, own in whole.rows.groupby("placement")]
            assert requests[0] == requests[1]
            sound(whole, sum(requests))
            for name, own in whole.rows.groupby("placement"):
                assert own["request"].tolist() == list(range(len(own))), name
            assert whole.verdict.word in ("VALID", "INVALID", "SATURATED")
            assert str(whole.answer())
            statuses.update(whole.rows["status"])
            for trial in whole.conditions["trials"]:
                tally["asked"] += A_TRIAL
                tally["trials"] += 1
                assert [it["failure"] for it in trial["faults"]] == [""] * len(trial["faults"]), trial
                assert trial["failure"] == ""
                done.update(it["kind"] for it in trial["faults"])
            expected = {*children, broker._guard.pid}  # another one than before, after a restart
            wait_until(lambda kept=expected: children_of(os.getpid()) == kept, "only the broker is left")
            assert len(children_of(broker._guard.pid)) == 1
            assert xedge_threads() == []
            assert broker.is_running
    wait_until(lambda: children_of(os.getpid()) == children, "no process is left")
    record_property("figures", f"{dict(tally)}, happened: {dict(done)}; requests: {dict(statuses)}")
    assert min(done[kind] for kind in FAULTS) > MEASUREMENTS / 2
