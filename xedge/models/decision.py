"""What a model's answer says in the words of its labels: by the threshold or the names in its card."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from xedge.core.exceptions import ConfigurationError, ModelNotFoundError
from xedge.models.lookup import card_facts, model_path

THRESHOLD = 0.5  # of a score, where the card says nothing


@dataclass(frozen=True)
class Decision:
    """How an answer becomes a label: a score above `threshold` is the second of two classes, of several the largest.

    `names` are the labels of the classes in order; without any they are called "0", "1", and so on. `is_said` is
    whether the model's card says any of it.
    """

    threshold: float = THRESHOLD
    names: tuple[str, ...] = ()
    is_said: bool = False

    @classmethod
    def of(cls, model: str | os.PathLike[str]) -> Self:
        """Return what the card of `model`, a name or path, says in `threshold` and `labels`.

        Raises:
            ConfigurationError: the threshold is no number, or the labels are no list.
        """
        try:
            file = model_path(model, ".json")
        except ModelNotFoundError:
            return cls()
        facts = card_facts(file)
        threshold, names = facts.get("threshold", THRESHOLD), facts.get("labels") or []
        if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not math.isfinite(threshold):
            raise ConfigurationError(f"{file}: threshold is {threshold!r}; give a number, above which a score counts")
        if not isinstance(names, list):
            raise ConfigurationError(f"{file}: labels are {names!r}; give a list of names, one for each class")
        return cls(float(threshold), tuple(map(str, names)), "threshold" in facts or "labels" in facts)

    def label(self, prediction: Any, given: str | None = None) -> str | None:
        """Return the label that `prediction` comes to, or the one `given` with it; None where it comes to none."""
        if given is not None or prediction is None:
            return given
        if isinstance(prediction, float):
            return self.name(int(prediction > self.threshold))
        if isinstance(prediction, int):
            return self.name(int(prediction))
        scores = prediction if isinstance(prediction, Sequence) else ()
        if not scores or not all(isinstance(score, int | float) for score in scores):
            return None
        return self.name(max(range(len(scores)), key=scores.__getitem__))

    def name(self, place: int) -> str:
        """Return what the class at `place` is called."""
        return self.names[place] if 0 <= place < len(self.names) else str(place)
