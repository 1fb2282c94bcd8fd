"""Every public name of xedge and the module it lives in: lazy_loader reads this file, and so do type checkers."""

from .models.export import export as export
from .models.quantization import quantize as quantize
from .models.reference import build as build
from .reports.parameters import check_parameters as check_parameters
from .reports.publish import publish as publish
from .reports.sweeps import sweep as sweep
from .results.measurement import Measurement as Measurement
from .runs.scenario import Scenario as Scenario
from .scenario.arrivals import Bursty as Bursty
from .scenario.arrivals import Constant as Constant
from .scenario.arrivals import Poisson as Poisson
from .scenario.arrivals import Trace as Trace
from .scenario.columns import CsvReplay as CsvReplay
from .scenario.faults import Fault as Fault
from .scenario.link import GilbertElliott as GilbertElliott
from .scenario.link import Link as Link
from .scenario.placements import Cloud as Cloud
from .scenario.placements import Device as Device
from .scenario.placements import Edge as Edge
from .scenario.placements import External as External
from .scenario.service_times import Deterministic as Deterministic
from .scenario.service_times import Exponential as Exponential
from .scenario.sources import Noise as Noise
from .scenario.sources import Texts as Texts
from .scenario.sources import Vibration as Vibration
from .serving.broker import Broker as Broker
from .serving.services import CloudMLService as CloudMLService
from .serving.services import EdgeMLService as EdgeMLService

__version__: str
