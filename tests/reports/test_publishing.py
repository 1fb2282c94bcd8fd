"""What a published measurement leaves for the page, for the index over several runs, and beside both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sample_rows import conditions, measurement

import xedge
from xedge.core.exceptions import ConfigurationError
from xedge.reports import run as report
from xedge.results.measurement import Measurement


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run, as its kernel is told it."""
    monkeypatch.setenv("XEDGE_REPORT_DIR", str(tmp_path))
    return tmp_path


def recorded(folder: Path) -> dict[str, Any]:
    """What run.json will hold; JSON without NaN or Infinity."""

    def refuse(word: str) -> None:
        raise AssertionError(word)

    found: dict[str, Any] = json.loads((folder / "record.json").read_text(), parse_constant=refuse)
    return found


def test_publish_records_what_the_summary_says(folder: Path) -> None:
    whole = measurement()
    assert xedge.publish(whole) == whole.conclusion()
    found = recorded(folder)
    summary = whole.summary().set_index("placement")
    assert list(found["estimates"]) == ["edge", "cloud"]
    for placement, numbers in found["estimates"].items():
        assert list(numbers) == ["answered_hz", "p50_ms", "p95_ms", "p99_ms"]  # no deadline, so no share in time
        for name, number in numbers.items():
            assert number["value"] == pytest.approx(summary[name][placement])
        assert number["low"] == pytest.approx(summary["p99_ms_low"][placement])
        assert number["high"] == pytest.approx(summary["p99_ms_high"][placement])
        assert number["text"].startswith(found["headline"][list(summary.index).index(placement)]["value"])
    assert [one["label"] for one in found["headline"]] == [
        "edge, 99 % answered within",
        "cloud, 99 % answered within",
        "cloud slower than edge, p99",
    ]
    assert found["answer"] == whole.answer().sentence
    assert found["doubts"] == []
    assert found["verdict"] == whole.verdict.word
    assert Measurement.load(folder / "measurement").rows.equals(whole.rows)


def test_publish_records_a_small_curve_of_every_placement(folder: Path) -> None:
    whole = measurement()
    xedge.publish(whole)
    for placement, curve in recorded(folder)["distributions"].items():
        pooled = sorted(value for section in whole.latencies_ms(placement) for value in section)
        assert 40 <= len(curve["latency_ms"]) == len(curve["share"]) <= 60
        assert curve["latency_ms"][-1] == pytest.approx(pooled[-1], rel=1e-3)
        middle = len(curve["share"]) // 2
        assert curve["latency_ms"][middle] == pytest.approx(
            pooled[round(curve["share"][middle] * len(pooled)) - 1], rel=0.01
        )


def test_publish_several_keeps_them_apart_under_the_worst_verdict(folder: Path) -> None:
    good = measurement()
    slow = measurement(noise_floor=conditions()["noise_floor"] | {"p50_ms": 0.4})
    slow.__dict__["verdict"] = type(
        "", (), {"word": "SATURATED", "saturated": ("cloud",), "reasons": (), "valid": False}
    )()
    xedge.publish(good, "low")
    xedge.publish(slow, "high")
    xedge.publish(good, "again")
    found = recorded(folder)
    assert found["verdict"] == "SATURATED"
    assert list(found["estimates"]) == [
        f"{name}: {placement}" for name in ("low", "high", "again") for placement in ("edge", "cloud")
    ]
    assert found["estimates"]["high: cloud"]["p99_ms"] == {
        "value": None,
        "low": None,
        "high": None,
        "text": "saturated",
    }
    assert [one["label"] for one in found["headline"]] == [
        f"{name}, 99 % answered within" for name in ("low: edge", "low: cloud", "high: edge", "high: cloud")
    ]
    assert found["headline"][3] == {
        "label": "high: cloud, 99 % answered within",
        "value": "saturated",
        "unit": "",
        "detail": "",
    }
    assert [text.partition(":")[0] for text in found["conclusion"].split("\n\n")] == ["low", "high", "again"]
    assert "noise floor (echo) (high)" in found["conditions"]
    assert "noise floor (echo) (again)" not in found["conditions"]
    assert {path.name for path in folder.iterdir()} == {"low", "high", "again", "tables", "record.json"}
    assert {path.name for path in (folder / "tables").iterdir()} >= {"low-summary.csv", "again-differences.tex"}


def test_a_link_that_lost_all_is_published_too(folder: Path) -> None:
    xedge.publish(measurement(link_check={"cloud": {"n": 0, "lost": {"requested": 9, "measured": 9, "differing": 0}}}))
    assert recorded(folder)["conditions"]["links of cloud, both ways"] == "nothing came back"


def test_publish_under_a_name_twice_is_refused(folder: Path) -> None:
    xedge.publish(measurement())
    with pytest.raises(ConfigurationError, match="'' is published already: give every study a name"):
        xedge.publish(measurement())


def test_record_of_estimates_and_distributions_is_checked(folder: Path) -> None:
    report.record("estimates", {"inversion": {"utilisation": {"value": 0.61, "low": 0.58, "high": 0.64}}})
    assert report.recorded()["estimates"]["inversion"]["utilisation"]["text"] == "0.610 (0.580–0.640)"
    for key, value in [
        ("estimates", {"edge": 1.0}),
        ("distributions", {"edge": {"latency_ms": [1.0], "share": []}}),
        ("distributions", [1]),
    ]:
        with pytest.raises(ConfigurationError, match=f"record: .*{key}"):
            report.record(key, value)
