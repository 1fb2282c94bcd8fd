"""What the tests of trials share."""

from __future__ import annotations

import os

import pytest
from helpers import children_of, wait_until, xedge_threads


@pytest.fixture
def nothing_is_left(tmp_path, monkeypatch, models):
    """Trials are kept in a project of the test's own; afterwards no child and no thread is more than before."""
    monkeypatch.setenv("XEDGE_HOME", str(tmp_path))
    (tmp_path / "models").symlink_to(models)
    children = children_of(os.getpid())
    yield
    wait_until(lambda: children_of(os.getpid()) <= children, "no child is left")
    wait_until(lambda: xedge_threads() == [], "no thread is left")
