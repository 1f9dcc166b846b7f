"""What the broker holds, seen from outside: how far a contender is, and its records once it is done."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, TopicPartition

from benchmarks.surroundings import BenchmarkFailed

if TYPE_CHECKING:
    from collections.abc import Sequence


class Log:
    """Topics read without joining the group."""

    def __init__(self, servers: str, group: str, partitions: int) -> None:
        self._consumer = _consumer(servers, group)
        self._partitions = partitions

    def ends(self, topic: str) -> list[int]:
        """End offset of each partition."""
        return [self._bounds(topic, p)[1] for p in range(self._partitions)]

    def committed(self, topic: str) -> int:
        """Offsets the group has committed, all partitions together."""
        wanted = [TopicPartition(topic, p) for p in range(self._partitions)]
        return sum(max(0, at.offset) for at in self._consumer.committed(wanted, timeout=10.0))

    def read(self, topic: str, starts: Sequence[int] | None = None) -> list[Any]:
        """All messages from these offsets on, or what is still there."""
        bounds = [self._bounds(topic, p) for p in range(self._partitions)]
        first = [max(low, at) for (low, _), at in zip(bounds, starts or [0] * self._partitions, strict=True)]
        left = sum(high - at for (_, high), at in zip(bounds, first, strict=True))
        self._consumer.assign([TopicPartition(topic, p, at) for p, at in enumerate(first)])
        found: list[Any] = []
        deadline = time.monotonic() + 20.0
        while len(found) < left:
            found += [m for m in self._consumer.consume(min(10_000, left - len(found)), 0.2) if m.error() is None]
            if time.monotonic() > deadline:
                raise BenchmarkFailed(f"only {len(found)} of {left} records of {topic} could be read back")
        self._consumer.unassign()
        return found

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()

    def _bounds(self, topic: str, partition: int) -> tuple[int, int]:
        found: tuple[int, int] = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10.0)
        return found


class Answered:
    """How many rows have their prediction, by partition: from end offsets, or by counting the rows of frames."""

    def __init__(self, log: Log, topic: str, *, servers: str, partitions: int, in_frames: bool) -> None:
        self._log = log
        self._topic = topic
        self._rows = [0] * partitions
        self._consumer: Consumer | None = None
        if in_frames:
            self._consumer = _consumer(servers, "benchmark-frames")
            self._consumer.assign([TopicPartition(topic, p, 0) for p in range(partitions)])

    def rows(self) -> list[int]:
        """Rows answered so far, by partition."""
        if self._consumer is None:
            return self._log.ends(self._topic)
        messages: list[Any] = self._consumer.consume(1_000, 0.001)
        for message in messages:
            if message.error() is not None:
                raise BenchmarkFailed(f"frames of predictions cannot be counted: {message.error()}")
            self._rows[message.partition()] += _rows_of(message.value())
        return list(self._rows)

    def close(self) -> None:
        """Let go of the connection."""
        if self._consumer is not None:
            self._consumer.close()


def _rows_of(frame: bytes) -> int:
    import pyarrow as pa

    with pa.ipc.open_stream(frame) as batches:
        return sum(batch.num_rows for batch in batches)


def _consumer(servers: str, group: str) -> Consumer:
    # The embedded broker holds an empty fetch for all of fetch.wait.max.ms, so a short wait is what makes counting prompt.
    return Consumer(
        {"bootstrap.servers": servers, "group.id": group, "enable.auto.commit": False, "fetch.wait.max.ms": 5, "log_level": 2}
    )
