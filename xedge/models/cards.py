"""Model cards: what a model's files are, where they come from and whether they are still the same."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xedge.core.exceptions import ModelError
from xedge.core.files import file_sha256
from xedge.core.tables import html_table


@dataclass(frozen=True)
class ModelCard:
    """The card `models/NAME.json`: its path and its facts."""

    path: Path
    facts: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The model's name."""
        return str(self.facts["name"])

    @property
    def metrics(self) -> dict[str, float]:
        """What was measured on held-out data; empty if the card does not say."""
        return dict(self.facts.get("metrics") or {})

    def is_intact(self) -> bool:
        """Return whether both files of the model exist and are the ones the card was written for."""
        files = {suffix: self.path.with_name(f"{self.name}.{suffix}") for suffix in ("onnx", "pt")}
        return all(
            file.is_file() and file_sha256(file) == self.facts.get("sha256", {}).get(suffix)
            for suffix, file in files.items()
        )


class Cards(list[ModelCard]):
    """Model cards that show themselves as a table."""

    _COLUMNS = ("model", "architecture", "parameters", "input", "ROC-AUC", "accuracy", "max difference", "built")

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (
                card.name,
                str(card.facts["architecture"]),
                f"{card.facts['parameters']:,}",
                " × ".join(map(str, card.facts["input_shape"])),
                *(f"{card.metrics[key]:.3f}" if key in card.metrics else "" for key in ("roc_auc", "accuracy")),
                f"{card.facts['parity']['max_abs_difference']:.1e}",
                card.facts["created_utc"][:10]
                + (" (quick)" if (card.facts.get("training") or {}).get("quick") else ""),
            )
            for card in self
        ]

    def __repr__(self) -> str:
        rows = [self._COLUMNS, *self._rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(len(self._COLUMNS))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        )

    def _repr_html_(self) -> str:
        return html_table(self._COLUMNS, self._rows())


def read_card(path: Path) -> ModelCard:
    """Return the card in the file `path`.

    Raises:
        ModelError: there is no such file, or it is not a model card.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise ModelError(f"{path} is not a readable model card ({exc}): build or export the model again") from exc
    needed = {"name", "architecture", "parameters", "input_shape", "sha256", "parity", "created_utc"}
    if not isinstance(facts, dict) or not needed <= facts.keys():
        raise ModelError(f"{path} is not a model card: build or export the model again")
    return ModelCard(path, facts)
