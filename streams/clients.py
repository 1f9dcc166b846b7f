"""What our Kafka clients are configured with: one place that turns settings into librdkafka's names.

Shell. `murmur2_random` is the partitioner of Kafka's Java client and of Faust; librdkafka's own default puts three keys
of four on another partition, where they would not meet the rows they are joined with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from pydantic import SecretStr

    from config.sections import Kafka

Config: TypeAlias = dict[str, Any]
"""A librdkafka configuration: text, numbers, truth values, and functions for confluent-kafka's callbacks."""

MAX_RECORD_BYTES = 8 * 1024 * 1024
"""Largest record our producers send: an inference-log batch of 2,000 rows with a few hundred columns."""

MAX_QUEUE_BYTES = 256 << 20
"""What a producer holds unsent at most; librdkafka's own bound is 1 GiB. Small records are bounded by their number first.

A flood of refused records goes back as large as it came: then it is this that holds it back.
"""


class Hidden(str):
    """A secret in the form client libraries demand. Where a dictionary or an object that holds it is shown, it is not.

    >>> {"sasl.password": Hidden("hunter2")}
    {'sasl.password': '********'}
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'********'"


def plain(secret: SecretStr | None) -> Hidden | None:
    """The secret itself, for a client library."""
    return None if secret is None else Hidden(secret.get_secret_value())


def kafka_client_config(kafka: Kafka) -> Config:
    """Address, client id, encryption and login, as every librdkafka client takes them.

    Raises `AccessError` for certificates and keys that are not right.
    """
    security = kafka.security
    config: Config = {
        "bootstrap.servers": kafka.bootstrap_servers,
        "client.id": kafka.client_id,
        "security.protocol": security.protocol,
        "log.connection.close": False,  # brokers close idle connections as a matter of course
    }
    if security.encrypts:
        from streams.tls import believed, client_context

        client_context(security)  # says what is wrong in better words
        config["ssl.endpoint.identification.algorithm"] = "https"
        found = {
            "ssl.ca.location": believed(security),
            "ssl.certificate.location": security.certificate_file,
            "ssl.key.location": security.key_file,
        }
        config |= {name: str(value) for name, value in found.items() if value is not None}
        if (key_password := plain(security.key_password)) is not None:
            config["ssl.key.password"] = key_password
    if security.mechanism == "OAUTHBEARER":
        from streams.tokens import token_source

        source = token_source(security)
        config |= {"sasl.mechanism": security.mechanism, "oauth_cb": lambda _: source.token()}
    elif security.mechanism is not None:
        login = {
            "sasl.mechanism": security.mechanism,
            "sasl.username": security.username,
            "sasl.password": plain(security.password),
        }
        config |= {name: value for name, value in login.items() if value is not None}
    return config


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
        "queue.buffering.max.kbytes": MAX_QUEUE_BYTES // 1024,
    }
