"""A text model: a plain folder, checked when it is loaded, that turns texts into probabilities."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from xedge.core.exceptions import ModelError, TextError
from xedge.core.files import file_sha256
from xedge.models.engines import Engine, OnnxEngine
from xedge.text.features import FEATURE_SPEC, encode, padded

MODEL, WEIGHTS, LABELS, GOLDEN, CARD = FILES = ("model.onnx", "model.pt", "labels.json", "golden.json", "card.json")
CHUNK = 64  # texts given to the engine at once: 5000 at once took 740 MB, in chunks of 64 310 MB
CHUNK_IDS = CHUNK * 512  # and no more ids, padding included, unless one text has more
TOLERANCE = 1e-4  # of a probability, between the machine that trained and this one


class TextModel:
    """A loaded version of a text model; any number of threads may use it at once.

    `task` is "topic" or "sentiment", `labels` are the names of the probabilities in order, `version` is what
    the registry calls it ("" outside one), `folder` is where it was loaded from.
    """

    def __init__(self, engine: Engine, task: str, labels: tuple[str, ...], version: str, folder: Path) -> None:
        self._engine = engine
        self.task = task
        self.labels = labels
        self.version = version
        self.folder = folder

    @classmethod
    def load(cls, folder: str | os.PathLike[str], version: str = "", engine: Engine | None = None) -> Self:
        """Return the model in `folder`, after checking its files and its golden outputs.

        The card's checksums are those of the other files, and the model's answers to the texts in golden.json
        are within 1e-4 of those it gave when it was trained. The weights for PyTorch are not loaded.

        Args:
            folder: the model's files.
            version: what the registry calls it.
            engine: one of these files in an engine already; by default model.onnx is loaded into ONNX Runtime.

        Raises:
            ModelError: a file is missing, damaged, of another feature spec, or the answers are others; it names
                the file and what to do.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise ModelError(f"{folder} is not a folder: name the folder of a text model's version")
        _check_files(folder)
        task, labels = _labels(folder / LABELS)
        engine = engine or OnnxEngine(folder / MODEL)
        if engine.input_shape != (-1,) or engine.input_dtype != np.int32:
            raise _unusable(engine.path, "it does not take int32 ids of shape (n, L)")
        model = cls(engine, task, labels, version, folder)
        model._check_golden()
        return model

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the probability of each label for each text, shape (n, k); rows sum to 1.

        A text without a word the model knows gets the same probability for every label.

        Raises:
            TextError: `texts` is a single str, or one of them is not a str.
            ModelError: the engine failed.
        """
        if isinstance(texts, str):
            raise TextError("texts is one str: give a list of them")
        if len(texts) == 1:
            return self._engine.predict(padded([encode(texts[0])]))
        rows = [encode(text) for text in texts]
        answers = np.empty((len(rows), len(self.labels)), np.float32)
        for places in _chunks([len(row) for row in rows]):
            answers[places] = self._engine.predict(padded([rows[place] for place in places]))
        return answers

    def __repr__(self) -> str:
        return f"TextModel({self.task!r}, version {self.version or 'of no registry'}, {self.folder})"

    def _check_golden(self) -> None:
        path = self.folder / GOLDEN
        facts = _json(path)
        texts, recorded = facts.get("texts"), facts.get("probabilities")
        if not (isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts)):
            raise _unusable(path, "it has no texts")
        try:
            expected = np.asarray(recorded, np.float64)
        except (TypeError, ValueError) as exc:
            raise _unusable(path, "its probabilities are not numbers") from exc
        if expected.shape != (len(texts), len(self.labels)) or not np.isfinite(expected).all():
            raise _unusable(path, f"{len(texts)} texts and {len(self.labels)} labels do not fit its probabilities")
        try:
            answers = self.probabilities(texts)
        except ModelError as exc:
            raise _unusable(self._engine.path, str(exc)) from exc
        if answers.shape != expected.shape:
            raise _unusable(self._engine.path, f"it answers with shape {answers.shape}, not {expected.shape}")
        gap = np.abs(answers - expected).max()
        if not gap <= TOLERANCE:
            raise _unusable(
                self._engine.path,
                f"its answers differ by {gap:.3g} from those in {GOLDEN}: these are not the weights that were checked",
            )


def _chunks(lengths: list[int]) -> Iterator[list[int]]:
    """Yield the places of texts to be answered at once, the shortest first: what is padded is padded little."""
    places: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if len(places) == CHUNK or (places and lengths[place] * (len(places) + 1) > CHUNK_IDS):
            yield places
            places = []
        places.append(place)
    if places:
        yield places


def _unusable(path: Path, why: str) -> ModelError:
    return ModelError(f"{path} cannot be used: {why}; train again, or take another version from the registry")


def _json(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        raise _unusable(path, f"it is missing or damaged ({exc})") from exc
    if not isinstance(facts, dict):
        raise _unusable(path, "it is missing or damaged (not a JSON object)")
    return facts


def _check_files(folder: Path) -> None:
    """Compare every file with its checksum in the card."""
    recorded = _json(folder / CARD).get("sha256")
    if not isinstance(recorded, dict):
        raise _unusable(folder / CARD, "it has no checksums")
    for name in FILES[:-1]:
        try:
            checksum = file_sha256(folder / name)
        except OSError as exc:
            raise _unusable(folder / name, f"it is missing or cannot be read ({exc.strerror})") from exc
        if checksum != recorded.get(name):
            raise _unusable(folder / name, f"it is damaged, or is not the file that {CARD} was written for")


def _labels(path: Path) -> tuple[str, tuple[str, ...]]:
    facts = _json(path)
    task, spec = facts.get("task"), facts.get("feature_spec")
    labels: Any = facts.get("labels")
    if spec != FEATURE_SPEC:
        raise _unusable(path, f"its feature spec is {spec!r} and this xedge encodes texts by spec {FEATURE_SPEC}")
    named = isinstance(labels, list) and all(isinstance(label, str) and label for label in labels)
    if not (isinstance(task, str) and named and len(set(labels)) == len(labels) >= 2):
        raise _unusable(path, "it needs a task and two or more different labels")
    return task, tuple(labels)
