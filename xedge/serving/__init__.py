"""Everything that answers over MQTT: messages, connection, the service loop, services, the broker, isolation.

May import `models`, `results`, `scenario` and `core`; never `reports`. What sends requests is in `runs`.
"""
