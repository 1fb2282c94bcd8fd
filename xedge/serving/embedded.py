"""The embedded broker: amqtt on one loopback port, until it is ended."""

import asyncio
import sys
from typing import Any

MAX_PACKET_BYTES = 16 << 20


async def serve(port: int) -> None:
    """Serve MQTT on 127.0.0.1:`port`."""
    from amqtt.broker import Broker
    from amqtt.mqtt.packet import MQTTFixedHeader

    read_header = MQTTFixedHeader.from_stream

    async def limited(reader: Any) -> Any:
        """End a connection, as at its end, instead of taking in a packet over the limit, which amqtt has none of."""
        header = await read_header(reader)
        return header if header is None or header.remaining_length <= MAX_PACKET_BYTES else None

    MQTTFixedHeader.from_stream = limited
    listener = {"type": "tcp", "bind": f"127.0.0.1:{port}"}
    plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
    broker = Broker({"listeners": {"default": listener}, "plugins": plugins})
    await broker.start()
    await asyncio.get_running_loop().create_future()  # a SIGTERM ends the process: nothing is kept


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
