"""Limits are read as written, and what they make of a run is said with the number and the limit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from xedge.core.exceptions import ConfigurationError
from xedge.reports import parameters
from xedge.scenario import thresholds

ESTIMATES = {
    "edge": {"p99_ms": {"value": 23.1, "low": 22.0, "high": 24.2, "text": "23.1 ± 1.1"}},
    "far: cloud": {"p99_ms": {"value": None, "low": None, "high": None, "text": "saturated"}},
}


def checked(text: str, **facts: Any) -> tuple[str, str]:
    [limit] = thresholds.read([text])
    found = limit.checked({"estimates": ESTIMATES, **facts})
    assert found["limit"] == str(limit)
    return found["state"], found["said"]


@pytest.mark.parametrize(
    ("text", "state", "said"),
    [
        ("edge.p99_ms > 20", "crossed", "edge.p99_ms is 23.1 ± 1.1; failed by edge.p99_ms > 20"),
        ("edge.p99_ms>23.1", "met", "edge.p99_ms is 23.1 ± 1.1; not edge.p99_ms > 23.1"),
        ("edge.p99_ms >= 23.1", "crossed", "failed by edge.p99_ms >= 23.1"),
        ("edge.p99_ms < 2e1", "met", "not edge.p99_ms < 20"),
        ("edge.p99_ms <= 30", "crossed", "failed by edge.p99_ms <= 30"),
        ("far: cloud.p99_ms > 20", "crossed", "has no value (saturated), which counts as far: cloud.p99_ms > 20"),
        ("edge.p98_ms > 20", "unknown", "no number edge.p98_ms in this run: it has edge.p99_ms, far: cloud.p99_ms"),
    ],
)
def test_a_limit_says_what_it_makes_of_a_number(text: str, state: str, said: str) -> None:
    found = checked(text)
    assert found[0] == state
    assert said in found[1]


def test_a_run_that_failed_crosses_every_limit() -> None:
    assert checked("edge.p99_ms > 20", status="failed")[0] == "crossed"
    assert checked("edge.p99_ms > 20", status="completed", estimates=None) == (
        "unknown",
        "there is no number edge.p99_ms in this run: it has none",
    )


@pytest.mark.parametrize(
    "text", ["edge.p99_ms", "edge.p99_ms > fast", "edge.p99_ms > nan", "p99_ms > 20", "> 20", "edge.p99_ms = 20", ""]
)
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"the threshold .* cannot be read: .*`edge\.p99_ms > 20`"):
        thresholds.read([text])


def test_a_parameter_file_may_hold_limits(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("rate_hz: 5\nthresholds:\n  - edge.p99_ms > 20\n  - edge.p50_ms > 2\n")
    assert parameters.load_file(path) == {"rate_hz": 5}
    assert parameters.load_thresholds(path) == [["edge.p99_ms > 20", "edge.p50_ms > 2"]]
    path.write_text("- rate_hz: 5\n- rate_hz: 6\n  thresholds: [edge.p99_ms > 20]\n")
    assert parameters.load_sets(path) == [{"rate_hz": 5}, {"rate_hz": 6}]
    assert parameters.load_thresholds(path) == [[], ["edge.p99_ms > 20"]]


@pytest.mark.parametrize("block", ["edge.p99_ms > 20", "{edge.p99_ms: 20}", "[20]", "[edge.p99_ms]"])
def test_a_block_of_another_form_is_refused(tmp_path: Path, block: str) -> None:
    (tmp_path / "a.yaml").write_text(f"thresholds: {block}\n")
    with pytest.raises(ConfigurationError, match=r"edge\.p99_ms > 20"):
        parameters.load_thresholds(tmp_path / "a.yaml")
