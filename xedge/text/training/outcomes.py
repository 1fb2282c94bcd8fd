"""What a training came to, for a reader: a table, the confusions, the surest mistakes, and the top of the report."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from xedge.core.exceptions import ModelError
from xedge.reports.study import Findings, Headline, Table, changed
from xedge.results.canvas import ReportFigure, styled
from xedge.results.statistics import Estimate
from xedge.text.training.job import Outcome


def table(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """Return the figures of each training in a column, their intervals at 95 %."""
    return pd.DataFrame({outcome.task: _column(outcome) for outcome in outcomes})


def _column(outcome: Outcome) -> dict[str, str]:
    evaluation, corpus = outcome.evaluation, outcome.trained.corpus
    return {
        "data": corpus.source,
        "texts to learn from": str(corpus.held_out.count(False)),
        "texts held out": str(corpus.held_out.count(True)),
        "labels": str(len(evaluation.labels)),
        "held-out accuracy": _interval(evaluation.accuracy),
        "always the commonest label": f"{evaluation.majority_share:.3f}",
        "macro-F1": f"{evaluation.macro_f1:.3f}",
        "conflicting labels": str(len(corpus.conflicts)),
        "calibration error": f"{evaluation.calibration_error:.3f}",
        "in production before": f"version {outcome.before.version}" if outcome.before else "none",
        "accuracy of that one": _interval(outcome.production.accuracy) if outcome.production else "",
        "gain, paired": _interval(outcome.gain, "+") if outcome.gain else "",
        "gate": "passed" if outcome.gate.passed else "not passed",
        "registered as": f"version {outcome.version.version}",
    }


def _interval(estimate: Estimate, sign: str = "") -> str:
    low, high = (f"{value:{sign}.3f}" for value in (estimate.low, estimate.high))
    return f"{estimate.value:{sign}.3f} ({low} to {high})"


def confusions(outcomes: Sequence[Outcome]) -> ReportFigure:
    """Return the report's figure: how many texts of each label (rows) got which answer, dark for much of the row."""
    widths = [max(4, len(outcome.evaluation.labels)) for outcome in outcomes]
    with styled():
        figure = ReportFigure(figsize=(9 if len(outcomes) > 1 else 6, 4.4))
        axes = np.atleast_1d(figure.subplots(1, len(outcomes), width_ratios=widths))
        for ax, outcome in zip(axes, outcomes, strict=True):
            counts, labels = outcome.evaluation.confusion, outcome.evaluation.labels
            shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
            ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="equal")
            ax.grid(visible=False)
            ax.set_xticks(range(len(labels)), labels, rotation=45, ha="right", rotation_mode="anchor")
            ax.set_yticks(range(len(labels)), labels)
            ax.set(xlabel="answer", ylabel="label", title=outcome.task)
            for row, column in np.argwhere(counts):
                colour = "white" if shares[row, column] > 0.5 else "#222222"  # on the darker half of the blues
                ax.text(column, row, counts[row, column], color=colour, ha="center", va="center", fontsize=8)
        figure.alt = " ".join(_alt(outcome) for outcome in outcomes)
    return figure


def _alt(outcome: Outcome) -> str:
    evaluation = outcome.evaluation
    counts = evaluation.confusion.copy()
    np.fill_diagonal(counts, 0)
    start = f"Confusion matrix of {outcome.task}: {int(evaluation.right.sum())} of {len(evaluation.truth)} right"
    if not counts.any():
        return f"{start}, none confused."
    row, column = np.unravel_index(counts.argmax(), counts.shape)
    label, answer = evaluation.labels[row], evaluation.labels[column]
    return f"{start}, most often confused: {label} taken for {answer}, {counts[row, column]} times."


def mistakes(outcomes: Sequence[Outcome], n: int = 5) -> pd.DataFrame:
    """Return the held-out texts that were answered wrong, of each training the `n` surest."""
    rows = pd.concat([answers(outcome).assign(task=outcome.task) for outcome in outcomes])
    wrong = rows[rows["answer"] != rows["label"]].sort_values("confidence", ascending=False, kind="stable")
    surest = wrong.groupby("task", sort=False).head(n).sort_values("task", ascending=False, kind="stable")
    return surest[["task", "label", "answer", "confidence", "text"]].reset_index(drop=True)


def answers(outcome: Outcome) -> pd.DataFrame:
    """Return label, answer, its confidence and the text for every text held out."""
    probabilities = outcome.evaluation.probabilities
    texts, labels = outcome.trained.corpus.part(held_out=True)
    answer = [outcome.evaluation.labels[place] for place in probabilities.argmax(axis=1)]
    confidence = probabilities.max(axis=1).astype(float).round(3)
    return pd.DataFrame({"label": labels, "answer": answer, "confidence": confidence, "text": texts})


def rows_read(outcomes: Sequence[Outcome]) -> str:
    """Return which columns of each data file were read, and what was left out of it and why: the first twenty lines."""
    lines = []
    for outcome in outcomes:
        corpus = outcome.trained.corpus
        lines.append(
            f"{corpus.source}: {len(corpus.texts)} texts, {len(corpus.bad_rows)} bad rows, {corpus.duplicates} "
            f"duplicates, {len(corpus.conflicts)} of them with another label (the first is kept)"
        )
        ignored = f"; not used: {', '.join(corpus.ignored)}" if corpus.ignored else ""
        lines.append(f"  texts from the columns: {', '.join(corpus.columns)}{ignored}")
        for rows in (corpus.bad_rows, corpus.conflicts):
            lines += [f"  {row}" for row in rows[:20]] + ([f"  and {len(rows) - 20} more"] if len(rows) > 20 else [])
    return "\n".join(lines)


@dataclass(frozen=True)
class Trainings:
    """Several trainings as a study: a gate that is not passed is a result and no error, production stays as it was."""

    outcomes: Sequence[Outcome]

    def findings(self) -> Findings:
        """Return what a page shows: each accuracy, and what is in production now."""
        headline: list[Headline] = []
        conditions: dict[str, object] = {}
        for outcome in self.outcomes:
            task, corpus, passed = outcome.task, outcome.trained.corpus, outcome.gate.passed
            version = outcome.version if passed else outcome.before
            now = f"version {version.version}" if version else "none"
            detail = "new: gate passed" if passed else "stays: gate not passed"
            held_out = f"{outcome.evaluation.accuracy.n} texts held out"
            headline.append(Headline(f"{task} accuracy", _percent(outcome), "%", held_out))
            headline.append(Headline(f"{task} in production", now, detail=detail))
            data = f"{corpus.source}, SHA-256 {corpus.sha256[:12]}…, held out: {corpus.split}"
            conditions |= {f"data of {task}": data, f"temperature of {task}": round(outcome.trained.temperature, 3)}
        return Findings(
            conclusion=" ".join(outcome.sentence for outcome in self.outcomes),
            headline=headline,
            estimates={outcome.task: {"accuracy_percent": _percent(outcome)} for outcome in self.outcomes},
            conditions=conditions,
            files={f"held_out_{outcome.task}": Table(answers(outcome)) for outcome in self.outcomes},
            facts={"gate": {outcome.task: outcome.facts() for outcome in self.outcomes}},
        )

    def raise_for_gates(self) -> None:
        """Raise ModelError if a gate was not passed, for a scheduler that only looks at whether a task failed."""
        if shut := [f"{outcome.task}: {outcome.gate}" for outcome in self.outcomes if not outcome.gate.passed]:
            raise ModelError("; ".join(shut))


def _percent(outcome: Outcome) -> Estimate:
    return changed(outcome.evaluation.accuracy, lambda share: 100 * share)
