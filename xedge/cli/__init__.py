"""The `xedge` command: a face over the rooms, with no logic of its own."""

from xedge.cli.main import main

__all__ = ["main"]
