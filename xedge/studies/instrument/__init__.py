"""The instrument held against theory: stubs behind the real broker must be the queues M/D/1 and M/M/1."""

from xedge.studies.instrument.result import Check as Check
from xedge.studies.instrument.result import InstrumentCheck as InstrumentCheck
from xedge.studies.instrument.result import measure as measure
