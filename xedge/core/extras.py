"""The optional packages: a missing one is an error that names the extra to install."""

from collections.abc import Iterator
from contextlib import contextmanager

from xedge.core.exceptions import MissingExtraError


@contextmanager
def needed(extra: str, what: str) -> Iterator[None]:
    """Say what needs which extra if an import inside the block finds no package.

    Args:
        extra: "edge", "lab" or "parquet", as in `pip install "xedge[lab]"`.
        what: what needs it, to begin the sentence with.

    Raises:
        MissingExtraError: a package is missing.
    """
    try:
        yield
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.partition(".")[0] == "xedge":
            raise
        raise MissingExtraError(
            f'{what} needs the package {exc.name}, which is not installed: pip install "xedge[{extra}]"'
        ) from exc
