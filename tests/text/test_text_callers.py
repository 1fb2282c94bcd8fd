"""The text functions called from threads and from processes of every kind: the same answers, one load a process."""

from __future__ import annotations

import ast
import multiprocessing
import os
import re
import shlex
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import chain
from typing import Any

import pytest
from snippets import snippets

from xedge.cli.main import parser
from xedge.reports.notebooks import Notebook
from xedge.text import predict_sentiment, predict_sentiments, predict_topic, predict_topics
from xedge.text.model import TextModel
from xedge.text.registry.registry import Registry

TEXTS = [
    "The striker scored twice and the team won the cup final.",
    "The central bank raised interest rates by a quarter point.",
    "I am delighted with this wonderful phone.",
    "What a terrible, disappointing evening.",
    "",
    "¿Dónde está la biblioteca?",
    "word " * 5000,
]
LIMIT_S = 120
Row = tuple[Any, Any]

_loads: list[str] = []


def count_loads() -> None:
    """Have every load of a model in this process noted; run once at a process's start."""
    load = TextModel.load.__func__

    def noting(cls: type[TextModel], *arguments: Any) -> TextModel:
        model: TextModel = load(cls, *arguments)
        _loads.append(model.task)
        return model

    TextModel.load = classmethod(noting)


def answer(text: str) -> Row:
    return predict_topic(text), predict_sentiment(text)


def answer_and_tell(text: str) -> tuple[Row, int, list[str]]:
    """The answers, and what this process has loaded so far."""
    return answer(text), os.getpid(), list(_loads)


def answer_in_threads(texts: Sequence[str]) -> tuple[list[Row], list[str]]:
    """Eight threads that all ask at once in a process that has loaded nothing."""
    count_loads()
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(answer, texts)), sorted(_loads)


def put(connection: Any, function: Callable[..., Any], *arguments: Any) -> None:
    connection.send(function(*arguments))


def in_process(method: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a process of its own."""
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    process = context.Process(target=put, args=(theirs, function, *arguments))
    process.start()
    try:
        assert ours.poll(LIMIT_S), "no answer"
        return ours.recv()
    finally:
        process.join(10)
        process.kill()


def assert_same(rows: Sequence[Row], expected: Sequence[Row]) -> None:
    assert len(rows) == len(expected)
    for given, wanted in zip(chain(*rows), chain(*expected), strict=True):
        assert flat(given) == pytest.approx(flat(wanted), abs=1e-5)


def flat(result: dict[str, Any]) -> dict[str, Any]:
    """A result as one level, so that its numbers can be compared within a tolerance."""
    top = {f"{place}": one["topic"] for place, one in enumerate(result.get("predictions", []))}
    top |= {one["topic"]: one["confidence"] for one in result.get("predictions", [])}
    rest = {name: value for name, value in result.items() if name != "predictions"}
    return {name: hash(value) if isinstance(value, str) else value for name, value in (top | rest).items()}


@pytest.fixture(scope="module")
def expected(text_registry: Registry) -> list[Row]:
    """What this process answers in one batch."""
    rows = list(zip(predict_topics(TEXTS), predict_sentiments(TEXTS), strict=True))
    assert rows[0][0]["predictions"][0]["topic"] == "sports"
    assert [row[0]["text_length"] for row in rows] == [len(text) for text in TEXTS]
    return rows


def test_threads_that_are_warm(expected: list[Row]) -> None:
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(answer, TEXTS * 20))
    assert_same(rows, expected * 20)


def test_threads_of_a_cold_process_share_one_load(expected: list[Row]) -> None:
    rows, loads = in_process("spawn", answer_in_threads, TEXTS * 8)
    assert_same(rows, expected * 8)
    assert loads == ["sentiment", "topic"]


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_process(method: str, expected: list[Row]) -> None:
    rows = [in_process(method, answer, TEXTS[0])]
    assert_same(rows, expected[:1])


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_process_pool_loads_once_a_process(method: str, expected: list[Row]) -> None:
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context, initializer=count_loads) as pool:
        told = list(pool.map(answer_and_tell, TEXTS * 8, timeout=LIMIT_S))
    assert_same([row for row, _, _ in told], expected * 8)
    assert os.getpid() not in {pid for _, pid, _ in told}
    for _, _, loads in told:
        if method == "spawn":
            assert sorted(loads) == ["sentiment", "topic"]
        else:  # a child may have its parent's model
            assert len(loads) == len(set(loads))


@pytest.mark.parametrize("heading", ["In Python", "Threads and processes"])
def test_examples_of_the_page(heading: str, text_registry: Registry) -> None:
    [code] = snippets("python", heading)
    names: dict[str, Any] = {}
    exec(code, names)
    if heading == "In Python":
        assert names["likeliest"] == "sports"
        assert sum(names["mood"][label] for label in ("positive", "neutral", "negative")) == pytest.approx(1, abs=1e-6)
        assert len(names["many"]) == 2
    else:
        assert len(names["answers"]) == 200


def test_command_lines_of_the_page_are_understood() -> None:
    blocks = snippets("sh") + snippets("text")
    lines = re.findall(r"\bxedge (?:report|registry|serve) [^\n\">]+", "\n".join(blocks))
    assert len(lines) == 11
    for line in lines:
        arguments = parser().parse_args(shlex.split(line)[1:])
        if "report" in line:
            assert arguments.parameter == [["must_pass", "true"]]
    assert "must_pass" in {one.name for one in Notebook.open("09_train_text").parameters}
    for block in blocks:
        if re.search(r"^(?:from|import) ", block, re.MULTILINE):
            ast.parse(block)
