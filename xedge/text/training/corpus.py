"""Labelled texts for training: the corpus that ships with xedge, or any CSV of labels with titles or texts."""

import csv
import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import TextIO

from xedge.core.exceptions import ConfigurationError
from xedge.core.files import file_sha256
from xedge.text.labels import SENTIMENT_LABELS, TASKS
from xedge.text.registry.versions import check_task

HELD_OUT_EVERY = 5  # of a file without a column `split`, every fifth text is held out
_TEXT_COLUMNS = ("text", "title", "headline", "description", "content", "body")
_PARTS = {"train": False, "held_out": True, "test": True}


@dataclass(frozen=True)
class Corpus:
    """Texts with their labels, and which of them are held out of training; one row each.

    `bad_rows` says line and reason of each row that was left out, `duplicates` counts texts met before, and `conflicts`
    says line and labels of those that had another label before, which is kept. `columns` are those the texts were
    joined from, `ignored` the file's others.
    """

    source: str
    sha256: str
    texts: tuple[str, ...]
    labels: tuple[str, ...]
    held_out: tuple[bool, ...]
    split: str
    bad_rows: tuple[str, ...] = ()
    duplicates: int = 0
    conflicts: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The labels that occur, in the order of the task's own where it is one of those, else sorted."""
        labels = set(self.labels)
        return next((own for own in TASKS.values() if labels == set(own)), tuple(sorted(labels)))

    def part(self, held_out: bool) -> tuple[list[str], list[str]]:
        """Return the texts and labels to learn from, or those held out."""
        chosen = [out is held_out for out in self.held_out]
        return list(compress(self.texts, chosen)), list(compress(self.labels, chosen))


def shipped(task: str) -> Path:
    """Return the file of the corpus that ships with xedge; ConfigurationError if there is no such task."""
    return Path(__file__).with_name("data") / f"{check_task(task)}.csv"


def read(task: str, data: str | os.PathLike[str] | None = None, labels_column: str = "label") -> Corpus:
    """Return the labelled texts in a CSV file; by default the corpus that ships with xedge.

    The file is UTF-8 with a line of column names in any order and case: `labels_column` with the labels as words,
    and `text`, `title`, `headline`, `description`, `content` or `body`; those that are there are joined. A column
    `split` may say "train", "held_out" or "test" of each row; without it, every fifth text is held out, chosen by its
    own checksum, so that it stays held out when the file grows and a text never stands on both sides. Labels are
    brought to lower case. Rows that cannot be used are left out; the corpus says which, and which columns it used.

    Raises:
        ConfigurationError: no such file, a column is missing, more than 5 % of the rows are bad, fewer
            than two labels, too few rows of a label, or for "sentiment" other labels than its own three.
    """
    check_task(task)
    path = Path(data).expanduser() if data else shipped(task)
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            corpus = _read(file, task, path, labels_column.strip().lower())
    except OSError as exc:
        raise ConfigurationError(f"cannot read the data file {path}: {exc.strerror or exc}") from exc
    _check(corpus, task, path)
    return corpus


def _read(file: TextIO, task: str, path: Path, labels_column: str) -> Corpus:
    reader = _numbered(file, path)
    _, header, _ = next(reader, (0, [], ""))
    names = [name.strip().lower() for name in header]
    text_columns = [name for name in _TEXT_COLUMNS if name in names and name != labels_column]
    if labels_column not in names or not text_columns:
        raise ConfigurationError(
            f"{path}, line 1: the columns are {', '.join(header) or 'none'}; needed are {labels_column!r} for the "
            f"labels (labels_column= names another) and one or more of {', '.join(_TEXT_COLUMNS)}"
        )
    rows: dict[str, tuple[str, str, bool]] = {}
    bad: list[str] = []
    conflicts: list[str] = []
    count = 0
    for line, fields, problem in reader:
        count += 1
        row = dict(zip(names, (field.strip() for field in fields), strict=False))
        label, text = row.get(labels_column, "").lower(), _joined([row.get(name, "") for name in text_columns])
        if problem := problem or _problem(task, fields, names, label, text, row.get("split", "train")):
            bad.append(f"line {line}: {problem}")
            continue
        key = _key(text)
        _, before, _ = rows.setdefault(key, (text, label, _is_held_out(row.get("split"), key)))
        if before != label:
            conflicts.append(f"line {line}: a text labelled {label!r} here and {before!r} above")
    if len(bad) > 0.05 * count or not rows:  # then it is not the file that was meant
        reasons = "; ".join(bad[:10]) + (f"; and {len(bad) - 10} more" if len(bad) > 10 else "")
        raise ConfigurationError(f"{path}: {len(bad)} of {count} rows cannot be used: {reasons or 'there are no rows'}")
    texts, labels, held_out = zip(*rows.values(), strict=True)
    how = "column split" if "split" in names else f"every {HELD_OUT_EVERY}th text by its checksum"
    ignored = tuple(name for name in names if name not in (*text_columns, labels_column, "split"))
    duplicates = count - len(bad) - len(rows)
    return Corpus(
        path.name, file_sha256(path), texts, labels, held_out, how,
        tuple(bad), duplicates, tuple(conflicts), tuple(text_columns), ignored,
    )  # fmt: skip


def _joined(parts: list[str]) -> str:
    """Return title and description as one text, with a full stop between them where there is no sign."""
    filled = [part for part in parts if part]
    ended = [part if part[-1] in ".!?:…" else f"{part}." for part in filled[:-1]]
    return " ".join([*ended, *filled[-1:]])


def _numbered(file: TextIO, path: Path) -> Iterator[tuple[int, list[str], str]]:
    """Yield the line each row begins in, its fields, and what is wrong with it as CSV; blank lines are no rows."""
    reader = csv.reader(file, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as exc:
            if reader.line_num > line or "end of data" in str(exc):
                raise ConfigurationError(
                    f"{path}, line {line}: a quote that is opened here is not closed ({exc}): everything after it "
                    f"would be one field"
                ) from exc
            yield line, [], f"not CSV ({exc})"
            continue
        if fields:
            yield line, fields, ""


def _problem(task: str, fields: list[str], names: list[str], label: str, text: str, split: str) -> str:
    unknown = task == "sentiment" and label not in SENTIMENT_LABELS
    problems = {
        f"{len(fields)} fields in {len(names)} columns": len(fields) != len(names),
        "not UTF-8": any("\ud800" <= character <= "\udfff" for character in "".join(fields)),
        "no label": not label,
        f"the label {label!r} is not a word": not any(character.isalpha() for character in label),
        f"the label {label!r} is none of {', '.join(SENTIMENT_LABELS)}": unknown,
        f"split is {split!r}, not one of {', '.join(_PARTS)}": split.lower() not in _PARTS,
        "no text": not text,
    }
    return next((words for words, holds in problems.items() if holds), "")


def _is_held_out(split: str | None, key: str) -> bool:
    if split is not None:
        return _PARTS[split.lower()]
    # SHA-256, because crc32 is linear: of numbered texts it put none of one label on one side.
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) % HELD_OUT_EVERY == 0


def _key(text: str) -> str:
    """Return what two texts share that are the same but for case, blanks and signs."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = "".join(character if character.isalnum() else " " for character in folded).split()
    return " ".join(words) or text


def _check(corpus: Corpus, task: str, path: Path) -> None:
    names = corpus.names
    if len(names) < 2 or (task == "sentiment" and names != SENTIMENT_LABELS):
        needed = f"all of {', '.join(SENTIMENT_LABELS)}" if task == "sentiment" else "two or more"
        raise ConfigurationError(f"{path}: the labels are {', '.join(names)}; {task} needs {needed}")
    for held_out, what, fewest in ((False, "to learn from", 4), (True, "held out", 2)):
        counts = Counter(corpus.part(held_out)[1])
        if few := [f"{name} {counts[name]}" for name in names if counts[name] < fewest]:
            raise ConfigurationError(
                f"{path}: too few rows {what}: {', '.join(few)}; each label needs {fewest} ({corpus.split})"
            )
