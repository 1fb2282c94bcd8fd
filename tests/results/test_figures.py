"""Figures: what the curves say, that they stay small and the same, and that nothing global is touched."""

from __future__ import annotations

import base64
import itertools
import re
import zlib
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from sample_rows import measurement, with_status

from xedge.core.exceptions import ConfigurationError
from xedge.results import canvas, words
from xedge.results import figures as plots


@pytest.fixture(scope="module")
def whole():
    return measurement()


@pytest.fixture
def ax():
    return Figure().subplots()


def curve(artists, label):
    (line,) = [artist for artist in artists if artist.get_label() == label]
    return line.get_xdata(), line.get_ydata()


def test_ecdf_shows_the_distribution_and_its_band(ax, whole):
    artists = plots.ecdf(ax, whole)
    x, share = curve(artists, "cloud")
    pooled = np.concatenate(whole.latencies_ms("cloud"))
    assert share == pytest.approx([np.mean(pooled <= at) for at in x])
    assert len(artists) == 4  # a line and a band each
    assert ax.get_xlabel().endswith("ms")
    assert ax.get_xscale() == "log"


def test_ecdf_ends_where_the_time_outs_begin(ax):
    _, share = curve(plots.ecdf(ax, with_status("lost")), "cloud")
    assert share[-1] == pytest.approx(0.9, abs=0.002)


def test_tail_is_cut_where_ten_requests_are_left(ax, whole):
    x, share = curve(plots.tail(ax, whole), "edge")
    pooled = np.concatenate(whole.latencies_ms("edge"))
    assert share == pytest.approx([np.mean(pooled > at) for at in x])
    assert share[-1] == pytest.approx(10 / pooled.size, rel=0.2)
    assert ax.get_yscale() == "log"
    assert [label.get_text() for label in ax.get_yticklabels()] == ["100 %", "10 %", "1 %", "0.1 %"]


def test_tail_is_shaded_from_replication_to_replication(ax, whole):
    artists = plots.tail(ax, whole)
    (_, band, _), sections = artists[:3], whole.latencies_ms(whole.placements[0])
    points = band.get_paths()[0].vertices
    share = points[np.abs(points[:, 1] - 0.1).argmin(), 1]
    at = np.sort(np.unique(points[np.isclose(points[:, 1], share), 0]))
    slower = [np.quantile(section, 1 - share, method="inverted_cdf") for section in sections]
    assert at[[0, -1]] == pytest.approx([min(slower), max(slower)])
    assert points[:, 1].min() >= 1 / min(section.size for section in sections)
    artists = plots.tail(Figure().subplots(), measurement(replications=1))
    assert len(artists) == 4  # a line and its end each; one replication has no band


def test_breakdown_draws_the_shares_of_the_mean(ax, whole):
    plots.breakdown(ax, whole)
    shares = whole.breakdown().set_index(["part", "placement"])["share"]
    widths = {bars.get_label(): [bar.get_width() for bar in bars] for bars in ax.containers}
    assert widths["inference"] == pytest.approx(shares["inference"][["edge", "cloud"]].to_numpy())
    assert sum(np.array(width) for width in widths.values()) == pytest.approx([1, 1], abs=0.02)
    assert re.fullmatch(r"edge\nmean 0\.\d+ ms", ax.get_yticklabels()[0].get_text())
    assert "mean" in ax.get_xlabel()


def test_over_time_draws_every_request_and_marks_the_unanswered(ax):
    lost = with_status("lost")
    artists = plots.over_time(ax, lost)
    artists = [artist for artist in artists if artist.get_linestyle() == "None"]  # the marks, not the medians
    drawn = sum(int(np.isfinite(artist.get_ydata()).sum()) for artist in artists)
    assert drawn == len(lost.rows) - int((lost.rows["warm_up"] & (lost.rows["status"] == "lost")).sum())
    assert all(artist.get_rasterized() for artist in artists)
    assert "no answer in time" in ax.get_legend_handles_labels()[1]


def test_legends_stay_above_the_data(whole):
    made = plots.figure(whole)
    made.draw_without_rendering()
    for ax in made.axes[:2]:
        box = ax.transData.inverted().transform(ax.get_legend().get_window_extent())
        assert box[0][1] > max(line.get_ydata().max() for line in ax.lines)


def test_ticks_are_plain_numbers(ax, whole):
    plots.ecdf(ax, whole)
    low, high = ax.get_xlim()
    labels = [
        label.get_text() for label, at in zip(ax.get_xticklabels(), ax.get_xticks(), strict=True) if low <= at <= high
    ]
    assert labels == ["1", "10", "100"]


def test_figure_is_small_valid_svg_and_the_same_every_time():
    large = measurement(replications=5, n=2000)
    assert len(large.rows) == 20_000
    first, second = plots.figure(large).svg(), plots.figure(large).svg()
    assert first == second
    assert len(first.encode()) < 150_000
    assert ElementTree.fromstring(first).tag.endswith("svg")
    assert "latency from the due time, ms</text>" in first
    for clue in ("<dc:date>", "http://localhost", "file:"):
        assert clue not in first


def test_figure_shows_itself_with_an_alternative_text_that_has_the_numbers(whole):
    data, metadata = whole.plot()._repr_mimebundle_()
    assert set(data) == {"image/svg+xml", "application/pdf", canvas.NARROW, "text/plain"}
    assert base64.b64decode(data["application/pdf"]).startswith(b"%PDF-")
    alt = metadata["image/svg+xml"]["alt"]
    assert alt == data["text/plain"]
    p99 = words.milliseconds(whole.estimate("edge", 0.99))
    assert p99 in alt
    assert "faster than cloud" in alt


def test_a_verdict_that_is_not_valid_is_printed_in_the_figure(whole):
    assert "SATURATED: cloud" in with_status("timeout").plot().svg().split("</metadata>")[1]
    assert "VALID" not in whole.plot().svg().split("</metadata>")[1]


def test_a_figure_touches_nothing_global(whole):
    before = dict(mpl.rcParams)
    whole.plot().svg()
    assert dict(mpl.rcParams) == before


def test_placements_differ_in_colour_and_in_line_style(ax, whole):
    lines = [line for line in plots.ecdf(ax, whole) if line.get_label() in whole.placements]
    assert len({line.get_color() for line in lines}) == len({line.get_linestyle() for line in lines}) == 2


def test_over_time_draws_the_median_of_each_placement_in_its_line_style(ax, whole):
    artists = plots.over_time(ax, whole)
    x, y = curve(artists, "cloud")
    assert len(x) == plots.MEDIANS
    assert (np.diff(x) > 0).all()
    assert np.median(y) == pytest.approx(whole.estimate("cloud", 0.5).value, rel=0.02)
    styles = {
        artist.get_label(): artist.get_linestyle() for artist in artists if artist.get_label() in whole.placements
    }
    assert len(set(styles.values())) == 2


def test_parts_differ_without_colour(ax, whole):
    """Neighbouring parts are of another hatch, or far enough apart as greys."""
    plots.breakdown(ax, whole)
    bars = [(bars[0].get_hatch(), mpl.colors.to_rgb(bars[0].get_facecolor())) for bars in ax.containers]
    greys = [(hatch, np.dot(colour, (0.299, 0.587, 0.114))) for hatch, colour in bars]
    for (hatch, grey), (next_hatch, next_grey) in itertools.pairwise(greys):
        assert hatch != next_hatch or abs(grey - next_grey) > 0.15


def test_figure_is_saved_as_its_name_says_and_the_same_every_time(whole, tmp_path):
    for kind, begin in (("pdf", b"%PDF-"), ("svg", b"<?xml"), ("png", b"\x89PNG")):
        first, second = (
            whole.plot("tail", size=(3.4, 2.6)).save(tmp_path / "new" / f"{number}.{kind}").read_bytes()
            for number in range(2)
        )
        assert first.startswith(begin)
        assert first == second
    with pytest.raises(ConfigurationError, match=r"saved as \.pdf, \.svg, \.png"):
        whole.plot("tail").save(tmp_path / "tail.jpg")


def test_text_of_a_pdf_is_text_in_truetype_fonts(whole, tmp_path):
    """What IEEE and ACM check for: no Type 3 fonts."""
    pdf = whole.plot("ecdf").save(tmp_path / "ecdf.pdf").read_bytes()
    assert b"/CIDFontType2" in pdf
    assert b"/Type3" not in pdf
    assert b"CreationDate" not in pdf
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)
    assert any(b" Tj" in _inflated(stream) or b"] TJ" in _inflated(stream) for stream in streams)


def _inflated(stream: bytes) -> bytes:
    try:
        return zlib.decompress(stream)
    except zlib.error:
        return b""


def test_panels_are_chosen_by_name_and_size(whole):
    assert [ax.get_title(loc="left") for ax in whole.plot(["tail", "forest"]).axes] == [
        "The tail: how many are slower",
        "Paired differences, 95 % intervals",
    ]
    figure = whole.plot("ecdf", size=(3.4, 2.6))
    assert figure.get_size_inches() == pytest.approx((3.4, 2.6))
    assert len(figure.axes) == 1
    with pytest.raises(ConfigurationError, match=r"no panel 'cdf': there are ecdf, tail, .*convergence"):
        whole.plot(["cdf"])


def test_a_narrow_screen_gets_one_panel_below_the_other(whole):
    figure = whole.plot()
    before = figure.svg()
    wide, narrow = (ElementTree.fromstring(svg) for svg in (before, figure.narrow_svg()))
    width, height = (float(narrow.get(name).removesuffix("pt")) for name in ("width", "height"))
    assert width == pytest.approx(float(wide.get("width").removesuffix("pt")) / 2)
    assert height == pytest.approx(float(wide.get("height").removesuffix("pt")) * 2)
    assert figure.svg() == before
    assert whole.plot("ecdf").narrow_svg() is None


def test_the_verdict_below_a_figure_fits_its_width(whole):
    figure = with_status("timeout").plot("tail", size=(3.4, 2.6))
    figure.draw_without_rendering()
    note = figure._supxlabel.get_window_extent()
    assert note.x1 <= figure.bbox.x1
    assert figure._supxlabel.get_text().count("\n") <= 2
