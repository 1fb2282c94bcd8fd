"""What faults cost each placement, and how soon it is as before: `result` has it in words, `figures` draws it."""

from xedge.studies.faults.result import Resilience as Resilience
from xedge.studies.faults.result import in_turn as in_turn
