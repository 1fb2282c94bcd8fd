"""What upper rooms and other packages register: objects found by name through entry points, imported when used."""

from functools import cache
from importlib.metadata import entry_points
from typing import Any

from xedge.core.exceptions import MissingExtraError


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
