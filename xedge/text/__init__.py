"""Topic and sentiment of texts, by the models that the registry calls production, loaded at the first call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypedDict

from xedge.core.exceptions import ConfigurationError, TextError
from xedge.text import loading
from xedge.text.labels import SENTIMENT_LABELS, TOPICS

if TYPE_CHECKING:
    from xedge.text.model import TextModel

__all__ = [
    "SENTIMENT_LABELS",
    "TOPICS",
    "get_model",
    "predict_sentiment",
    "predict_sentiments",
    "predict_topic",
    "predict_topics",
    "reload_model",
]


class TopicPrediction(TypedDict):
    """One topic and the probability the model gives it."""

    topic: str
    confidence: float


class TopicPredictions(TypedDict):
    """What `predict_topic` returns."""

    predictions: list[TopicPrediction]
    text_length: int
    model_version: str


class Sentiment(TypedDict):
    """What `predict_sentiment` returns."""

    positive: float
    neutral: float
    negative: float
    text_length: int
    model_version: str


def predict_topic(text: str, top_k: int = 3) -> TopicPredictions:
    """Return the `top_k` most probable topics of a text, the most probable first.

    The first call in a process loads the production version (`xedge.text.loading` says how); later ones take
    about 0.1 ms. Any str gets an answer: of a long text, its beginning decides (4096 features, which are about 370
    words of English, `xedge.text.features`), while `text_length` counts all its characters; a text without a letter
    or digit, such as the empty one or "!!!", gets every topic with equal confidence; the models know English, so of
    another language the answer means little.

    Args:
        text: the text.
        top_k: how many topics, 1 or more; a model that knows fewer gives all of its.

    Returns:
        `{"predictions": [{"topic": str, "confidence": float}, …], "text_length": int, "model_version": str}`.
        Confidences are the model's probabilities, which sum to 1 within 1e-6 over all topics.

    Raises:
        TextError: `text` is not a str (also a TypeError).
        ConfigurationError: `top_k` is not a whole number of 1 or more.
        RegistryError: the model could not be loaded; `reason` and message say why. The next call tries again.
    """
    return predict_topics([_checked(text)], top_k)[0]


def predict_topics(texts: Iterable[str], top_k: int = 3) -> list[TopicPredictions]:
    """Return what `predict_topic` says of each text, all by one version of the model.

    Raises:
        TextError: `texts` is a single str, or one of them is not a str; nothing is answered then.
        ConfigurationError: `top_k` is not a whole number of 1 or more.
        RegistryError: the model could not be loaded.
    """
    texts = _all_checked(texts)
    if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
        raise ConfigurationError(f"top_k is {top_k!r}: give a whole number, 1 or more")
    model = loading.get("topic")
    return [
        {
            "predictions": [
                {"topic": topic, "confidence": confidence}
                for confidence, topic in sorted(zip(row, model.labels, strict=True), key=_by_confidence)[:top_k]
            ],
            "text_length": len(text),
            "model_version": model.version,
        }
        for text, row in zip(texts, model.probabilities(texts).tolist(), strict=True)
    ]


def predict_sentiment(text: str) -> Sentiment:
    """Return how positive, neutral and negative a text is, as the model's probabilities.

    Texts are treated as by `predict_topic`.

    Returns:
        `{"positive": float, "neutral": float, "negative": float, "text_length": int, "model_version": str}`; the
        three sum to 1 within 1e-6.

    Raises:
        TextError: `text` is not a str (also a TypeError).
        RegistryError: the model could not be loaded; `reason` and message say why. The next call tries again.
    """
    return predict_sentiments([_checked(text)])[0]


def predict_sentiments(texts: Iterable[str]) -> list[Sentiment]:
    """Return what `predict_sentiment` says of each text, all by one version of the model.

    Raises:
        TextError: `texts` is a single str, or one of them is not a str; nothing is answered then.
        RegistryError: the model could not be loaded.
    """
    texts = _all_checked(texts)
    model = loading.get("sentiment")
    answers = []
    for text, row in zip(texts, model.probabilities(texts).tolist(), strict=True):
        of = dict(zip(model.labels, row, strict=True))
        answers.append(
            Sentiment(
                positive=of["positive"],
                neutral=of["neutral"],
                negative=of["negative"],
                text_length=len(text),
                model_version=model.version,
            )
        )
    return answers


def get_model(task: str, timeout_s: float | None = None) -> TextModel:
    """Return the loaded model for "topic" or "sentiment", loading it if this process has not yet.

    Args:
        task: "topic" or "sentiment".
        timeout_s: longest to wait for it; None is `XEDGE_TEXT_LOAD_TIMEOUT_S`, else 60 s.

    Raises:
        ConfigurationError: no such task.
        RegistryError: the model could not be loaded; `reason` is "timeout" after `timeout_s`.
    """
    return loading.get(task, timeout_s)


def reload_model(task: str | None = None, timeout_s: float | None = None) -> dict[str, str]:
    """Take up the version that is in production now; calls under way end with the version they began with.

    Args:
        task: "topic" or "sentiment"; None is every model that this process has loaded.
        timeout_s: longest to wait for each; None is `XEDGE_TEXT_LOAD_TIMEOUT_S`, else 60 s.

    Returns:
        The version of each task asked for.

    Raises:
        ConfigurationError: no such task.
        RegistryError: it could not be loaded; the version loaded before stays and goes on answering.
    """
    return {name: loading.reload(name, timeout_s).version for name in ([task] if task else loading.loaded())}


def _by_confidence(pair: tuple[float, str]) -> float:
    return -pair[0]


def _checked(text: str) -> str:
    if not isinstance(text, str):
        raise TextError(f"a text must be a str, not {type(text).__name__} ({text!r:.60}): convert it first")
    return text


def _all_checked(texts: Iterable[str]) -> list[str]:
    if isinstance(texts, str):
        raise TextError("texts is one str: give a list of them, or call the function for one text")
    listed = list(texts)
    for number, text in enumerate(listed):
        if not isinstance(text, str):
            raise TextError(
                f"texts[{number}] must be a str, not {type(text).__name__} ({text!r:.60}): drop or convert it first"
            )
    return listed
