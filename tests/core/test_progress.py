"""One line while it lasts, one sentence when it is over."""

from __future__ import annotations

import io
import itertools
import logging
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import wait_until

from xedge.core import progress
from xedge.core.progress import Progress
from xedge.core.telling import News, listening, tell

SENTENCE = "20 000 requests in 41.2 s, 485/s, none lost"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def use_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    stream = Terminal()  # set in the test itself: pytest puts its own back after the fixtures
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def test_progress_in_a_terminal_leaves_the_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = use_terminal(monkeypatch)
    with Progress(100, "requests", "edge") as line:
        for done in range(100):
            line.update(done)
        line.finish(SENTENCE)
    assert terminal.getvalue().endswith(f"\r{SENTENCE}\n")
    assert terminal.getvalue().count("edge") <= 2  # hundred updates at once are one refresh, not a hundred


def test_progress_refreshes_at_most_four_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, clock = use_terminal(monkeypatch), itertools.count(step=0.02)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with Progress(100, "requests", "edge") as line:
        for _ in range(30):  # 0.6 s
            line.update(50)
    assert terminal.getvalue().count("50 of 100 requests") == 2


def test_progress_without_a_terminal_only_logs(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO, "xedge"), Progress(100, "requests", "edge") as line:
        line.update(10)
        line.finish(SENTENCE)
    assert [record.getMessage() for record in caplog.records] == [SENTENCE]
    assert capsys.readouterr() == ("", "")


def test_progress_without_a_sentence_says_how_far_it_came(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "xedge")
    with Progress(20_000, "requests", "edge") as line:
        line.update(20_000)
    line = Progress(20_000, "requests", "edge").__enter__()
    line.update(7)
    line.__exit__(KeyError, KeyError("x"), None)
    assert [record.getMessage() for record in caplog.records] == [
        "edge: 20\u00a0000 requests",
        "edge: stopped after 7 of 20\u00a0000 requests (KeyError)",
    ]


def test_progress_disabled_is_silent(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    terminal = use_terminal(monkeypatch)
    caplog.set_level(logging.INFO, "xedge")
    with Progress(100, "requests", "edge", enabled=False) as line:
        line.update(10)
        line.finish(SENTENCE)
    assert terminal.getvalue() == ""
    assert caplog.records == []


def test_progress_never_raises_into_the_measured_code(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Terminal):
        def write(self, text: str) -> int:
            raise OSError("gone")

    for stream in (Broken(), None):
        monkeypatch.setattr(sys, "stderr", stream)
        with Progress(0, "requests", "edge") as line:
            line.update(10)
            line.finish(SENTENCE)


def test_progress_in_jupyter_is_one_display(monkeypatch: pytest.MonkeyPatch) -> None:
    import IPython.display

    states: list[dict[str, str]] = []

    class Handle:
        def update(self, data: dict[str, str], **options: Any) -> None:
            states.append(data)

    def display(data: dict[str, str], **options: Any) -> Handle:
        states.append(data)
        return Handle()

    monkeypatch.setattr(progress, "in_jupyter", lambda: True)
    monkeypatch.setattr(IPython.display, "display", display)
    monkeypatch.setattr(progress, "REFRESH_S", 0.0)
    with Progress(20_000, "requests", "edge") as line:
        line.update(10_000)
        line.finish(SENTENCE)
    half = "█" * 12 + "░" * 12
    assert states[1:] == [
        {"text/plain": f"edge  {half}   50 %  10\u00a0000 of 20\u00a0000 requests"},
        {"text/plain": f"edge  {'█' * 24}  100 %  20\u00a0000 of 20\u00a0000 requests"},
        {"text/plain": SENTENCE},
    ]


def test_progress_notes_stand_above_the_line_in_a_terminal(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    terminal = use_terminal(monkeypatch)
    with Progress(2, "runs", "sweep") as line:
        line.note("1 of 2: VALID")
        line.note("2 of 2: VALID")
        line.finish(SENTENCE)
    kept = [text.rpartition("\r")[2] for text in terminal.getvalue().split("\n")]
    assert [text for text in kept if text.strip()] == ["1 of 2: VALID", "2 of 2: VALID", SENTENCE]
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    caplog.set_level(logging.INFO, "xedge")
    with Progress(2, "runs", "sweep") as line:
        line.note("1 of 2: VALID")
        line.finish(SENTENCE)
    assert [record.getMessage() for record in caplog.records] == ["1 of 2: VALID", SENTENCE]


@pytest.mark.parametrize(
    ("elapsed_s", "done", "said"),
    [
        (60.0, 10, "about 3 min left"),
        (20.0, 10, "about 60 s left"),
        (7200.0, 10, "about 6.0 h left"),
        (60.0, 0, ""),
        (60.0, 40, ""),
        (1.0, 10, ""),
    ],
)
def test_progress_tells_the_time_left_from_the_time_taken(elapsed_s: float, done: int, said: str) -> None:
    line = Progress(40, "runs", "sweep")
    line._began = time.monotonic() - elapsed_s
    assert line.left(done) == said


def test_in_jupyter_is_false_here() -> None:
    assert not progress.in_jupyter()


def test_progress_names_its_phases_and_ends_at_100_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = use_terminal(monkeypatch)
    with Progress(10, "requests", "measuring") as line:
        line.phase("echo")
        line.phase("measuring 1 of 2 (edge)")
        line.update(5)
        line.live("200 answers/s")
        line.finish(SENTENCE)
    states = [state.strip() for state in terminal.getvalue().split("\r") if "%|" in state]
    assert [state.partition("|")[0].split("  ")[0] for state in states] == [
        "measuring",
        "echo",
        *["measuring 1 of 2 (edge)"] * 3,
    ]
    assert "200 answers/s" in states[-2]
    assert "100 %" in states[-1]
    assert "200 answers/s" not in states[-1]


def test_progress_without_a_terminal_is_a_line_a_phase(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "xedge")
    with Progress(10, "requests", "measuring") as line:
        line.phase("echo")
        for done in range(10):
            line.phase("measuring 1 of 1 (edge)")
            line.update(done)
        for _ in range(2):
            line.live("200 answers/s")
        line.finish(SENTENCE)
    said = [record.getMessage() for record in caplog.records]
    assert said == ["echo", "measuring 1 of 1 (edge)", "measuring 1 of 1 (edge): 200 answers/s", SENTENCE]


def test_progress_tells_who_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a notebook's kernel tells `xedge report`: also a step that shows no line of its own, but no share of it."""
    heard: list[News] = []
    with listening(heard.append) as told:
        for name, value in told.items():
            monkeypatch.setenv(name, value)
        for enabled in (True, False):
            with Progress(10, "requests", "measuring", enabled=enabled) as line:
                line.update(5)
                line.phase("measuring 1 of 2\x1b[2J (edge)")
                line.live("200 answers/s")
            wait_until(lambda: heard and heard[-1].live == "200 answers/s", "the news come")
            assert News(0.5 if enabled else None, "measuring 1 of 2\\x1b[2J (edge)", "200 answers/s") in heard
            heard.clear()
        tell(News(0.5, "x" * 10_000))  # cut, so no JSON: not heard, and nothing breaks
        tell(News(0.7, "last"))
        wait_until(lambda: heard == [News(0.7, "last")], "what is well formed comes")
    tell(News(0.9, "to nobody"))
    assert not [thread for thread in threading.enumerate() if thread.name == "xedge-telling"]


def test_progress_hears_of_the_step_under_way(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "xedge")
    with Progress(4, "cells", "02_edge_vs_cloud") as line:
        line.update(1)
        line.hear(News(0.5, "measuring 1 of 2 (edge)"))
        assert line.share == 1.5 / 4
        line.hear(News(None, "measuring 2 of 2 (edge)", "200 answers/s"))
        assert line.share == 1.5 / 4
        line.update(2)
        assert line.share == 2 / 4
        line.finish(SENTENCE)
    assert [record.getMessage() for record in caplog.records] == [
        "02_edge_vs_cloud: measuring 1 of 2 (edge)",
        "02_edge_vs_cloud: measuring 2 of 2 (edge)",
        "02_edge_vs_cloud: measuring 2 of 2 (edge): 200 answers/s",
        SENTENCE,
    ]
