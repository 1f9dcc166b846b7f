"""`trading-ml tail`: print the records of a topic as they come."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from streams.commands.session import connected_settings, plain_errors
from streams.reading import as_bytes, headers_of, records_of

if TYPE_CHECKING:
    from confluent_kafka import Message

    from config import Topics


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


def _head(record: Message) -> str:
    _, ts_ms = record.timestamp()
    when = datetime.fromtimestamp(ts_ms / 1000, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
    key = as_bytes(record.key()) or b""
    return f"{when}Z {record.partition()}:{record.offset()} {key.decode('utf-8', 'backslashreplace')} "
