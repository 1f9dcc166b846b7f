"""The warehouse in one local DuckDB file.

Shell. One process per file, even for reading: DuckDB locks it. Within the process, threads read while one appends:
every query has its own cursor and sees the last complete append.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from monitoring.errors import WarehouseError
from monitoring.warehouse import TABLES, ColumnType, Parameter, conform, table_spec

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
    "float64[]": "DOUBLE[]",
    "string[]": "VARCHAR[]",
}

_WAL_BEFORE_CHECKPOINT = "64MB"
"""At DuckDB's own 16 MB, one append in a few dozen stops for a checkpoint of 0.3 to 1 s."""

MEMORY_MB = 256
"""What DuckDB keeps of its file in memory at most. Unless told, it goes on until four fifths of the machine's are taken.

Blocks that are needed again are read again, and one append may be larger: it is written out as it comes.
"""


class DuckDBWarehouse:
    """The tables of `monitoring.warehouse` in the file at `path`, made where absent; `:memory:` keeps nothing."""

    def __init__(self, path: str | Path) -> None:
        import duckdb

        self.path = str(path)
        if self.path != ":memory:":
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connection = duckdb.connect(self.path)
        except duckdb.Error as e:
            raise WarehouseError(_refusal(self.path, e)) from e
        # As a connect option the time zone needs an extension that is fetched from the network; as a statement it does not.
        self._connection.execute("SET TimeZone = 'UTC'")
        self._connection.execute(f"SET wal_autocheckpoint = '{_WAL_BEFORE_CHECKPOINT}'")
        self._connection.execute(f"SET memory_limit = '{MEMORY_MB}MiB'")
        for name, spec in TABLES.items():
            columns = ", ".join(f'"{column}" {_TYPES[kind]}' for column, kind in spec.columns.items())
            self._connection.execute(f"CREATE TABLE IF NOT EXISTS {name} ({columns})")
        self._writer = self._connection.cursor()
        self._writing = threading.Lock()
        self._opening = threading.Lock()

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
            cursor = self._connection.cursor()
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


def _refusal(path: str, error: duckdb.Error) -> str:
    said = str(error)
    if "lock" in said.lower():
        return (
            f"the warehouse {path} is open in another process; DuckDB allows one process per file, even for reading: "
            f"stop that one, ask it for the data, or set `database.path` to another file ({said})"
        )
    return f"the warehouse {path} cannot be opened: {said}; move the file aside or set `database.path` to another one"
