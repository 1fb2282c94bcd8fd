"""Topic and sentiment of messages in Kafka: the consumer with librdkafka's settings, and its replies."""

from xedge.text.callers.kafka.consumer import TextConsumer, settings_of

__all__ = ["TextConsumer", "settings_of"]
