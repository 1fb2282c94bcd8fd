"""The commands `xedge registry list|promote|rollback`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from xedge.text.labels import TASKS

Adder = Callable[[str, Callable[[argparse.Namespace], int]], argparse.ArgumentParser]


def add_registry(command: Adder) -> None:
    """Add the commands; `command` makes a parser for a name and the function it runs."""
    sub = command("list", registry_list)
    sub.add_argument("task", nargs="?", choices=TASKS, metavar="TASK", help="topic or sentiment; by default both")
    _add_place(sub)
    sub = command("promote", registry_promote)
    sub.add_argument("task", choices=TASKS, metavar="TASK", help="topic or sentiment")
    sub.add_argument("version", type=int, metavar="VERSION", help="its number, as `xedge registry list` shows it")
    _add_place(sub)
    sub = command("rollback", registry_rollback)
    sub.add_argument("task", choices=TASKS, metavar="TASK", help="topic or sentiment")
    _add_place(sub)


def registry_list(arguments: argparse.Namespace) -> int:
    """List the versions of the text models, with their aliases and held-out accuracy."""
    from xedge.text.registry.registry import Registry

    registry = Registry(arguments.registry)
    print(f"model registry {registry.where}")
    rows = [("model", "version", "alias", "accuracy", "created (UTC)")]
    for task in [arguments.task] if arguments.task else TASKS:
        rows += [
            (
                one.name,
                one.version,
                ",".join(one.aliases),
                "" if one.accuracy is None else f"{one.accuracy:.3f}",
                f"{one.created:%Y-%m-%d %H:%M:%S}",
            )
            for one in registry.versions(task)
        ]
    if len(rows) == 1:
        print("no versions: train and register one with `make text` or `xedge report 09_train_text`")
        return 0
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def registry_promote(arguments: argparse.Namespace) -> int:
    """Put a version in production, after checking its files again."""
    from xedge.text.registry.registry import Registry

    return _tell(Registry(arguments.registry).promote(arguments.task, arguments.version))


def registry_rollback(arguments: argparse.Namespace) -> int:
    """Put the version in production that was so before the present one."""
    from xedge.text.registry.registry import Registry

    return _tell(Registry(arguments.registry).rollback(arguments.task))


def _tell(found: Any) -> int:
    print(f"{found.name}/{found.version} is in production")
    return 0


def _add_place(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--registry", metavar="URI", help="a folder or MLflow's URI; or MLFLOW_TRACKING_URI (models/registry)"
    )
