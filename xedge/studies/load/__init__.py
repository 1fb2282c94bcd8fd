"""How much load a placement takes: rates searched one by one until a deadline is missed.

`measuring` measures, `search` chooses the next rate, `limits` judges, `curve` tells, `figures` draws.
"""

from xedge.studies.load.curve import LoadCurve as LoadCurve
from xedge.studies.load.measuring import explore as explore
from xedge.studies.load.measuring import measure as measure
