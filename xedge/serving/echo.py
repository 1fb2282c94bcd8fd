"""The null service: its latency is what broker, loop, links and threads cost without any engine."""

from typing import Any

from xedge.serving.item import Item
from xedge.serving.loop import ServiceLoop


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
