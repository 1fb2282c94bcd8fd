"""Do services stay as they are over hours? Memory, descriptors, threads and latency at half of what they can do."""

from xedge.studies.soak.measuring import watch
from xedge.studies.soak.result import Soak

__all__ = ["Soak", "watch"]
