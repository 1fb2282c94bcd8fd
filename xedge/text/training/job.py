"""Training as a job: train, judge, compare with production, register, and promote what passes the gate."""

import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from xedge.core.exceptions import ConfigurationError, ModelError, RegistryError
from xedge.results.statistics import Estimate
from xedge.text.labels import TASKS
from xedge.text.model import load_version
from xedge.text.registry.registry import Registry
from xedge.text.registry.stores import home
from xedge.text.registry.versions import ModelVersion
from xedge.text.training.corpus import Corpus
from xedge.text.training.evaluation import Evaluation, Gate, Limits, difference, evaluate, gate
from xedge.text.training.train import TrainingResult, train


@dataclass(frozen=True)
class Outcome:
    """What one training came to: the version registered, and whether it is in production now.

    `before` is the version that was in production, `production` its answers to the same held-out texts; both None
    if there was none, `production` also if the two cannot be compared (`gate` says why).
    """

    task: str
    trained: TrainingResult
    before: ModelVersion | None
    production: Evaluation | None
    gate: Gate
    version: ModelVersion

    @property
    def evaluation(self) -> Evaluation:
        """The new model's answers to the texts held out."""
        return self.trained.evaluation

    @property
    def gain(self) -> Estimate | None:
        """Its accuracy minus that of the version before on the same texts; None if they cannot be compared."""
        return None if self.production is None else difference(self.evaluation, self.production)

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        stays = f"version {self.before.version} stays in production" if self.before else "nothing is in production"
        now = "is in production" if self.gate.passed else f"is registered and {stays}"
        accuracy = self.evaluation.accuracy
        shares = accuracy.value, accuracy.low, accuracy.high, self.evaluation.majority_share
        right, low, high, usual = (f"{100 * (share or 0.0):.1f}" for share in shares)
        return (
            f"{self.task.capitalize()}: {right} % of {accuracy.n} held-out texts right ({low} to {high} %, 95 %), "
            f"where always saying the commonest label gets {usual} %. {str(self.gate).capitalize()}; "
            f"version {self.version.version} {now}."
        )

    def facts(self) -> dict[str, Any]:
        """Return what run.json holds of it, as plain values."""
        return {
            "version": self.version.version,
            "passed": self.gate.passed,
            "reasons": list(self.gate.reasons),
            "production_before": self.before.version if self.before else None,
            "gain": self.gain.value if self.gain else None,
            **{key: value for key, value in self.evaluation.facts().items() if key != "confusion"},
        }


def tasks(task: str, data: str = "") -> tuple[str, ...]:
    """Return the tasks that `task` means, "both" of them or one; with a file, whose labels are of one task, one."""
    if task == "both" and data:
        raise ConfigurationError(f"data is {data!r} and task 'both': a file has labels of one task, say which")
    if task != "both" and task not in TASKS:
        raise ConfigurationError(f"task is {task!r}: give both, {' or '.join(TASKS)}")
    return tuple(TASKS) if task == "both" else (task,)


def run(
    task: str,
    data: str | os.PathLike[str] | None = None,
    *,
    labels_column: str = "label",
    epochs: int = 0,
    seed: int = 0,
    least_accuracy: float = 0.6,
    least_f1: float = 0.55,
    most_lost: float = 0.0,
    quick: bool = False,
    registry: Registry | None = None,
) -> Outcome:
    """Train a model, register it, and put it in production if the gate lets it pass.

    The version is registered either way: one that did not pass can be looked at, and promoted by hand with
    `xedge registry promote`. The registry is asked first, so that one out of reach costs no training; if it cannot
    take the model afterwards, the error says where the trained folder is kept.

    The options are those of `xedge.text.training.train.train`, with the gate's limits (`evaluation.Limits`) and a
    `registry`, by default the project's own or the one of MLFLOW_TRACKING_URI.

    Raises:
        ConfigurationError: the data or a parameter cannot be used.
        RegistryError: the registry cannot be reached or written.
    """
    limits = Limits(least_accuracy, least_f1, most_lost)
    registry = registry or Registry()
    before = None
    try:
        before = registry.resolve(task, alias="production")
    except RegistryError as exc:
        if exc.reason not in ("no model", "no version"):
            raise
    folder = home() / "unregistered" / f"{task}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}"
    trained = train(task, folder, data, labels_column=labels_column, epochs=epochs, seed=seed, quick=quick)
    production, obstacle = _judged(before, trained.corpus, task)
    decision = gate(trained.evaluation, production, limits, obstacle)
    version = _registered(registry, task, trained, decision)
    if decision.passed:
        version = registry.promote(task, version.version)
    return Outcome(task, trained, before, production, decision, version)


def _registered(registry: Registry, task: str, trained: TrainingResult, decision: Gate) -> ModelVersion:
    """Register a trained model and remove its folder, which stays if the registry does not take it."""
    corpus = trained.corpus
    tags = {
        "gate": str(decision),
        "data": corpus.source,
        "data_sha256": corpus.sha256,
        "columns": ",".join(corpus.columns),
        "conflicting_labels": len(corpus.conflicts),
    }
    try:
        version = registry.register(task, trained.folder, **tags)
    except RegistryError as exc:
        raise RegistryError(
            f"the {task} model is trained but not registered, and kept in {trained.folder}: {exc}. When the registry "
            f"is there again: xedge.text.registry.registry.Registry().register({task!r}, {str(trained.folder)!r})",
            exc.reason,
        ) from exc
    shutil.rmtree(trained.folder, ignore_errors=True)
    return version


def _judged(before: ModelVersion | None, corpus: Corpus, task: str) -> tuple[Evaluation | None, str]:
    """Return the answers of the version in production to the texts held out, or why there are none."""
    if before is None:
        return None, ""
    try:
        return evaluate(load_version(before.folder, task, before.version), corpus), ""
    except (ConfigurationError, ModelError) as exc:
        return None, (
            f"version {before.version} in production cannot be compared with: {exc}; if the new version is to replace "
            f"it all the same, `xedge registry promote {task} VERSION` does so"
        )
