"""Two runs compared: what differs, and a difference is only told where it is more than noise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sample_rows
import saved_runs as runs

from xedge.core.exceptions import ConfigurationError
from xedge.reports import publish
from xedge.reports.compare import Compared, compare, independent
from xedge.reports.estimates import checked
from xedge.results.measurement import Measurement


def number(value: float | None, half: float | None = None, text: str = "x") -> dict[str, Any]:
    ends = (None, None) if half is None or value is None else (value - half, value + half)
    return {"value": value, "low": ends[0], "high": ends[1], "text": text}


def put(folder: Path, name: str, rate_hz: float = 50.0, **changes: Any) -> Path:
    runs.put(folder, runs.facts(name, rate_hz, "lte", **changes))
    own = folder / "probe" / name
    (own / "measurement" / "rows.csv.gz").unlink()
    return own


def told(found: Compared) -> dict[str, bool | None]:
    return {f"{one.of} {one.name}": one.shown for one in found.numbers}


def test_compare_says_what_was_asked_what_differs_and_by_how_much(tmp_path: Path) -> None:
    first = {"edge": {"p50_ms": number(10, 1, "10 ± 1"), "p99_ms": number(20, 3, "20 ± 3"), "knee_hz": number(400)}}
    second = {"edge": {"p50_ms": number(12, 1, "12 ± 1"), "p99_ms": number(23, 3, "23 ± 3"), "knee_hz": number(410)}}
    first["edge"]["load"] = second["edge"]["load"] = number(0.5, text="0.5")
    a = put(tmp_path, "a", 50.0, estimates=first | {"cloud": {"p50_ms": number(1)}})
    b = put(tmp_path, "b", 100.0, estimates=second | {"far": {"p50_ms": number(None, text="saturated")}})
    found = compare(a, b)
    assert found.asked == {"rate_hz": ("50", "100")}
    assert found.conditions == {"noise floor": ("0.05 ms", "0.1 ms")}
    assert told(found) == {"edge p50_ms": True, "edge p99_ms": False, "edge knee_hz": None, "edge load": None}
    said = str(found)
    assert "A: 03_probe a (VALID)" in said
    assert "  rate_hz: 50 and 100" in said
    assert "numbers: 1 of 4 differ by more than noise" in said
    assert "edge, p50: 10 ± 1 and 12 ± 1 ms: more than noise: 2.0 (0.6–3.4) ms higher in B" in said
    assert "edge, p99: 20 ± 3 and 23 ± 3 ms: no difference is shown: 3.0 (−1.2 to 7.2) ms higher in B" in said
    assert "10 /s higher in B; without intervals nobody knows whether that is noise" in said
    assert "  edge, load: 0.5 in both\n" in said
    assert "only in A: cloud, p50_ms" in said
    assert "only in B: far, p50_ms" in said
    assert "more than noise: 2.0 (0.6–3.4) ms lower in B" in str(compare(b, a))


def test_compare_of_a_number_that_is_missing_says_so(tmp_path: Path) -> None:
    a = put(tmp_path, "a", estimates={"edge": {"p99_ms": number(10, 1, "10 ± 1")}})
    b = put(tmp_path, "b", estimates={"edge": {"p99_ms": number(None, text="saturated")}})
    assert "edge, p99: 10 ± 1 and saturated: cannot be compared" in str(compare(a, b))


def test_compare_takes_a_folder_run_json_or_page_and_the_page_on_top(tmp_path: Path) -> None:
    a, b = put(tmp_path, "a"), put(tmp_path, "b", 100.0)
    (tmp_path / "probe.html").write_text("the page on top")
    for place in (b, b / "run.json", b / "probe.html", tmp_path / "probe.html", tmp_path / "probe"):
        assert (compare(a, place).a, compare(a, place).b) == ("03_probe a (VALID)", "03_probe b (VALID)"), place


@pytest.mark.parametrize("place", ["none", "none.html", "empty", "empty/page.html"])
def test_compare_of_what_is_no_run_is_refused(tmp_path: Path, place: str) -> None:
    a = put(tmp_path, "a")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "page.html").write_text("")
    with pytest.raises(ConfigurationError, match=r"is neither a run nor a measurement: give a folder with run\.json"):
        compare(a, tmp_path / place)


def shifted(by_ms: float) -> Measurement:
    """The same requests, every answer of the edge later by a constant."""
    whole = sample_rows.measurement(replications=4)
    rows = whole.rows.copy()
    rows.loc[rows["placement"] == "edge", "received_ns"] += round(by_ms * 1e6)
    return Measurement(rows, whole.conditions)


def test_compare_of_saved_rows_pairs_their_replications(tmp_path: Path) -> None:
    first, second = shifted(0.0), shifted(0.01)
    folders = [first.save(tmp_path / "first"), second.save(tmp_path / "second")]
    found = compare(*folders)
    known = {(one.of, one.name): one for one in found.numbers}
    edge = known["edge", "p50_ms"]
    assert edge.value == pytest.approx(0.01)
    assert edge.shown
    estimates = checked(publish.findings(first).estimates)["edge"]["p50_ms"]
    assert not independent(estimates, estimates)[1] < 0.01  # by their intervals alone it would not have been seen
    assert known["cloud", "p99_ms"].shown is False
    assert found.asked == {}
    runs_ = []
    for place, measurement in (("a", first), ("b", second)):
        runs_.append(put(tmp_path, place, estimates=checked(publish.findings(measurement).estimates)))
        measurement.save(runs_[-1] / "measurement", format="csv")
    assert told(compare(*runs_))["edge p50_ms"]
    mixed = compare(runs_[0], folders[1])
    assert told(mixed)["edge p50_ms"]
    assert not [
        pair for pair in (*mixed.asked.values(), *mixed.conditions.values()) if "–" in pair
    ]  # what only one of them can have is no difference


def test_rows_of_another_study_are_left_to_their_intervals(tmp_path: Path) -> None:
    a, b = (put(tmp_path, name, estimates={"edge": {"p99_ms": number(5, 1)}}) for name in "ab")
    for folder in (a, b):
        (folder / "measurement" / "conditions.json").write_text(json.dumps([{"probe": 1}]))
    assert told(compare(a, b)) == {"edge p99_ms": False}


def test_equal_numbers_differ_in_one_of_twenty_comparisons() -> None:
    rng = np.random.default_rng(11)
    drawn = rng.normal(5, [[1.0], [2.5]], (2, 4000))
    ends = [independent(number(a, 1.96), number(b, 1.96 * 2.5)) for a, b in drawn.T]
    wrong = np.mean([not low <= 0 <= high for low, high in ends])
    assert 0.035 < wrong < 0.065
