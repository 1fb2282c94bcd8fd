"""The errors xedge raises, split by what the caller can do about them.

XedgeError
├── ConfigurationError   (also ValueError)       a parameter, scenario or file says something wrong: change it
│   ├── MissingExtraError (also ImportError)     an optional package is not installed: install the extra named
│   └── TextError         (also TypeError)       a text is not a str: drop or convert it first
├── ModelError                                   a model file cannot be used: build or export it again
│   ├── ModelNotFoundError (also FileNotFoundError)  no such file: build it, or name another
│   └── ParityError                              the two engines disagree: the export is wrong
├── RegistryError                                no text model from the registry: the message says what to do
├── BrokerError          (also ConnectionError)  no broker could be started or reached: start one, or name another
├── ServiceError                                 a service did not get ready or broke: read its message
├── RequestError         (also ValueError)       one message is not a request: a service answers and counts it
├── MeasurementError                             rows that do not make a measurement, or do not belong together
│   └── InvalidTrialError                        the trial ran, but its figures cannot be trusted: read the reasons
└── ReportError                                  a notebook failed: the report shows the cell
"""


class XedgeError(Exception):
    """The base of every error that xedge raises on purpose."""


class ConfigurationError(XedgeError, ValueError):
    """A parameter, scenario or file holds an invalid value; the message says where and what to give."""


class MissingExtraError(ConfigurationError, ImportError):
    """An optional package is needed that is not installed."""


class TextError(ConfigurationError, TypeError):
    """Something that should be a text is not a str."""


class ModelError(XedgeError):
    """A model file cannot be used."""


class ModelNotFoundError(ModelError, FileNotFoundError):
    """There is no model file of that name."""


class ParityError(ModelError):
    """ONNX Runtime and PyTorch give different answers for one set of weights."""


class RegistryError(XedgeError):
    """The model registry gives no model that can be used.

    `reason` is "unreachable" (the registry, or its store of files), "denied" (it refuses the user), "no model" (of
    that name), "no version" (of that number or alias), "corrupt" (the version's files) or "timeout" (loading took
    too long).
    """

    def __init__(self, message: str, reason: str = "unreachable") -> None:
        super().__init__(message)
        self.reason = reason


class BrokerError(XedgeError, ConnectionError):
    """No broker could be started or reached."""


class ServiceError(XedgeError):
    """A service did not get ready, or broke."""


class RequestError(XedgeError, ValueError):
    """One message is not a request; `reason` is the word it is counted under."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class MeasurementError(XedgeError):
    """Rows that do not make a measurement, or measurements that do not belong together."""


class InvalidTrialError(MeasurementError):
    """The trial ran, but its figures cannot be trusted; the message lists the reasons."""


class ReportError(XedgeError):
    """A notebook failed; the report shows the failing cell."""
