"""The page that compares runs says what their run.json say, whatever those are."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import saved_runs as runs
from bs4 import BeautifulSoup

from xedge.core.exceptions import ConfigurationError
from xedge.reports import estimates, index
from xedge.results import statistics

FAILED = {
    "status": "failed",
    "verdict": None,
    "error": {"type": "ValueError", "message": "<b>no</b> broker\nat all", "cell_index": 3, "source": ""},
    "estimates": None,
    "distributions": None,
}
SATURATED = {"verdict": "SATURATED", "estimates": runs.saturated(runs.facts("", 50.0, "lte")["estimates"])}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six runs: two VALID, one INVALID, one failed, one saturated, one missing."""
    changes = {2: {"verdict": "INVALID"}, 3: FAILED, 4: SATURATED, 5: None}
    return runs.write(tmp_path_factory.mktemp("sweep"), changes)


@pytest.fixture(scope="module")
def page(sweep: Path) -> Any:
    assert index.build(sweep) == sweep / "index.html"
    return BeautifulSoup((sweep / "index.html").read_text(encoding="utf-8"), "html.parser")


def cells(page: Any, row: int) -> list[str]:
    return [cell.get_text(" ", strip=True) for cell in page.select(".runs tbody tr")[row].find_all(["th", "td"])]


def test_index_puts_how_many_are_valid_and_the_range_first(page: Any) -> None:
    assert page.h1.get_text() == "Probe: 6 runs compared"
    text = page.get_text(" ", strip=True)
    order = [
        "2 of 6 VALID",
        "1 INVALID",
        "edge, p99",
        "cloud, p99",
        "Runs",
        "How the numbers change",
        "Every distribution",
    ]
    order += ["Parameters of all runs", "Conditions", "In which the runs differ", "Run it again"]
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    assert [one.get_text() for one in page.select(".others li")] == [
        "1 INVALID: rate_hz=100, network=lte",
        "1 failed: rate_hz=100, network=wifi",
        "1 SATURATED: rate_hz=1000, network=lte",
        "1 missing: rate_hz=1000, network=wifi",
    ]
    assert page.select_one(".headline small").get_text() == "rate_hz=50, network=lte"  # INVALID ones do not count


def test_index_table_has_what_differs_verdict_numbers_and_links(page: Any, sweep: Path) -> None:
    heads = [th.get_text() for th in page.select(".runs thead th")]
    assert heads == [
        "edge",
        "cloud",
        "run",
        "rate_hz",
        "network",
        "verdict",
        *["p50, ms", "p99, ms"] * 2,
        "duration, s",
        "data",
    ]
    p50, p99 = (runs.facts("", 50.0, "lte")["estimates"]["edge"][name]["text"] for name in ("p50_ms", "p99_ms"))
    assert cells(page, 0)[:6] == ["run 1", "50", "lte", "VALID", p50, p99]
    assert cells(page, 3)[3:6] == ["failed ValueError: <b>no</b> broker", "", ""]
    assert cells(page, 4)[3:6] == ["SATURATED", "saturated", "saturated"]
    assert cells(page, 5) == ["run 6", "1000", "wifi", "missing", *[""] * 6]
    links = [unquote(a["href"]) for a in page.select(".runs tbody tr")[0].select("a")]
    assert links == [
        "probe/rate_hz=50,network=lte/probe.html",
        "probe/rate_hz=50,network=lte/run.json",
        "probe/rate_hz=50,network=lte/measurement/rows.csv.gz",
    ]
    assert all((sweep / link).is_file() for link in links)
    assert not page.select(".runs tbody tr")[5].select("a")


def test_index_sorts_by_numbers_that_a_script_can_read(page: Any) -> None:
    at = {th.get_text(): int(th["data-column"]) for th in page.select(".runs th[data-column]")}
    first = page.select(".runs tbody tr")[0].find_all(["th", "td"])
    assert float(first[at["p50, ms"]]["data-value"]) > 0
    assert first[at["duration, s"]]["data-value"] == "5.0"
    assert [cell.get("data-value") for cell in page.select(".runs tbody tr")[4].find_all("td")[3:7]] == [None] * 4


def test_index_draws_every_distribution_in_order_with_its_words(page: Any) -> None:
    small = page.select(".multiples li")
    assert [one.figcaption.get_text(" ", strip=True) for one in small][:2] == [
        "rate_hz=50, network=lte VALID",
        "rate_hz=50, network=wifi VALID",
    ]
    assert [bool(one.img) for one in small] == [True, True, True, False, True, False]
    assert small[3].p.get_text() == "ValueError: <b>no</b> broker"
    assert small[5].p.get_text() == "not run yet"
    assert page.select_one(".multiples")["data-columns"] == "2"  # one column a network
    assert "edge: p50, ms 0." in small[0].img["alt"]
    assert all(len(image["alt"]) > 5 for image in page.select("img"))
    axes = [base64.b64decode(one.img["src"].partition(",")[2]).decode().count(">0.1<") for one in small if one.img]
    assert axes == [1, 1, 1, 1]  # the same ticks in all of them


def test_index_tells_shared_conditions_from_those_that_differ(page: Any) -> None:
    assert [row.td.get_text() for row in page.select("table.parameters tbody tr")] == ["seed"]
    shared, differing = page.select("table.conditions")
    assert "mosquitto 2" in shared.get_text()
    assert "noise floor" not in shared.get_text()
    assert [th.get_text() for th in differing.select("th")] == ["noise floor"]
    assert "0.05 ms" in differing.get_text()
    assert "rate_hz=50, network=wifi" in differing.get_text()
    assert page.select_one(".command").get_text().startswith("xedge sweep 03_probe -p rate_hz 50,100,1000")


def test_index_holds_its_table_as_csv(page: Any) -> None:
    link = page.select_one("a[download='runs.csv']")["href"]
    rows = list(csv.DictReader(io.StringIO(base64.b64decode(link.partition(",")[2]).decode())))
    assert [row["state"] for row in rows] == ["VALID", "VALID", "INVALID", "failed", "SATURATED", "missing"]
    assert float(rows[0]["edge p95_ms_low"]) < float(rows[0]["edge p95_ms"]) < float(rows[0]["edge p95_ms_high"])
    assert (rows[4]["edge p99_ms"], rows[3]["edge p99_ms"], rows[0]["rate_hz"]) == ("", "", "50.0")


def test_index_allows_its_own_script_and_no_other(page: Any) -> None:
    policy = page.select_one("meta[http-equiv]")["content"]
    [script] = page.select("script")
    digest = base64.b64encode(hashlib.sha256(script.string.encode()).digest()).decode()
    assert re.findall(r"script-src ([^;]*)", policy) == [f"'sha256-{digest}'"]
    assert policy.startswith("default-src 'none'")


@pytest.mark.long
def test_index_of_thirty_runs_is_small(tmp_path: Path) -> None:
    runs.write(tmp_path, rates=[10.0 * n for n in range(1, 16)])
    page = index.build(tmp_path).read_text(encoding="utf-8")
    assert page.count("<figure>") == 30
    assert len(page) < 3_000_000
    leftover = [path.name for path in tmp_path.iterdir() if path.name.startswith(".index")]
    assert leftover == []


def at(second: int) -> str:
    return f"2026-11-21T00:00:{second:02}+00:00"


def test_index_of_a_folder_without_a_sweep_compares_the_runs_of_one_notebook(tmp_path: Path) -> None:
    runs.put(tmp_path, runs.facts("second", 100.0, "lte", started_at=at(2)))
    runs.put(tmp_path, runs.facts("first", 50.0, "lte", started_at=at(1)))
    page = BeautifulSoup(index.build(tmp_path).read_text(encoding="utf-8"), "html.parser")
    assert page.h1.get_text() == "Probe: 2 runs compared"
    assert [cells(page, row)[:3] for row in range(2)] == [["first", "50", "VALID"], ["second", "100", "VALID"]]
    assert page.select_one(".verdict").get_text(strip=True) == "2 of 2 VALID"
    assert page.select_one(".command").get_text().count("xedge report") == 2


def test_index_lists_every_run_by_notebook_and_parameters(tmp_path: Path) -> None:
    number = [{"label": "edge, p99", "value": 3.21, "unit": "ms"}]
    for second, rate_hz in enumerate([50.0, 100.0, 50.0]):
        runs.put(tmp_path, runs.facts(f"run {second}", rate_hz, "lte", started_at=at(second), headline=number))
    runs.put(tmp_path / "sweep" / "deep", runs.facts("run 1", 100.0, "lte", started_at=at(3), **FAILED))
    other = {"notebook": "01_build", "parameters": [], "verdict": None, "estimates": None, "distributions": None}
    old = runs.facts("build", 1.0, "lte", started_at=at(4), **other)
    (tmp_path / "build").mkdir()  # as it was written before runs had folders of their own
    (tmp_path / "build" / "run.json").write_text(json.dumps(old))
    (tmp_path / "build.html").write_text("<title>a report</title>")
    page = BeautifulSoup(index.build(tmp_path).read_text(encoding="utf-8"), "html.parser")
    assert page.h1.get_text() == "5 runs of 2 notebooks"
    assert [h2.get_text() for h2 in page.select("section h2")] == ["Build", "Probe"]
    build, probe = page.select("table.runs")
    assert [a["href"] for a in build.select("th a")] == ["build.html"]
    found = [
        [[cell.get_text(" ", strip=True) for cell in row.find_all(["th", "td"])] for row in group.select("tr")]
        for group in probe.select("tbody")
    ]
    assert [[row[:-2] for row in group] for group in found] == [
        [
            ["100", "2026-11-21 00:00:03", "failed", "ValueError: <b>no</b> broker"],
            ["2026-11-21 00:00:01", "VALID", "edge, p99: 3.21 ms"],
        ],
        [
            ["50", "2026-11-21 00:00:02", "VALID", "edge, p99: 3.21 ms"],
            ["2026-11-21 00:00:00", "VALID", "edge, p99: 3.21 ms"],
        ],
    ]
    links = [unquote(a["href"]) for a in page.select("table.runs a")]
    assert all((tmp_path / link).is_file() for link in links)
    assert "3 of 4 VALID; 1 failed" in page.get_text(" ", strip=True)


def test_index_of_a_sweep_takes_the_run_that_came_out_best_and_was_last(tmp_path: Path) -> None:
    runs.write(tmp_path, {0: {"started_at": at(1)}, 1: {"status": "running", "duration_s": None, "verdict": None}})
    for second, change in ((2, {"duration_s": 77.0}), (3, FAILED), (4, {"notebook_sha256": "1"})):
        runs.put(tmp_path, runs.facts(f"again {second}", 50.0, "lte", started_at=at(second), **change))
    page = BeautifulSoup(index.build(tmp_path).read_text(encoding="utf-8"), "html.parser")
    assert [one.get_text() for one in page.select(".runs .state")][:3] == ["VALID", "unfinished", "VALID"]
    assert "77.0" in cells(page, 0)
    assert len(page.select(".runs tbody tr")) == 6
    plan = json.loads((tmp_path / "sweep.json").read_text())
    plan["runs"][0]["since"] = at(3)
    (tmp_path / "sweep.json").write_text(json.dumps(plan))
    page = BeautifulSoup(index.build(tmp_path).read_text(encoding="utf-8"), "html.parser")
    assert page.select_one(".runs .state").get_text() == "failed"


def test_index_of_numbers_of_another_kind(tmp_path: Path) -> None:
    numbers = {"edge": {"knee_hz": {"value": 400.0, "low": None, "high": None, "text": "400"}}}
    for place, network in enumerate(["lte", "wifi"]):
        runs.put(tmp_path, runs.facts(network, 50.0, network, estimates=numbers, distributions=None, duration_s=place))
    page = BeautifulSoup(index.build(tmp_path).read_text(encoding="utf-8"), "html.parser")
    assert [th.get_text() for th in page.select(".runs thead th")][:5] == [
        "edge",
        "run",
        "network",
        "verdict",
        "knee, /s",
    ]
    assert len(page.select("#trends img")) == 1  # over words, not numbers
    assert not page.select("#distributions")


def test_index_draws_lines_that_can_be_told_apart(tmp_path: Path) -> None:
    numbers = {f"arm {k}": {"p99_ms": {"value": k + 1.0, "low": k, "high": k + 2.0, "text": "x"}} for k in range(4)}
    runs.write(tmp_path, {place: {"estimates": numbers} for place in range(6)})
    page = BeautifulSoup(index.build(tmp_path).read_text(encoding="utf-8"), "html.parser")
    assert [image["alt"].partition(";")[0] for image in page.select("#trends img")] == [
        "p99, ms over rate_hz at network=lte",
        "p99, ms over rate_hz at network=wifi",
    ]


def test_index_of_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"no runs in {tmp_path}"):
        index.build(tmp_path)


def test_estimates_take_numbers_and_estimates() -> None:
    estimate = statistics.Estimate(0.612, 0.55, 0.674, 300, 5, "t")
    few = statistics.Estimate(None, None, None, 10, 1, "none", needed=299)
    given = {
        "edge": {"p50_ms": estimate, "p99_ms": few, "load": 0.7, "knee_hz": {"value": 410, "low": 400, "high": 460}}
    }
    found = estimates.checked(given | {"cloud": {"p50_ms": {"value": float("inf"), "text": "timed out"}}})
    assert {name: one["text"] for name, one in found["edge"].items()} == {
        "p50_ms": "0.612 (0.550–0.674)",
        "p99_ms": "too few (n < 299)",
        "load": "0.7",
        "knee_hz": "410 (400–460)",
    }
    assert found["edge"]["p50_ms"]["low"] == 0.55
    assert found["cloud"]["p50_ms"] == {"value": None, "low": None, "high": None, "text": "timed out"}
    assert estimates.checked(found) == found


@pytest.mark.parametrize("given", [[1], {"edge": 1}, {"edge": {"p50_ms": "1"}}, {"edge": {"p50_ms": {"value": [1]}}}])
def test_estimates_of_another_form_are_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"record: .*estimates is"):
        estimates.checked(given)


@pytest.mark.parametrize(
    ("name", "heading"),
    [("p99_ms", "p99, ms"), ("knee_hz", "knee, /s"), ("best_share", "best share"), ("_ms", "ms"), ("ms", "ms")],
)
def test_heading_takes_the_unit_from_the_name(name: str, heading: str) -> None:
    assert estimates.heading(name).strip() == heading
