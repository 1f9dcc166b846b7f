"""Far more rows than a worker can take: they wait in Kafka, and not in its memory."""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from monitoring.duckdb import MEMORY_MB
from tests.broker.inference_rows import PARTITIONS
from tests.broker.inference_world import registry
from tests.chaos.reading import Following
from tests.chaos.slow_worker import MARK
from tests.chaos.world import Result, Run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.chaos.workers import ChaosWorker
    from tests.chaos.world import Context

SLOW = ("tests.chaos.slow_worker",)
BURST_ROWS = 200_000
_PIECE = 2_000
_STEADY_S = 5.0
HELD_S = 8.0
"""The backlog stands so long before a worker that takes little of it: what it can fetch, it has fetched by then."""
HELD_MB = 72.0
"""Memory that a worker may gain by a backlog that it cannot take.

Of each partition one fetch is held, of 4 MiB at most (`consumer_max_fetch_size`), as bytes of the answer and as bytes of the
partition: 32 MiB with four. The batch that is being read has its records as objects beside its bytes, about twice as large, and
four chunks of 1,000 records are under way. The rest is what the allocator keeps. A worker that fetched on without a bound would
hold the burst: about 700 bytes a record, 140 MB.
"""
TAKEN_MB = 160.0
"""The same while it catches up: 50,000 records wait for Kafka's answer besides (`Outbox`), a kilobyte each."""
MORE_MB = {"a": (HELD_MB, TAKEN_MB), "m": (HELD_MB + MEMORY_MB, TAKEN_MB + MEMORY_MB)}
"""The monitor's warehouse may fill its memory too while the burst is taken in."""


class Memory:
    """Resident memory of workers in MB, the most since `mark`; a worker that was started again begins anew."""

    def __init__(self, workers: dict[str, ChaosWorker]) -> None:
        self._workers = workers
        self.most: dict[str, float] = {}

    def mark(self) -> dict[str, float]:
        """The most so far; forgotten from here on."""
        before, self.most = self.most, {}
        return before

    def sample(self) -> None:
        """Look once."""
        for name, worker in self._workers.items():
            self.most[name] = max(self.most.get(name, 0.0), _resident_mb(worker.process.pid))


def _resident_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:")), 0.0)


class _Burst:
    """A run whose workers' memory is looked at whenever it waits."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.memory = Memory(run.crew.workers)
        self.log = Following(run.names.servers, run.names.kafka.monitor_group, run.names.topics.inference_log)

    def wait(self, what: str, condition: Callable[[], bool], timeout_s: float = 180) -> None:
        """Wait for a condition."""

        def sampled() -> bool:
            self.memory.sample()
            return condition()

        self.run.crew.wait(what, sampled, timeout_s)

    def wait_for(self, seconds: float) -> None:
        """Let time pass."""
        until = time.monotonic() + seconds
        self.wait("time to pass", lambda: time.monotonic() >= until, seconds + 30)

    def write(self) -> float:
        """The burst, as fast as it can be written; how long that took."""
        began = time.monotonic()
        for _ in range(BURST_ROWS // _PIECE):
            self.run.feed.send(list(itertools.islice(self.run.rows, _PIECE)))
            self.memory.sample()
        self.run.feed.flush()
        self.run.result.faults += 1
        return time.monotonic() - began

    def judge(self, steady: Mapping[str, float], held: Mapping[str, float], taken: Mapping[str, float]) -> None:
        """Hold the most of each part against the steady level."""
        for name, what in (("a", "inference worker"), ("m", "monitor")):
            at_most = ", ".join(f"{x[name]:.0f} MB at most {when}" for x, when in ((held, "held up"), (taken, "catching up")))
            self.run.result.note(f"{what}: {steady[name]:.0f} MB at a steady flow, {at_most}")
            for most, more_mb, when in zip((held, taken), MORE_MB[name], ("held up", "catching up"), strict=True):
                grown = most[name] - steady[name]
                self.run.result.must(f"{what} {when}: at most {more_mb:g} MB more", hold=grown <= more_mb, found=grown)


def burst(context: Context) -> Result:
    """A steady flow, then as many rows as fast as can be written while the worker is held up; the monitor reads along."""
    title = f"{BURST_ROWS:,} rows at once, to a worker that is held up"
    if sys.platform != "linux":
        return Result("burst", context.seed, title=title, skipped="not run: memory is read as Linux tells it")
    # Labels are given up soon, so that the monitor's state stays as large as it is: its queues are what is looked at.
    settings = {"MLFLOW__TRACKING_URI": registry(), "INFERENCE__BATCH_SIZE": "1000", "MONITORING__LABEL_TIMEOUT": "600s"}
    with Run(context, "burst", settings=settings) as run:
        run.result.title = title
        run.crew.start("m", "monitor")
        slow = run.crew.start("a", command=SLOW).state / MARK
        run.begin()
        burst = _Burst(run)
        burst.wait_for(max(_STEADY_S, context.seconds / 8))
        burst.memory.mark()
        burst.wait_for(max(_STEADY_S, context.seconds / 8))
        steady = burst.memory.mark()
        if run.flow is not None:
            run.flow.stop()
        slow.touch()
        written_s = burst.write()
        burst.wait_for(HELD_S)
        ends = run.group.ends()
        behind = sum(ends.values()) - sum(run.group.committed().values())
        run.result.must("the backlog stands", hold=behind > BURST_ROWS / 2, found=behind)
        held = burst.memory.mark()
        slow.unlink()
        since = time.monotonic()
        burst.wait("the group caught up", run.group.past(ends))
        run.result.recoveries_s.append(time.monotonic() - since)
        burst.wait("the monitor caught up", burst.log.past())
        burst.log.close()
        run.result.must("nobody was started again", hold=not run.crew.exits, found=[e.last_line for e in run.crew.exits])
        burst.judge(steady, held, burst.memory.mark())
        run.result.note(
            f"{BURST_ROWS:,} rows in {written_s:.1f} s over {PARTITIONS} partitions; {behind:,} waited {HELD_S:g} s later"
        )
        return run.finish()
