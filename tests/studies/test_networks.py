"""Figures and words about networks: they show the numbers they were given."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from sample_rows import measurement, with_status

import xedge
from xedge.core.exceptions import ConfigurationError
from xedge.reports import run as report
from xedge.results import figures as plots
from xedge.results.measurement import Measurement
from xedge.runs.calibration import Crossing
from xedge.scenario import link
from xedge.studies.networks import Networks, figures, presets

NAN = np.nan
CROSSING = Crossing(np.arange(5.0), np.array([10, 12, NAN, 14, 300]), np.array([10.1, 12.2, NAN, 15, 301]))


@pytest.fixture
def ax():
    return Figure().subplots()


def line(ax, label):
    (found,) = [one for one in ax.get_lines() if one.get_label() == label]
    return found.get_xdata(), found.get_ydata()


def test_over_time_shows_what_was_asked_measured_and_lost(ax):
    figures.over_time(ax, CROSSING, "blue")
    np.testing.assert_array_equal(line(ax, "asked")[1], CROSSING.requested_ms)
    np.testing.assert_array_equal(line(ax, "measured")[1], CROSSING.measured_ms)
    assert list(line(ax, "lost")[0]) == [2]
    assert ax.get_ylim()[0] < line(ax, "lost")[1][0] < 10
    assert ax.get_ylim()[1] > 301


@pytest.mark.parametrize("measured", [np.full(5, NAN), np.zeros(5)])
def test_over_time_takes_a_link_that_lost_all_or_delayed_nothing(ax, measured):
    figures.over_time(ax, Crossing(np.arange(5.0), measured, measured), "blue")
    assert np.isfinite(ax.get_ylim()).all()


def test_a_placement_without_a_steady_state_has_no_percentiles():
    stuck = with_status("timeout")
    assert stuck.verdict.saturated == ("cloud",)
    assert list(Networks(stuck).table().loc["cloud"])[:2] == ["saturated"] * 2
    assert set(Networks(stuck).table().loc["cloud"].iloc[2:]) == {"–"}  # a growing queue has no shares either
    conclusion = Networks(stuck).conclusion()
    assert "cloud: no steady state at this rate, so no latency to report." in conclusion
    assert conclusion.startswith("SATURATED: cloud: could not keep up")


def test_crossings_has_a_panel_and_a_text_for_every_link():
    made = figures.crossings({"one": CROSSING, "two": CROSSING})
    assert [ax.get_title(loc="left") for ax in made.axes] == ["one", "two"]
    assert "one: 13.6 ms at the median, 301 ms at most, 1 of 5 lost" in made.alt
    assert "<svg" in made.svg()


def test_asked_and_measured_puts_every_level_of_every_link_where_it_belongs(ax):
    whole = measurement()
    asked, measured = {"p50_ms": 10, "p95_ms": 20, "p99_ms": 30}, {"p50_ms": 11, "p95_ms": 22, "p99_ms": 33}
    whole.conditions["link_check"] = {
        "cloud": {"requested_ms": asked, "measured_ms": measured},
        "edge": {"n": 0, "lost": {"requested": 400, "measured": 400, "differing": 0}},
    }
    figures.asked_and_measured(ax, whole)
    points = {(float(x[0]), float(y[0])) for x, y in (one.get_data() for one in ax.get_lines()) if len(x) == 1}
    assert points == {(10, 11), (20, 22), (30, 33)}
    colours = {one.get_color() for one in ax.get_lines() if len(one.get_xdata()) == 1}
    assert colours == {plots.look(whole, "cloud")["color"]}
    assert ax.get_xscale() == ax.get_yscale() == "log"


LEVELS = [
    {"p": 0.5, "published_ms": 3.0, "drawn_ms": 3.1, "effective_ms": 143.0},
    {"p": 0.9, "published_ms": 20.0, "drawn_ms": 20.5, "effective_ms": 300.0},
]


def behind_a_network(levels=LEVELS):
    return Networks(measurement(link_check={"cloud": {"by_level": levels}}))


def test_published_drawn_met_and_measured_delays_stand_side_by_side():
    networks = behind_a_network()
    table, crossed_ms = networks.delays(), networks.crossed_ms("cloud")
    assert list(table.columns) == ["published, ms", "drawn, ms", "met, ms", "measured, ms"]
    assert table.index.tolist() == [("cloud", "p50"), ("cloud", "p90")]
    assert table.loc[("cloud", "p50")].tolist()[:3] == ["3", "3.1", "143"]
    assert 95 < np.median(crossed_ms) < 105  # the way that the rows have
    assert float(table.loc[("cloud", "p50"), "measured, ms"]) == pytest.approx(np.median(crossed_ms), abs=1)
    parts = networks.measurement.breakdown().set_index(["placement", "part"])["mean_ms"]["cloud"]
    assert crossed_ms.mean() == pytest.approx(parts["uplink"] + parts["downlink"], rel=0.01)
    assert behind_a_network([{**LEVELS[0], "published_ms": None}]).delays().iloc[0, 0] == "–"
    assert Networks(measurement()).delays().empty


def test_conclusion_doubts_a_network_that_is_not_the_published_one():
    said = behind_a_network().conclusion()
    assert (
        "Doubt: cloud: the delays that the network added in these trials have p50 143 ms, p90 300 ms where 3, " in said
    )
    assert "Doubt" not in behind_a_network([]).conclusion()


def test_figure_has_the_published_quantiles_as_circles_beside_what_requests_met(ax):
    networks = behind_a_network()
    figures.published(ax, networks)
    lines = [one for one in ax.get_lines() if len(one.get_xdata()) == 1]
    marks = {
        mark: {tuple(map(float, one.get_xydata()[0])) for one in lines if one.get_marker() == mark} for mark in "os"
    }
    assert marks == {"o": {(3.0, 0.5), (20.0, 0.9)}, "s": {(143.0, 0.5), (300.0, 0.9)}}
    met = line(ax, "cloud, measured")
    assert met[0].min() == pytest.approx(networks.crossed_ms("cloud").min())
    assert met[1][-1] == 1
    assert ax.get_xlabel() == "way there and back, ms"


def test_without_a_network_the_broker_is_named_alone():
    alone = Networks(measurement()).conclusion()
    assert "network and broker" not in alone
    assert "cloud: p50 101" in alone
    assert "of the mean latency is the broker, for there is no network" in alone
    assert "of the mean latency is network and broker" in behind_a_network().conclusion()


def test_figure_of_a_measurement_without_links_can_be_drawn():
    made = figures.figure(measurement())
    assert len(made.axes) == 3
    assert "edge, cloud" in made.alt
    assert "<svg" in made.svg()


def test_what_dominates_adds_up_and_names_the_largest():
    whole = measurement()
    table = Networks(whole).table()
    for name in whole.placements:
        shares = Networks(whole).shares(name)
        assert sum(shares.values()) == pytest.approx(1)
        assert table.loc[name, "mostly"] == max(shares, key=lambda part: shares[part])
        assert shares["inference"] == pytest.approx(
            whole.breakdown().set_index(["placement", "part"]).loc[(name, "inference"), "share"]
        )
    conclusion = Networks(whole).conclusion()
    assert conclusion.count("p50") == 2
    assert f"p99 {table.loc['cloud', 'p99, ms']} ms" in conclusion


def test_publish_concludes_by_what_dominates(tmp_path, monkeypatch):
    monkeypatch.setenv("XEDGE_REPORT_DIR", str(tmp_path))
    whole = measurement()
    assert xedge.publish(Networks(whole)) == Networks(whole).conclusion()
    record = report.recorded()
    assert record["conclusion"] == Networks(whole).conclusion()
    assert list(record["estimates"]) == whole.placements
    assert Measurement.load(tmp_path / "measurement").rows.equals(whole.rows)


def test_presets_are_shown_in_full():
    html = presets(["cloud-europe"]).data
    assert "p95 89.6, p99 168" in html
    assert "10.1145/3487552.3487854, Fig. 4" in html
    assert "fiber" not in html


def test_presets_are_told_in_a_table():
    wifi, lte = presets(["wifi-campus", "lte"]).data.split("</tr>")[1:3]
    assert "<th>wifi-campus</th>" in wifi
    assert "<td>p50 3, p90 20, p99 250</td><td>within and across</td>" in wifi
    assert "<td>p50 70</td><td>constant</td><td>12 up, 12 down</td>" in lte
    assert "<td>least 20, p25 40" in presets(["starlink-europe"]).data
    every = presets().data
    assert every.count("</tr>") == 1 + len(link.presets())
    assert "<td></td></tr>" not in every  # each has a source
    with pytest.raises(ConfigurationError, match="mars"):
        presets(["mars"])
