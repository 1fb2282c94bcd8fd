"""A consumer and a producer of librdkafka with the settings that the service needs, connected to a broker."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xedge.core.exceptions import BrokerError, ConfigurationError
from xedge.core.extras import needed

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Producer

log = logging.getLogger(__name__)


def connect(
    bootstrap_servers: str,
    group: str,
    settings: Mapping[str, Any],
    on_error: Callable[[KafkaError], None],
    timeout_s: float,
) -> tuple[Consumer, Producer]:
    """Return a consumer of `group` that commits nothing by itself, and an idempotent producer.

    Raises:
        BrokerError: no broker answers within `timeout_s`.
        ConfigurationError: a setting is none of librdkafka's.
    """
    with needed("kafka", "a Kafka consumer"):
        from confluent_kafka import Consumer, KafkaException, Producer
    shared = {"log.connection.close": False, **settings, "bootstrap.servers": bootstrap_servers}
    shared |= {"error_cb": on_error, "logger": _Logger()}
    reading = {"auto.offset.reset": "earliest"} | shared
    reading |= {"group.id": group, "enable.auto.commit": False, "enable.auto.offset.store": False}
    try:
        consumer, producer = Consumer(reading), Producer({"enable.idempotence": True} | shared)
    except KafkaException as exc:
        raise ConfigurationError(f"Kafka settings: {exc.args[0].str()}") from exc
    try:
        consumer.list_topics(timeout=timeout_s)
    except KafkaException as exc:
        consumer.close()
        raise BrokerError(
            f"no Kafka broker answers at {bootstrap_servers} within {timeout_s:g} s "
            f"({exc.args[0].str()}); is one running there?"
        ) from exc
    return consumer, producer


class _Logger:
    """Puts what librdkafka says of itself under our debug level: `error_cb` hears what matters."""

    def log(self, _level: int, *message: Any) -> None:
        log.debug(*message)


def settings_of(path: str | Path) -> dict[str, str]:
    """Return the librdkafka settings in a file of lines NAME=VALUE; lines that begin with # do not count.

    Raises:
        ConfigurationError: it cannot be read, or a line is no setting.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"Kafka settings: {path} cannot be read: {exc}") from exc
    settings = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if line and not line.startswith("#"):
            name, equals, value = line.partition("=")
            if not equals:
                raise ConfigurationError(f"Kafka settings: {path}, line {number} is not NAME=VALUE")
            settings[name.strip()] = value.strip()
    return settings
