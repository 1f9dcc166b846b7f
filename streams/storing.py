"""Rows on their way to the warehouse: gathered while chunks are taken, stored before their offsets are committed. Shell.

A warehouse that refuses holds nothing up: rows wait as Arrow files in a folder of this worker, outlive a restart there,
and go in first once it takes rows again (unique keys make a repeat harmless). At most `most_rows` wait. Then `check`
raises, the worker ends with that one line before it takes another chunk, and goes on from there when started again with
the warehouse repaired. Nothing is dropped.
"""

from __future__ import annotations

import os
from collections import defaultdict
from typing import TYPE_CHECKING

import structlog

from monitoring.errors import WarehouseError
from streams import metrics

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pyarrow as pa

    from monitoring.warehouse import Warehouse

log = structlog.get_logger()

MOST_WAITING_ROWS = 1_000_000
"""A prediction is two rows, one of them its vector: with 80 columns about 400 MB of files."""

RETRY_S = 10.0
"""Least time between two attempts at a warehouse that refused; an attempt may block."""


class Store:
    """The way into the warehouse. One owner, one thread."""

    def __init__(
        self, warehouse: Warehouse, folder: Path, *, clock: Callable[[], float], most_rows: int = MOST_WAITING_ROWS
    ) -> None:
        """`folder`: where rows wait; `clock`: seconds, never going back."""
        self._warehouse = warehouse
        self._folder = folder
        self._clock = clock
        self._most_rows = most_rows
        self._gathered: defaultdict[str, list[pa.Table]] = defaultdict(list)
        self._refused_at: float | None = None
        self._refusal = ""
        self._waiting: list[Path] = sorted(folder.glob("*.arrow"))
        self._next = 1 + max((_number(f) for f in self._waiting), default=0)
        self.waiting_rows = sum(_rows(f) for f in self._waiting)

    def add(self, table: str, rows: pa.Table) -> None:
        """Gather rows of a table, with exactly its columns."""
        if len(rows):
            self._gathered[table].append(rows)

    def check(self) -> None:
        """Raise `WarehouseError` when as many rows wait as may, after one more attempt."""
        if self.waiting_rows >= self._most_rows and self._due():
            self._drain()
        if self.waiting_rows >= self._most_rows:
            raise WarehouseError(
                f"the warehouse takes no rows and {self.waiting_rows} wait in {self._folder}, at most {self._most_rows} may: "
                f"repair it and start the worker again, nothing is lost ({self._refusal or 'they waited before this start'})"
            )

    def flush(self) -> None:
        """Store what was gathered: in the warehouse, or on disk while that refuses."""
        import pyarrow as pa

        gathered, self._gathered = self._gathered, defaultdict(list)
        takes = self._due() and self._drain()
        for table, parts in gathered.items():
            rows = pa.concat_tables(parts)
            takes = takes and self._append(table, rows)
            if not takes:
                self._keep(table, rows)
        metrics.WAREHOUSE_WAITING.set(self.waiting_rows)

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
