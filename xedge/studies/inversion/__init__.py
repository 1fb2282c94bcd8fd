"""From which utilisation on a pooled cloud beats edge boxes, measured beside the exact theory."""

from xedge.studies.inversion.result import Inversion as Inversion
from xedge.studies.inversion.result import measure as measure
