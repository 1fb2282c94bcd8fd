"""What was right: the labels of a trial's requests beside what was answered, and checks of both before any trial."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Self

import numpy as np
import pandas as pd

from xedge.core.config import listed
from xedge.core.exceptions import ConfigurationError
from xedge.models.decision import Decision
from xedge.models.kinds import NUMBERS
from xedge.scenario.placements import model_of
from xedge.scenario.scenario import Replication, Scenario
from xedge.scenario.sources import InputSpec, Vibration, matching
from xedge.serving.start import Service

TRIED = 256  # requests whose answers are looked at before anything is measured


@dataclass(frozen=True)
class Truth:
    """The `labels` of a trial's requests and their `contents`, and how the placement's model decides."""

    labels: list[str]
    contents: Any
    decision: Decision

    @classmethod
    def of(
        cls, scenario: Scenario, replication: Replication, placement: str, spec: InputSpec, contents: Any
    ) -> Self | None:
        """Return what is right for these contents; None where nobody knows it.

        The generator knows of bearings only, so its labels count for a model whose card says what its answers mean.

        Raises:
            ConfigurationError: a label is missing, or the card's threshold is no number.
        """
        labels = replication.labels(scenario, spec)
        if labels is None:
            return None
        decision = Decision.of(model_of(scenario.placements[placement], scenario.model))
        if isinstance(matching(scenario.source, spec), Vibration) and not decision.is_said:
            return None
        return cls(labels, contents, decision)

    def check(self, placement: str, service: Service) -> None:
        """Refuse labels that the model never answers, and a threshold that makes all its answers alike.

        The first requests are answered by the engine itself, where this process can load it.

        Raises:
            ConfigurationError: with both sides, and where to put it right.
        """
        engine = getattr(service, "engine", None)
        if engine is None or service.takes.kind != NUMBERS:
            return
        scores = np.asarray(engine.predict(np.ascontiguousarray(self.contents[:TRIED])))
        if scores.dtype.kind != "f":
            return
        classes = max(scores[0].size, 2)
        known, seen = {self.decision.name(place) for place in range(classes)}, sorted(set(self.labels))
        if strange := [label for label in seen if label not in known]:
            raise ConfigurationError(
                f"{placement}: the source has the labels {listed(seen)}, the model answers {listed(sorted(known))}. "
                f"Which class is {strange[0]}? `labels` in the model's card names its classes in their order"
            )
        if scores[0].size == 1 and len(set(self.labels[:TRIED])) > 1:
            self._check_threshold(placement, scores)

    def _check_threshold(self, placement: str, scores: np.ndarray[Any, Any]) -> None:
        low, high, threshold = float(scores.min()), float(scores.max()), self.decision.threshold
        if not low <= threshold < high:
            raise ConfigurationError(
                f"{placement}: the threshold {threshold:g} lies outside of the model's scores, {low:.4g} to {high:.4g} "
                f"for {len(scores)} requests of both labels, so that all answers would be alike: put `threshold` right "
                "in the model's card"
            )

    def told(self, table: pd.DataFrame, predictions: Sequence[Any], labels: Sequence[str | None]) -> pd.DataFrame:
        """Return a trial's rows with `label`, the `answer` to hold against it, and which `content` was asked.

        Equal numbers in `content` are equal inputs: one asked twice tells nothing new the second time.
        """
        answers = [self.decision.label(*each) for each in zip(predictions, labels, strict=True)]
        return table.assign(
            label=pd.array(self.labels, dtype="string"),
            answer=pd.array(answers, dtype="string"),
            content=pd.array([_number_of(content) for content in self.contents], dtype="Int64"),
        )

    def facts(self, predictions: Sequence[Any]) -> dict[str, Any]:
        """Return what the conditions say: the threshold and the label of high scores, where answers are scores."""
        known = [prediction for prediction in predictions if prediction is not None]
        if not known or not all(isinstance(prediction, float) for prediction in known):
            return {}
        return {"threshold": self.decision.threshold, "positive": self.decision.name(1)}


def _number_of(content: Any) -> int:
    data = content.encode() if isinstance(content, str) else content.tobytes()
    return int.from_bytes(blake2b(data, digest_size=4).digest(), "big")
