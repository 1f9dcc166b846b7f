"""Records of the topic `performance` that were not logged in the registry yet, read by a group of their own. Shell.

At most `MOST_WAITING` are in memory: no more is read until those are done with.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

from models.version_metrics import Measured
from monitoring.logged import metrics_of, place_of, tags_of
from streams.clients import kafka_client_config

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from config.sections import Kafka

log = structlog.get_logger()

MOST_WAITING: Final = 50
RECOMMIT_S = 3600.0
"""Kafka forgets a group that commits nothing for days; a registry may be away for longer."""
_KAFKA_S = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """What is logged of one performance record."""

    model: str
    version: str
    measured: Measured
    tags: Mapping[str, str]


class Unlogged:
    """From `begin` to `close` on one thread. Raises `KafkaException` where Kafka does not answer."""

    def __init__(self, kafka: Kafka) -> None:
        from confluent_kafka import Consumer

        self._topic = kafka.topics.performance
        self._partitions = kafka.partitions
        self._waiting: list[Window] = []
        self._next: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        self._committed_s = time.monotonic()
        self._consumer = Consumer(
            kafka_client_config(kafka)
            | {
                "group.id": f"{kafka.monitor_group}-registry",
                "enable.auto.commit": False,
                "queued.max.messages.kbytes": 4096,
            }
        )

    def begin(self) -> None:
        """Ask how far was logged, and go on there; a new group begins at the end, and says so at once."""
        from confluent_kafka import TopicPartition

        partitions = [TopicPartition(self._topic, p) for p in range(self._partitions)]
        committed = {tp.partition: tp.offset for tp in self._consumer.committed(partitions, timeout=_KAFKA_S)}
        for tp in partitions:
            low, end = self._consumer.get_watermark_offsets(tp, timeout=_KAFKA_S)
            known = committed[tp.partition]
            if known < 0:
                self._next[tp.partition] = end
            else:
                # Behind the end: the topic was made anew, and nothing of it was logged.
                self._next[tp.partition] = max(known, low) if known <= end else low
                self._committed[tp.partition] = known
        self.commit()
        self._consumer.assign([TopicPartition(self._topic, p, offset) for p, offset in self._next.items()])

    def read(self) -> list[Window]:
        """The windows that wait, after a look for more if none do."""
        if not self._waiting:
            for message in self._consumer.consume(MOST_WAITING, 0.0):
                at: Any = message  # its types allow what a record without an error never has
                if at.error() is None:
                    self._next[at.partition()] = at.offset() + 1
                    self._take(at.value(), at.offset())
        return self._waiting

    def done(self, windows: Iterable[Window]) -> None:
        """These wait no longer."""
        gone = set(windows)
        self._waiting = [w for w in self._waiting if w not in gone]

    def commit(self) -> None:
        """Note in Kafka how far all was logged; only while nothing waits."""
        found = {p: offset for p, offset in self._next.items() if self._committed.get(p) != offset}
        if found and not self._waiting:
            self._note(found)

    def keep(self) -> None:
        """Note again what was noted, if that is long ago."""
        if time.monotonic() - self._committed_s > RECOMMIT_S:
            self._note(self._committed)

    def close(self) -> None:
        """Let go of Kafka."""
        self._consumer.close()

    def _note(self, offsets: Mapping[int, int]) -> None:
        from confluent_kafka import TopicPartition

        self._consumer.commit(offsets=[TopicPartition(self._topic, p, o) for p, o in offsets.items()], asynchronous=False)
        self._committed |= offsets
        self._committed_s = time.monotonic()

    def _take(self, value: bytes | None, offset: int) -> None:
        try:
            record = msgspec.json.decode(value or b"", type=dict[str, Any])
            if "request_id" in record:  # a retrain request, which lies on the same topic
                return
            measured = Measured(metrics_of(record), *place_of(record))
            window = Window(str(record["model"]), str(record["version"]), measured, tags_of(record))
        except (msgspec.MsgspecError, LookupError, TypeError, ValueError, AttributeError) as e:
            log.warning(
                "not a performance record, passed over", topic=self._topic, offset=offset, error=f"{type(e).__name__}: {e}"
            )
            return
        self._waiting.append(window)
