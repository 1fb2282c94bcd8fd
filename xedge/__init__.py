"""Measure where a model should run: on the device, at the edge or in the cloud."""

import lazy_loader

__version__ = "0.1.0"

# The public names stand in __init__.pyi, once. Nothing is imported before it is used: `import xedge` starts nothing,
# configures no logging and loads neither torch nor onnxruntime.
_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    from xedge.core.extras import needed

    with needed("lab", f"xedge.{name}"):
        return _load(name)
