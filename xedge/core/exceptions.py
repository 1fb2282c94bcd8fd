"""The errors xedge raises, split by what the caller can do about them."""

from xedge.core.plain import printable


class XedgeError(Exception):
    """The base of every error that xedge raises on purpose."""


class ConfigurationError(XedgeError, ValueError):
    """A parameter, scenario or file holds an invalid value; the message says where and what to give."""


class MissingExtraError(ConfigurationError, ImportError):
    """An optional package is not installed: install the extra named."""


class TextError(ConfigurationError, TypeError):
    """Something that should be a text is not a str: drop or convert it first."""


class ModelError(XedgeError):
    """A model file cannot be used: build or export it again."""


class ModelNotFoundError(ModelError, FileNotFoundError):
    """There is no model file of that name: build it, or name another."""


class ParityError(ModelError):
    """ONNX Runtime and PyTorch give different answers for one set of weights: the export is wrong."""


class RegistryError(XedgeError):
    """The model registry gives no model that can be used; the message says what to do.

    `reason` is "unreachable" (the registry, or its store of files), "denied" (it refuses the user), "no model" (of that
    name), "no version" (of that number or alias), "corrupt" (the version's files) or "timeout" (loading took too long).
    """

    def __init__(self, message: str, reason: str = "unreachable") -> None:
        super().__init__(message)
        self.reason = reason


class BrokerError(XedgeError, ConnectionError):
    """No broker could be started or reached: start one, or name another."""


class ServiceError(XedgeError):
    """A service did not get ready, or broke: read its message."""


class RequestError(XedgeError, ValueError):
    """One message is not a request: a service answers it and counts it under `reason`.

    Of what the message quotes of its input only the beginning is kept: a refusal is never longer than what it refuses.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(printable(message))
        self.reason = reason


class MeasurementError(XedgeError):
    """Rows that do not make a measurement, or measurements that do not belong together."""


class InvalidTrialError(MeasurementError):
    """The trial ran, but its figures cannot be trusted; the message lists the reasons."""


class ReportError(XedgeError):
    """A notebook failed; the report shows the failing cell."""
