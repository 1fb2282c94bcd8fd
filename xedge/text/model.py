"""A text model: a plain folder, checked when it is loaded, that turns texts into probabilities."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from xedge.core.exceptions import ModelError, TextError
from xedge.core.files import file_sha256, is_as_sealed, read_json
from xedge.models.engines import Engine, OnnxEngine
from xedge.text.features import FEATURE_SPEC, encode, padded
from xedge.text.labels import SENTIMENT_LABELS

MODEL, WEIGHTS, LABELS, GOLDEN, CARD = FILES = ("model.onnx", "model.pt", "labels.json", "golden.json", "card.json")
CHUNK = 64  # texts given to the engine at once: 5000 at once took 740 MB, in chunks of 64 310 MB
CHUNK_IDS = CHUNK * 512  # and no more ids, padding included, unless one text has more
TOLERANCE = 1e-4  # of a probability, between the machine that trained and this one
_T = TypeVar("_T")


class _Card(msgspec.Struct):
    sha256: dict[str, str]


class _Labels(msgspec.Struct):
    task: str
    labels: Annotated[tuple[Annotated[str, Meta(min_length=1)], ...], Meta(min_length=2)]
    feature_spec: Any = None


class _Golden(msgspec.Struct):
    texts: Annotated[list[str], Meta(min_length=1)]
    probabilities: list[list[float]]


class TextModel:
    """A loaded version of a text model; any number of threads may use it at once.

    `task` is "topic" or "sentiment", `labels` are the names of the probabilities in order, `version` is what
    the registry calls it ("" outside one), `folder` is where it was loaded from.
    """

    def __init__(self, engine: Engine, task: str, labels: tuple[str, ...], version: str, folder: Path) -> None:
        self._engine, self.task, self.labels, self.version, self.folder = engine, task, labels, version, folder

    @classmethod
    def load(cls, folder: str | os.PathLike[str], version: str = "", engine: Engine | None = None) -> Self:
        """Return the model in `folder`, after checking its files and its golden outputs.

        The card is as it was written, its checksums are those of the other files, and the model's answers to the texts
        in golden.json are within 1e-4 of those it gave when it was trained. `version` is what the registry calls it; an
        `engine` has one of these files in it already, by default model.onnx is loaded into ONNX Runtime.

        Raises:
            ModelError: a file is missing, damaged, of another feature spec, or the answers are others; it names the
                file and what to do.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise ModelError(f"{folder} is not a folder: name the folder of a text model's version")
        recorded = _read(folder / CARD, _Card).sha256
        if not is_as_sealed(read_json(folder / CARD)):
            raise _unusable(folder / CARD, "it is damaged or was edited since it was written")
        for path in (folder / name for name in FILES[:-1]):
            try:
                checksum = file_sha256(path)
            except OSError as exc:
                raise _unusable(path, f"it is missing or cannot be read ({exc.strerror})") from exc
            if checksum != recorded.get(path.name):
                raise _unusable(path, f"it is damaged, or is not the file that {CARD} was written for")
        facts = _read(path := folder / LABELS, _Labels)
        if facts.feature_spec != FEATURE_SPEC:
            spec = f"its feature spec is {facts.feature_spec!r} and this xedge encodes texts by spec {FEATURE_SPEC}"
            raise _unusable(path, spec)
        if len(set(facts.labels)) < len(facts.labels):
            raise _unusable(path, "it has a label twice")
        engine = engine or OnnxEngine(folder / MODEL)
        if engine.input_shape != (-1,) or engine.input_dtype != np.int32:
            raise _unusable(engine.path, "it does not take int32 ids of shape (n, L)")
        model = cls(engine, facts.task, facts.labels, version, folder)
        model._check_golden()
        return model

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the probability of each label for each text, shape (n, k); rows sum to 1.

        A text without a word the model knows gets the same probability for every label. TextError if `texts` is a
        single str or one of them is none; ModelError if the engine failed.
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
        golden = _read(path := self.folder / GOLDEN, _Golden)
        n, k = shape = len(golden.texts), len(self.labels)
        if [len(row) for row in golden.probabilities] != [k] * n:
            raise _unusable(path, f"{n} texts and {k} labels do not fit its probabilities")
        try:
            answers = self.probabilities(golden.texts)
        except ModelError as exc:
            raise _unusable(self._engine.path, str(exc)) from exc
        if answers.shape != shape:
            raise _unusable(self._engine.path, f"it answers with shape {answers.shape}, not {shape}")
        gap = np.abs(answers - np.array(golden.probabilities)).max()
        if not gap <= TOLERANCE:
            why = f"its answers differ by {gap:.3g} from those in {GOLDEN}: these are not the weights that were checked"
            raise _unusable(self._engine.path, why)


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


def _read(path: Path, content: type[_T]) -> _T:
    try:
        return msgspec.json.decode(path.read_text("utf-8"), type=content)
    except (OSError, ValueError, RecursionError) as exc:
        raise _unusable(path, f"it is missing or damaged ({exc})") from exc


def load_version(folder: Path, task: str, version: str = "") -> TextModel:
    """Return the model in `folder`, loaded and checked; ModelError also if it is for another task than `task`."""
    model = TextModel.load(folder, version)
    if model.task != task:
        raise ModelError(f"{folder} holds a model for {model.task!r}, not for {task!r}")
    if task == "sentiment" and set(model.labels) != set(SENTIMENT_LABELS):
        raise ModelError(f"{folder} knows {', '.join(model.labels)}; sentiment needs {', '.join(SENTIMENT_LABELS)}")
    return model
