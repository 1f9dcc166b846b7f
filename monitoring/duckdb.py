"""The warehouse in one local DuckDB file.

Shell. One process per file while one of them writes, or any number that only read: DuckDB locks it. Within the process,
threads read while one appends: every query has its own cursor and sees the last complete append.
"""

from __future__ import annotations

import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from monitoring.errors import WarehouseError
from monitoring.warehouse import BATCH_ROWS, TABLES, ColumnType, Parameter, conform, table_spec

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb
    import pyarrow as pa

_TYPES: dict[ColumnType, str] = {
    "string": "VARCHAR",
    "json": "VARCHAR",
    "int64": "BIGINT",
    "float64": "DOUBLE",
    "bool": "BOOLEAN",
    "float64[]": "DOUBLE[] USING COMPRESSION uncompressed",  # a fifth of an append's work, to save an eighth of the file
    "string[]": "VARCHAR[]",
}

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
        self._writer = self._cursor()
        self._writing = threading.Lock()
        self._opening = threading.Lock()

    def _connected(self, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        """A connection with the file attached, which takes rows in groups of `BATCH_ROWS`.

        At DuckDB's own 122,880 rows to a group an append of fewer goes into its log first, and the group that is not full
        yet is compressed and written again at every checkpoint: twice the work.
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
            how = "READ_ONLY" if read_only else f"ROW_GROUP_SIZE {BATCH_ROWS}"
            file = self.path.replace("'", "''")
            connection.execute(f"ATTACH '{file}' AS {_NAME} (TYPE duckdb, {how})")
            connection.execute(f"USE {_NAME}")
            if not read_only:
                _make_tables(connection)
        except duckdb.Error as e:
            connection.close()
            raise WarehouseError(_refusal(self.path, e)) from e
        return connection

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        cursor = self._connection.cursor()
        cursor.execute(f"USE {_NAME}")  # a cursor does not take that over
        return cursor

    def append(self, table: str, rows: pa.Table | pa.RecordBatch) -> int:
        """Store the rows whose key is not stored yet, in one transaction; returns how many those were.

        Uniqueness is kept by an anti join under a lock, which holds because one process owns the file. A primary key
        would hold too, but its index makes appends slower as the table grows; the join looks only at the blocks of the
        times in hand, so its cost stays.
        """
        import duckdb

        spec, fresh = table_spec(table), conform(table, rows)
        if not len(fresh):
            return 0
        same = " AND ".join(f'old."{name}" = incoming."{name}"' for name in spec.key)
        span: list[int] = []
        if spec.order is not None:
            times = fresh[spec.order].combine_chunks().drop_null().to_numpy()
            same += f' AND old."{spec.order}" BETWEEN ? AND ?'
            span = [int(times.min()), int(times.max())] if len(times) else [0, 0]
        with self._writing:
            try:
                self._writer.register("incoming", fresh)
                inserted = self._writer.execute(
                    f"INSERT INTO {table} BY NAME SELECT * FROM incoming "  # noqa: S608  # all names come from TABLES
                    f"WHERE NOT EXISTS (SELECT 1 FROM {table} AS old WHERE {same})",
                    span,
                ).fetchone()
                self._writer.unregister("incoming")
            except duckdb.Error as e:
                raise WarehouseError(f"DuckDB at {self.path} refused {len(fresh)} rows for table {table!r}: {e}") from e
        return int(inserted[0]) if inserted is not None else 0

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


def _make_tables(connection: duckdb.DuckDBPyConnection) -> None:
    for name, spec in TABLES.items():
        columns = ", ".join(f'"{column}" {_TYPES[kind]}' for column, kind in spec.columns.items())
        connection.execute(f"CREATE TABLE IF NOT EXISTS {name} ({columns})")
        for column in spec.later:
            connection.execute(f'ALTER TABLE {name} ADD COLUMN IF NOT EXISTS "{column}" {_TYPES[spec.columns[column]]}')


def _refusal(path: str, error: duckdb.Error) -> str:
    said = str(error)
    if "does not exist" in said:
        return f"the warehouse {path} is not there: a monitor makes it when it starts, or set `database.path` to where it is"
    if "lock" in said.lower():
        return (
            f"the warehouse {path} is open in another process; DuckDB allows one process per file, even for reading: "
            f"stop that one, ask it for the data, or set `database.path` to another file ({said})"
        )
    return f"the warehouse {path} cannot be opened: {said}; move the file aside or set `database.path` to another one"
