"""What is seen of a measurement while it runs: from the services' own metrics, of every kind of service."""

from __future__ import annotations

import logging
import re
from collections import Counter

import pytest
from helpers import unique_prefix

from xedge import Cloud, Edge, Link, Poisson, Scenario
from xedge.runs import live
from xedge.serving.broker import Broker
from xedge.serving.metrics import Metrics

pytestmark = pytest.mark.usefixtures("models")
PLACEMENTS = {
    "edge": Edge(),
    "boxes": Edge(boxes=2),
    "process": Edge(run_in="process"),
    "cloud": Cloud(link=Link(delay_ms=10)),
}


def scenario(**placements: Edge | Cloud) -> Scenario:
    workload = Poisson(rate_hz=100, duration_s=2.5)
    return Scenario(
        model="anomaly_detector", workload=workload, placements=placements, topic_prefix=unique_prefix(), timeout_s=20
    )


def seen(caplog: pytest.LogCaptureFixture) -> dict[str, list[str]]:
    """Placement -> what was seen of it, in the order of the records."""
    said = [record.getMessage() for record in caplog.records if record.name == "xedge.core.progress"]
    found = [re.fullmatch(r"measuring \d of \d \((\w+)\): (.*answers/s.*)", text) for text in said]
    by_name: dict[str, list[str]] = {}
    for match in filter(None, found):
        by_name.setdefault(match[1], []).append(match[2])
    return by_name


@pytest.mark.long
def test_watching_shows_every_kind_of_service(any_broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "xedge")
    measurement = scenario(**PLACEMENTS).measure(1, broker=any_broker, watch=True)
    found = seen(caplog)
    assert set(found) == set(PLACEMENTS)
    for name, texts in found.items():
        answered = [int(re.search(r"(\d+) answered", text)[1]) for text in texts]
        assert answered == sorted(answered)
        assert 0 < answered[-1] <= len(measurement.rows[measurement.rows["placement"] == name])
    p50_ms = float(re.search(r"p50 ([\d.]+)", found["cloud"][-1])[1])
    assert p50_ms >= 20  # the links are in it
    assert measurement.conditions["watched"] is True
    phases = [record.getMessage() for record in caplog.records if record.name == "xedge.core.progress"]
    assert phases[0] == "preparing"
    assert [text for text in phases if re.fullmatch(r"measuring \d of 4 \(\w+\)", text)] == [
        f"measuring {number} of 4 ({name})" for number, name in enumerate(PLACEMENTS, 1)
    ]


def test_nothing_is_published_unless_somebody_watches(
    any_broker: Broker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "xedge")
    monkeypatch.delenv(live.VARIABLE, raising=False)
    measurement = scenario(edge=Edge()).measure(1, broker=any_broker)
    assert seen(caplog) == {}
    assert not any(hasattr(record, "metrics") for record in caplog.records)
    assert measurement.conditions["watched"] is False


@pytest.mark.parametrize(("word", "asked"), [("", False), ("0", False), ("1", True)])
def test_the_environment_asks_for_it(monkeypatch: pytest.MonkeyPatch, word: str, asked: bool) -> None:
    monkeypatch.setenv(live.VARIABLE, word)
    assert live.asked(None) is asked
    assert live.asked(True)
    assert not live.asked(False)


def test_several_boxes_are_summed_and_the_slowest_shown() -> None:
    latest = [Metrics("edge", 1, 1, 0, 0, 100.0, p50, p50, p99) for p50, p99 in ((0.4, 0.9), (0.3, 7.0))]
    counts = Counter(received=210, answered=190, lost=5)
    assert live.sentence(latest, counts, Counter(wrong_shape=3)) == (
        "200 answers/s, p50 0.3 p99 7 ms in the service; 190 answered, 12 in it, 5 lost, 3 refused (wrong_shape)"
    )
    idle = Metrics("edge", 1, 1, 0, 0, 0.0)
    assert live.sentence([idle], Counter(), Counter()) == "0 answers/s; 0 answered"
