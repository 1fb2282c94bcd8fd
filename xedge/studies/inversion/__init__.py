"""From which utilisation on a pooled cloud beats edge boxes, measured beside the exact theory.

`measuring` asks and measures, `result` says where the cloud begins to win, `figures` draws it.
"""

from xedge.studies.inversion.measuring import measure as measure
from xedge.studies.inversion.measuring import scenario as scenario
from xedge.studies.inversion.result import Inversion as Inversion
