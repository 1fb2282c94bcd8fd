"""Copies against a shared service: real workers, services and brokers; the break-even by tables of numbers."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import pandas as pd
import pytest
from helpers import children_of

from xedge.core import children
from xedge.core.exceptions import ConfigurationError, ModelNotFoundError, ServiceError
from xedge.results import verdict as checks
from xedge.results.measurement import Measurement
from xedge.text.copies import arrangements, copies, worker
from xedge.text.copies.arrangements import ARRANGEMENTS, COPY, HTTP, MQTT, memory_mb
from xedge.text.copies.comparison import CopyOrServe

ON_LINUX = sys.platform == "linux"


@pytest.fixture(scope="module")
def folder(text_registry: Any) -> Path:
    return text_registry.resolve("topic").folder


@pytest.fixture(scope="module")
def result(folder: Path) -> CopyOrServe:
    before = children_of(os.getpid())
    found = copies.compare(folder, [2, 1], rate_hz=60, duration_s=0.4, replications=2, strict=False, progress=False)
    assert children_of(os.getpid()) <= before
    return found


@pytest.mark.long
def test_every_text_of_every_arrangement_is_a_row(result: CopyOrServe) -> None:
    assert list(result.measurements) == [1, 2]
    for count, measurement in result.measurements.items():
        assert measurement.placements[0] == COPY
        assert set(measurement.placements) == {COPY, HTTP, MQTT}
        assert (measurement.rows["status"] == "ok").all()
        assert set(measurement.rows["worker"]) == set(range(count))
        schedules = [
            measurement.rows[measurement.rows["placement"] == name][
                ["replication", "due_ns", "worker", "payload_bytes"]
            ]
            .sort_values(["replication", "due_ns"])
            .to_numpy()
            .tolist()
            for name in (COPY, HTTP, MQTT)
        ]
        assert schedules[0] == schedules[1] == schedules[2]
        clocks = measurement.rows[["due_ns", "sent_ns", "started_ns", "received_ns"]].to_numpy(float)
        assert (clocks[:, 1:] >= clocks[:, :-1]).all()


def test_memory_is_read_of_every_part(result: CopyOrServe) -> None:
    memory = result.memory.set_index(["arrangement", "workers"])
    assert list(memory.index) == [(name, count) for name in (COPY, HTTP, MQTT) for count in (1, 2)]
    assert set(memory["kind"]) == ({"PSS"} if ON_LINUX else {"RSS"})
    parts = memory[["workers_mb", "service_mb", "broker_mb"]]
    assert memory["total_mb"].tolist() == pytest.approx(parts.sum(axis=1).tolist())
    assert (memory["workers_mb"] > 1).all()
    for count in (1, 2):
        assert (parts.loc[(COPY, count), ["service_mb", "broker_mb"]] == 0).all()
        assert parts.loc[(HTTP, count), "service_mb"] > 10
        assert parts.loc[(HTTP, count), "broker_mb"] == 0
        assert parts.loc[(MQTT, count), "service_mb"] > 10
        assert parts.loc[(MQTT, count), "broker_mb"] > 1
    assert result.line(COPY).each_mb > result.line(HTTP).each_mb
    assert result.line(COPY).each_mb > result.line(MQTT).each_mb


def test_result_shows_itself(result: CopyOrServe) -> None:
    table = result.table()
    assert list(table.columns) == ["memory, MB", "p50, ms", "p99, ms"]
    assert len(table) == 6
    figure = result.plot()
    assert len(figure.axes) == 2
    assert "<svg" in figure.svg()
    assert "Shared over HTTP" in figure.alt


@pytest.mark.parametrize("name", ARRANGEMENTS)
def test_worker_that_cannot_start_is_told(name: str, tmp_path: Path) -> None:
    before = children_of(os.getpid())
    with pytest.raises((ServiceError, ModelNotFoundError)), ARRANGEMENTS[name](tmp_path / "nothing") as arrangement:
        arrangement.grow(1)
    assert children_of(os.getpid()) <= before


def test_worker_that_has_died_is_told(folder: Path) -> None:
    with ARRANGEMENTS[COPY](folder) as arrangement:
        arrangement.grow(1)
        arrangement.workers[0].kill()
        arrangement.workers[0].wait(10)
        with pytest.raises(ServiceError, match="ended with status -9 in mid-trial"):
            arrangement.fly(copies._flights(1, 100, 0.1, 0, 0))


def test_machine_without_ps_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServiceError, match="install procps"):
        arrangements.processes_below(None)


def test_service_that_dies_makes_rows_with_an_error(folder: Path) -> None:
    with ARRANGEMENTS[HTTP](folder) as arrangement:
        arrangement.grow(1)
        flights = copies._flights(1, 100, 0.2, 0, 0)
        assert (copies._trial(arrangement, HTTP, 0, flights)["status"] == "ok").all()
        subprocess.run(["kill", "-9", str(arrangement.shared["service"][0])], check=True)
        rows = copies._trial(arrangement, HTTP, 0, flights)
    assert (rows["status"] == "error").any()
    assert rows["received_ns"].isna().equals(rows["status"] == "error")
    assert "answered with an error" in " ".join(map(str, Measurement(rows, {}).checks()))


@pytest.mark.parametrize("wrong", [{"workers": []}, {"workers": [0, 2]}, {"replications": 0}])
def test_impossible_comparison_is_refused_before_anything_starts(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        copies.compare(tmp_path, **wrong, progress=False)


def test_folder_without_a_model_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        copies.compare(tmp_path, progress=False)


# One worker


def test_text_that_falls_due_meanwhile_waits_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    clock_ns = [5_000]  # advances by a nanosecond at every look, and by what is slept

    def look() -> int:
        clock_ns[0] += 1
        return clock_ns[0]

    def pass_by(seconds: float) -> None:
        clock_ns[0] += round(seconds * 1e9)

    monkeypatch.setattr(worker, "perf_counter_ns", look)
    monkeypatch.setattr(worker, "sleep", pass_by)
    monkeypatch.setattr(worker, "SPIN_NS", 100)
    due_ns = [0, 1_000_000, 60_000_000]
    log = worker.fly(lambda _: pass_by(0.02), 5_000, due_ns, ["a", "b", "c"])
    (seen_a, begun_a, answered_a), (seen_b, begun_b, answered_b), (seen_c, begun_c, answered_c) = log
    assert 0 <= seen_a == begun_a < 100
    assert seen_b == due_ns[1]  # it was there in time; the worker was not free
    assert 0 < begun_b - answered_a < 100
    assert due_ns[2] <= seen_c == begun_c < due_ns[2] + 100
    assert [answered // 1_000_000 for answered in (answered_a, answered_b, answered_c)] == [20, 40, 80]


def test_text_without_an_answer_is_logged_and_the_next_is_answered() -> None:
    def predict(text: str) -> None:
        if text == "b":
            raise OSError

    log = worker.fly(predict, perf_counter_ns(), [0, 1, 2], ["a", "b", "c"])
    assert [answered < 0 for _, _, answered in log] == [False, True, False]


# Memory


def test_memory_of_this_process_and_of_none() -> None:
    mine, kind = memory_mb(os.getpid())
    assert 10 < mine < 10_000
    assert kind == ("PSS" if ON_LINUX else "RSS")
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    assert math.isnan(memory_mb(gone.pid)[0])


def test_copy_of_100_mb_is_read_as_such() -> None:
    code = "held = bytearray(b'x') * 100_000_000; print(len(held), flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert 100 < memory_mb(child.pid)[0] < 130
        child.communicate(b"\n")


# The break-even


def of_lines(most: int = 4, kind: str = "PSS", **lines: tuple[float, float]) -> CopyOrServe:
    """A result whose memories are `fixed + each * workers`."""
    names = {"copy": COPY, "http": HTTP, "mqtt": MQTT}
    rows = [
        {"arrangement": names[key], "workers": count, "total_mb": fixed + each * count, "kind": kind}
        for key, (fixed, each) in lines.items()
        for count in range(1, most + 1)
    ]
    return CopyOrServe({}, pd.DataFrame(rows), 100)


@pytest.mark.parametrize(
    ("copy", "shared", "expected"),
    [
        ((10, 30), (70, 10), 4),  # equal at 3: less from 4 on
        ((10, 30), (69, 10), 3),
        ((0, 40), (50, 10), 2),
        ((0, 40), (5, 10), 1),
        ((0, 10), (50, 10), None),
        ((0, 10), (50, 20), None),
        ((50, 10), (20, 10), 1),
        ((0, 30), (1000, 10), 51),
    ],
)
def test_break_even(copy: tuple[float, float], shared: tuple[float, float], expected: int | None) -> None:
    found = of_lines(copy=copy, http=shared)
    assert found.break_even(HTTP) == expected
    if expected is not None:
        assert found.line(HTTP).at(expected) < found.line(COPY).at(expected) + 1e-9
        assert expected == 1 or found.line(HTTP).at(expected - 1) >= found.line(COPY).at(expected - 1) - 1e-9


@pytest.mark.parametrize(
    ("shared", "words"),
    [
        ((69, 10), "It takes less memory from 3 workers on (at 4, 109 MB instead of 130 MB)"),
        ((1000, 10), "By these lines it takes less memory from 50 workers on; 4 were measured"),
        ((50, 40), "A copy each always takes less"),
    ],
)
def test_break_even_in_words(shared: tuple[float, float], words: str) -> None:
    assert words in of_lines(copy=(10, 30), http=shared)._memory_words(HTTP)


def test_line_through_noisy_memory_is_least_squares() -> None:
    table = pd.DataFrame({"arrangement": COPY, "workers": [1, 2, 3], "total_mb": [40.0, 72.0, 98.0], "kind": "PSS"})
    line = CopyOrServe({}, table, 1).line(COPY)
    assert (line.fixed_mb, line.each_mb) == pytest.approx((12, 29))


def test_memory_that_counts_shared_pages_twice_is_a_doubt(result: CopyOrServe) -> None:
    as_rss = CopyOrServe(result.measurements, result.memory.assign(kind="RSS"), 60)
    assert "RSS" in as_rss.doubts()[0]
    assert ("RSS" in " ".join(result.doubts())) is not ON_LINUX


def test_verdict_is_the_worst_of_all(result: CopyOrServe) -> None:
    silent = result.measurements[2].rows.assign(status="error", error="of the test")
    measurements = {1: result.measurements[1], 2: Measurement(silent, {})}
    found = CopyOrServe(measurements, result.memory, 60)
    assert isinstance(found.verdict, checks.Verdict)
    assert found.verdict.word == "INVALID"
    assert found.conclusion().startswith("INVALID: ")
    assert "2 workers, a copy each" in found.conclusion()


def test_guard_of_a_service_is_not_counted(folder: Path) -> None:
    with ARRANGEMENTS[MQTT](folder) as arrangement:
        pids = [pid for part in arrangement.shared.values() for pid in part]
        said = [Path(f"/proc/{pid}/cmdline").read_text() for pid in pids] if ON_LINUX else []
    assert len(pids) == 2
    assert not any(Path(children.__file__).name in one for one in said)
