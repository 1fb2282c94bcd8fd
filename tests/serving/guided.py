"""A target for coverage-guided fuzzing, `python guided.py CORPUS`: the first byte says where the rest is sent."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["xedge", "msgspec", "json"]):
    from fuzzed import Stepped

stepped = Stepped()


def one(data: bytes) -> None:
    """Give the service one message, on the topic that the first byte says."""
    topic = stepped.topics.ping if data[:1] < b"\x40" else stepped.topics.request
    stepped.step(topic, data[1:])


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
