"""What the warehouse keeps: one schema, and what every backend can do.

Shell. Tables are written in bulk as Arrow and are unique by key: a row whose key is stored already is left out, so
replays are harmless. Times are int64 microseconds UTC. Two backends: `monitoring.duckdb`, `monitoring.bigquery`.

SELECTs are written once for both: bare table names, `?` for parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from monitoring.errors import WarehouseError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

ColumnType = Literal["string", "int64", "float64", "bool", "json", "float64[]", "string[]"]
"""`json` is text that holds JSON: both backends read into it with their JSON functions."""

Parameter = str | int | float | bool

BATCH_ROWS = 16_384
"""Rows of a table that are best stored at once where so many are at hand."""


@dataclass(frozen=True, slots=True)
class TableSpec:
    """One table. `key` is unique; `order` names the int64 time by which rows roughly arrive, None for a small table.

    `later` names columns that earlier releases did not have: a backend adds them to a table it finds without, and rows that
    lack them (they waited on disk meanwhile) have null there. `bulk`: its rows come in great number.
    """

    columns: Mapping[str, ColumnType]
    key: tuple[str, ...]
    order: str | None
    later: tuple[str, ...] = ()
    bulk: bool = False


TABLES: Mapping[str, TableSpec] = {
    # What the model saw: the vector in the order of `vector_columns.columns` for the same spec_digest, NaN = missing.
    "features": TableSpec(
        {
            "prediction_id": "string",
            "symbol": "string",
            "model": "string",
            "version": "string",
            "ts_event_us": "int64",
            "ts_decision_us": "int64",
            "spec_digest": "string",
            "vector_hash": "string",
            "vector": "float64[]",
        },
        key=("prediction_id",),
        order="ts_event_us",
        bulk=True,
    ),
    "vector_columns": TableSpec(
        {"spec_digest": "string", "model": "string", "version": "string", "columns": "string[]"},
        key=("spec_digest", "model", "version"),
        order=None,
    ),
    "predictions": TableSpec(
        {
            "prediction_id": "string",
            "symbol": "string",
            "model": "string",
            "version": "string",
            "role": "string",
            "ts_event_us": "int64",
            "ts_decision_us": "int64",
            "horizon_us": "int64",
            "revision": "int64",
            "value": "float64",
            "lower": "float64",
            "upper": "float64",
            "level": "float64",
            "p_up": "float64",
            "confidence": "float64",
            "ood": "float64",
            "completeness": "float64",
            "abstained": "bool",
            "reason": "string",
            "vector_hash": "string",
            "spec_digest": "string",
            "source_topic": "string",
            "source_partition": "int64",
            "source_offset": "int64",
            "ts_published_us": "int64",
        },
        key=("prediction_id",),
        order="ts_event_us",
        later=("ts_published_us",),
        bulk=True,
    ),
    "outcomes": TableSpec(
        {
            "symbol": "string",
            "ts_event_us": "int64",
            "horizon_us": "int64",
            "value": "float64",
            "ts_known_us": "int64",
            "revision": "int64",
        },
        key=("symbol", "ts_event_us", "horizon_us", "revision"),
        order="ts_event_us",
        bulk=True,
    ),
    "alerts": TableSpec(
        {
            "event_id": "string",
            "incident_id": "string",
            "fingerprint": "string",
            "state": "string",
            "severity": "string",
            "labels": "json",
            "annotations": "json",
            "value": "float64",
            "threshold": "float64",
            "windows": "int64",
            "started_us": "int64",
            "fired_us": "int64",
            "resolved_us": "int64",
            "updated_us": "int64",
        },
        key=("event_id",),
        order="updated_us",
    ),
    "performance": TableSpec(
        {
            "performance_id": "string",
            "model": "string",
            "version": "string",
            "role": "string",
            "window_start_us": "int64",
            "window_end_us": "int64",
            "revision": "int64",
            "drift": "json",
            "quality": "json",
            "paired": "json",
            "estimate": "json",
            "concept": "json",
        },
        key=("performance_id",),
        order="window_end_us",
        later=("paired", "estimate", "concept"),
    ),
    "retrain_requests": TableSpec(
        {
            "request_id": "string",
            "model": "string",
            "version": "string",
            "role": "string",
            "requested_us": "int64",
            "record": "json",
        },
        key=("request_id",),
        order="requested_us",
    ),
}
"""All tables by name."""


class Warehouse(Protocol):
    """A place that keeps the tables. `append` and `query` may be called from different threads at once."""

    def append(self, table: str, rows: pa.Table | pa.RecordBatch) -> int:
        """Store rows in bulk and return how many were handed on as new. Columns the table lacks are left out.

        Raises `WarehouseError` if the table is unknown, a column is missing, or the backend refuses.
        """

    def query(self, sql: str, parameters: Sequence[Parameter] = ()) -> pa.Table:
        """Run one SELECT with `?` parameters."""

    def close(self) -> None:
        """Let go of the file or connection."""


def table_spec(table: str) -> TableSpec:
    """The table of this name, or `WarehouseError` naming those there are."""
    spec = TABLES.get(table)
    if spec is None:
        raise WarehouseError(f"there is no table {table!r}; the tables are {', '.join(TABLES)}")
    return spec


def arrow_schema(table: str) -> pa.Schema:
    """The table's Arrow schema, every column nullable."""
    import pyarrow as pa

    types = {
        "string": pa.string(),
        "json": pa.string(),
        "int64": pa.int64(),
        "float64": pa.float64(),
        "bool": pa.bool_(),
        "float64[]": pa.list_(pa.float64()),
        "string[]": pa.list_(pa.string()),
    }
    return pa.schema([(name, types[kind]) for name, kind in table_spec(table).columns.items()])


def arrow_rows(table: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Plain records as Arrow: JSON encoded where it is not bytes, what a record lacks is null, what the table lacks left out.

    >>> arrow_rows("alerts", [{"event_id": "e", "labels": {"model": "m"}, "note": 1}])["labels"].to_pylist()
    ['{"model":"m"}']
    """
    import pyarrow as pa

    kinds = table_spec(table).columns
    plain = [{name: _cell(row.get(name), kind) for name, kind in kinds.items()} for row in rows]
    return pa.Table.from_pylist(plain, schema=arrow_schema(table))


def conform(table: str, rows: pa.Table | pa.RecordBatch) -> pa.Table:
    """Rows with exactly the table's columns and types, and no key null."""
    import pyarrow as pa

    spec, schema = table_spec(table), arrow_schema(table)
    whole = rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])
    if whole.schema.names != schema.names:
        there = set(whole.schema.names)
        for name in spec.later:
            if name not in there:
                whole = whole.append_column(name, pa.nulls(len(whole), schema.field(name).type))
        missing = [name for name in spec.columns if name not in there and name not in spec.later]
        if missing:
            raise WarehouseError(f"rows for table {table!r} lack the columns {', '.join(missing)}; give them, null where unknown")
        whole = whole.select(schema.names)
    try:
        whole = whole.cast(schema)
    except pa.ArrowException as e:
        raise WarehouseError(f"rows for table {table!r} are not of the table's types: {e}") from e
    if any(whole[name].null_count for name in spec.key):
        raise WarehouseError(f"rows for table {table!r} have no {' or no '.join(spec.key)}; a key is never null")
    return whole


def unique(table: str, rows: pa.Table) -> pa.Table:
    """Rows of a table with each key once, the first of its kind."""
    first = _first_of_each(rows.select(table_spec(table).key))
    return rows if first is None else rows.take(first)


def _first_of_each(keys: pa.Table) -> pa.Array | None:
    """Where each key stands first, in order; None where none stands twice."""
    import pyarrow as pa

    several = keys.num_columns > 1  # of one column it is half the work
    distinct = keys.group_by(keys.column_names, use_threads=False).aggregate([]) if several else keys.column(0).unique()
    if len(distinct) == len(keys):
        return None
    numbered = keys.append_column("", pa.array(range(len(keys))))
    first = numbered.group_by(keys.column_names, use_threads=False).aggregate([("", "min")])["_min"]
    return first.combine_chunks().sort()


def _cell(value: Any, kind: ColumnType) -> Any:  # any JSON-like value
    if kind == "json" and value is not None:
        return (value if isinstance(value, bytes) else msgspec.json.encode(value)).decode()
    return value
