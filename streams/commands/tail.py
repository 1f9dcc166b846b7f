"""`trading-ml tail`: print the records of a topic as they come."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from operator import methodcaller
from typing import TYPE_CHECKING, Annotated, cast

import typer

from streams.commands.session import connected_settings, plain_errors

if TYPE_CHECKING:
    from collections.abc import Generator

    from confluent_kafka import Message

    from config import Topics
    from config.sections import Kafka

_POLL_S = 0.2
_ANSWER_S = 10.0


class Stream(StrEnum):
    """What can be tailed."""

    FEATURES = "features"
    PREDICTIONS = "predictions"
    SHADOW = "shadow"
    LOG = "log"
    OUTCOMES = "outcomes"
    ALERTS = "alerts"
    PERFORMANCE = "performance"
    TIMELINE = "timeline"
    REJECTED = "rejected"


def topic_of(stream: Stream, topics: Topics) -> str:
    """Name of the topic a stream is on."""
    others = {
        Stream.SHADOW: topics.predictions_shadow,
        Stream.LOG: topics.inference_log,
        Stream.TIMELINE: topics.model_timeline,
        Stream.REJECTED: topics.features_rejected,
    }
    return others[stream] if stream in others else str(getattr(topics, stream.value))


def tail(
    stream: Annotated[Stream, typer.Argument(help="What to print.")],
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="Begin with the oldest record kept.")] = False,  # noqa: FBT002 - a switch of the command line
    follow: Annotated[bool, typer.Option(help="Go on waiting at the end of the topic.")] = True,  # noqa: FBT002 - the same
    most: Annotated[int | None, typer.Option("--max", min=1, help="Stop after this many records.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print only the JSON, for programs.")] = False,  # noqa: FBT002 - the same
) -> None:
    """Print the records of a topic until Ctrl-C: time, partition:offset, key, and the value as JSON.

    Joins no consumer group and commits nothing. Arrow records (the inference log, predictions as frames) are decoded row
    by row; rejected records come with their reason.
    """
    with plain_errors():
        from streams.recordtext import record_lines

        kafka = connected_settings().kafka
        records = records_of(kafka, topic_of(stream, kafka.topics), from_beginning=from_beginning, follow=follow)
        try:
            for number, record in enumerate(records, 1):
                head = "" if as_json else _head(record)
                for line in record_lines(as_bytes(record.value()), headers_of(record)):
                    typer.echo(head + line)
                if number == most:
                    break
        except KeyboardInterrupt:
            pass
        finally:
            records.close()


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


def _head(record: Message) -> str:
    _, ts_ms = record.timestamp()
    when = datetime.fromtimestamp(ts_ms / 1000, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
    key = as_bytes(record.key()) or b""
    return f"{when}Z {record.partition()}:{record.offset()} {key.decode('utf-8', 'backslashreplace')} "


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
