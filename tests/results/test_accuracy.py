"""How often answers were right: shares, areas and paired differences, held against counting by hand and simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sample_rows import conditions, trial
from scipy import special, stats

from xedge.results import accuracy
from xedge.results.measurement import Measurement
from xedge.results.statistics import binomial_interval
from xedge.results.unbeaten import unbeaten


def rows(right, content=None, scores=None, labels=None, replication=0):
    """Answered requests, right or wrong as said, each asking another input unless `content` says which."""
    n = len(right)
    labels = ["1"] * n if labels is None else labels
    answers = [label if good else "x" for label, good in zip(labels, right, strict=True)]
    table = pd.DataFrame({"replication": replication, "request": np.arange(n), "status": "ok", "label": labels})
    return accuracy.judged(
        table.assign(
            answer=answers,
            content=np.arange(n) if content is None else content,
            prediction=np.zeros(n) if scores is None else scores,
        )
    )


def test_accuracy_of_distinct_inputs_has_wilson_s_interval():
    share, expected = accuracy.accuracy(rows([True] * 90 + [False] * 10)), binomial_interval(90, 100)
    assert (share.value, share.low, share.high) == (expected.value, expected.low, expected.high)


def test_an_input_asked_again_tells_nothing_new():
    once, often = rows([True] * 9 + [False]), rows(([True] * 9 + [False]) * 50, content=list(range(10)) * 50)
    few, many = accuracy.accuracy(once), accuracy.accuracy(often)
    assert few.value == many.value == 0.9
    assert (few.low, few.high) == (many.low, many.high)
    assert many.n == 500


def test_only_what_was_answered_and_is_known_is_judged():
    table = pd.DataFrame(
        {
            "status": ["ok", "timeout", "ok", "ok"],
            "label": pd.array(["1", "1", None, "0"], dtype="string"),
            "answer": pd.array(["1", "1", "1", None], dtype="string"),
        }
    )
    assert accuracy.judged(table)["right"].tolist() == [True]
    assert accuracy.judged(table.drop(columns="label")).empty
    assert accuracy.accuracy(accuracy.judged(table.drop(columns="label"))) is None


def test_area_counts_pairs_and_delong_s_error_is_that_of_the_jackknife():
    rng = np.random.default_rng(4)
    positive = rng.random(120) < 0.4
    scores = np.round(rng.normal(positive * 1.2, 1.0), 1)  # with ties
    gaps = np.subtract.outer(scores[positive], scores[~positive])
    wins = (gaps > 0) + 0.5 * (gaps == 0)
    value, error = accuracy.area(scores, positive)
    assert value == pytest.approx(wins.mean())
    of_each = wins.mean(axis=1), wins.mean(axis=0)  # its components, DeLong et al. (1988), equations 3 to 6
    assert error == pytest.approx(np.sqrt(sum(part.var(ddof=1) / part.size for part in of_each)))


@pytest.mark.parametrize("labels", [["1", "1"], ["0", "0"]])
def test_area_needs_both_labels(labels):
    assert accuracy.roc_auc(rows([True, True], labels=labels), "1") is None


def test_area_of_scores_that_do_not_overlap_has_no_interval():
    area = accuracy.roc_auc(rows([True] * 4, scores=[0.1, 0.2, 0.8, 0.9], labels=["0", "0", "1", "1"]), "1")
    assert (area.value, area.low) == (1.0, None)


def test_intervals_of_the_area_cover_it():
    truth, covered, rng = stats.norm.cdf(1.0 / np.sqrt(2)), 0, np.random.default_rng(1)
    positive = np.array([True] * 60 + [False] * 60)
    for _ in range(1000):
        value, error = accuracy.area(rng.normal(positive * 1.0, 1.0), positive)
        reach = 1.96 * error / (value * (1 - value))
        covered += special.expit(special.logit(value) - reach) <= truth <= special.expit(special.logit(value) + reach)
    assert 0.93 < covered / 1000 < 0.97


def test_a_paired_difference_counts_pairs_of_which_one_is_right():
    a, b = rows([True] * 80 + [False] * 20), rows([True] * 78 + [False] * 2 + [True] * 12 + [False] * 8)
    gap = accuracy.difference(a, b)
    assert gap.value == pytest.approx(0.10)
    assert 0 < gap.low < 0.10 < gap.high < 0.19
    alone = accuracy.accuracy(b)
    assert gap.high - gap.low < 2 * (alone.high - alone.low)
    back = accuracy.difference(b, a)
    assert (back.value, back.low, back.high) == pytest.approx((-gap.value, -gap.high, -gap.low))


def test_a_difference_of_the_same_answers_is_none_and_not_certain():
    a = rows([True] * 9 + [False])
    gap = accuracy.difference(a, a)
    assert gap.value == 0
    assert gap.low < 0 < gap.high


@pytest.mark.parametrize(("gained", "lost"), [(0.07, 0.04), (0.02, 0.0), (0.3, 0.1)])
def test_intervals_of_paired_differences_cover_them(gained, lost):
    rng, covered = np.random.default_rng(5), 0
    for more, less, _ in rng.multinomial(150, [gained, lost, 1 - gained - lost], size=2000).tolist():
        _, low, high = accuracy.paired_shares(more, less, 150, 150.0)
        covered += low <= gained - lost <= high
    assert 0.93 < covered / 2000 < 0.995


def test_replications_are_paired_each_with_its_own():
    a = pd.concat([rows([True, False]), rows([False, False], content=[2, 3], replication=1)])
    b = pd.concat([rows([True, True], replication=1, content=[2, 3]), rows([True, False])])
    assert accuracy.difference(a, b).value == 0.5


# --- in a measurement


def labelled(shares, away_ms):
    """A measurement of placements that are right this often, of the same 1000 inputs in each of 3 replications."""
    parts, hard = [], np.random.default_rng(1).random((3, 1000))
    for name, share in shares.items():
        for replication in range(3):
            table = trial(name, replication, away_ms=away_ms[name], spread=0.05)
            truth = np.where(np.arange(1000) % 2 == 0, "1", "0")
            answer = np.where(hard[replication] < share, truth, "x")
            content = np.arange(1000) + 1000 * replication
            parts.append(table.assign(label=truth, answer=answer, content=content))
    placements = {name: {"tier": name} for name in shares}
    scenario = conditions()["scenario"] | {"placements": placements}
    return Measurement(pd.concat(parts, ignore_index=True), conditions(scenario=scenario))


@pytest.fixture(scope="module")
def measured():
    shares = {"device": 0.90, "edge": 0.90, "cloud": 0.96}
    return labelled(shares, {"device": 0.0, "edge": 4.0, "cloud": 60.0})


def test_summary_table_and_page_show_accuracy(measured):
    summary = measured.summary().set_index("placement")
    for name, of in measured.evidence.items():
        assert summary.loc[name, "accuracy"] == of.judged["right"].mean()
        assert summary.loc[name, "accuracy_low"] < summary.loc[name, "accuracy"] < summary.loc[name, "accuracy_high"]
    assert "accuracy, %" in repr(measured)
    assert "accuracy, %" in measured._repr_html_()
    assert "roc_auc" not in summary  # the conditions name no label for high scores
    paper = measured.tables()["summary"].texts()
    assert "(" in paper["accuracy"][0]


def test_comparison_and_answer_say_who_is_right_more_often(measured):
    gap = measured.compare("edge", "cloud")
    assert gap.accuracy.low > 0.04
    assert "Cloud was right more often than edge, by 6." in str(gap)
    assert "percentage points" in gap._repr_html_()
    assert "No difference in accuracy is shown" in str(measured.compare("device", "edge"))
    answer = str(measured.answer())
    assert answer.startswith("Run it on the device: faster than edge by")
    assert "; cloud is right more often: cloud 9" in answer


def test_what_is_worth_choosing_from(measured):
    assert unbeaten(measured) == ["device", "cloud"]  # the edge is slower than the device and no better
    assert "Worth choosing from are device, cloud: each of the others" in measured.conclusion()


def test_figure_of_both_axes(measured):
    figure = measured.plot("tradeoff")
    assert figure.axes[0].get_ylabel() == "answers that were right, %"
    svg = figure.svg()
    assert "latency from the due time, ms" in svg
    assert all(name in svg for name in ("device", "edge", "cloud"))


def test_without_labels_all_of_it_is_absent():
    plain = Measurement(pd.concat([trial(replication=r) for r in range(3)], ignore_index=True), conditions())
    assert not [name for name in plain.summary() if "accuracy" in name or "auc" in name]
    assert "accuracy" not in repr(plain) + plain._repr_html_() + plain.conclusion()
    assert "no labels" in plain.plot("tradeoff").svg()


def test_saved_and_loaded_it_is_the_same(measured, tmp_path):
    for kind in ("csv", "parquet"):
        loaded = Measurement.load(measured.save(tmp_path / kind, format=kind))
        pd.testing.assert_frame_equal(loaded.rows, measured.rows)
        assert loaded.summary().equals(measured.summary())
