"""Long runs: what counts as growth and drift, in tables of samples, and real services watched for a while."""

from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from xedge.cli.main import main
from xedge.core import paths
from xedge.core.exceptions import ConfigurationError, ServiceError
from xedge.studies import soak
from xedge.studies.soak import Soak
from xedge.studies.soak.measuring import held

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="needs /proc")
N = 50
LINE = np.linspace(0, 1, N)
NOISE = np.random.default_rng(3).normal(0, 0.02, N)


def samples(**changes: Any) -> pd.DataFrame:
    """An hour of a service that stays as it is, apart from the changes."""
    columns = {"service": "edge", "at_s": 3600 * LINE, "requests": 100, "answered": 100, "p50_ms": 0.5 + NOISE}
    columns |= {"p99_ms": 2 + NOISE, "rss_mb": 80 + NOISE, "descriptors": 12.0, "threads": 4.0}
    return pd.DataFrame(columns | changes)


def soaked(**changes: Any) -> Soak:
    return Soak(samples(**changes), {"edge": 8000.0}, 0.5, {})


def test_service_that_stays_as_it_is_has_no_problems() -> None:
    result = soaked()
    assert result.changed("edge").problems == []
    assert result.conclusion().startswith(
        "Every service stayed as it was.\n\nedge, 4000 requests/s, 50 % of its ceiling, for 60.0"
    )
    assert "all 5000 requests have a result" in result.conclusion()


def test_busy_machine_is_doubted() -> None:
    busy = Soak(samples(), {"edge": 8000.0}, 0.5, {"load_average_before": 7.2})
    assert "Doubt: the machine had other work before (load average 7.2)" in busy.conclusion()
    assert "Doubt" not in Soak(samples(), {"edge": 8000.0}, 0.5, {"load_average_before": 0.4}).conclusion()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rss_mb": 80 + 40 * LINE}, "memory grew by 28.6 MB"),
        ({"rss_mb": np.where(LINE > 0.5, 110.0, 80.0)}, "memory grew by 30.0 MB"),
        ({"descriptors": np.where(LINE > 0.7, 13.0, 12.0)}, "descriptors grew from 12 to 13"),
        ({"threads": np.floor(4 + 9 * LINE)}, "threads grew from 6 to 12"),
        ({"answered": np.where(LINE == 1, 97, 100)}, "3 of 5000 requests have no result"),
        ({"p50_ms": 0.5 + 0.3 * LINE + NOISE}, "the median latency rose by 0.2"),
    ],
)
def test_what_grows_is_said(changes: dict[str, Any], said: str) -> None:
    result = soaked(**changes)
    assert result.conclusion().startswith("Not as before: edge.\n\nedge, ")
    assert said in result.conclusion()


@pytest.mark.parametrize(
    "changes",
    [
        {"rss_mb": np.where(LINE < 0.15, 60.0, 100.0)},  # warm-up
        {"rss_mb": np.where(LINE == 1, 500.0, 80.0)},  # one sample
        {"rss_mb": 80 + 20 * LINE},
        {"rss_mb": 80 - 40 * LINE, "descriptors": 12 - np.round(LINE), "p50_ms": 0.5 - 0.3 * LINE + NOISE},
        {"p50_ms": 0.5 + 0.03 * LINE + NOISE / 100},  # for sure, and of no consequence
        {"p50_ms": np.where(LINE == 1, 50.0, 0.5)},
    ],
)
def test_what_is_no_growth_is_not(changes: dict[str, Any]) -> None:
    assert soaked(**changes).changed("edge").problems == []


def test_page_has_the_largest_of_each_and_whose_it_is() -> None:
    both = pd.concat([samples(), samples(service="http", rss_mb=80 + 40 * LINE)], ignore_index=True)
    findings = Soak(both, {"edge": 8000.0, "http": 900.0}, 0.5, {}).findings()
    assert findings.estimates["all"]["memory_growth_mb"] == findings.estimates["http"]["memory_growth_mb"]
    assert findings.estimates["all"]["memory_growth_mb"] == pytest.approx(28.6, abs=0.5)
    assert findings.headline[2].value == "not shown"
    risen = soaked(p50_ms=0.5 + 0.3 * LINE + NOISE).findings().headline[2]
    assert (risen.unit, risen.detail) == ("%", "edge")
    assert (findings.headline[0].unit, findings.headline[0].detail) == ("MB", "http")


def test_what_a_process_holds_is_read_and_one_that_ended_is_an_error() -> None:
    before, ended = held([os.getpid()]), threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    with socket.socket():
        after = held([os.getpid()])
    ended.set()
    thread.join()
    assert after["descriptors"] == before["descriptors"] + 1
    assert after["threads"] == before["threads"] + 1
    assert 10 < after["rss_mb"] < 10_000
    with pytest.raises(ServiceError, match="has ended"):
        held([2**22 + 1])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"services": ["edge", "kafka"]}, "no service 'kafka' to watch: there are edge, cloud, http, text"),
        ({"services": []}, "at least one service"),
        ({"share": 1.0}, "a share between 0 and 1"),
        ({"minutes": 0.0}, "minutes above 0"),
        ({"minutes": float("nan")}, "minutes above 0"),
    ],
)
def test_what_cannot_be_watched_is_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        soak.watch(**wrong)


@pytest.mark.long
def test_all_services_stay_as_they_are_for_two_minutes(models: Path, text_registry: object, tmp_path: Path) -> None:
    """As `make soak MINUTES=2`, whose limits are in the file of parameters."""
    file = paths.notebooks_dir() / "parameters" / "soak.yaml"
    assert main(["report", "16_soak", "-f", str(file), "-p", "minutes", "2", "--out", str(tmp_path)]) == 0
    [record] = tmp_path.glob("soak/*/run.json")
    conclusion = json.loads(record.read_text())["conclusion"]
    for name in ("edge", "cloud", "http", "text"):
        assert f"\n\n{name}, " in conclusion
