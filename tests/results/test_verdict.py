"""Verdicts and doubts: each rule with rows that break it and nothing else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sample_rows import MS, conditions, judged, measurement, replicated, texts, trial, with_status

from xedge.results import verdict as checks
from xedge.results.rows import typed


def delayed(rows, share, delay_ms, stamps=("sent_ns",)):
    """Let a share of the requests leave late, and all that follows with them."""
    late = rows["request"] % round(1 / share) == 0
    for stamp in stamps:
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


@pytest.mark.parametrize(("share", "delay_ms", "word"), [(1 / 50, 1.5, "INVALID"), (1 / 200, 1.5, "VALID")])
def test_a_sender_late_for_over_one_per_cent_is_invalid(share, delay_ms, word):
    rows = delayed(replicated(away_ms=100), share, delay_ms)
    verdict = judged(rows)
    assert verdict.word == word
    assert ("over 1 ms late" in str(verdict)) == (word == "INVALID")


def test_a_sender_late_beside_a_short_latency_is_invalid():
    rows = delayed(replicated(), 1 / 50, 0.5)
    assert judged(rows).word == "INVALID"
    assert "over 5 % of the p99" in str(judged(rows))
    assert judged(delayed(replicated(away_ms=100), 1 / 50, 0.5)).valid


def test_a_late_sender_is_a_doubt_when_not_strict():
    rows = delayed(replicated(away_ms=100), 1 / 50, 1.5)
    assert judged(rows, strict=False).valid
    assert any("over 1 ms late" in text for text in texts(rows, strict=False))


def test_requests_never_sent_count_as_late():
    whole = with_status("not_sent", 0.05)
    assert (whole.verdict.word, whole.verdict.placements["edge"]) == ("INVALID", "VALID")
    assert whole.verdict.reasons[0].placement == "cloud"


def test_late_sending_in_the_warm_up_is_forgiven():
    rows = replicated(away_ms=100)
    rows.loc[rows["warm_up"], "sent_ns"] += 50 * MS
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
    assert any("1 of 3 trials not steady" in text for text in texts(rows))


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
    assert text.startswith("edge: p90 (")
    assert "p99 (" in text
    assert "fewer than 5 independent" in text


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


@pytest.mark.parametrize("suffix", ["", "_ms"])
@pytest.mark.parametrize(
    ("p50", "p99", "doubted"), [(100.4, 101.9, []), (100.6, 101.9, ["p50"]), (100.4, 102.1, ["p99"])]
)
def test_a_link_off_from_what_was_asked_is_doubted(suffix, p50, p99, doubted):
    asked = {f"{level}{suffix}": 100.0 for level in ("p50", "p99")}
    check = {"edge": {"requested_ms": asked, "measured_ms": {f"p50{suffix}": p50, f"p99{suffix}": p99}}}
    found = [text for text in texts(replicated(), link_check=check) if "the link's" in text]
    assert [text.split("'s ")[1][:3] for text in found] == doubted


def test_doubts_come_with_the_severe_first():
    rows = delayed(trial(n=60), 1 / 20, 2)
    severities = [doubt.severity for doubt in checks.doubts(typed(rows), conditions())]
    assert severities == sorted(severities, key=["severe", "warning", "note"].index)
    assert set(severities) == {"severe", "warning", "note"}


@pytest.mark.parametrize(("needed", "told"), [(51, True), (50, False), (None, False)])
def test_warm_up_shorter_than_the_transient_is_told(needed, told):
    rows = replicated(n=1000)  # of which 50 are warm-up
    found = texts(rows, services={"edge": {"transient_requests": needed}})
    assert any("51 requests of warm-up were wanted, 50 could be set apart" in text for text in found) is told
