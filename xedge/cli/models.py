"""The command that says which models are there."""

import argparse
from pathlib import Path

from xedge.cli.options import Adder


def add(command: Adder) -> None:
    """Add the command."""
    sub = command("models", models, "xedge models")
    sub.add_argument("folder", nargs="?", metavar="DIR", help="by default the project's models folder")


def models(arguments: argparse.Namespace) -> int:
    """List the models that are there: files, what one input is, origin, accuracy."""
    from xedge.core import paths
    from xedge.models import listing

    folder = Path(arguments.folder or paths.models_dir())
    listed = listing.list_models(folder)
    print(listed if listed else f"no model in {folder}: `xedge build` makes the reference models")
    return 0
