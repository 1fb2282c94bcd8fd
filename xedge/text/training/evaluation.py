"""How good a text model is on texts it has not seen, beside another one, and whether that opens the gate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xedge.core.exceptions import ConfigurationError
from xedge.results.statistics import Estimate, binomial_interval
from xedge.text.model import TextModel
from xedge.text.training.corpus import Corpus


@dataclass(frozen=True)
class Evaluation:
    """A model's answers to the held-out texts: `truth` (n,) are places in `labels`, `probabilities` is (n, k)."""

    labels: tuple[str, ...]
    truth: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """Whether the most probable label is the true one, shape (n,)."""
        right: NDArray[np.bool_] = self.probabilities.argmax(axis=1) == self.truth
        return right

    @property
    def accuracy(self) -> Estimate:
        """The share of texts whose most probable label is the true one, with its 95 % interval (Wilson)."""
        return binomial_interval(int(self.right.sum()), len(self.truth))

    @property
    def majority_share(self) -> float:
        """The accuracy of always answering the commonest label of these texts."""
        return float(np.bincount(self.truth).max() / len(self.truth))

    @property
    def majority(self) -> Evaluation:
        """The evaluation of always answering the commonest label of these texts."""
        always = np.zeros_like(self.probabilities)
        always[:, np.bincount(self.truth).argmax()] = 1
        return Evaluation(self.labels, self.truth, always)

    @property
    def macro_f1(self) -> float:
        """The mean over the labels of these texts of F1 = 2 · right / (texts with the label + answers of it)."""
        counts = self.confusion
        there = counts.sum(axis=1) > 0
        f1 = 2 * counts.diagonal() / np.maximum(counts.sum(axis=0) + counts.sum(axis=1), 1)
        return float(f1[there].mean())

    @property
    def confusion(self) -> NDArray[np.int64]:
        """How many texts of each true label (row) got each answer (column), shape (k, k)."""
        k = len(self.labels)
        return np.bincount(self.truth * k + self.probabilities.argmax(axis=1), minlength=k * k).reshape(k, k)

    @property
    def calibration_error(self) -> float:
        """How far confidence (the largest probability) and accuracy are apart, Σ_b n_b / n |accuracy_b − confidence_b|.

        The expected calibration error over ten equal bins b (Guo et al. 2017, arXiv:1706.04599, equation 3).
        """
        confidence = self.probabilities.max(axis=1).clip(0, 1)
        gaps, _ = np.histogram(confidence, 10, (0, 1), weights=self.right - confidence)
        return float(np.abs(gaps).sum() / len(self.truth))

    def facts(self) -> dict[str, Any]:
        """Return what a card and a report say, as plain values."""
        accuracy = self.accuracy
        return {
            "texts": accuracy.n,
            "accuracy": accuracy.value,
            "accuracy_low": accuracy.low,
            "accuracy_high": accuracy.high,
            "interval": accuracy.method,
            "majority_share": self.majority_share,
            "macro_f1": self.macro_f1,
            "calibration_error": self.calibration_error,
            "confusion": self.confusion.tolist(),
        }


def evaluate(model: TextModel, corpus: Corpus) -> Evaluation:
    """Return the model's answers to the texts held out; ConfigurationError if it does not know all of the labels."""
    if unknown := sorted(set(corpus.labels) - set(model.labels)):
        raise ConfigurationError(
            f"{corpus.source} has the labels {', '.join(unknown)}, which {model} does not know: they cannot be compared"
        )
    texts, labels = corpus.part(held_out=True)
    truth = np.array([model.labels.index(label) for label in labels])
    return Evaluation(model.labels, truth, model.probabilities(texts))


def difference(new: Evaluation, old: Evaluation) -> Estimate:
    """Return accuracy of `new` − accuracy of `old` on the same texts (else ConfigurationError), with its interval.

    With b texts that only `new` got right and c that only `old` did, the value is (b − c) / n. The interval is
    Wald's after adding 1/2 to each of the four counts of pairs (Agresti & Min 2005, doi:10.1002/sim.1781):
    d ± z √((b* + c* − (b* − c*)² / n*)) / n*.
    """
    if [new.labels[i] for i in new.truth] != [old.labels[i] for i in old.truth]:
        raise ConfigurationError("the two evaluations are of other texts: evaluate both models on one corpus")
    n = len(new.truth)
    b, c = int((new.right & ~old.right).sum()), int((old.right & ~new.right).sum())
    centre, total = (b - c) / (n + 2), n + 2
    half = NormalDist().inv_cdf(0.975) * math.sqrt(b + c + 1 - (b - c) ** 2 / total) / total
    return Estimate((b - c) / n, max(-1.0, centre - half), min(1.0, centre + half), n, 1, "Agresti and Min, 95%")


@dataclass(frozen=True)
class Gate:
    """Whether a model may become production, and why: a sentence for each rule, those that failed first."""

    passed: bool
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return f"gate {'passed' if self.passed else 'not passed'}: {'; '.join(self.reasons)}"


@dataclass(frozen=True)
class Limits:
    """What the gate asks, as shares between 0 and 1 (else ConfigurationError).

    The lower end of the accuracy's 95 % interval must reach `least_accuracy`, macro-F1 `least_f1`, and the accuracy
    may be at most `most_lost` below production's on the same texts.
    """

    least_accuracy: float = 0.6
    least_f1: float = 0.55
    most_lost: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= 1:
                raise ConfigurationError(f"{name} is {value}: give a share between 0 and 1")


def gate(new: Evaluation, old: Evaluation | None, limits: Limits, obstacle: str = "") -> Gate:
    """Return whether `new` is good enough and not worse than `old`, the one in production (None if there is none).

    Besides the limits, it must be more accurate than always answering the commonest label, by more than chance: the
    95 % interval of the paired difference is above 0. An `obstacle`, a reason why production cannot be compared
    with, keeps the gate shut: somebody must look.
    """
    low, f1, above = new.accuracy.low or 0.0, new.macro_f1, difference(new, new.majority).low or 0.0
    least, least_f1 = limits.least_accuracy, limits.least_f1
    unsure = f"accuracy {new.accuracy.value:.3f} not surely above always the commonest label, {new.majority_share:.3f}"
    surely = f"better than always the commonest label, by at least {above:.3f} (95 %)"
    rules = [
        (low >= least, f"accuracy at least {low:.3f} (95 %), where {least:g} is asked for"),
        (f1 >= least_f1, f"macro-F1 {f1:.3f}, where {least_f1:g} is asked for"),
        (above > 0, surely if above > 0 else unsure),
        (False, obstacle) if obstacle else _against(new, old, limits.most_lost),
    ]
    rules.sort(key=lambda rule: rule[0])
    return Gate(all(passed for passed, _ in rules), tuple(reason for _, reason in rules))


def _against(new: Evaluation, old: Evaluation | None, most_lost: float) -> tuple[bool, str]:
    if old is None:
        return True, "nothing was in production before"
    lost = -(difference(new, old).value or 0.0)
    kept = lost <= most_lost + 1e-12  # for rounding
    if not lost:
        return kept, "as accurate as the one in production"
    words = f"{abs(lost):.3f} {'less' if lost > 0 else 'more'} accurate than the one in production"
    return kept, words + ("" if kept else f", where at most {most_lost:g} less is allowed")
