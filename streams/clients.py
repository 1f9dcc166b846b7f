"""What our Kafka clients are configured with: one place that turns settings into librdkafka's names.

Shell. `murmur2_random` is the partitioner of Kafka's Java client and of Faust; librdkafka's own default puts three keys
of four on another partition, where they would not meet the rows they are joined with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from config.sections import Kafka

Config: TypeAlias = dict[str, str | int | float | bool]
"""A librdkafka configuration."""

MAX_RECORD_BYTES = 8 * 1024 * 1024
"""Largest record our producers send: an inference-log batch of 2,000 rows with a few hundred columns."""


def kafka_client_config(kafka: Kafka) -> Config:
    """Address, client id, encryption and login, as every librdkafka client takes them. Holds secrets: never log it."""
    security = kafka.security
    optional = {
        "sasl.mechanism": security.mechanism,
        "sasl.username": security.username,
        "sasl.password": None if security.password is None else security.password.get_secret_value(),
        "ssl.ca.location": security.ca_file,
        "ssl.certificate.location": security.certificate_file,
        "ssl.key.location": security.key_file,
        "ssl.key.password": None if security.key_password is None else security.key_password.get_secret_value(),
    }
    return {
        "bootstrap.servers": kafka.bootstrap_servers,
        "client.id": kafka.client_id,
        "security.protocol": security.protocol,
        "log.connection.close": False,  # brokers close idle connections as a matter of course
        **{name: str(value) for name, value in optional.items() if value is not None},
    }


def producer_config(kafka: Kafka, *, linger_ms: int = 5) -> Config:
    """A producer that loses, repeats and misplaces nothing: idempotent, acknowledged by all replicas, `murmur2_random`."""
    return kafka_client_config(kafka) | producer_rules(linger_ms=linger_ms)


def producer_rules(*, linger_ms: int = 5) -> Config:
    """The part of `producer_config` that does not depend on where Kafka is."""
    return {
        "partitioner": "murmur2_random",
        "acks": "all",
        "enable.idempotence": True,
        "linger.ms": linger_ms,
        "message.max.bytes": MAX_RECORD_BYTES,
    }
