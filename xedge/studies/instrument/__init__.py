"""The instrument held against theory: stubs behind the real broker must be the queues M/D/1 and M/M/1.

`measuring` asks and measures, `exact` has the queues with the same draws, `result` judges, `figures` draws it.
"""

from xedge.studies.instrument.measuring import measure as measure
from xedge.studies.instrument.measuring import scenario as scenario
from xedge.studies.instrument.result import Check as Check
from xedge.studies.instrument.result import InstrumentCheck as InstrumentCheck
