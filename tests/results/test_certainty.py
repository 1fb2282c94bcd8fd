"""Figures of how sure a measurement is: the numbers drawn are those of the comparison and the estimates."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from sample_rows import measurement, with_status

from xedge.results import certainty


@pytest.fixture(scope="module")
def whole():
    return measurement(replications=4)


@pytest.fixture
def ax():
    return Figure().subplots()


def test_forest_draws_each_difference_with_its_interval(ax, whole):
    certainty.forest(ax, whole)
    compared = whole.compare("edge", "cloud").differences
    drawn = [line.get_xdata() for line in ax.lines if line.get_linestyle() == "-" and line.get_marker() == "None"]
    assert drawn[0][0] == 0  # the line of no difference
    assert [tuple(ends) for ends in drawn[1:]] == [(e.low, e.high) for e in compared.values()]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cloud − edge, p50", "p95", "p99"]
    low, high = ax.get_xlim()
    assert low < 0 < max(e.high for e in compared.values()) < high


def test_forest_says_why_there_is_no_number(ax):
    certainty.forest(ax, with_status("timeout"))
    assert any("cloud saturated: no steady state" in text.get_text() for text in ax.texts)
    ax.clear()
    alone = measurement()
    rows = alone.rows[alone.rows["placement"] == "edge"]
    certainty.forest(ax, type(alone)(rows, alone.conditions))
    assert ax.texts[0].get_text() == "nothing to compare: one placement"


def test_convergence_ends_at_the_estimate_of_all_replications(ax, whole):
    steps = certainty.after_each(whole, "cloud")
    assert list(steps) == [1, 2, 3, 4]
    assert steps[1].low is None
    assert steps[4] == whole.estimate("cloud", 0.99)
    certainty.convergence(ax, whole)
    (line,) = [line for line in ax.lines if str(line.get_label()).startswith("cloud")]
    final = steps[4].value
    assert line.get_ydata() == pytest.approx([100 * (e.value / final - 1) for e in steps.values()])
    band = np.concatenate([path.vertices for path in ax.collections[1].get_paths()])
    ends = band[band[:, 0] == 4, 1]
    assert [ends.min(), ends.max()] == pytest.approx([100 * (x / final - 1) for x in (steps[4].low, steps[4].high)])


def test_convergence_of_few_requests_draws_no_line_and_says_so(ax):
    certainty.convergence(ax, measurement(replications=2, n=60))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["edge: not known", "cloud: not known"]


def test_a_comparison_is_plotted_alone(whole):
    figure = whole.compare("edge", "cloud").plot()
    assert "faster than cloud" in figure.alt
    assert len(figure.axes) == 1
