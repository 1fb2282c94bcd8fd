"""What requests and answers hold, as the description of the service shows it."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from xedge.text.features import MAX_CHARACTERS


class Text(BaseModel):
    """A text to answer for."""

    model_config = ConfigDict(extra="forbid", strict=True)
    text: Annotated[
        str,
        Field(description=f"any text; its first {MAX_CHARACTERS} characters count", examples=["Rain again"]),
    ]


class TextForTopics(Text):
    """A text, and how many topics are wanted."""

    top_k: Annotated[int, Field(ge=1, description="how many topics, the likeliest first")] = 3


class Topic(BaseModel):
    """One topic."""

    topic: str
    confidence: float


class TopicAnswer(BaseModel):
    """What `predict_topic` returns."""

    predictions: list[Topic]
    text_length: int
    model_version: str


class SentimentAnswer(BaseModel):
    """What `predict_sentiment` returns."""

    positive: float
    neutral: float
    negative: float
    text_length: int
    model_version: str


class BothAnswers(BaseModel):
    """Topic and sentiment of one text."""

    topic: TopicAnswer
    sentiment: SentimentAnswer


class Refusal(BaseModel):
    """Why there is no answer."""

    error: str
