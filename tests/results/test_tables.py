"""Tables for a paper: the numbers are those of the measurement, with units and intervals, and LaTeX takes them."""

from __future__ import annotations

import re

import pandas as pd
import pytest
from sample_rows import measurement, with_status

from xedge.results.tables import PaperTable


@pytest.fixture(scope="module")
def whole():
    return measurement()


def test_summary_has_values_with_units_and_intervals(whole):
    table = whole.tables()["summary"]
    texts = table.texts().set_index("placement")
    of = whole.estimate("edge", 0.99)
    value, low, high = map(
        float, re.fullmatch(r"([\d.]+) \(([\d.]+)–([\d.]+)\)", texts.loc["edge", "p99, ms"]).groups()
    )
    assert (value, low, high) == pytest.approx((of.value, of.low, of.high), abs=5e-4)
    assert "offered, /s" in texts
    assert not {"p99, ms low", "p99 ms low", "lost", "ok"} & set(texts)  # all were answered
    assert "lost" in with_status("lost").tables()["summary"].texts()


def test_differences_are_those_of_the_comparison(whole):
    table = whole.tables()["differences"]
    compared = whole.compare("edge", "cloud").differences
    assert table.rows["difference_ms"].tolist() == [e.value for e in compared.values()]
    assert table.rows["difference_ms_low"].tolist() == [e.low for e in compared.values()]
    assert table.texts()["against"].tolist() == ["edge"] * 3
    assert set(with_status("timeout").tables()) == {"summary", "parts"}  # saturated: nothing to compare


def test_latex_is_a_booktabs_table_with_a_cell_for_every_column(whole):
    for table in whole.tables().values():
        latex = table.latex(label="tab:x")
        rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
        columns = len(table.texts().columns)
        assert len(rows) == len(table.rows) + 1
        assert {line.count(" & ") for line in rows} == {columns - 1}
        assert re.search(rf"begin{{tabular}}{{[lr]{{{columns}}}}}", latex)
        for rule in ("toprule", "midrule", "bottomrule"):
            assert latex.count(f"\\{rule}") == 1
        assert latex.isascii()  # any engine takes it
        assert not re.search(r"(?<!\\)[%#_]", latex)
        assert r"\label{tab:x}" in latex


def test_cells_say_what_is_missing():
    rows = pd.DataFrame({"of_what": ["a_b & 5 %", "c", "d", None], "p99_ms": [1.5, float("inf"), float("nan"), -2.25]})
    rows["p99_ms_low"], rows["p99_ms_high"] = [float("nan")] * 4, [float("nan")] * 4
    table = PaperTable(rows.assign(requests=[1234, 1, 2, 3]))
    assert table.texts()["p99, ms"].tolist() == ["1.5", "timed out", "–", "−2.25"]
    assert r"a\_b \& 5 \% & 1.5 & 1\,234 \\" in table.latex()
    assert "& $-$2.25 &" in table.latex()


def test_interval_below_zero_is_written_without_a_dash():
    rows = pd.DataFrame(
        {"level": ["p50"], "difference_ms": [0.1], "difference_ms_low": [-0.3], "difference_ms_high": [0.5]}
    )
    assert PaperTable(rows).texts()["difference, ms"].tolist() == ["0.10 (−0.30 to 0.50)"]


def test_save_writes_numbers_and_latex(whole, tmp_path):
    table = whole.tables()["parts"]
    file = table.save(tmp_path / "new" / "parts")
    pd.testing.assert_frame_equal(pd.read_csv(file), table.rows, check_dtype=False)
    assert file.with_suffix(".tex").read_text(encoding="utf-8").startswith("% \\usepackage{booktabs}")


def test_an_index_becomes_columns(tmp_path):
    rows = pd.DataFrame(
        {"p50_ms": [1.0, 2.0]}, index=pd.MultiIndex.from_tuples([(1, "a"), (2, "b")], names=["workers", "as"])
    )
    table = PaperTable(rows)
    assert list(table.texts()) == ["workers", "as", "p50, ms"]
    assert pd.read_csv(table.save(tmp_path / "x"))["workers"].tolist() == [1, 2]
