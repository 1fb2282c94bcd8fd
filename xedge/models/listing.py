"""Which models are there: their files, what they take, where they come from and how good they are."""

from dataclasses import dataclass
from pathlib import Path

from xedge.core import paths
from xedge.core.exceptions import ModelError
from xedge.core.tables import TableList
from xedge.models.adopted import described
from xedge.models.lookup import SUFFIXES, models_in
from xedge.models.reference import ModelCard, read_card


@dataclass(frozen=True)
class Listed:
    """One model: its files with their sizes in bytes, what it takes, its origin, its figures on held-out data."""

    name: str
    files: dict[str, int]
    takes: str
    origin: str
    metrics: dict[str, float]


class Models(TableList[Listed]):
    """The models of a folder; shows itself as a table."""

    columns = ("model", "files, kB", "one input", "origin", "accuracy", "ROC-AUC")

    def cells(self, entry: Listed) -> tuple[str, ...]:
        """Return what the table says of one model."""
        files = ", ".join(f"{suffix} {-(-size // 1000)}" for suffix, size in entry.files.items())
        metrics = (f"{entry.metrics[key]:.3f}" if key in entry.metrics else "" for key in ("accuracy", "roc_auc"))
        return entry.name, files, entry.takes, entry.origin, *metrics


def list_models(folder: Path | None = None) -> Models:
    """Return the models in `folder`, by default the project's, sorted by name; those of text are in the registry."""
    where = paths.models_dir() if folder is None else Path(folder)
    return Models(_listed(where / name) for name in models_in(where))


def _listed(base: Path) -> Listed:
    files = [file for suffix in SUFFIXES[:2] if (file := base.parent / f"{base.name}{suffix}").is_file()]
    sizes = {file.suffix[1:]: file.stat().st_size for file in files}
    card_file = base.parent / f"{base.name}.json"
    try:
        card = read_card(card_file) if card_file.is_file() else ModelCard(card_file, described(files[0]))
    except ModelError as exc:
        return Listed(base.name, sizes, "", f"cannot be used: {exc}", {})
    facts = card.facts
    origin = facts.get("origin") or ("reference" if "recipe_sha256" in facts else "exported")
    changed = "" if card.is_intact() else ", but its files are not those of its card"
    shape = " × ".join("any" if length == -1 else str(length) for length in facts["input_shape"]) or "1"
    return Listed(base.name, sizes, f"{facts['input_dtype']} {shape}", f"{origin}{changed}", card.metrics)
