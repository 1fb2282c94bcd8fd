"""The public functions for texts: what they return, odd input, and what importing them loads."""

from __future__ import annotations

import inspect
import subprocess
import sys

import numpy as np
import pytest

import xedge.text
from xedge.core.exceptions import ConfigurationError, TextError, XedgeError
from xedge.text import (
    SENTIMENT_LABELS,
    TOPICS,
    get_model,
    loading,
    predict_sentiment,
    predict_sentiments,
    predict_topic,
    predict_topics,
    reload_model,
)

TEXTS = [
    "The striker scored twice in the final and the home team won the cup.",
    "The new phone has a faster chip and a better camera, but its software crashes every day.",
    "The central bank raised its interest rate and shares fell.",
]
ODD = {
    "empty": "",
    "blank": " \n\t ",
    "signs": "?!… ---",
    "nul": "\0\0",
    "lone surrogate": "\ud800 and \udfff",
    "emoji": "😀👩‍👩‍👧",
    "japanese": "選手は決勝で二度得点した。",
    "arabic": "سجل المهاجم هدفين في المباراة النهائية",
    "german": "Der Stürmer traf im Endspiel zweimal.",
    "one word of a million letters": "a" * 1_000_000,
    "a million words": "goal " * 1_000_000,
    "control characters": "\x1b[31mred\x07",
}


@pytest.fixture(autouse=True)
def _models(text_registry, monkeypatch):
    """The models trained for all tests, whatever an earlier test has loaded in this process."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", text_registry.uri)
    loading._begin()
    yield
    loading._begin()


def test_topics_and_labels_are_those_promised():
    assert TOPICS == ("business", "entertainment", "health", "politics", "science", "sports", "technology", "world")
    assert SENTIMENT_LABELS == ("positive", "neutral", "negative")


def test_predict_topic_returns_the_most_probable_topics_first():
    answer = predict_topic(TEXTS[0])
    assert list(answer) == ["predictions", "text_length", "model_version"]
    assert len(answer["predictions"]) == 3
    assert [list(one) for one in answer["predictions"]] == [["topic", "confidence"]] * 3
    assert answer["text_length"] == len(TEXTS[0])
    assert answer["model_version"] == get_model("topic").version != ""
    confidences = [one["confidence"] for one in answer["predictions"]]
    assert confidences == sorted(confidences, reverse=True)
    assert all(type(one["confidence"]) is float and type(one["topic"]) is str for one in answer["predictions"])
    assert answer["predictions"][0]["topic"] == "sports"


def test_confidences_are_the_probabilities_of_the_model():
    probabilities = get_model("topic").probabilities([TEXTS[1]])[0]
    answer = predict_topic(TEXTS[1], top_k=8)
    assert {one["topic"] for one in answer["predictions"]} == set(TOPICS)
    got = {one["topic"]: one["confidence"] for one in answer["predictions"]}
    assert got == dict(zip(TOPICS, probabilities.tolist(), strict=True))
    assert abs(sum(got.values()) - 1) <= 1e-6
    sentiment = predict_sentiment(TEXTS[1])
    probabilities = get_model("sentiment").probabilities([TEXTS[1]])[0]
    assert [sentiment[label] for label in get_model("sentiment").labels] == probabilities.tolist()


def test_predict_sentiment_sums_to_one():
    answer = predict_sentiment(TEXTS[1])
    assert list(answer) == [*SENTIMENT_LABELS, "text_length", "model_version"]
    assert all(type(answer[label]) is float for label in SENTIMENT_LABELS)
    assert abs(sum(answer[label] for label in SENTIMENT_LABELS) - 1) <= 1e-6
    assert answer["text_length"] == len(TEXTS[1])
    assert answer["model_version"] == get_model("sentiment").version


@pytest.mark.parametrize("top_k", [1, 3, 8, 20])
def test_top_k_is_how_many_topics_are_returned(top_k):
    assert [len(one["predictions"]) for one in predict_topics(TEXTS, top_k)] == [min(top_k, 8)] * 3
    assert predict_topic(TEXTS[0], top_k)["predictions"] == predict_topic(TEXTS[0], 8)["predictions"][:top_k]


@pytest.mark.parametrize("top_k", [0, -1, 2.0, "3", True, None])
def test_top_k_that_cannot_be_is_refused(top_k):
    with pytest.raises(ConfigurationError, match=r"top_k is .*: give a whole number, 1 or more"):
        predict_topic(TEXTS[0], top_k)
    with pytest.raises(ConfigurationError, match="top_k is"):
        predict_topics([], top_k)


def test_batch_answers_as_one_by_one():
    many = [text * (1 + k % 7) for k, text in enumerate(TEXTS * 50)]  # more than one chunk, of many lengths
    for batch, one in ((predict_topics, predict_topic), (predict_sentiments, predict_sentiment)):
        answers = batch(many)
        assert len(answers) == 150
        for text, answer in zip(many, answers, strict=True):
            alone = one(text)
            assert (answer["text_length"], answer["model_version"]) == (len(text), alone["model_version"])
            assert numbers(answer) == pytest.approx(numbers(alone), abs=1e-5)


def numbers(answer) -> dict[str, float]:
    if "predictions" in answer:
        return {one["topic"]: one["confidence"] for one in answer["predictions"]}
    return {label: answer[label] for label in SENTIMENT_LABELS}


def test_batch_is_any_iterable_and_may_be_empty():
    assert predict_topics([]) == predict_sentiments([]) == []
    assert predict_topics(iter(TEXTS)) == predict_topics(tuple(TEXTS)) == predict_topics(np.array(TEXTS))


@pytest.mark.parametrize("text", ODD.values(), ids=ODD.keys())
def test_odd_text_is_answered(text):
    topic, sentiment = predict_topic(text, 8), predict_sentiment(text)
    assert topic["text_length"] == sentiment["text_length"] == len(text)
    assert abs(sum(one["confidence"] for one in topic["predictions"]) - 1) <= 1e-6
    assert abs(sum(sentiment[label] for label in SENTIMENT_LABELS) - 1) <= 1e-6
    assert all(0 <= one["confidence"] <= 1 for one in topic["predictions"])


@pytest.mark.parametrize("text", ["", " \n\t ", "!!!", "😍😍😍"])
def test_text_without_a_word_gets_every_label_alike(text):
    assert {one["confidence"] for one in predict_topic(text, 8)["predictions"]} == {0.125}
    assert predict_sentiment(text)["positive"] == predict_sentiment(text)["negative"] == pytest.approx(1 / 3)


def test_end_of_a_long_text_does_not_count_but_its_length_does():
    beginning = TEXTS[0] * 400
    changed = beginning + TEXTS[2] * 400
    assert predict_topic(changed)["predictions"] == predict_topic(beginning)["predictions"]
    assert predict_topic(changed)["text_length"] == len(changed)


@pytest.mark.parametrize("text", [None, 7, b"bytes", float("nan"), ["list"], {"text": "a"}])
def test_text_that_is_no_str_is_refused_with_its_type_and_place(text):
    for function in (predict_topic, predict_sentiment):
        with pytest.raises(TextError, match=f"a text must be a str, not {type(text).__name__}"):
            function(text)
    for function in (predict_topics, predict_sentiments):
        with pytest.raises(TextError, match=rf"texts\[1\] must be a str, not {type(text).__name__}"):
            function(["a", text, "b"])


def test_batch_that_is_one_text_is_refused():
    for function in (predict_topics, predict_sentiments):
        with pytest.raises(TextError, match="texts is one str: give a list"):
            function("a text")


def test_refused_text_loads_no_model_and_is_a_type_error():
    for function, argument in ((predict_topic, None), (predict_sentiments, [1])):
        with pytest.raises(TypeError):
            function(argument)
    assert issubclass(TextError, XedgeError)
    assert loading.loaded() == []


def test_get_model_and_reload_model_name_what_is_loaded():
    assert reload_model() == {}
    model = get_model("topic")
    assert (model.task, model.labels) == ("topic", TOPICS)
    assert get_model("topic") is model
    assert reload_model() == {"topic": model.version}
    assert reload_model("sentiment") == {"sentiment": get_model("sentiment").version}


@pytest.mark.parametrize("function", [get_model, reload_model])
def test_unknown_task_is_refused(function):
    with pytest.raises(ConfigurationError, match="task is 'mood': give one of topic, sentiment"):
        function("mood")


def test_public_functions_are_as_documented():
    assert str(inspect.signature(predict_topic)) == "(text: 'str', top_k: 'int' = 3) -> 'TopicPredictions'"
    assert str(inspect.signature(predict_sentiment)) == "(text: 'str') -> 'Sentiment'"
    assert sorted(xedge.text.__all__) == xedge.text.__all__
    for name in xedge.text.__all__:
        assert getattr(xedge.text, name).__doc__


def loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-c",
            f"{code}\nimport sys, threading\n"  # a thread that loaded a model may be ending
            "print(*sys.modules, sum(not t.name.startswith('xedge-load') for t in threading.enumerate()))",
        ],
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert (done.returncode, done.stderr) == (0, "")
    modules, threads = done.stdout.split()[:-1], done.stdout.split()[-1]
    assert threads == "1"
    return {name.partition(".")[0] for name in modules}


def test_import_loads_neither_mlflow_nor_an_engine():
    heavy = {"mlflow", "torch", "onnxruntime", "sqlalchemy", "onnx", "pandas", "numpy"}
    assert not heavy & loaded_by("import xedge.text\nfrom xedge.text import *")


def test_first_call_loads_the_engine_and_no_mlflow():
    loaded = loaded_by(
        "from xedge.text import predict_topic, predict_sentiment\npredict_topic('a')\npredict_sentiment('b')"
    )
    assert "onnxruntime" in loaded
    assert not {"mlflow", "torch", "sqlalchemy", "onnx", "pandas"} & loaded
