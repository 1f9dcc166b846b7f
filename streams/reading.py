"""The records of a topic, read without a consumer group: for commands, and for what must be known of a topic at once. Shell."""

from __future__ import annotations

from operator import methodcaller
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Generator

    from confluent_kafka import Message

    from config.sections import Kafka

_POLL_S = 0.2
_ANSWER_S = 10.0


def records_of(kafka: Kafka, topic: str, *, from_beginning: bool, follow: bool) -> Generator[Message, None, None]:
    """The records of a topic's partitions as they come; without `follow` up to where they end now."""
    from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, TopicPartition

    from streams.clients import kafka_client_config
    from streams.errors import BrokerError, TopicError
    from streams.topics import existing_topics

    partitions = existing_topics(kafka, timeout_s=_ANSWER_S).get(topic)
    if partitions is None:
        raise TopicError(f"no topic {topic!r} at {kafka.bootstrap_servers}; run `trading-ml topics create`")
    config = kafka_client_config(kafka)
    # A group id is demanded even of a consumer that never joins one.
    consumer = Consumer(
        {
            **config,
            "group.id": f"{kafka.client_id}-tail",
            "enable.auto.commit": False,
            "log_level": 2,
            "enable.partition.eof": not follow,
            "fetch.wait.max.ms": round(kafka.fetch_max_wait.total_seconds() * 1000),
        }
    )
    try:
        start = OFFSET_BEGINNING if from_beginning else OFFSET_END
        consumer.assign([TopicPartition(topic, p, start) for p in range(partitions)])
        open_partitions = set(range(partitions))
        while follow or open_partitions:
            record = consumer.poll(_POLL_S)
            if record is None:
                continue
            error = record.error()
            if error is None:
                yield record
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name has the underscore
                open_partitions.discard(record.partition())
            elif not error.retriable():
                raise BrokerError(f"reading {topic!r}: {error.str()}")
    finally:
        consumer.close()


def as_bytes(data: object) -> bytes | None:
    """A key, value or header as bytes."""
    return data.encode() if isinstance(data, str) else data if isinstance(data, bytes) else None


_first_headers = methodcaller("headers")
"""Call it once a record, and not as a method of it.

confluent-kafka hands out a list with holes for a name that is not UTF-8, and an error beside it, which Python sees only when the
call goes this way; where it is not seen, and at a second call, the process dies of the holes.
"""


def headers_of(record: Message) -> list[tuple[str, bytes | None]]:
    """A record's headers; none where a name is not UTF-8, for then the client gives none of them."""
    try:
        pairs = cast("list[tuple[str, bytes | None]]", _first_headers(record) or [])
    except (UnicodeDecodeError, SystemError):
        return []
    return [(name, as_bytes(data)) for name, data in pairs]
