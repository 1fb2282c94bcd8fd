"""Topic and sentiment of texts, by the models that the registry calls production, loaded at the first call."""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter
from typing import TypedDict

from xedge.core.exceptions import ConfigurationError, TextError
from xedge.text.labels import SENTIMENT_LABELS, TOPICS
from xedge.text.loading import get_model, reload_model

__all__ = ["SENTIMENT_LABELS", "TOPICS", "get_model", "predict_sentiment", "predict_sentiments"]
__all__ += ["predict_topic", "predict_topics", "reload_model"]


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
    """Return the `top_k` most probable topics of a text, or all that the model knows, the most probable first.

    As `{"predictions": [{"topic": str, "confidence": float}, …], "text_length": int, "model_version": str}`, where
    confidences are the model's probabilities: over all topics they sum to 1 within 1e-6. The first call in a process
    loads the production version (`xedge.text.loading`); later ones take about 0.1 ms. Any str gets an answer: of a long
    text, its beginning decides (4096 features, about 370 words of English), while `text_length` counts all its
    characters; a text without a letter or digit, such as "" or "!!!", gets every topic with equal confidence; the
    models know English, so of another language the answer means little.

    Raises:
        TextError: `text` is not a str (also a TypeError).
        ConfigurationError: `top_k` is not a whole number of 1 or more.
        RegistryError: the model could not be loaded; `reason` and message say why. The next call tries again.
    """
    return predict_topics([_checked(text)], top_k)[0]


def predict_topics(texts: Iterable[str], top_k: int = 3) -> list[TopicPredictions]:
    """Return what `predict_topic` says of each text, all by one version of the model.

    Raises as that does; TextError if `texts` is a single str or one of them is none: nothing is answered then.
    """
    texts = _all_checked(texts)
    if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
        raise ConfigurationError(f"top_k is {top_k!r}: give a whole number, 1 or more")
    model = get_model("topic")
    return [
        {
            "predictions": [
                {"topic": topic, "confidence": confidence}
                for confidence, topic in sorted(zip(row, model.labels, strict=True), key=itemgetter(0), reverse=True)[
                    :top_k
                ]
            ],
            "text_length": len(text),
            "model_version": model.version,
        }
        for text, row in zip(texts, model.probabilities(texts).tolist(), strict=True)
    ]


def predict_sentiment(text: str) -> Sentiment:
    """Return how positive, neutral and negative a text is, as the model's probabilities.

    As `{"positive": float, "neutral": float, "negative": float, "text_length": int, "model_version": str}`; the three
    sum to 1 within 1e-6. Texts are treated as by `predict_topic`, and the same is raised.
    """
    return predict_sentiments([_checked(text)])[0]


def predict_sentiments(texts: Iterable[str]) -> list[Sentiment]:
    """Return what `predict_sentiment` says of each text, by one version; raises as `predict_topics` does."""
    texts = _all_checked(texts)
    model = get_model("sentiment")
    columns = [model.labels.index(label) for label in SENTIMENT_LABELS]
    shares = model.probabilities(texts)[:, columns].tolist()
    return [
        Sentiment(positive=good, neutral=none, negative=bad, text_length=len(text), model_version=model.version)
        for text, (good, none, bad) in zip(texts, shares, strict=True)
    ]


def _checked(text: str, name: str = "a text", advice: str = "convert it first") -> str:
    if not isinstance(text, str):
        raise TextError(f"{name} must be a str, not {type(text).__name__} ({text!r:.60}): {advice}")
    return text


def _all_checked(texts: Iterable[str]) -> list[str]:
    if isinstance(texts, str):
        raise TextError("texts is one str: give a list of them, or call the function for one text")
    return [_checked(text, f"texts[{number}]", "drop or convert it first") for number, text in enumerate(texts)]
