"""Rows on their way to the warehouse: gathered while chunks are taken, stored before their offsets are committed. Shell.

A thread stores them in large batches while the next chunks are taken; it ends where nothing comes for a while.
`flush` is the barrier: what was gathered before is stored when it returns. Rows of a table keep their order.

A warehouse that refuses holds nothing up: rows wait as Arrow files in a folder of this worker, outlive a restart there,
and go in first once it takes rows again (unique keys make a repeat harmless). At most `most_rows` wait. Then `check`
raises, the worker ends with that one line before it takes another chunk, and goes on from there when started again with
the warehouse repaired. Nothing is dropped.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from monitoring.errors import WarehouseError
from monitoring.warehouse import BATCH_ROWS
from streams import metrics
from streams.warehouse_rows import joined

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import pyarrow as pa

    from monitoring.warehouse import Warehouse
    from streams.warehouse_rows import Part

log = structlog.get_logger()

MOST_WAITING_ROWS = 1_000_000
"""A prediction is two rows, one of them its vector: with 80 columns about 400 MB of files."""

RETRY_S = 10.0
"""Least time between two attempts at a warehouse that refused; an attempt may block."""

QUEUED_BATCHES = 4
"""Batches that may be queued; one more, and whoever gathers waits. A prediction is in one of each of two tables, which share
its memory: with 80 columns 4 batches are 30 MB."""

LINGER_S = 3.0
"""How long the thread waits for more. With each new one, allocators would take all memory from the system anew."""


@dataclass(slots=True)
class _Gathered:
    """Rows of a table that are not handed over yet."""

    parts: list[Part] = field(default_factory=list)
    rows: int = 0


@dataclass(frozen=True, slots=True)
class _Job:
    """What the thread does next: store these, as far as they fill batches, or with `all` everything it was given before."""

    gathered: Mapping[str, _Gathered]
    rows: int
    all: bool


class Store:
    """The way into the warehouse. Its methods are called from one thread."""

    def __init__(
        self,
        warehouse: Warehouse,
        folder: Path,
        *,
        clock: Callable[[], float],
        most_rows: int = MOST_WAITING_ROWS,
        batch_rows: int = BATCH_ROWS,
    ) -> None:
        """`folder`: where rows wait; `clock`: seconds, never going back; `batch_rows`: of one table, stored at once."""
        self._warehouse = warehouse
        self._folder = folder
        self._clock = clock
        self._most_rows = most_rows
        self._batch_rows = batch_rows
        self._gathered: defaultdict[str, _Gathered] = defaultdict(_Gathered)
        # Between the two threads, under the condition:
        self._moved = threading.Condition()
        self._queue: deque[_Job] = deque()
        self._queued_rows = 0
        self._handed = self._done = 0
        self._thread: threading.Thread | None = None
        self._working = self._closing = False
        self._failure: BaseException | None = None
        # The storing thread's while it works:
        self._rest: dict[str, pa.Table] = {}
        self._refused_at: float | None = None
        self._refusal = ""
        self._waiting: list[Path] = sorted(folder.glob("*.arrow"))
        self._next = 1 + max((_number(f) for f in self._waiting), default=0)
        self.waiting_rows = sum(_rows(f) for f in self._waiting)

    def add(self, table: str, rows: Part) -> None:
        """Gather rows of a table, with exactly its columns. Waits while too many are queued."""
        if not len(rows):
            return
        gathered = self._gathered[table]
        gathered.parts.append(rows)
        gathered.rows += len(rows)
        if gathered.rows >= self._batch_rows:
            del self._gathered[table]
            self._hand(_Job({table: gathered}, gathered.rows, all=False))

    def check(self) -> None:
        """Raise `WarehouseError` when as many rows wait as may, after one more attempt; and what went wrong in the thread."""
        self._raise()
        if self.waiting_rows < self._most_rows:
            return
        with self._moved:
            self._moved.wait_for(lambda: not self._working)
        self._raise()
        if self.waiting_rows >= self._most_rows and self._due():
            self._drain()
        if self.waiting_rows >= self._most_rows:
            raise WarehouseError(
                f"the warehouse takes no rows and {self.waiting_rows} wait in {self._folder}, at most {self._most_rows} may: "
                f"repair it and start the worker again, nothing is lost ({self._refusal or 'they waited before this start'})"
            )

    def flush(self) -> None:
        """Store what was gathered: in the warehouse, or on disk while that refuses."""
        self.wait(self.hand_over())

    def hand_over(self) -> int:
        """Have everything gathered stored, and go on; returns what `wait` takes."""
        gathered, self._gathered = self._gathered, defaultdict(_Gathered)
        return self._hand(_Job(gathered, sum(g.rows for g in gathered.values()), all=True))

    def wait(self, handed: int) -> None:
        """Return when all is stored that was gathered before this was handed over. May be called from another thread."""
        with self._moved:
            self._moved.wait_for(lambda: self._done >= handed or self._failure is not None)
        self._raise()

    def close(self) -> None:
        """Leave no thread behind. Rows that were not flushed are forgotten: their offsets are not committed."""
        with self._moved:
            self._done += len(self._queue)
            self._queue.clear()
            self._queued_rows = 0
            self._closing = True
            self._moved.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()
        self._closing = False
        self._gathered.clear()
        self._rest.clear()

    def _hand(self, job: _Job) -> int:
        with self._moved:
            most = QUEUED_BATCHES * self._batch_rows
            self._moved.wait_for(lambda: self._queued_rows < most or self._failure is not None)
            if self._failure is None:
                self._handed += 1
                self._queue.append(job)
                self._queued_rows += job.rows
                self._working = True
                if self._thread is None:
                    self._thread = threading.Thread(target=self._work, name="warehouse", daemon=True)
                    self._thread.start()
                self._moved.notify_all()
            handed = self._handed
        self._raise()
        return handed

    def _raise(self) -> None:
        # Rows of that job are gone: whoever went on would commit offsets of rows that are stored nowhere.
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        """The thread: everything queued, until nothing comes for a while."""
        try:
            while True:
                with self._moved:
                    if not self._queue:
                        self._working = False
                        self._moved.notify_all()
                        if not self._moved.wait_for(lambda: self._queue or self._closing, LINGER_S) or not self._queue:
                            self._thread = None
                            return
                    job = self._queue.popleft()
                self._store(job)
                with self._moved:
                    self._done += 1
                    self._queued_rows = max(0, self._queued_rows - job.rows)
                    self._moved.notify_all()
        except BaseException as e:  # noqa: BLE001  # raised again where it is waited for
            with self._moved:
                self._failure, self._working, self._thread = e, False, None
                self._queue.clear()
                self._moved.notify_all()

    def _store(self, job: _Job) -> None:
        for table, gathered in job.gathered.items():
            rest = [self._rest.pop(table)] if table in self._rest else []
            rows = joined(table, [*rest, *gathered.parts])
            filled = len(rows) // self._batch_rows * self._batch_rows
            for at in range(0, filled, self._batch_rows):
                self._put(table, rows.slice(at, self._batch_rows))
            if len(rows) > filled:
                self._rest[table] = rows.slice(filled)
        if not job.all:
            return
        while self._rest:
            table = next(iter(self._rest))
            self._put(table, self._rest[table])
            del self._rest[table]
        if self._due():
            self._drain()
        metrics.WAREHOUSE_WAITING.set(self.waiting_rows)

    def _put(self, table: str, rows: pa.Table) -> None:
        if not (self._due() and self._drain() and self._append(table, rows)):
            self._keep(table, rows)

    def _due(self) -> bool:
        return self._refused_at is None or self._clock() >= self._refused_at + RETRY_S

    def _drain(self) -> bool:
        """Store what waits, oldest first; False when the warehouse refuses."""
        import pyarrow as pa

        while self._waiting:
            file = self._waiting[0]
            with pa.ipc.open_file(file) as reader:
                rows = reader.read_all()
            if not self._append(_table(file), rows):
                return False
            file.unlink()
            del self._waiting[0]
            self.waiting_rows -= _rows(file)
        return True

    def _append(self, table: str, rows: pa.Table) -> bool:
        try:
            self._warehouse.append(table, rows)
        except WarehouseError as e:
            metrics.WAREHOUSE_FAILURES.inc()
            log.warning("warehouse refused rows, they wait on disk", table=table, waiting=self.waiting_rows, error=str(e))
            self._refused_at, self._refusal = self._clock(), str(e)
            return False
        self._refused_at = None
        return True

    def _keep(self, table: str, rows: pa.Table) -> None:
        import pyarrow as pa

        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / f"{self._next:012d}-{table}-{len(rows)}.arrow"
        begun = file.with_suffix(".begun")  # only a whole file has the name that a restart looks for
        with begun.open("wb") as out:
            with pa.ipc.new_file(out, rows.schema) as writer:
                writer.write_table(rows)
            out.flush()
            os.fsync(out.fileno())
        begun.rename(file)
        self._next += 1
        self._waiting.append(file)
        self.waiting_rows += len(rows)


def _number(file: Path) -> int:
    return int(file.name.split("-")[0])


def _table(file: Path) -> str:
    return file.name.split("-")[1]


def _rows(file: Path) -> int:
    return int(file.stem.split("-")[2])
