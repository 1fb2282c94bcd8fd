"""The services: an ONNX Runtime engine at the edge, a PyTorch engine in the cloud, and an echo without any engine."""

from typing import Any

from xedge.core.exceptions import ConfigurationError
from xedge.models.engines import Engine, OnnxEngine, TorchEngine
from xedge.models.engines.engine import PathLike
from xedge.models.lookup import cloud_file
from xedge.models.lookup import model_path as find_model
from xedge.scenario.link import Link
from xedge.serving.inference import MLService
from xedge.serving.loop import Item, ServiceLoop


class EdgeMLService(MLService):
    """The edge tier: ONNX Runtime behind MQTT, by default with no link before it.

    Args:
        model_path: an .onnx file, or the name of a model in `models/`.
        broker_host, broker_port: where the broker is; as `broker_host` a URL will do, such as `Broker.url`.
        loop: what every service takes: threads (the engine's), topic_prefix, uplink, downlink, compute_scale,
            service_time, servers, max_batch, max_queue, max_queue_mib, qos, seed, metrics_interval_s,
            max_payload_bytes.
    """

    def __init__(
        self, model_path: PathLike, broker_host: str = "localhost", broker_port: int = 1883, **loop: Any
    ) -> None:
        super().__init__("edge", broker_host, broker_port, **loop)
        self.model_path = model_path

    def make_engine(self) -> Engine:
        """Load the .onnx file into ONNX Runtime."""
        return OnnxEngine(find_model(self.model_path, ".onnx"), threads=self.threads)


class CloudMLService(MLService):
    """The cloud tier: PyTorch behind MQTT and two links.

    Args:
        model_path: a .pt file, or the name of a model in `models/`; one that has only .onnx is in ONNX Runtime.
        broker_host, broker_port: as in `EdgeMLService`.
        cloud_latency_ms: constant delay of each direction that no link is given for.
        device: "cpu" or "cuda".
        uplink, downlink: what requests and results cross, instead of the constant delay.
        loop: what every service takes, as in `EdgeMLService`; PyTorch's threads are those of the whole process.
    """

    reports_links = True

    def __init__(
        self,
        model_path: PathLike,
        broker_host: str = "localhost",
        broker_port: int = 1883,
        cloud_latency_ms: float = 50.0,
        *,
        device: str = "cpu",
        uplink: Link | None = None,
        downlink: Link | None = None,
        **loop: Any,
    ) -> None:
        if device not in {"cpu", "cuda"}:
            raise ConfigurationError(f"device={device!r}: the cloud runs on 'cpu' or 'cuda'")
        constant = Link(delay_ms=cloud_latency_ms)
        links: dict[str, Any] = {"uplink": uplink or constant, "downlink": downlink or constant}
        super().__init__("cloud", broker_host, broker_port, **links, **loop)
        self.model_path, self._device = model_path, device

    def make_engine(self) -> Engine:
        """Load the .pt file into PyTorch; of a model that has none, the .onnx file into ONNX Runtime."""
        file = cloud_file(self.model_path)
        if file.suffix == ".pt":
            return TorchEngine(file, device=self._device, threads=self.threads)
        if self._device != "cpu":
            raise ConfigurationError(f"device={self._device!r}: {file} has no .pt beside it: it runs on the CPU only")
        return OnnxEngine(file, threads=self.threads)


class EchoService(ServiceLoop):
    """No engine: sends every payload back to one device. Its latency is the noise floor of the arrangement."""

    def __init__(self, device_id: str, broker_host: str, broker_port: int, **loop: Any) -> None:
        super().__init__("echo", broker_host, broker_port, **loop)
        self._topic = self.topics.result(device_id)

    def accept(self, payload: bytes, read_ns: int) -> Item:
        """Take the payload as it is."""
        return Item(payload, len(payload), read_ns)

    def answer(self, item: Item, departed_ns: int) -> tuple[str, bytes]:  # noqa: ARG002 - an echo says nothing of time
        """Return the payload to the device."""
        return self._topic, item.request
