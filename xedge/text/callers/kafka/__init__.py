"""Topic and sentiment of messages in Kafka: the consumer, how it delivers its answers, and librdkafka's settings."""

from xedge.text.callers.kafka.consumer import TextConsumer
from xedge.text.callers.kafka.settings import settings_of

__all__ = ["TextConsumer", "settings_of"]
