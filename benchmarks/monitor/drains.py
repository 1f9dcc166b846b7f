"""The two workers in turn on one machine: each drains what was put there while it was held still, the other is still meanwhile.

| step      | runs      | until                                                       |
|-----------|-----------|-------------------------------------------------------------|
| fill      | nobody    | the broker has the rows                                     |
| inference | inference | every row has its prediction, every offset is committed     |
| outcomes  | nobody    | the broker has an outcome of every prediction, where wanted |
| monitor   | monitor   | it has taken every record, every offset is committed        |

Both have started and taken a warm-up before anything is timed. Time runs until the last prediction is out, and until the last
record of the log is taken; CPU time until the last offset is committed, so that the warehouse's part is in it.
"""

from __future__ import annotations

import contextlib
import json
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Producer

from benchmarks.job import BAR_US, START_US
from benchmarks.surroundings import BenchmarkFailed, cpu_s, memory_mb
from benchmarks.watch import Log
from benchmarks.workers.draining import MONITOR, drain, warmed_up
from streams.clients import producer_rules
from tests.broker.inference_world import metric

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.job import Feed
    from benchmarks.workers.stage import Stage
    from tests.chaos.workers import ChaosWorker

INFERENCE: Final = "w0"
_LOOK_S: Final = 0.05
"""How often the monitor is asked how far it is; an answer takes it a millisecond."""


class Race:
    """Both workers on a stage; `round` lets each drain so many more rows."""

    def __init__(self, stage: Stage, *, warm_up_rows: int, outcomes: bool) -> None:
        """Start both, and let them take rows that are not measured."""
        self._stage = stage
        self._topics = [stage.names.topics.inference_log, *([stage.names.topics.outcomes] if outcomes else [])]
        self._outcomes = Outcomes(stage.feed, stage.names.topics.outcomes, stage.names.servers) if outcomes else None
        self._log = Log(stage.names.servers, stage.names.kafka.monitor_group, stage.names.kafka.partitions)
        warmed_up(stage, 1, warm_up_rows)
        self._send_outcomes()
        monitor = stage.crew.start(MONITOR, "monitor", wipe=True)
        stage.wait("the monitor is ready", lambda: monitor.get("/readyz")[0] == HTTPStatus.OK)
        self._ready_mb = memory_mb(monitor.process.pid, "VmRSS")
        self._wait_committed()
        monitor.pause()

    def round(self, rows: int) -> dict[str, dict[str, float]]:
        """One drain of each."""
        with self._alone(INFERENCE):
            found = drain(self._stage, rows)
        inference = {"rows_per_s": found["rows_per_s"], "us_per_row": found["worker_us_per_row"]}
        self._send_outcomes()
        with self._alone(MONITOR) as monitor:
            return {"inference": inference, "monitor": self._monitored(monitor, rows)}

    def close(self) -> None:
        """Let go of the connections."""
        self._log.close()

    def _monitored(self, monitor: ChaosWorker, rows: int) -> dict[str, float]:
        pid, broker = monitor.process.pid, self._stage.ground.broker_cpu_s()
        before, end = cpu_s(pid), self._records()
        begun = time.monotonic()
        monitor.resume()
        self._stage.wait("the monitor has taken the log", lambda: _taken(monitor) >= end)
        wall_s = time.monotonic() - begun
        self._wait_committed()
        found = {
            "rows_per_s": rows / wall_s,
            "us_per_row": 1e6 * (cpu_s(pid) - before) / rows,
            "broker_us_per_row": 1e6 * (self._stage.ground.broker_cpu_s() - broker) / rows,
            "rss_mb": memory_mb(pid, "VmRSS"),
            "rss_ready_mb": self._ready_mb,
        }
        monitor.pause()
        return found

    def _send_outcomes(self) -> None:
        if self._outcomes is not None:
            sent = self._outcomes.send(sum(self._stage.sender.rows))
            topic = self._stage.names.topics.outcomes
            self._stage.wait("outcomes acknowledged", lambda: sum(self._log.ends(topic)) >= sent)

    def _records(self) -> int:
        return sum(sum(self._log.ends(topic)) for topic in self._topics)

    def _wait_committed(self) -> None:
        end = self._records()
        self._stage.wait("the monitor has committed", lambda: sum(self._log.committed(t) for t in self._topics) >= end)

    @contextlib.contextmanager
    def _alone(self, name: str) -> Iterator[ChaosWorker]:
        """Only this worker's crew member; the others are held still already, and not counted meanwhile."""
        workers = self._stage.crew.workers
        others = {n: w for n, w in workers.items() if n != name}
        for other in others:
            workers.pop(other).pause()
        try:
            yield workers[name]
        finally:
            workers.update(others)


class Outcomes:
    """The sender of one outcome a prediction."""

    def __init__(self, feed: Feed, topic: str, servers: str) -> None:
        self._feed = feed
        self._topic = topic
        self._producer = Producer({"bootstrap.servers": servers, "log_level": 2, **producer_rules(linger_ms=5)})
        self._ticks = 0
        self._sent = 0

    def send(self, rows: int) -> int:
        """Those of the rows sent so far, whole ticks; returns how many there are altogether."""
        ticks = rows // self._feed.job.symbols
        for tick in range(self._ticks, ticks):
            for partition, symbols in enumerate(self._feed.symbols_of):
                messages: list[Any] = [{"key": s.encode(), "value": outcome(self._feed, s, tick)} for s in symbols]
                if self._producer.produce_batch(self._topic, messages, partition=partition) != len(messages):
                    raise BenchmarkFailed("the benchmark's own producer is full")
                self._sent += len(messages)
            self._producer.flush(0.0 if tick % 100 else 20.0)
        self._ticks = max(self._ticks, ticks)
        self._producer.flush(20.0)
        return self._sent


def outcome(feed: Feed, symbol: str, tick: int) -> bytes:
    """What became of a symbol's row of this tick: something that its features have a little to do with."""
    at = START_US + tick * BAR_US
    value = round(float(feed.features_at(symbol, tick)[:3].sum()), 6)
    told = {"symbol": symbol, "ts_event_us": at, "horizon_us": BAR_US, "value": value, "ts_known_us": at + BAR_US, "revision": 0}
    return json.dumps(told).encode()


def ratios(rounds: Sequence[dict[str, dict[str, float]]]) -> list[float]:
    """The monitor's rows a second over the inference worker's, of each round.

    >>> ratios([{"inference": {"rows_per_s": 10.0}, "monitor": {"rows_per_s": 25.0}}])
    [2.5]
    """
    return [r["monitor"]["rows_per_s"] / r["inference"]["rows_per_s"] for r in rounds]


def counters_bytes(*, models: int, columns: int, cells: int, panes: int) -> int:
    """What the monitor keeps for drift however many rows go by: an int64 count of each model, column, cell and pane.

    >>> counters_bytes(models=1, columns=81, cells=14, panes=12)
    108864
    """
    return 8 * models * columns * cells * panes


def _taken(monitor: ChaosWorker) -> float:
    time.sleep(_LOOK_S)
    return metric(monitor.get("/metrics")[1], "trading_ml_rows_total", {"group": "monitor"})
