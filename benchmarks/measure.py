"""One run of one contender: fed to its limit, then paced; figures taken, answers compared with the reference.

| part       | what happens                                         | what is taken                                       |
|------------|------------------------------------------------------|-----------------------------------------------------|
| warm-up    | rows as fast as they are answered                    | nothing                                             |
| throughput | the same                                             | rows/s from the predictions topic's end, CPU per row |
| commit     | wait until every offset is committed                 | that it happens                                     |
| paced      | 2,000 rows/s, ten every 5 ms                         | prediction's timestamp minus its row's              |
| check      | read back what the broker still holds                | that records and vectors are right, bit for bit     |

The embedded broker keeps the newest 5 MiB of a partition, so the producer is never more than `AHEAD` rows of a partition
ahead of its predictions. It stores the timestamps producers give (CreateTime, milliseconds), so latency runs from the row's
`produce` to the prediction's: waiting in the row's producer is in it, waiting in the prediction's is not.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.contenders import Setup, command
from benchmarks.surroundings import BenchmarkFailed, Child, Cores, broker_process
from streams.clients import producer_rules

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.job import Feed
    from benchmarks.reference import Reference

AHEAD = 6_000
SAMPLE = 2_500  # predictions compared a run, at least
_STALL_S = 60.0
_POLL_S = 0.002
_PACED_TICK_S = 0.005


@dataclass(frozen=True, slots=True)
class Figures:
    """One run. `core_share`: part of its core the contender kept busy; below 1 it waited for the broker."""

    contender: str
    round: int
    rows_per_s: float
    us_per_row: float
    core_share: float
    rss_mb: float
    p50_ms: float
    p99_ms: float
    records_checked: int
    vectors_checked: int


@dataclass(frozen=True, slots=True)
class _Sample:
    at_s: float
    rows: int
    cpu_s: float


class _Log:
    """The broker's topics, seen from outside."""

    def __init__(self, servers: str, group: str, partitions: int) -> None:
        config: dict[str, Any] = {"bootstrap.servers": servers, "group.id": group, "enable.auto.commit": False, "log_level": 2}
        self._consumer = Consumer(config)
        self._partitions = partitions

    def ends(self, topic: str) -> list[int]:
        """End offset of each partition."""
        return [self._bounds(topic, p)[1] for p in range(self._partitions)]

    def committed(self, topic: str) -> int:
        """Offsets the group has committed, all partitions together."""
        wanted = [TopicPartition(topic, p) for p in range(self._partitions)]
        return sum(max(0, at.offset) for at in self._consumer.committed(wanted, timeout=10.0))

    def read(self, topic: str, starts: list[int] | None = None) -> list[Any]:
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
        self._consumer.close()

    def _bounds(self, topic: str, partition: int) -> tuple[int, int]:
        found: tuple[int, int] = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10.0)
        return found


def run_once(name: str, setup: Setup, feed: Feed, reference: Reference, *, where: Cores, number: int, folder: Path) -> Figures:
    """Run a contender through all parts with a broker and a state folder of its own; raises `BenchmarkFailed`."""
    folder.mkdir(parents=True)
    state = folder / "state"
    with broker_process(folder, core=where.broker, env=setup.env(state)) as servers:
        arguments = command(name, setup, state=state, servers=servers)
        kafka = setup.kafka()
        log = _Log(servers, kafka.inference_group, setup.job.partitions)
        with Child(arguments, core=where.contender, log=folder / f"{name}.log", env=setup.env(state, servers)) as child:
            run = _Run(setup, feed, child, log, servers)
            start, end = run.throughput()
            rss_mb = child.peak_rss_mb()
            latencies = run.paced()
            records, vectors = run.check(reference)
        log.close()
    rows, wall_s, cpu_s = end.rows - start.rows, end.at_s - start.at_s, end.cpu_s - start.cpu_s
    p50_ms, p99_ms = np.percentile(latencies, [50, 99]).tolist()
    return Figures(name, number, rows / wall_s, 1e6 * cpu_s / rows, cpu_s / wall_s, rss_mb, p50_ms, p99_ms, records, vectors)


class _Run:
    def __init__(self, setup: Setup, feed: Feed, child: Child, log: _Log, servers: str) -> None:
        self._job = setup.job
        self._topics = setup.kafka().topics
        self._feed = feed
        self._child = child
        self._log = log
        self._producer = Producer({"bootstrap.servers": servers, "log_level": 2, **producer_rules(linger_ms=1)})
        self._sent = [0] * setup.job.partitions
        self._tick = 0

    def throughput(self) -> tuple[_Sample, _Sample]:
        """Feed warm-up and measured rows; the samples between which the measured ones were answered."""
        job = self._job
        ticks = -(-(job.warm_up_rows + job.rows) // job.symbols)
        total = ticks * job.symbols
        start: _Sample | None = None
        since, last = time.monotonic(), -1
        while True:
            done = self._log.ends(self._topics.predictions)
            now = _Sample(time.monotonic(), sum(done), self._child.cpu_s())
            if start is None and now.rows >= job.warm_up_rows:
                start = now
            if start is not None and now.rows >= total:
                return start, now
            if now.rows != last:
                since, last = now.at_s, now.rows
            self._check_progress(now, since, total)
            self._send_ticks(done, ticks)
            self._producer.poll(0)
            time.sleep(_POLL_S)

    def paced(self) -> list[int]:
        """Send at a steady rate; the latency of each row in ms, the first second's left out."""
        self._wait_for_commit()
        job, first = self._job, list(self._sent)
        rows = [
            (p, m)
            for tick in range(self._tick, self._tick + job.paced_rows // job.symbols)
            for p in range(job.partitions)
            for m in self._tick_of(p, tick)
        ]
        each = max(1, round(job.paced_rows_per_s * _PACED_TICK_S))
        begun = time.monotonic()
        for i, at in enumerate(range(0, len(rows), each)):
            time.sleep(max(0.0, begun + i * _PACED_TICK_S - time.monotonic()))
            for p, m in rows[at : at + each]:
                self._producer.produce(self._topics.features, m["value"], m["key"], p)
                self._sent[p] += 1
            self._producer.poll(0)
        self._producer.flush(10.0)
        self._wait_for_commit()
        settling = min(job.paced_rows_per_s, job.paced_rows // 5) // job.partitions
        skip = [n + settling for n in first]
        sent = {(m.partition(), m.offset()): m.timestamp()[1] for m in self._log.read(self._topics.features, skip)}
        answered = {(m.partition(), m.offset()): m.timestamp()[1] for m in self._log.read(self._topics.predictions, skip)}
        if sent.keys() != answered.keys() or not sent:
            raise BenchmarkFailed(f"{len(sent)} paced rows and {len(answered)} predictions do not match")
        return [answered[place] - at_ms for place, at_ms in sent.items()]

    def check(self, reference: Reference) -> tuple[int, int]:
        """Compare what is retained; how many records and vectors."""
        if sum(self._log.ends(self._topics.features_rejected)):
            raise BenchmarkFailed("rows were rejected")
        if self._log.ends(self._topics.predictions) != self._sent:
            raise BenchmarkFailed(f"sent {self._sent} rows, found {self._log.ends(self._topics.predictions)} predictions")
        found = self._log.read(self._topics.predictions)
        step = max(1, len(found) // SAMPLE)
        try:
            records = reference.check((m.partition(), m.offset(), m.value()) for m in found[::step])
            vectors = sum(reference.check_log(m.value()) for m in self._log.read(self._topics.inference_log))
        except ValueError as e:
            raise BenchmarkFailed(str(e)) from e
        return records, vectors

    def _tick_of(self, partition: int, tick: int) -> list[dict[str, bytes]]:
        n = len(self._feed.symbols_of[partition])
        return self._feed.messages[partition][tick * n : (tick + 1) * n]

    def _send_ticks(self, done: list[int], ticks: int) -> None:
        largest = max(len(s) for s in self._feed.symbols_of)
        ahead = max(sent - d for sent, d in zip(self._sent, done, strict=True))
        for _ in range(min(ticks - self._tick, max(0, (AHEAD - ahead) // largest))):
            for p in range(self._job.partitions):
                rows: list[Any] = self._tick_of(p, self._tick)
                if self._producer.produce_batch(self._topics.features, rows, partition=p) != len(rows):
                    raise BenchmarkFailed("the benchmark's own producer is full")
                self._sent[p] += len(rows)
            self._tick += 1

    def _check_progress(self, now: _Sample, since_s: float, total: int) -> None:
        self._child.check()
        if now.at_s - since_s > _STALL_S:
            raise BenchmarkFailed(f"no prediction for {_STALL_S:g} s, {now.rows} of {total}:\n{self._child.output()[-2_000:]}")

    def _wait_for_commit(self) -> None:
        deadline = time.monotonic() + 15.0
        while (committed := self._log.committed(self._topics.features)) != sum(self._sent):
            self._child.check()
            if time.monotonic() > deadline:
                raise BenchmarkFailed(f"15 s after the last row {committed} of {sum(self._sent)} offsets are committed")
            time.sleep(0.02)
