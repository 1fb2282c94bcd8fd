"""The words of a page and what they mean, from glossary.json: the one home of the glossary.

`python -m xedge.reports.glossary` prints it as docs/glossary.md has it.
"""

import json
import re
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).with_name("glossary.json")


class Word(NamedTuple):
    """A word, what it is also called or seen in, and what it means."""

    word: str
    also: tuple[str, ...]
    meaning: str

    def occurs_in(self, text: str) -> bool:
        """Whether the word or another form of it stands in `text`, as a word of its own."""
        forms = ((form, 0 if form.isupper() else re.IGNORECASE) for form in (self.word, *self.also))
        return any(re.search(rf"(?<!\w){re.escape(form)}(?!\w)", text, flags) for form, flags in forms)


@cache
def words() -> tuple[Word, ...]:
    """Return all words in the order of the alphabet."""
    entries = json.loads(FILE.read_text(encoding="utf-8"))
    return tuple(Word(entry["word"], tuple(entry["also"]), entry["meaning"]) for entry in entries)


def words_in(text: str) -> list[Word]:
    """Return the words that occur in `text`."""
    return [word for word in words() if word.occurs_in(text)]


def as_markdown() -> str:
    """Return the whole glossary as a document.

    >>> as_markdown().splitlines()[0]
    '# Glossary'
    """
    about = "Words that a page or a table of xedge uses in a sense of its own. A page ends with those that occur on it."
    lines = [f"**{word.word}**: {word.meaning}" for word in words()]
    return "\n\n".join(["# Glossary", about, *lines]) + "\n"


if __name__ == "__main__":
    sys.stdout.write(as_markdown())
