"""Reading a cluster with confluent-kafka alone: whole topics, and how far groups have committed."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from tests.broker.inference_rows import PARTITIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


@dataclass(frozen=True, slots=True)
class Read:
    """One record of a topic."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]


def read_all(servers: str, topic: str, *, silence_s: float = 30) -> list[Read]:
    """All of a topic up to its end now, in order within each partition; fails when the broker is silent for long."""
    return sorted(_read(servers, topic, silence_s), key=lambda r: (r.partition, r.offset))


def _read(servers: str, topic: str, silence_s: float) -> Iterator[Read]:
    settings: dict[str, Any] = {"bootstrap.servers": servers, "group.id": "reader", "enable.auto.commit": False}
    settings["fetch.wait.max.ms"] = 10  # where a partition ends is said with an empty answer, for which the broker waits
    consumer = Consumer({**settings, "enable.partition.eof": True, "auto.offset.reset": "earliest"})
    partitions = consumer.list_topics(topic, timeout=20).topics[topic].partitions
    consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
    ended: set[int] = set()
    heard = time.monotonic()
    while len(ended) < len(partitions):
        if time.monotonic() > heard + silence_s:
            raise AssertionError(f"{topic}: nothing for {silence_s:g} s, read to the end of {sorted(ended)} only")
        for m in consumer.consume(1000, timeout=0.02):
            heard = time.monotonic()
            found: Any = m  # its types allow what a record without an error never has
            error = found.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                raise AssertionError(f"{topic}: {error}")
            if error is not None:
                ended.add(found.partition())
                continue
            headers = {str(k): bytes(v) for k, v in found.headers() or []}
            yield Read(found.partition(), found.offset(), found.key(), found.value(), headers)
    consumer.close()


class Following:
    """How far a group has committed a topic, seen from outside: asking does not join it. Close it when done."""

    def __init__(self, servers: str, group: str, topic: str) -> None:
        self._consumer = Consumer({"bootstrap.servers": servers, "group.id": group, "log_level": 2})
        self._topic = topic

    def ends(self, timeout_s: float = 30) -> Mapping[int, int]:
        """Each partition's end; asked again while a partition has no leader, or the metadata are old."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                return {p: self._end(p) for p in range(PARTITIONS)}
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
                with contextlib.suppress(KafkaException):  # a topic once found missing stays so in the client's memory
                    self._consumer.list_topics(self._topic, timeout=3)

    def _end(self, partition: int) -> int:
        end: int = self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition), timeout=3)[1]
        return end

    def committed(self, timeout_s: float = 10) -> Mapping[int, int]:
        """Each partition's committed offset, 0 for none."""
        found = self._consumer.committed([TopicPartition(self._topic, p) for p in range(PARTITIONS)], timeout=timeout_s)
        return {tp.partition: max(tp.offset, 0) for tp in found}

    def past(self, ends: Mapping[int, int] | None = None) -> Callable[[], bool]:
        """Whether the group has committed up to these ends, or to the end at that moment. A broker that is away: no."""

        def check() -> bool:
            try:
                goal, now = ends or self.ends(1), self.committed(3)
            except KafkaException:
                return False
            return all(now[p] >= goal[p] for p in goal)

        return check

    def moved(self) -> Callable[[], bool]:
        """Whether the group has committed more of every partition than it has at this moment."""
        before = self.committed()
        return lambda: all(now > before[p] for p, now in self.committed().items())

    def close(self) -> None:
        """Close its connections."""
        self._consumer.close()
