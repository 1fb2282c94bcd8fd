"""What may or may not be installed: optional packages, and what upper rooms and other packages register."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from xedge.core.exceptions import MissingExtraError


@contextmanager
def needed(extra: str, what: str) -> Iterator[None]:
    """Say that `what`, the sentence's beginning, needs `extra` if an import inside the block finds no package.

    Raises:
        MissingExtraError: a package is missing; `extra` is as in `pip install "xedge[lab]"`.
    """
    try:
        yield
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.partition(".")[0] == "xedge":
            raise
        raise MissingExtraError(
            f'{what} needs the package {exc.name}, which is not installed: pip install "xedge[{extra}]"'
        ) from exc


@cache
def plugins(group: str) -> dict[str, Any]:
    """Return name -> object of every entry point in `group`, such as "xedge.model_kinds"."""
    return {point.name: point.load() for point in entry_points(group=group)}


def plugin(group: str, name: str) -> Any:
    """Return one registered object.

    Raises:
        MissingExtraError: nobody registered it: the package is not installed, only found on the path.
    """
    if name not in plugins(group):
        raise MissingExtraError(f"nothing is registered as {name} in {group}: install xedge with pip, as `make` does")
    return plugins(group)[name]
