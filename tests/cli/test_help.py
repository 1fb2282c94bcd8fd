"""The help of every command: it ends with an example, and the example is a command that xedge takes."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator

import pytest

from xedge.cli.main import parser


def parsers(of: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield of
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from parsers(sub)


PARSERS = {one.prog: one for one in parsers(parser())}


def test_commands_are_found() -> None:
    assert {"xedge", "xedge init", "xedge report", "xedge serve", "xedge serve edge"} <= PARSERS.keys()


@pytest.mark.parametrize("prog", PARSERS)
def test_help_ends_with_an_example_that_is_one(prog: str) -> None:
    before, example = PARSERS[prog].format_help().rstrip("\n").split("\n")[-2:]
    assert before == "example:"
    words = shlex.split(example)
    assert words[: len(prog.split())] == prog.split()
    assert callable(parser().parse_args(words[1:]).command)


@pytest.mark.parametrize("prog", PARSERS)
def test_help_begins_with_a_sentence_that_fits_the_terminal(prog: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    text = {one.prog: one for one in parsers(parser())}[prog].format_help()
    assert max(map(len, text.partition("options:")[0].splitlines())) <= 60
