"""What the monitor reads, as rows of the warehouse's tables: Arrow in, Arrow out. Core."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pyarrow as pa

from monitoring.joined import Scorer
from monitoring.warehouse import arrow_schema
from streams.outcomes import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.logrows import LogRows
    from streams.outcomes import OutcomeBatch


@dataclass(frozen=True, slots=True)
class OfLog:
    """One record's rows of the log as rows of `predictions` or `features`, which `joined` makes of many records at once."""

    table: str
    rows: LogRows

    def __len__(self) -> int:
        return len(self.rows)


Part: TypeAlias = pa.Table | OfLog
"""Some rows of a table."""


def prediction_rows(rows: LogRows) -> OfLog:
    """Rows of `predictions`."""
    return OfLog("predictions", rows)


def feature_rows(rows: LogRows) -> OfLog:
    """Rows of `features`: each prediction's vector."""
    return OfLog("features", rows)


def joined(table: str, parts: Sequence[Part]) -> pa.Table:
    """All rows of these parts in their order, with exactly the table's columns."""
    made: list[pa.Table] = []
    for _, group in itertools.groupby(parts, key=lambda part: isinstance(part, OfLog)):
        some = list(group)
        records = [part.rows for part in some if isinstance(part, OfLog)]
        made += [_made(table, records)] if records else some
    return pa.concat_tables(made) if made else arrow_schema(table).empty_table()


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


def _made(table: str, records: Sequence[LogRows]) -> pa.Table:
    """Rows of all these records, every column in one piece: each piece costs the warehouse some work."""
    lengths = [len(r) for r in records]
    of_row = np.repeat(np.arange(len(records)), lengths)
    schema = arrow_schema(table)
    said = _said([r.table.select([n for n in schema.names if n not in _MADE]) for r in records])
    made: dict[str, pa.Array] = {
        name: pa.array([getattr(r.scorer, name) for r in records]).take(pa.array(of_row)) for name in Scorer._fields
    }
    if "vector" in schema.names:
        made["vector"] = _vectors(records, lengths)
    if "ts_published_us" in schema.names:
        made["ts_published_us"] = pa.array(np.array([r.log_us for r in records], dtype=np.int64)[of_row])
    return pa.Table.from_arrays([made[n] if n in made else said[n] for n in schema.names], schema.names).cast(schema)


_MADE = frozenset({*Scorer._fields, "vector", "ts_published_us"})
"""Columns that are not as the log has them."""


def _said(tables: Sequence[pa.Table]) -> pa.Table:
    first = tables[0].schema
    if any(not t.schema.equals(first) for t in tables):  # of two releases: what may be null in one may not in the other
        tables = [t.cast(pa.schema([f.with_nullable(nullable=True) for f in t.schema])) for t in tables]
    return pa.concat_tables(tables).combine_chunks()


def _vectors(records: Sequence[LogRows], lengths: Sequence[int]) -> pa.Array:
    """The vectors of these records, which may be of several lengths, as lists."""
    ends = np.cumsum(np.repeat([len(r.columns) for r in records], lengths), dtype=np.int64)
    offsets = pa.array(np.concatenate([[0], ends]).astype(np.int32))
    values = pa.chunked_array([c.flatten() for r in records for c in r.table["vector"].chunks], pa.float64())
    return pa.ListArray.from_arrays(offsets, values.combine_chunks())
