"""How a model's input is made of the windows a source yields: by a name that the model's card gives."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray

from xedge.core.config import did_you_mean, listed
from xedge.core.exceptions import ConfigurationError
from xedge.scenario import vibration

Make = Callable[[NDArray[Any]], NDArray[Any]]


class Making(NamedTuple):
    """What makes inputs, shape (n, …), of windows, shape (n, *of)."""

    of: tuple[int, ...]
    make: Make


_MAKINGS = {"bearing_features": Making((vibration.WINDOW_SAMPLES,), vibration.features)}


def register_making(name: str, of: Sequence[int], make: Make) -> None:
    """Let cards say `"input_made_by": name`: `make` turns windows, shape (n, *of), into a model's inputs.

    It runs where requests are made, never in a service, and again under the same name replaces what was there.
    """
    _MAKINGS[name] = Making(tuple(of), make)


def making(name: str) -> Making:
    """Return what is registered under `name`.

    Raises:
        ConfigurationError: nothing is.
    """
    if name not in _MAKINGS:
        raise ConfigurationError(
            f"the model's card says that {name!r} makes its input, which is none of {listed(_MAKINGS)}"
            f"{did_you_mean(name, _MAKINGS)}; xedge.scenario.making.register_making adds one"
        )
    return _MAKINGS[name]
