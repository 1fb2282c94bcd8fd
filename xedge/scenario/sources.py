"""What requests contain: vibration signals, noise, or texts, drawn from a seed; `replay` has recorded inputs."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from xedge.core.config import Config, kind_of, read_csv
from xedge.core.exceptions import ConfigurationError
from xedge.core.extras import plugin
from xedge.scenario import vibration
from xedge.scenario.labels import as_labels

TEXT_COLUMNS = ("text", "title", "description")
POOL = 1000  # distinct inputs made for a trial; longer schedules draw from them again


class InputSpec(NamedTuple):
    """What one input of a model is: its shape without the batch axis, -1 for an axis of any length, and its dtype.

    `kind` says what is sent: "numbers", or what a kind of model of its own takes, as "text". `made_by` is what the
    model's card says makes its input of windows (`xedge.scenario.making`), if anything.
    """

    shape: tuple[int, ...]
    dtype: str
    kind: str = "numbers"
    made_by: str = ""


@runtime_checkable
class Source(Protocol):
    """What requests contain, as data: a `Config` registered with `kind_of(Source)`, its tag in the field `kind`.

    One that knows the truth offers `labels(n, seed)` too: the labels, as texts, of the n inputs of that seed, or None.
    """

    @property
    def makes(self) -> str:
        """The kind of inputs, "numbers" or "text"; it must be what the model takes."""

    def inputs(self, n: int, shape: Sequence[int], seed: int) -> Any:
        """Return n inputs: an array (n, *shape) of numbers, or a list of n texts; the same seed gives the same."""

    def as_dict(self) -> dict[str, Any]:
        """Return the data as plain JSON types."""


@kind_of(Source)
class Vibration(Config, frozen=True, kw_only=True, tag_field="kind", tag="vibration"):
    """Bearing vibration from the documented generator: raw windows, or the features taken from them."""

    makes = "numbers"

    def inputs(self, n: int, shape: Sequence[int], seed: int) -> NDArray[Any]:
        """Return n inputs (n, *shape) for a model that takes 32 features or windows of 1024 samples."""
        signals, _labels, drawn = _windows(n, seed)
        inputs = vibration.features(signals) if math.prod(shape) == len(vibration.FEATURE_NAMES) else signals
        if math.prod(shape) != inputs[0].size:
            raise ConfigurationError(
                f"the vibration source makes {len(vibration.FEATURE_NAMES)} features or windows of "
                f"{vibration.WINDOW_SAMPLES} samples, "
                f"the model takes {list(shape)}; give a file, as source='your.csv', or source=xedge.Noise()"
            )
        return inputs.reshape(len(inputs), *shape)[drawn]

    def labels(self, n: int, seed: int) -> list[str]:
        """Return the labels of these inputs: "1" is a damaged bearing, "0" a healthy one."""
        _signals, labels, drawn = _windows(n, seed)
        return [str(label) for label in labels[drawn].tolist()]


@lru_cache(maxsize=8)  # placements and labels of a replication share them
def _windows(n: int, seed: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.intp]]:
    """Return distinct windows, their labels, and which of them each of n inputs is."""
    rng = np.random.default_rng(seed)
    signals, labels = vibration.windows(max(min(n, POOL), 1), int(rng.integers(2**31)))
    return signals, labels, _drawn(len(signals), n, rng)


@kind_of(Source)
class Noise(Config, frozen=True, kw_only=True, tag_field="kind", tag="noise"):
    """Independent standard normal numbers of the model's shape: for a model whose time does not depend on its input.

    Args:
        shape: of one input; needed only for a model that takes inputs of any length.
    """

    shape: list[Annotated[int, Meta(ge=1)]] | None = None

    makes = "numbers"

    def inputs(self, n: int, shape: Sequence[int], seed: int) -> NDArray[Any]:
        """Return n inputs (n, *shape)."""
        drawn = self.shape or shape
        if min(drawn, default=1) < 0 or len(drawn) != len(shape):
            raise ConfigurationError(
                f"Noise: the model takes {list(shape)}, where -1 is any length: say one, as xedge.Noise(shape="
                f"{[abs(length) for length in shape]})"
            )
        rng = np.random.default_rng(seed)
        pool = rng.standard_normal((min(n, POOL), *drawn))
        return pool[_drawn(len(pool), n, rng)]


@kind_of(Source)
class Texts(Config, frozen=True, kw_only=True, tag_field="kind", tag="texts"):
    """Sentences for a text model: those that ship with xedge, or a CSV file's.

    Args:
        path: the file; by default the corpus of xedge's topic model.
        column: the column that holds the texts; by default `text`, `title` and `description`, those that are there.
        label: the column that holds the truth, one of the model's labels each.
    """

    path: str | None = None
    column: str | None = None
    label: str | None = None

    makes = "text"

    def inputs(self, n: int, shape: Sequence[int], seed: int) -> list[str]:  # noqa: ARG002 - a text has no shape
        """Return n texts drawn from the file without repeating one before all have been used."""
        return self._drawn(n, seed)[0]

    def labels(self, n: int, seed: int) -> list[str] | None:
        """Return the labels of these texts; None if no column holds them."""
        return self._drawn(n, seed)[1] if self.label else None

    def _drawn(self, n: int, seed: int) -> tuple[list[str], list[str]]:
        texts, labels = self._texts()
        order = np.resize(np.random.default_rng(seed).permutation(len(texts)), n).tolist()
        return [texts[k] for k in order], [labels[k] for k in order] if labels else []

    def _texts(self) -> tuple[Sequence[str], Sequence[str]]:
        if self.path is None:
            if self.label:
                raise ConfigurationError(f"Texts(label={self.label!r}): give the path of the file that has this column")
            return plugin("xedge.texts", "topic")(), []
        table = read_csv(self.path)
        if self.label and self.label not in table:
            raise ConfigurationError(f"{self.path} has no column {self.label}: it has {', '.join(table)}")
        names = [self.column] if self.column else [name for name in TEXT_COLUMNS if name in table]
        if not names or names[0] not in table:
            raise ConfigurationError(
                f"{self.path} has no column {self.column or ', '.join(TEXT_COLUMNS)}: it has {', '.join(table)}; "
                "name the one with the texts by column="
            )
        rows = table[names].fillna("").astype(str).to_numpy().tolist()
        texts = [" ".join(row).strip() for row in rows]
        if not any(texts):
            raise ConfigurationError(f"{self.path} holds no text in {', '.join(names)}")
        labels = as_labels(table[self.label], f"{self.path}, column {self.label}") if self.label else []
        return [text for text in texts if text], [label for text, label in zip(texts, labels, strict=False) if text]


def matching(source: Source | None, spec: InputSpec) -> Source:
    """Return `source`, or for None the one that suits the model.

    Raises:
        ConfigurationError: it makes texts and the model takes numbers, or the other way round.
    """
    if source is None:
        return Texts() if spec.kind == "text" else Vibration()
    if spec.kind == "text" and hasattr(source, "as_texts"):
        return source.as_texts()  # type: ignore[no-any-return]
    if source.makes != spec.kind:
        text = f"makes {source.makes}, the model takes {spec.kind}; give another source"
        raise ConfigurationError(f"source={type(source).__name__} {text}")
    return source


def _drawn(distinct: int, n: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Which of the distinct inputs each of n is: each in turn, or drawn at random where there are fewer than n."""
    return rng.integers(distinct, size=n) if n > distinct else np.arange(n)
