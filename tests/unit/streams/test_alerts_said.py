"""What the alerts topic says is never taken back, though after a crash the same rows come in another order."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np

from monitoring.alerts import rebuild
from tests.unit.streams.monitor_world import (
    COLUMNS,
    MINUTE_US,
    PARTITIONS,
    START_US,
    SYMBOLS,
    Market,
    Worker,
    cut,
    home,
    log_record,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.unit.streams.monitor_world import Placed

SEEDS = range(12)


class Faint(Market):
    """A drift that comes and goes, so faint that which rows a window has decides whether it fires."""

    def _stream(self) -> Iterator[Placed]:
        for bar in range(self.bars):
            ts = START_US + bar * MINUTE_US
            for partition in range(PARTITIONS):
                symbols = [s for s in SYMBOLS if home(s) == partition]
                vectors = self._rng.standard_normal((len(symbols), len(COLUMNS))) + (0.5 if bar // 15 % 2 else 0.0)
                record = log_record(symbols, ts, np.asarray(vectors), source_partition=partition)
                yield self.place("trading.inference-log", partition, None, record)


def killed(folder: Path, seed: int) -> tuple[Worker, set[str]]:
    """A worker killed after a checkpoint, that then took its backlog partition by partition; what it had decided by then."""
    rng = random.Random(seed)  # noqa: S311 - the same kills every time
    worker = Worker(folder)
    chunks = list(cut(Faint(bars=120).stream(), 10))
    kill = rng.randint(8, len(chunks) - 6)
    since = rng.randint(1, 4)
    for n, chunk in enumerate(chunks[:kill]):
        worker.feed(chunk)
        if n < kill - since:
            worker.checkpoint()
    decided = {event["event_id"] for watch in worker.handler._state.watches.values() for event in watch.unsaid}
    worker.restart()
    rest = [record for chunk in chunks[kill - since :] for record in chunk]
    first, backlog = rng.randrange(PARTITIONS), rest[:60]
    for part in (first, 1 - first):
        for chunk in cut([record for record in backlog if record[1] == part], 10):
            worker.feed(chunk)
            worker.checkpoint()
    for chunk in cut(rest[60:], 10):
        worker.feed(chunk)
        worker.checkpoint()
    return worker, decided


def test_what_was_said_is_the_state_and_no_incident_was_said_that_is_none(tmp_path: Path) -> None:
    taken_back = 0
    for seed in SEEDS:
        worker, decided = killed(tmp_path / str(seed), seed)
        said = worker.alerts()
        taken_back += bool(decided - {event["event_id"] for event in said})
        [watch] = worker.handler._state.watches.values()
        assert rebuild(said) == watch.alerts
        once = {event["event_id"]: event for event in said}.values()  # what was said just before the crash is said again
        assert all(event in once for event in said)
        for fingerprint in watch.alerts:
            times = [event["updated_us"] for event in once if event["fingerprint"] == fingerprint]
            assert times == sorted(set(times))
    assert taken_back > 0, "no crash here changed what was decided: the test proves nothing"


def test_what_was_durable_and_not_said_is_said_after_the_crash_once(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    for chunk in cut(Faint(bars=60).stream(), 10):
        worker.feed(chunk)
        worker.table.write(worker.handler.take_dirty())  # and dies before it says what this made durable
        unsaid = [event for watch in worker.handler._state.watches.values() for event in watch.unsaid]
        before = len(worker.alerts())
        worker.restart()
        worker.handler.say()
        assert worker.alerts()[before:] == unsaid
        worker.handler.say()
        assert len(worker.alerts()) == before + len(unsaid)
    assert worker.alerts()


def test_what_is_not_durable_is_not_said(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    for chunk in cut(Faint(bars=60).stream(), 10):
        worker.feed(chunk)
        worker.handler.take_dirty()  # a checkpoint that is refused: nothing of it is written
        worker.handler.say()
    assert worker.alerts() == []
