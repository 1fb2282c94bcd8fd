"""The services: an ONNX Runtime engine at the edge, a PyTorch engine in the cloud."""

import os
from typing import Any

from xedge.core.exceptions import ConfigurationError
from xedge.models.engines import Engine, OnnxEngine, TorchEngine
from xedge.models.lookup import model_path as find_model
from xedge.scenario.link import Link
from xedge.serving.inference import MLService


class EdgeMLService(MLService):
    """The edge tier: ONNX Runtime behind MQTT, by default with no link before it.

    Args:
        model_path: an .onnx file, or the name of a model in `models/`.
        broker_host: the broker's host name or address.
        broker_port: the broker's port.
        threads: ONNX Runtime's intra-op threads.
        loop: what every service takes: topic_prefix, uplink, downlink, compute_scale, service_time,
            servers, max_batch, qos, seed, max_payload_bytes.
    """

    def __init__(
        self,
        model_path: str | os.PathLike[str],
        broker_host: str = "localhost",
        broker_port: int = 1883,
        *,
        threads: int = 1,
        **loop: Any,
    ) -> None:
        super().__init__("edge", broker_host, broker_port, **loop)
        self.model_path, self._threads = model_path, threads

    def make_engine(self) -> Engine:
        """Load the .onnx file into ONNX Runtime."""
        return OnnxEngine(find_model(self.model_path, ".onnx"), threads=self._threads)


class CloudMLService(MLService):
    """The cloud tier: PyTorch behind MQTT and two links.

    Args:
        model_path: a .pt file, or the name of a model in `models/`.
        broker_host: the broker's host name or address.
        broker_port: the broker's port.
        cloud_latency_ms: constant delay of each direction that no link is given for.
        device: "cpu" or "cuda".
        threads: PyTorch's intra-op threads (of the whole process).
        uplink: what requests cross, instead of the constant delay.
        downlink: what results cross, instead of the constant delay.
        loop: what every service takes: topic_prefix, compute_scale, service_time, servers, max_batch,
            qos, seed, max_payload_bytes.
    """

    reports_links = True

    def __init__(
        self,
        model_path: str | os.PathLike[str],
        broker_host: str = "localhost",
        broker_port: int = 1883,
        cloud_latency_ms: float = 50.0,
        *,
        device: str = "cpu",
        threads: int = 1,
        uplink: Link | None = None,
        downlink: Link | None = None,
        **loop: Any,
    ) -> None:
        if device not in {"cpu", "cuda"}:
            raise ConfigurationError(f"device={device!r}: the cloud runs on 'cpu' or 'cuda'")
        constant = Link(delay_ms=cloud_latency_ms)
        super().__init__(
            "cloud",
            broker_host,
            broker_port,
            uplink=uplink or constant,
            downlink=downlink or constant,
            **loop,
        )
        self.model_path, self._device, self._threads = model_path, device, threads

    def make_engine(self) -> Engine:
        """Load the .pt file into PyTorch."""
        return TorchEngine(find_model(self.model_path, ".pt"), device=self._device, threads=self._threads)
