"""What requests contain: vibration signals, noise, or texts, drawn from a seed; `replay` has recorded inputs."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from xedge.core.config import Config, kind_of, read_csv
from xedge.core.exceptions import ConfigurationError
from xedge.core.extras import plugin
from xedge.scenario import vibration

TEXT_COLUMNS = ("text", "title", "description")
POOL = 1000  # distinct inputs made for a trial; longer schedules draw from them again


class InputSpec(NamedTuple):
    """What one input of a model is: its shape without the batch axis, -1 for an axis of any length, and its dtype.

    `kind` says what is sent: "numbers", or what a kind of model of its own takes, as "text".
    """

    shape: tuple[int, ...]
    dtype: str
    kind: str = "numbers"


@runtime_checkable
class Source(Protocol):
    """What requests contain, as data: a `Config` registered with `kind_of(Source)`, its tag in the field `kind`."""

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
        rng = np.random.default_rng(seed)
        signals, _labels = vibration.windows(max(min(n, POOL), 1), int(rng.integers(2**31)))
        inputs = vibration.features(signals) if math.prod(shape) == len(vibration.FEATURE_NAMES) else signals
        if math.prod(shape) != inputs[0].size:
            raise ConfigurationError(
                f"the vibration source makes {len(vibration.FEATURE_NAMES)} features or windows of "
                f"{vibration.WINDOW_SAMPLES} samples, "
                f"the model takes {list(shape)}; give a file, as source='your.csv', or source=xedge.Noise()"
            )
        return _draw(inputs.reshape(len(inputs), *shape), n, rng)


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
        return _draw(rng.standard_normal((min(n, POOL), *drawn)), n, rng)


@kind_of(Source)
class Texts(Config, frozen=True, kw_only=True, tag_field="kind", tag="texts"):
    """Sentences for a text model: those that ship with xedge, or a CSV file's.

    Args:
        path: the file; by default the corpus of xedge's topic model.
        column: the column that holds the texts; by default `text`, `title` and `description`, those that are there.
    """

    path: str | None = None
    column: str | None = None

    makes = "text"

    def inputs(self, n: int, shape: Sequence[int], seed: int) -> list[str]:  # noqa: ARG002 - a text has no shape
        """Return n texts drawn from the file without repeating one before all have been used."""
        texts = self._texts()
        order = np.random.default_rng(seed).permutation(len(texts))
        return [texts[k] for k in np.resize(order, n).tolist()]

    def _texts(self) -> Sequence[str]:
        if self.path is None:
            return plugin("xedge.texts", "topic")()  # type: ignore[no-any-return]
        table = read_csv(self.path)
        names = [self.column] if self.column else [name for name in TEXT_COLUMNS if name in table]
        if not names or names[0] not in table:
            raise ConfigurationError(
                f"{self.path} has no column {self.column or ', '.join(TEXT_COLUMNS)}: it has {', '.join(table)}; "
                "name the one with the texts by column="
            )
        rows = table[names].fillna("").astype(str).to_numpy().tolist()
        texts = [text for row in rows if (text := " ".join(row).strip())]
        if not texts:
            raise ConfigurationError(f"{self.path} holds no text in {', '.join(names)}")
        return texts


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


def _draw(pool: NDArray[Any], n: int, rng: np.random.Generator) -> NDArray[Any]:
    return pool[rng.integers(len(pool), size=n)] if n > len(pool) else pool[:n]
