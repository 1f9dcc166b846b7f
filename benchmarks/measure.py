"""One run of one contender: fed to its limit, then paced; figures taken, answers compared with the reference.

| part       | what happens                                         | what is taken                                        |
|------------|------------------------------------------------------|------------------------------------------------------|
| warm-up    | rows as fast as they are answered                    | nothing                                              |
| throughput | the same                                             | rows/s from the predictions topic, CPU per row       |
| commit     | wait until every offset is committed                 | that it happens                                      |
| paced      | 2,000 and 5,000 rows/s, some every 5 ms              | prediction's timestamp minus its row's               |
| check      | read back what the broker still holds                | that records and vectors are right, bit for bit      |

The embedded broker keeps the newest 5 MiB of a partition, so the producer is never more than some thousand rows of a
partition ahead of its predictions. It stores the timestamps producers give (CreateTime, milliseconds), so latency runs from
the row's `produce` to the prediction's: waiting in the row's producer is in it, waiting in the prediction's is not.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.contenders import command
from benchmarks.sending import Sender
from benchmarks.surroundings import BenchmarkFailed, Child, broker_process
from benchmarks.watch import Answered, Log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from benchmarks.contenders import Contender, Setup
    from benchmarks.job import Feed
    from benchmarks.reference import Reference
    from benchmarks.surroundings import Cores

SAMPLE = 2_500  # predictions compared a run, at least
_STALL_S = 60.0
_POLL_S = 0.002
_COMMIT_S = 15.0
_KEEPS_UP = 1.2  # a rate is only tried when this many times as much was answered


@dataclass(frozen=True, slots=True)
class Figures:
    """One run. `core_share`: part of its core the contender kept busy; below 1 it waited for the broker.

    Latency at 2,000 and 5,000 rows a second; None where that was not measured or the contender cannot keep up.
    """

    contender: str
    round: int
    rows_per_s: float
    us_per_row: float
    core_share: float
    rss_mb: float
    p50_ms: float | None
    p99_ms: float | None
    p50_ms_5000: float | None
    p99_ms_5000: float | None
    rows: int
    records_checked: int
    vectors_checked: int


@dataclass(frozen=True, slots=True)
class _Sample:
    at_s: float
    rows: int
    cpu_s: float


def run_once(
    contender: Contender,
    setup: Setup,
    feed: Feed,
    reference: Reference,
    *,
    where: Cores,
    number: int,
    folder: Path,
    python: Path | None = None,
    watch: Callable[[Child], object] | None = None,
) -> Figures:
    """Run a contender through all parts with a broker and a state folder of its own; raises `BenchmarkFailed`.

    `python`: the interpreter it runs with, None for this one; `watch`: called with its process when the measured rows begin.
    """
    folder.mkdir(parents=True)
    state = folder / "state"
    with broker_process(folder, core=where.broker, env=setup.env(state)) as servers:
        arguments = command(contender, setup, state=state, servers=servers)
        env = setup.env(state, servers, contender)
        log = Log(servers, setup.kafka().inference_group, setup.job.partitions)
        output = folder / f"{contender.name}.log"
        with Child(arguments, core=where.contender, log=output, env=env, python=python) as child:
            run = _Run(contender, setup, feed, child, log, servers)
            start, end = run.throughput(watch)
            rss_mb = child.peak_rss_mb()
            rows, wall_s, cpu_s = end.rows - start.rows, end.at_s - start.at_s, end.cpu_s - start.cpu_s
            latency = run.latencies(rows_per_s=rows / wall_s)
            records, vectors = run.check(reference)
        run.close()
        log.close()
    p50_ms, p99_ms = latency.get(2_000, (None, None))
    p50_ms_5000, p99_ms_5000 = latency.get(5_000, (None, None))
    return Figures(
        contender.name, number, rows / wall_s, 1e6 * cpu_s / rows, cpu_s / wall_s, rss_mb,
        p50_ms, p99_ms, p50_ms_5000, p99_ms_5000, rows, records, vectors,
    )  # fmt: skip


class _Run:
    def __init__(self, contender: Contender, setup: Setup, feed: Feed, child: Child, log: Log, servers: str) -> None:
        self._contender = contender
        self._job = setup.job
        self._topics = setup.kafka().topics
        self._child = child
        self._log = log
        self._in_frames = contender.wire_in == "frames"
        self._sender = Sender(feed, self._topics.features, servers=servers, in_frames=self._in_frames)
        self._answered = Answered(
            log,
            self._topics.predictions,
            servers=servers,
            partitions=setup.job.partitions,
            in_frames=contender.wire_out == "frames",
        )

    def throughput(self, watch: Callable[[Child], object] | None) -> tuple[_Sample, _Sample]:
        """Feed warm-up and measured rows; the samples between which the measured ones were answered.

        Until the first sample only half of the measured rows are sent, so that however late it is taken some are left to measure.
        """
        warm_up, total = self._contender.sized(self._job)
        before = (warm_up + total) // 2
        start: _Sample | None = None
        since, last = time.monotonic(), -1
        while True:
            done = self._answered.rows()
            now = _Sample(time.monotonic(), sum(done), self._child.cpu_s())
            if start is None and now.rows >= warm_up:
                start = now
                if watch is not None:
                    watch(self._child)
            if start is not None and now.rows >= total:
                return start, now
            if now.rows != last:
                since, last = now.at_s, now.rows
            self._check_progress(now, since, total)
            self._sender.top_up(done, rows=before if start is None else total)
            time.sleep(_POLL_S)

    def latencies(self, *, rows_per_s: float) -> dict[int, tuple[float, float]]:
        """Rows a second → (median, 99th percentile) in ms, for the rates that can be kept up with."""
        self._wait()
        if not self._contender.paced:
            return {}
        found = {}
        for rate, rows in self._job.paced:
            if rows_per_s >= _KEEPS_UP * rate:
                p50_ms, p99_ms = np.percentile(self._paced(rate, rows), [50, 99]).tolist()
                found[rate] = (p50_ms, p99_ms)
        return found

    def check(self, reference: Reference) -> tuple[int, int]:
        """Compare what is retained; how many records and vectors."""
        if sum(self._log.ends(self._topics.features_rejected)):
            raise BenchmarkFailed("rows were rejected")
        answered = self._answered.rows()
        if answered != self._sender.rows:
            raise BenchmarkFailed(f"sent {self._sender.rows} rows, found {answered} predictions")
        found = self._log.read(self._topics.predictions)
        try:
            sampled = self._sample(found)
            records = reference.check(sampled, in_frames=self._in_frames)
            logs = self._log.read(self._topics.inference_log) if self._contender.logs else []
            vectors = sum(reference.check_log(m.value()) for m in logs)
        except ValueError as e:
            raise BenchmarkFailed(str(e)) from e
        if records < min(SAMPLE, sum(answered)) or (self._contender.logs and not vectors):
            raise BenchmarkFailed(f"only {records} records and {vectors} logged vectors could be compared")
        return records, vectors

    def close(self) -> None:
        """Let go of connections."""
        self._answered.close()

    def _paced(self, rate: int, rows: int) -> list[int]:
        """Latency of each row in ms; those of the first second, or of a fifth of the time, are left out."""
        first = list(self._sender.rows)
        self._sender.paced(rows_per_s=rate, rows=rows)
        self._wait()
        settling = min(rate, rows // 5) // self._job.partitions
        sent = {(m.partition(), m.offset()): m.timestamp()[1] for m in self._log.read(self._topics.features, first)}
        answered = {}
        for m in self._log.read(self._topics.predictions, first):
            source = json.loads(m.value())["source"]
            answered[source["partition"], source["offset"]] = m.timestamp()[1]
        if sent.keys() != answered.keys() or not sent:
            raise BenchmarkFailed(f"{len(sent)} paced rows and {len(answered)} predictions do not match")
        return [answered[p, k] - at_ms for (p, k), at_ms in sent.items() if k >= first[p] + settling]

    def _sample(self, found: list[Any]) -> Iterator[tuple[int, dict[str, Any]]]:
        """At least `SAMPLE` of the records, evenly, with their partition; all rows of the frames that are looked at."""
        if self._contender.wire_out == "rows":
            _check_order((m.key(), json.loads(m.value())) for m in found)
            return ((m.partition(), json.loads(m.value())) for m in found[:: max(1, len(found) // SAMPLE)])
        from streams.prediction_frames import decode_predictions

        rows = [(m.partition(), record) for m in found for record in decode_predictions(m.value())]
        _check_order((record["symbol"].encode(), record) for _, record in rows)
        return iter(rows[:: max(1, len(rows) // SAMPLE)])

    def _check_progress(self, now: _Sample, since_s: float, total: int) -> None:
        self._child.check()
        if now.at_s - since_s > _STALL_S:
            raise BenchmarkFailed(f"no prediction for {_STALL_S:g} s, {now.rows} of {total}:\n{self._child.output()[-2_000:]}")

    def _wait(self) -> None:
        """Until every row sent is answered and, by those who commit, committed."""
        deadline = time.monotonic() + _COMMIT_S
        while True:
            answered, committed = self._answered.rows(), self._log.committed(self._topics.features)
            if answered == self._sender.rows and (not self._contender.commits or committed == sum(self._sender.records)):
                return
            self._child.check()
            if time.monotonic() > deadline:
                raise BenchmarkFailed(
                    f"{_COMMIT_S:g} s after the last row {sum(answered)} of {sum(self._sender.rows)} rows are answered, "
                    f"{committed} of {sum(self._sender.records)} offsets committed"
                )
            time.sleep(0.02)


def _check_order(records: Iterator[tuple[bytes, dict[str, Any]]]) -> None:
    """Raise `ValueError` unless every record has its symbol for a key and each symbol's event times only rise."""
    last: dict[str, int] = {}
    for key, record in records:
        symbol, event = record["symbol"], record["ts_event_us"]
        if key != symbol.encode() or event <= last.get(symbol, event - 1):
            raise ValueError(f"the prediction of {symbol} at {event} has key {key!r} and comes after {last.get(symbol)}")
        last[symbol] = event
