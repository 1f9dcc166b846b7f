"""The warehouse in one local DuckDB file, and in Parquet files beside it.

Rows that come in great number, and many at once, go as Parquet files into the folder `<file>.segments`
(`monitoring.segments`); all others into tables in the file. Of such a table the name is a view over both, so that whoever
opens the file finds it whole.

Shell. One process per file while one of them writes, or any number that only read: DuckDB locks it. Within the process,
threads read while one appends: every query has its own cursor and sees the last complete append.
"""

from __future__ import annotations

import threading
import weakref
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from monitoring.errors import WarehouseError
from monitoring.recent_keys import RecentKeys
from monitoring.segments import FOLDER, quoted, segments_in
from monitoring.warehouse import BATCH_ROWS, TABLES, ColumnType, Parameter, TableSpec, conform, table_spec, unique

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import duckdb
    import pyarrow as pa
    from numpy.typing import NDArray

    from monitoring.segments import Segments

_TYPES: dict[ColumnType, str] = {
    "string": "VARCHAR",
    "json": "VARCHAR",
    "int64": "BIGINT",
    "float64": "DOUBLE",
    "bool": "BOOLEAN",
    "float64[]": "DOUBLE[]",
    "string[]": "VARCHAR[]",
}

_GROUP_ROWS = BATCH_ROWS
"""Rows DuckDB puts into one group of a table in the file: a multiple of 2,048, as it must be."""

_NAME = "warehouse"
"""What the file is called among DuckDB's databases."""

_OPEN: weakref.WeakValueDictionary[Path, DuckDBWarehouse] = weakref.WeakValueDictionary()
"""Files this process has open. Opened once more, a file would lose its lock: the system's locks are the process's."""

_WAL_BEFORE_CHECKPOINT = "64MB"
"""At DuckDB's own 16 MB, one append in a few dozen stops for a checkpoint of 0.3 to 1 s."""

MEMORY_MB = 256
"""What DuckDB keeps of its file in memory at most. Unless told, it goes on until four fifths of the machine's are taken.

Blocks that are needed again are read again, and one append may be larger: it is written out as it comes.
"""


class DuckDBWarehouse:
    """The tables of `monitoring.warehouse` in the file at `path`, made where absent; `:memory:` keeps nothing.

    A file of an earlier release gets the columns it lacks, null in the rows it has.
    """

    def __init__(self, path: str | Path, read_only: bool = False) -> None:  # noqa: FBT001, FBT002  # as duckdb.connect has it
        """`read_only`: nothing is made or changed, and others may read the file at the same time.

        Raises `WarehouseError` when the file cannot be opened, because another process has it or because it is not there.
        """
        self.path = str(path)
        self._file = None if self.path == ":memory:" else Path(path).resolve()
        if self._file in _OPEN:
            raise WarehouseError(f"the warehouse {path} is open in this process already; use that one")
        if self._file is not None and not read_only:
            self._file.parent.mkdir(parents=True, exist_ok=True)
        self._connection = self._connected(read_only=read_only)
        if self._file is not None:
            _OPEN[self._file] = self
        self._folder = None if self._file is None else self._file.with_name(f"{self._file.name}.segments")
        self._writer = self._cursor()
        self._writing = threading.Lock()
        self._opening = threading.Lock()
        self._segments: Segments | None = None
        self._shown: set[str] = set()  # tables whose view has the files in it
        self._recent: dict[str, RecentKeys] = {}
        if not read_only:
            self._prepare()

    def _prepare(self) -> None:
        """Make what is not there yet, and see what is."""
        import duckdb

        try:
            self._segments = segments_in(self._folder)
            _make_tables(self._writer)
            self._recent = {name: self._remembered(name, spec) for name, spec in TABLES.items() if spec.bulk}
        except (duckdb.Error, OSError, ValueError) as e:
            self.close()
            raise WarehouseError(_refusal(self.path, e)) from e

    def _remembered(self, table: str, spec: TableSpec) -> RecentKeys:
        """What is known of the keys of a table that was there already: they are older than the newest of them."""
        self._show(table)
        found = self._writer.execute(f"SELECT max({spec.order}) FROM {_stored(table)}").fetchall()  # noqa: S608  # names from TABLES
        newest = [at for (at,) in found if at is not None]
        newest += [] if self._segments is None else [segment.last for segment in self._segments.of(table)]
        return RecentKeys(older=max(newest, default=None))

    def _show(self, table: str) -> None:
        """Make the view that shows a table whole."""
        columns = ", ".join(f'"{name}"' for name in TABLES[table].columns)
        shown = f"SELECT {columns} FROM {_stored(table)}"  # noqa: S608  # names from TABLES
        files = None if self._segments is None else self._segments.source(table)
        more = "" if files is None else f" UNION ALL SELECT {columns} FROM {files}"  # noqa: S608  # the same
        self._writer.execute(f"CREATE OR REPLACE VIEW {table} AS {shown}{more}")
        self._shown |= {table} if more else set()

    def _connected(self, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        """A connection with the file attached, which takes rows in groups of `_GROUP_ROWS`.

        A group that is not full yet is compressed and written again at every checkpoint; DuckDB's own have 122,880 rows.
        """
        import duckdb

        connection = duckdb.connect()
        try:
            # As a connect option the time zone needs an extension that is fetched from the network; as a statement it does not.
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(f"SET memory_limit = '{MEMORY_MB}MiB'")
            if self._file is not None:
                # What does not fit goes beside the file, as where DuckDB itself opens it, not into the current folder.
                connection.execute("SET temp_directory = $at", {"at": f"{self._file}.tmp"})
            if not read_only:
                connection.execute("SET threads = 1")  # appends take a third more with two, and all the machine's with all
                connection.execute(f"SET wal_autocheckpoint = '{_WAL_BEFORE_CHECKPOINT}'")
            how = "READ_ONLY" if read_only else f"ROW_GROUP_SIZE {_GROUP_ROWS}"
            file = self.path.replace("'", "''")
            connection.execute(f"ATTACH '{file}' AS {_NAME} (TYPE duckdb, {how})")
            connection.execute(f"USE {_NAME}")
        except duckdb.Error as e:
            connection.close()
            raise WarehouseError(_refusal(self.path, e)) from e
        return connection

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        cursor = self._connection.cursor()
        cursor.execute(f"USE {_NAME}")  # a cursor does not take that over, nor the variable
        if self._folder is not None:
            cursor.execute(f"SET VARIABLE {FOLDER} = {quoted(self._folder)}")
        return cursor

    def append(self, table: str, rows: pa.Table | pa.RecordBatch) -> int:
        """Store the rows whose key is not stored yet, all or none of them; returns how many those were.

        Uniqueness is kept under a lock, which holds because one process owns the file. A primary key would hold too, but its
        index makes appends slower as the table grows; what is asked here lies at the times in hand, so the cost stays.
        """
        import duckdb

        spec, fresh = table_spec(table), conform(table, rows)
        if not len(fresh):
            return 0
        with self._writing:
            try:
                store = self._append_bulk if table in self._recent else self._insert
                return store(table, spec, fresh)
            except (duckdb.Error, OSError) as e:
                raise WarehouseError(f"DuckDB at {self.path} refused {len(fresh)} rows for table {table!r}: {e}") from e

    def _append_bulk(self, table: str, spec: TableSpec, fresh: pa.Table) -> int:
        import pyarrow.compute as pc

        order = str(spec.order)
        first, last = pc.min_max(fresh[order]).as_py().values()
        if first is None:  # no row has a time
            return self._insert(table, spec, fresh)
        hashes, recent = self._hashes(spec, fresh), self._recent[table]
        segments = None if len(fresh) < BATCH_ROWS or fresh[order].null_count else self._segments  # a file's name says its times
        new = segments is not None and recent.new(hashes, first=first, last=last)
        # Before they are stored: where storing fails half-way, a repeat has to look at what is there.
        recent.add(hashes, first=first, last=last)
        if segments is not None and not new:
            fresh = self._unstored(table, spec, fresh)
        if segments is None or len(fresh) < BATCH_ROWS // 2:  # most of it was stored already: no file for the rest
            stored = self._insert(table, spec, fresh)
        else:
            segments.write(table, fresh, order)
            stored = len(fresh)
        if self._segments is not None and self._segments.of(table) and table not in self._shown:  # the first, or showing failed
            self._show(table)
        return stored

    def _hashes(self, spec: TableSpec, rows: pa.Table) -> NDArray[np.uint64]:
        """A hash of each row's key: uint64 (rows,)."""
        key = ", ".join(f'"{name}"' for name in spec.key)
        with _incoming(self._writer, rows.select(spec.key)):
            found = self._writer.execute(f"SELECT hash({key}) AS h FROM incoming").fetchnumpy()  # noqa: S608  # names from TABLES
        return np.asarray(found["h"], dtype=np.uint64)

    def _unstored(self, table: str, spec: TableSpec, rows: pa.Table) -> pa.Table:
        """Those rows whose key is not stored yet, each key once."""
        import pyarrow as pa

        rows = unique(table, rows)
        keys = rows.select(spec.key).append_column("place", pa.array(range(len(rows))))
        where, span = self._new(table, spec, rows)
        with _incoming(self._writer, keys):
            found = self._writer.execute(f"SELECT place FROM incoming WHERE {where} ORDER BY 1", span).fetchnumpy()["place"]  # noqa: S608
        return rows if len(found) == len(rows) else rows.take(pa.array(found))

    def _insert(self, table: str, spec: TableSpec, rows: pa.Table) -> int:
        rows = unique(table, rows)
        where, span = self._new(table, spec, rows)
        with _incoming(self._writer, rows):
            insert = f"INSERT INTO {_stored(table)} BY NAME SELECT * FROM incoming WHERE {where}"  # noqa: S608  # names from TABLES
            ((inserted,),) = self._writer.execute(insert, span).fetchall()
        return int(inserted)

    def _new(self, table: str, spec: TableSpec, rows: pa.Table) -> tuple[str, list[int | list[str]]]:
        """The condition that a row of `incoming` is not stored yet, and its parameters."""
        same = " AND ".join(f'old."{name}" = incoming."{name}"' for name in spec.key)
        if spec.order is None:
            return f"NOT EXISTS (SELECT 1 FROM {table} AS old WHERE {same})", []  # noqa: S608  # names from TABLES
        times = rows[spec.order].combine_chunks().drop_null().to_numpy()
        first, last = (int(times.min()), int(times.max())) if len(times) else (0, 0)
        same += f' AND old."{spec.order}" BETWEEN ? AND ?'
        where = f"NOT EXISTS (SELECT 1 FROM {_stored(table)} AS old WHERE {same})"  # noqa: S608  # the same
        parameters: list[int | list[str]] = [first, last]
        files = [] if self._segments is None else self._segments.overlapping(table, first, last)
        if files:
            where += f" AND NOT EXISTS (SELECT 1 FROM read_parquet(?, hive_partitioning = false) AS old WHERE {same})"  # noqa: S608  # the same
            parameters += [files, first, last]
        return where, parameters

    def query(self, sql: str, parameters: Sequence[Parameter] = ()) -> pa.Table:
        """Run one SELECT on a cursor of its own; it sees complete appends only."""
        import duckdb

        with self._opening:
            cursor = self._cursor()
        try:
            if [s.type for s in cursor.extract_statements(sql)] != [duckdb.StatementType.SELECT]:
                raise WarehouseError(f"query takes one SELECT, not {sql!r}")
            return cursor.sql(sql, params=list(parameters)).to_arrow_table()
        except duckdb.Error as e:
            raise WarehouseError(f"DuckDB at {self.path} refused the query: {e}") from e
        finally:
            cursor.close()

    def close(self) -> None:
        """Write everything into the file and let go of its lock."""
        with self._writing:
            self._writer.close()
            self._connection.close()
            if self._file is not None:
                _OPEN.pop(self._file, None)


@contextmanager
def _incoming(connection: duckdb.DuckDBPyConnection, rows: pa.Table) -> Iterator[None]:
    """Rows as the table `incoming` of a connection, for the time of one statement."""
    connection.register("incoming", rows)
    try:
        yield
    finally:
        connection.unregister("incoming")


def _stored(table: str) -> str:
    """The table in the file: of a bulk table its own name is a view."""
    return f"{table}_rows" if TABLES[table].bulk else table


def _make_tables(connection: duckdb.DuckDBPyConnection) -> None:
    there = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables() WHERE NOT internal").fetchall()}
    for name, spec in TABLES.items():
        stored = _stored(name)
        if spec.bulk and name in there:  # of an earlier release, where it was the table
            connection.execute(f"ALTER TABLE {name} RENAME TO {stored}")
        columns = ", ".join(f'"{column}" {_TYPES[kind]}' for column, kind in spec.columns.items())
        connection.execute(f"CREATE TABLE IF NOT EXISTS {stored} ({columns})")
        for column in spec.later:
            connection.execute(f'ALTER TABLE {stored} ADD COLUMN IF NOT EXISTS "{column}" {_TYPES[spec.columns[column]]}')


def _refusal(path: str, error: Exception) -> str:
    said = str(error)
    if "does not exist" in said:
        return f"the warehouse {path} is not there: a monitor makes it when it starts, or set `database.path` to where it is"
    if "lock" in said.lower():
        return (
            f"the warehouse {path} is open in another process; DuckDB allows one process per file, even for reading: "
            f"stop that one, ask it for the data, or set `database.path` to another file ({said})"
        )
    return f"the warehouse {path} cannot be opened: {said}; move the file aside or set `database.path` to another one"
