"""Verdicts and doubts: each rule with rows that break it and nothing else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sample_rows import MS, conditions, judged, measurement, replicated, texts, trial, with_status

from xedge.results.measurement import Measurement
from xedge.results.rows import STAMPS
from xedge.results.statistics import quantile
from xedge.scenario.link import Link


def delayed(rows, share, delay_ms):
    """Let a share of the requests leave late, and all their later readings with them."""
    late = rows["request"] % round(1 / share) == 0
    for stamp in STAMPS[1:]:
        rows.loc[late, stamp] += round(delay_ms * MS)
    return rows


def queued(rows, capacity_hz):
    """Send the rows through one server of this capacity."""
    for _, own in rows.groupby("replication"):
        service = np.random.default_rng(5).exponential(1e9 / capacity_hz, len(own))
        idle = np.maximum.accumulate(own["arrived_ns"].to_numpy(float) - np.r_[0, np.cumsum(service)[:-1]])
        finished = (idle + np.cumsum(service)).astype(np.int64)
        for stamp, after in (("finished_ns", 0), ("departed_ns", 1000), ("received_ns", 100_000)):
            rows.loc[own.index, stamp] = finished + after
        rows.loc[own.index, "started_ns"] = (finished - service).astype(np.int64)
    return rows


def test_steady_rows_are_valid_and_undoubted():
    whole = measurement()
    assert str(whole.verdict) == "VALID"
    assert whole.verdict.placements == {"edge": "VALID", "cloud": "VALID"}
    assert whole.checks() == []


@pytest.mark.parametrize(
    ("share", "delay_ms", "away_ms", "word"),
    [
        (1 / 50, 200, 0, "INVALID"),  # a stalled sender
        (1 / 25, 1, 0, "INVALID"),  # a good third of the p99
        (1 / 50, 0.05, 0, "VALID"),  # late, but with little effect
        (1 / 500, 200, 0, "VALID"),  # beyond the percentiles that are printed
        (1 / 50, 1.5, 100, "VALID"),  # over 1 ms late for over 1 % of the requests, and nothing beside 100 ms
        (1 / 50, 50, 100, "INVALID"),
    ],
)
def test_a_late_sender_is_invalid_by_its_effect(share, delay_ms, away_ms, word):
    verdict = judged(delayed(replicated(n=2000, away_ms=away_ms), share, delay_ms))
    assert verdict.word == word
    assert ("may be the sender's lateness" in str(verdict)) == (word == "INVALID")


def test_lateness_over_5_per_cent_of_the_p99_is_valid_where_its_effect_is_small():
    """A p99 of about 2.3 ms and a p99 lateness of about 0.13 ms, which are seldom those of the same request."""
    rows = delayed(replicated(5, n=2000, rate_hz=50, spread=0.5), 1 / 80, 0.13)
    whole = Measurement(rows, conditions())
    lateness = (rows["sent_ns"] - rows["due_ns"]).quantile(0.99) / MS
    p99 = whole.estimate("edge", 0.99)
    assert lateness > 0.05 * p99.value
    assert 0 < p99.late < min(0.1 * p99.value, p99.half_width)
    assert whole.verdict.valid


def test_a_late_sender_is_a_doubt_when_not_strict():
    rows = delayed(replicated(), 1 / 50, 200)
    assert judged(rows, strict=False).valid
    assert any("may be the sender's lateness" in text for text in texts(rows, strict=False))


def test_lateness_that_could_decide_who_is_faster_is_invalid():
    """A gate whose requests all leave 0.08 ms late is slower by that, under 10 % of its p50."""
    rows = [trial(name, r, n=2000, spread=0.02, seed=2) for r in range(5) for name in ("edge", "gate")]
    rows = pd.concat(rows, ignore_index=True)
    assert judged(rows).valid
    late = rows["placement"] == "gate"
    for stamp in STAMPS[1:]:
        rows.loc[late, stamp] += 80_000
    whole = Measurement(rows, conditions())
    assert set(whole.verdict.placements.values()) == {"INVALID"}
    said = "edge and gate: the sender's lateness could decide which of edge and gate is faster at p50"
    assert str(whole.verdict).count(said) == 1
    assert "at p50 no difference is shown, because of the sender's lateness" in str(whole.compare("edge", "gate"))
    assert "at most 0.088 ms of it the sender's" in str(whole.compare("edge", "gate"))


def test_a_deadline_met_by_a_punctual_sender_is_inside_the_interval():
    whole = Measurement(delayed(replicated(), 1 / 20, 200), conditions())
    share = whole.goodput("edge", 50)
    assert share.value == pytest.approx(0.95, abs=0.005)
    assert (share.late, share.high) == (pytest.approx(1 - share.value), pytest.approx(1))
    assert whole.goodput("edge", 500).late == 0


def test_a_sender_so_late_that_requests_time_out_is_invalid():
    rows = delayed(replicated(), 1 / 50, 6000)
    rows.loc[rows["sent_ns"] - rows["due_ns"] > 5000 * MS, "status"] = "timeout"
    assert judged(rows).word == "INVALID"
    rows.loc[rows["status"] == "timeout", "received_ns"] = pd.NA
    assert judged(rows).word == "INVALID"


def test_requests_never_sent_are_invalid():
    whole = with_status("not_sent", 0.05)
    assert (whole.verdict.word, whole.verdict.placements["edge"]) == ("INVALID", "VALID")
    assert whole.verdict.reasons[0].placement == "cloud"


def test_late_sending_in_the_warm_up_is_forgiven():
    rows = replicated()
    for stamp in STAMPS[1:]:
        rows.loc[rows["request"] < 20, stamp] += 50 * MS
    assert judged(rows).valid


def test_nothing_answered_is_invalid():
    rows = trial().assign(status="timeout")
    rows["received_ns"] = pd.array([pd.NA] * len(rows), dtype="Int64")
    assert "none of 950 requests was answered" in str(judged(rows)).replace("\u202f", " ")


def test_a_growing_queue_is_saturated_with_its_signs():
    verdict = judged(queued(replicated(n=2000), 85))
    assert verdict.word == "SATURATED"
    assert verdict.saturated == ("edge",)
    for sign in ("could not keep up with", "backlog grew from", "p50 of the three windows"):
        assert sign in str(verdict)


def test_a_busy_but_steady_queue_is_not_saturated():
    assert judged(queued(replicated(n=2000), 160)).valid


def test_one_disturbed_trial_of_three_is_a_doubt_and_saturates_nothing():
    rows = replicated()
    hit = (rows["replication"] == 1) & (rows["request"] > 700)
    for stamp in ("finished_ns", "departed_ns", "received_ns"):
        rows.loc[hit, stamp] += 3 * MS
    assert judged(rows).valid
    assert any("1 of 3 trials was not steady" in text for text in texts(rows))


def test_loss_saturates_unless_the_link_was_told_to_lose():
    assert with_status("lost").verdict.word == "SATURATED"
    asked = conditions()["scenario"]
    asked["placements"]["cloud"]["uplink"] = {"loss": 0.1}
    whole = with_status("lost", scenario=asked)
    assert whole.verdict.valid
    assert any("285 lost" in str(doubt) for doubt in whole.checks())


def test_a_short_trial_is_not_called_saturated():
    found = [judged(trial(n=90, seed=seed)).word for seed in range(40)]
    assert found.count("SATURATED") <= 1


def test_failures_are_counted_in_words():
    rows = replicated()
    rows.loc[[100, 200], "status"] = "error"
    rows.loc[[300], "status"] = "lost"
    (text,) = [text for text in texts(rows) if "answered with an error" in text]
    assert text.replace("\u202f", " ") == "edge: of 2 850 requests 1 lost, 2 answered with an error"


def test_answers_that_cannot_be_told_from_foreign_ones_are_doubted_and_foreign_ones_noted():
    said = [{"known_by": "timestamp_us"}, {"known_by": "request_id", "foreign": 1200}, {"foreign": 34}]
    trials = [{"placement": "edge", "replication": number} | facts for number, facts in enumerate(said)]
    found = {str(doubt).replace("\u202f", " "): doubt.severity for doubt in measurement(trials=trials).checks()}
    unsigned = (
        "edge: answers carry no request_id: one from elsewhere with a request's time stamp would be taken for its own"
    )
    assert found[unsigned] == "warning"
    assert found["edge: 1 234 messages on its result topics answered none of the requests and were left out"] == "note"
    assert not [text for text in found if text.startswith("cloud")]


@pytest.mark.parametrize(("url", "doubted"), [("wss://h:443/mqtt", True), ("mqtts://h:8883", False)])
def test_websockets_are_doubted(url, doubted):
    found = [str(doubt) for doubt in measurement(broker={"kind": "external", "url": url}).checks()]
    assert any("by websockets" in text for text in found) == doubted


def test_too_few_requests_are_named_level_by_level():
    (text,) = [text for text in texts(trial(n=60)) if "too few" in text]
    assert text == "edge: 57 requests are too few for p95 (n < 59), p99 (n < 299)"


def test_too_few_independent_episodes_are_doubted_behind_a_busy_queue():
    def doubted(capacity_hz):
        return [
            text for text in texts(queued(replicated(5, n=2000), capacity_hz)) if "independent slow episodes" in text
        ]

    assert doubted(400) == []
    (text,) = doubted(115)
    assert text.startswith("edge: p90 rests on about ")
    assert ", p99 on about " in text
    assert "independent slow episodes where 5 are wanted" in text


def test_censored_percentiles_are_doubted():
    asked = conditions()["scenario"]
    asked["placements"]["cloud"]["link"] = {"loss": 0.1}
    found = [str(doubt) for doubt in with_status("lost", 0.08, scenario=asked).checks()]
    assert any("p95, p99 not known, only that it is more than 5000 ms" in text for text in found)


def test_one_replication_is_noted():
    assert any("one replication only" in text for text in texts(trial()))
    assert not any("one replication only" in text for text in texts(replicated(2)))


def test_drift_over_the_replications_is_doubted():
    tables = [trial(replication=r, away_ms=10 + 0.5 * r) for r in range(5)]
    assert any("drifted over the 5 replications" in text for text in texts(pd.concat(tables)))
    assert not any("drifted" in text for text in texts(replicated(5)))


@pytest.mark.parametrize(("load", "doubted"), [(None, False), (1.9, False), (2.4, True)])
def test_a_machine_busy_before_the_measurement_is_doubted(load, doubted):
    found = texts(replicated(), host={"cores": 2, "load_average_before": load})
    assert any("load average 2.4 on 2 cores" in text for text in found) == doubted


@pytest.mark.parametrize(("p50_ms", "doubted"), [(0.2, False), (0.6, True)])
def test_latency_near_the_noise_floor_is_doubted(p50_ms, doubted):
    found = texts(replicated(), noise_floor={"p50_ms": p50_ms})
    assert any("within twice the noise floor" in text for text in found) == doubted


@pytest.mark.parametrize(("ceiling_hz", "doubted"), [(12_000, False), (400, True)])
def test_offering_near_the_ceiling_is_doubted(ceiling_hz, doubted):
    found = texts(replicated(), noise_floor={"ceiling_hz": ceiling_hz})
    assert any("of the ceiling of" in text for text in found) == doubted


@pytest.mark.parametrize(
    ("p50", "p99", "doubted"), [(100.4, 101.9, []), (100.6, 101.9, ["p50"]), (100.4, 102.1, ["p99"])]
)
def test_a_link_off_from_what_was_asked_is_doubted(p50, p99, doubted):
    asked = {"p50_ms": 100.0, "p99_ms": 100.0}
    check = {"edge": {"requested_ms": asked, "measured_ms": {"p50_ms": p50, "p99_ms": p99}}}
    found = [text for text in texts(replicated(), link_check=check) if "the link's" in text]
    assert [text.split("'s ")[1][:3] for text in found] == doubted


@pytest.mark.parametrize(("p50", "p99", "doubted"), [(0.4, 1.9, []), (0.6, 1.9, ["p50"]), (-0.6, -2.1, ["p50", "p99"])])
def test_a_link_is_judged_by_what_requests_took_to_cross_it_in_the_trials(p50, p99, doubted):
    rows, off = replicated(), {"p50_ms": 9.0, "p99_ms": 99.0}
    crossed = rows["arrived_ns"] - rows["read_ns"] + rows["departed_ns"] - rows["finished_ns"]
    levels = [
        {"p": p, "drawn_ms": 0.0, "effective_ms": quantile(crossed.dropna() / 1e6, p) + add}
        for p, add in ((0.5, p50), (0.99, p99))
    ]
    check = {"edge": {"requested_ms": {"p50_ms": 1.0}, "measured_ms": off, "off_ms": off, "by_level": levels}}
    found = [text for text in texts(rows, link_check=check) if "the link" in text]
    assert [text.split("link's ")[1][:3] for text in found] == doubted
    assert all("in the trials" in text for text in found)


@pytest.mark.parametrize(
    ("name", "client", "says"),
    [
        ("5g-mmwave", 0.5, "5g-mmwave stands for one client, 7 ms there and back; of those measured p90 has 8 ms, p95"),
        (
            "5g-mmwave",
            0.95,
            "5g-mmwave stands for one client, 8.9 ms there and back; of those measured p99 has 15.8 ms",
        ),
        ("5g-mmwave", 0.99, ""),
        ("starlink-europe", 0.5, ""),
        ("lte", 0.5, ""),
    ],
)
def test_a_network_of_one_client_among_many_is_noted(name, client, says):
    asked = conditions()["scenario"]
    asked["placements"]["edge"] = {"tier": "edge", "link": Link.preset(name, client=client).as_dict()}
    found = [text for text in texts(replicated(), scenario=asked) if "stands for one client" in text]
    assert says in "".join(found)
    assert bool(found) == bool(says)


def test_doubts_come_with_the_severe_first():
    rows = delayed(trial(n=60), 1 / 8, 20)
    severities = [doubt.severity for doubt in Measurement(rows, conditions()).checks()]
    assert severities == sorted(severities, key=["severe", "warning", "note"].index)
    assert set(severities) == {"severe", "warning", "note"}


@pytest.mark.parametrize(("needed", "told"), [(51, True), (50, False), (None, False)])
def test_warm_up_shorter_than_the_transient_is_told(needed, told):
    rows = replicated(n=1000)  # of which 50 are warm-up
    found = texts(rows, services={"edge": {"transient_requests": needed}})
    assert any("51 requests of warm-up were wanted, 50 could be set apart" in text for text in found) is told
