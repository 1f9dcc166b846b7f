"""The producer of a run: rows or frames, as fast as they are answered or at a steady rate."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Producer

from benchmarks.job import FRAME_ROWS
from benchmarks.surroundings import BenchmarkFailed
from streams.clients import producer_rules
from streams.frames_out import FRAME_HEADERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.job import Feed

AHEAD: Final = 6_000
"""JSON rows of a partition that may be unanswered: the embedded broker keeps 5 MiB of it."""
FRAMES_AHEAD: Final = 24
_PACED_TICK_S: Final = 0.005


class Sender:
    """`rows` and `records` sent so far, by partition; as JSON rows both are the same."""

    def __init__(self, feed: Feed, topic: str, *, servers: str, in_frames: bool) -> None:
        self._feed = feed
        self._topic = topic
        self._in_frames = in_frames
        self._producer = Producer({"bootstrap.servers": servers, "log_level": 2, **producer_rules(linger_ms=1)})
        self._tick = 0
        self.rows = [0] * feed.job.partitions
        self.records = [0] * feed.job.partitions

    def top_up(self, done: Sequence[int], *, rows: int) -> None:
        """Send on, up to `rows` rows altogether, no further ahead of the rows answered by partition than is kept."""
        if self._in_frames:
            self._frames(done, rows)
        else:
            self._ticks(done, rows // self._feed.job.symbols)
        self._producer.poll(0)

    def paced(self, *, rows_per_s: int, rows: int) -> None:
        """Send the next rows at a steady rate, some every 5 ms."""
        ticks = range(self._tick, self._tick + rows // self._feed.job.symbols)
        wanted = [(p, m) for tick in ticks for p in range(len(self.rows)) for m in self._tick_of(p, tick)]
        each = max(1, round(rows_per_s * _PACED_TICK_S))
        begun = time.monotonic()
        for i, at in enumerate(range(0, len(wanted), each)):
            time.sleep(max(0.0, begun + i * _PACED_TICK_S - time.monotonic()))
            for p, m in wanted[at : at + each]:
                self._producer.produce(self._topic, m["value"], m["key"], p)
                self._count(p, 1)
            self._producer.poll(0)
        self._tick = ticks.stop
        self._producer.flush(10.0)

    def _ticks(self, done: Sequence[int], ticks: int) -> None:
        largest = max(len(s) for s in self._feed.symbols_of)
        ahead = max(sent - d for sent, d in zip(self.rows, done, strict=True))
        for _ in range(min(ticks - self._tick, max(0, (AHEAD - ahead) // largest))):
            for p in range(len(self.rows)):
                rows: list[Any] = self._tick_of(p, self._tick)
                if self._producer.produce_batch(self._topic, rows, partition=p) != len(rows):
                    raise BenchmarkFailed("the benchmark's own producer is full")
                self._count(p, len(rows))
            self._tick += 1

    def _frames(self, done: Sequence[int], rows: int) -> None:
        job = self._feed.job
        for p, symbols in enumerate(self._feed.symbols_of):
            last = rows // job.symbols * len(symbols)
            while self.rows[p] < last and self.rows[p] - done[p] < FRAMES_AHEAD * FRAME_ROWS:
                frame = self._feed.frames[p][self.records[p]]
                self._producer.produce(self._topic, frame, partition=p, headers=list(FRAME_HEADERS))
                self.rows[p] += min(FRAME_ROWS, last - self.rows[p])
                self.records[p] += 1

    def _count(self, partition: int, rows: int) -> None:
        self.rows[partition] += rows
        self.records[partition] += rows

    def _tick_of(self, partition: int, tick: int) -> list[dict[str, bytes]]:
        n = len(self._feed.symbols_of[partition])
        return self._feed.messages[partition][tick * n : (tick + 1) * n]
