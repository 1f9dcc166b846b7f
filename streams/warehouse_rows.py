"""What the monitor reads, as rows of the warehouse's tables: Arrow in, Arrow out. Core."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from monitoring.warehouse import arrow_schema
from streams.outcomes import UNKNOWN

if TYPE_CHECKING:
    from streams.logrows import LogRows
    from streams.outcomes import OutcomeBatch


def prediction_rows(rows: LogRows) -> pa.Table:
    """Rows of `predictions`."""
    return _taken("predictions", rows)


def feature_rows(rows: LogRows) -> pa.Table:
    """Rows of `features`: each prediction's vector."""
    return _taken("features", rows)


def vector_column_rows(rows: LogRows) -> pa.Table:
    """The row of `vector_columns` that names the vector's columns."""
    row = {
        "spec_digest": rows.table["spec_digest"][0].as_py(),
        "model": rows.scorer.model,
        "version": rows.scorer.version,
        "columns": list(rows.columns),
    }
    return pa.Table.from_pylist([row], schema=arrow_schema("vector_columns"))


def outcome_rows(batch: OutcomeBatch) -> pa.Table:
    """Rows of `outcomes`; a known time that was not said is null."""
    columns = {
        "symbol": pa.array(batch.symbols, pa.string()),
        "ts_event_us": batch.ts_event_us,
        "horizon_us": batch.horizon_us,
        "value": batch.value,
        "ts_known_us": pa.array(batch.ts_known_us, mask=batch.ts_known_us == UNKNOWN),
        "revision": batch.revision,
    }
    return pa.table(columns, schema=arrow_schema("outcomes"))


def _taken(table: str, rows: LogRows) -> pa.Table:
    schema = arrow_schema(table)
    same = rows.scorer._asdict()
    arrays: list[Any] = []
    for field in schema:
        if field.name in same:
            arrays.append(pa.repeat(pa.scalar(same[field.name], field.type), len(rows)))
        else:
            arrays.append(rows.table[field.name].cast(field.type))
    return pa.Table.from_arrays(arrays, schema=schema)
