"""Throughput: workers held still while a topic is filled, then all let go at once.

Held still they cost nothing, so the broker's time for taking rows in is measured by itself; and no worker has a start that
another lacks. Time runs until the last row has its prediction, CPU time until the last offset is committed.
"""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from benchmarks.surroundings import BenchmarkFailed, cpu_s, memory_mb
from benchmarks.watch import Log
from benchmarks.workers.figures import spread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.workers.stage import Stage

MONITOR = "monitor"


def drain(stage: Stage, rows: int) -> dict[str, float]:
    """One drain of so many more rows; the workers run, and have taken all there is."""
    workers = stage.crew.workers.values()
    done = sum(stage.sender.rows)
    for worker in workers:
        worker.pause()
    broker = [stage.ground.broker_cpu_s()]
    rows = stage.fill(done + rows) - done
    broker.append(stage.ground.broker_cpu_s())
    written, cpu = stage.changelog_records(), stage.workers_cpu_s()
    begun = time.monotonic()
    for worker in workers:
        worker.resume()
    stage.wait_answered(done + rows)
    wall_s = time.monotonic() - begun
    stage.wait_committed()
    stage.check_answered(done + rows)
    broker.append(stage.ground.broker_cpu_s())
    return {
        "rows_per_s": rows / wall_s,
        "worker_us_per_row": 1e6 * (stage.workers_cpu_s() - cpu) / rows,
        "broker_in_us_per_row": 1e6 * (broker[1] - broker[0]) / rows,
        "broker_us_per_row": 1e6 * (broker[2] - broker[1]) / rows,
        "windows_per_row": (stage.changelog_records() - written) / rows,
    }


def warmed_up(stage: Stage, workers: int, rows: int) -> None:
    """Start so many workers and let them take rows that are not measured."""
    stage.start([f"w{i}" for i in range(workers)])
    stage.wait_answered(stage.fill(rows))
    stage.wait_committed()


def described(stage: Stage) -> dict[str, Any]:
    """Which case this is, and what its rows have come to: memory of a worker, bytes on disk for a row and for a window."""
    rows = sum(stage.sender.rows)
    written = stage.topic_bytes()
    return {
        "contender": stage.contender.name,
        "input": stage.contender.wire_in,
        "predictions": stage.contender.wire_out,
        "workers": len(stage.crew.workers),
        "symbols": stage.feed.job.symbols,
        "rss_mb": spread(stage.workers_mb(), 0),
        "largest_share": round(max(stage.sender.rows) / rows, 3),
        "bytes_per_row": {what: round(written[what] / rows, 1) for what in ("features", "predictions", "inference_log")},
        "bytes_per_window": round(written["changelog"] / stage.changelog_records(), 1),
    }


def summary(drains: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """The figures of one case's drains."""
    digits = {"rows_per_s": 0, "windows_per_row": 4}
    return {what: spread([d[what] for d in drains], digits.get(what, 2)) for what in drains[0]}


def monitored(stage: Stage) -> dict[str, float]:
    """One monitor takes the log that a stage has left behind; the inference workers are gone by then."""
    names = stage.names
    topic = names.topics.inference_log
    if stage.crew.workers:
        raise BenchmarkFailed("end the inference workers first")
    rows = sum(stage.sender.rows)
    log = Log(names.servers, names.kafka.monitor_group, names.kafka.partitions)
    before = stage.topic_bytes()["monitor_changelog"]
    monitor = stage.crew.start(MONITOR, "monitor", wipe=True)
    stage.wait("the monitor is ready", lambda: monitor.get("/readyz")[0] == HTTPStatus.OK)
    begun, cpu = time.monotonic(), cpu_s(monitor.process.pid)
    rss_mb = memory_mb(monitor.process.pid, "VmRSS")
    end = sum(log.ends(topic))
    stage.wait("the monitor has committed the log", lambda: log.committed(topic) >= end)
    found = {
        "rows_per_s": rows / (time.monotonic() - begun),
        "us_per_row": 1e6 * (cpu_s(monitor.process.pid) - cpu) / rows,
        "memory_bytes_per_row": 2**20 * (memory_mb(monitor.process.pid, "VmRSS") - rss_mb) / rows,
        "journal_bytes_per_row": (stage.topic_bytes()["monitor_changelog"] - before) / rows,
    }
    log.close()
    stage.crew.kill(MONITOR)
    return found
