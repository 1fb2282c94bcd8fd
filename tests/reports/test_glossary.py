"""The glossary has one home: the document is made from it, and a page shows the words that occur on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import saved_runs as runs
from bs4 import BeautifulSoup

from xedge.core.paths import project_root
from xedge.reports import glossary
from xedge.reports.page import page
from xedge.results.rows import PARTS


def terms(folder: Path, text: str) -> list[str]:
    new: Any = nbformat.v4
    notebook = new.new_notebook(cells=[new.new_markdown_cell(text)])
    facts = runs.facts("page", 50.0, "lte", headline=[], conclusion="", files=[], estimates={}, conditions={})
    soup = BeautifulSoup(page(notebook, facts | {"parameters": []}, folder), "html.parser")
    return [term.text for term in soup.select(".glossary dt")]


def test_the_document_is_made_from_the_file():
    assert (project_root() / "docs" / "glossary.md").read_text(encoding="utf-8") == glossary.as_markdown()


def test_every_part_and_verdict_is_explained_once():
    words = [word.word for word in glossary.words()]
    assert len(words) == len(set(words))
    assert set(words) >= {*PARTS, "VALID", "INVALID", "SATURATED", "noise floor", "slow episodes", "deadline"}
    assert words == sorted(words, key=str.lower)


def test_a_page_explains_the_words_on_it_and_no_others(tmp_path):
    found = terms(tmp_path, "The Jitter of the broker out, and p99; backlogs are none.")
    assert {"jitter", "broker out", "p50"} <= set(found)
    assert not {"backlog", "knee", "uplink", "utilisation"} & set(found)


def test_a_word_is_found_in_its_other_forms_but_not_inside_others():
    (late,) = (word for word in glossary.words() if word.word == "lateness")
    assert late.occurs_in("a late sender")
    assert not late.occurs_in("translated")
    (invalid,) = (word for word in glossary.words() if word.word == "INVALID")
    assert not invalid.occurs_in("an invalid value")
