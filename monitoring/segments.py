"""Whole batches of a warehouse table as Parquet files, beside the DuckDB file. Shell.

A batch in DuckDB's own blocks costs four times the work: it is copied into a row group, copied again when that is
written, and each copy is memory the system has to clear first. As Parquet it is written once, as it is.

| file                                        | holds                                             |
|---------------------------------------------|---------------------------------------------------|
| `<table>-<number>-<first>-<last>.parquet`   | a batch, whole; its times are from first to last  |
| the same name with `.begun`                 | what was being written when the process was killed |

A file appears under its name at once and whole, on disk: what a name promises survives a power cut.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

_FEW_VALUES = ("symbol", "model", "version", "role", "reason", "spec_digest", "source_topic")
"""Columns in which the same few texts come again and again: a dictionary holds them. Of others it would be built in vain."""
_DIGITS = 12
_NAME = re.compile(rf"(?P<table>\w+)-(?P<number>\d{{{_DIGITS},}})-(?P<first>-?\d+)-(?P<last>-?\d+)\.parquet")


FOLDER = "warehouse_segments"
"""DuckDB's variable with the folder. A view knows but where it was when the view was made: read so, a copy of the warehouse
would show what the original got since, and one that was moved nothing. Where the variable is not set, it is that."""


class Segment(NamedTuple):
    """One file. `first`, `last`: bounds of its rows' order column, both inclusive."""

    file: Path
    first: int
    last: int


class Segments:
    """The files of all tables in one folder, which is made with the first of them. One process writes."""

    def __init__(self, folder: Path, *, writable: bool) -> None:
        """`writable`: also clear away what a killed process had begun.

        Raises `ValueError` when another Parquet file lies there: whoever reads the tables would read its rows as well.
        """
        self._folder = folder
        self._of: dict[str, list[Segment]] = {}
        self._next = 1
        if writable:
            for begun in folder.glob("*.begun"):
                begun.unlink()
        for file in sorted(folder.glob("*.parquet")):
            named = _NAME.fullmatch(file.name)
            if named is None:
                raise ValueError(f"{file} is no file of the warehouse; move it out of that folder")
            self._of.setdefault(named["table"], []).append(Segment(file, int(named["first"]), int(named["last"])))
            self._next = max(self._next, int(named["number"]) + 1)

    def of(self, table: str) -> list[Segment]:
        """The table's files, oldest first."""
        return self._of.get(table, [])

    def source(self, table: str) -> str | None:
        """The table's files, those to come as well, as SQL after FROM; None as long as there are none.

        A folder named like `version=3` is no partition: its value would take the place of the column.
        """
        if not self.of(table):
            return None
        folder = f"coalesce(getvariable('{FOLDER}'), {quoted(self._folder)})"
        return f"read_parquet({folder} || '/{table}-*.parquet', hive_partitioning = false)"

    def overlapping(self, table: str, first: int, last: int) -> list[str]:
        """Files that may hold rows of these times, bounds inclusive."""
        return [str(s.file) for s in self.of(table) if s.first <= last and s.last >= first]

    def write(self, table: str, rows: pa.Table, order: str) -> Segment:
        """Store rows, whose times are in the column `order` without nulls; on disk when this returns.

        Raises `OSError` when it cannot, and leaves nothing: what a full disk holds of a file would keep it full.
        """
        import pyarrow.compute as pc

        bounds = pc.min_max(rows[order]).as_py()
        name = f"{table}-{self._next:0{_DIGITS}d}-{bounds['min']}-{bounds['max']}.parquet"
        file = self._folder / name
        begun = file.with_suffix(".begun")
        if not self._folder.exists():
            self._folder.mkdir(parents=True)
            _sync(self._folder.parent)
        try:
            _write(begun, rows, order)
            begun.rename(file)
            _sync(self._folder)
        except BaseException:
            for left in (begun, file):
                with contextlib.suppress(OSError):
                    left.unlink()
            raise
        self._next += 1
        segment = Segment(file, bounds["min"], bounds["max"])
        self._of.setdefault(table, []).append(segment)
        return segment


def segments_in(folder: Path | None) -> Segments | None:
    """The files in the folder, to be written too; None where DuckDB could not read them, so that there are none.

    Raises `ValueError` when there are some.
    """
    if folder is None:
        return None
    if set("*?[") & set(str(folder)):  # a pattern: other folders' files would be read with them
        if folder.exists():
            raise ValueError(f"{folder} cannot be read by DuckDB, for its path has *, ? or [ in it")
        return None
    return Segments(folder, writable=True)


def quoted(path: Path) -> str:
    """The path as text in SQL."""
    return "'" + str(path).replace("'", "''") + "'"


def _write(file: Path, rows: pa.Table, order: str) -> None:
    import pyarrow.parquet as pq

    few = [name for name in _FEW_VALUES if name in rows.schema.names]
    with file.open("wb") as out:
        # LZ4 costs less than writing what it saves; statistics tell a reader which files to leave closed.
        pq.write_table(rows, out, compression="lz4", use_dictionary=few, write_statistics=[order])
        out.flush()
        os.fsync(out.fileno())
        if hasattr(os, "posix_fadvise"):  # seldom read again: the system's cache is for the broker and the tables
            os.posix_fadvise(out.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _sync(folder: Path) -> None:
    at = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(at)
    finally:
        os.close(at)
