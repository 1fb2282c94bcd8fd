"""What links do and what each does to a service: `result` has it in words, `figures` draws it."""

from xedge.studies.networks.result import Networks as Networks
from xedge.studies.networks.result import presets as presets
