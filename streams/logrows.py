"""A record of the inference log, checked and as columns, for the monitor. Core.

A record that is no Arrow stream, lacks a column, has one of another type, a null or a number out of range, comes back as
`Rejected`. Columns this version does not know are ignored.

Records of earlier releases lack the columns that tell where a row stands (`inference_log.PLACES`). The place of such a row is
that of its record in the log, so that what an inference worker repeated cannot be told from what it had not said before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from monitoring.joined import Scorer
from monitoring.panes import AT_ONCE
from streams.inference_log import PLACES, LogBatch, LogSchema, decode_log, log_schema
from streams.records import MAX_TS_US
from streams.rejections import reject
from streams.wire import INDEX_BITS, MAX_FRAME_ROWS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streams.records import PartitionRecords, Record, Rejected

_FIELDS = [f for f in log_schema(model="", version="", role="", columns=()) if f.name != "vector"]
_ROWWISE = ("ts_event_us", "value", "vectors", "abstained", "own", "decided")
_MAX_OFFSET = 1 << 63 - INDEX_BITS


@dataclass(frozen=True, slots=True, eq=False)
class LogRows:
    """One record's rows. `vectors` float64 (rows, columns), all other arrays (rows,); `table` is all of it as Arrow.

    `log_us` is the record's time in the log, Kafka's timestamp: when its predictions were published.

    `source` is the topic and partition the rows were read from, in one word; `own` and `decided` are their places in it and
    the places where their waits ended, as positions (`wire`), `AT_ONCE` where they did not wait. Rows of earlier releases are
    as if they had waited, in a source that is the log's own partition: decided by their record, their own place the index in it.
    """

    scorer: Scorer
    columns: tuple[str, ...]
    topic: str
    partition: int
    offset: int
    log_us: int
    horizon_us: int
    ts_event_us: NDArray[np.int64]
    value: NDArray[np.float64]  # NaN where abstained
    vectors: NDArray[np.float64]
    abstained: NDArray[np.bool_]
    table: pa.Table
    source: str
    own: NDArray[np.int64]
    decided: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ts_event_us)

    def cut(self, start: int, stop: int) -> LogRows:
        """Rows from `start` to before `stop`; copies nothing."""
        some = slice(start, stop)
        return replace(
            self,
            table=self.table.slice(start, stop - start),
            **{name: getattr(self, name)[some] for name in _ROWWISE},
        )


def read_log(part: PartitionRecords) -> tuple[list[LogRows], list[Rejected]]:
    """The rows of one partition's records, and what was rejected; both in the order given. Records without rows are left out."""
    rows: list[LogRows] = []
    rejected: list[Rejected] = []
    for r in part.records:
        try:
            if r.value is None:
                raise ValueError("empty value")  # noqa: TRY301  # joins the handler below
            read = _rows(decode_log(r.value), part, r)
        except (ValueError, TypeError) as e:
            rejected.append(reject(part, r, "undecodable", str(e)))
            continue
        if len(read):
            rows.append(read)
    return rows, rejected


def _rows(log: LogBatch, part: PartitionRecords, r: Record) -> LogRows:
    placed, filled = _known(log.about)
    batch = log.batch
    for at, name in filled:
        if batch.column(at).null_count:
            raise ValueError(f"not an inference-log record: column {name!r} has nulls")
    table = log.table
    ts_event_us, horizon_us = _numbers(table, "ts_event_us"), _numbers(table, "horizon_us")
    if len(table) and not (ts_event_us.min() >= 0 and ts_event_us.max() < MAX_TS_US):
        raise ValueError(f"not an inference-log record: ts_event_us must lie in [0, {MAX_TS_US})")
    if len(table) and not 0 < horizon_us.min() == horizon_us.max() < MAX_TS_US:
        raise ValueError("not an inference-log record: horizon_us must be positive and the same in all rows")
    abstained, value = _numbers(table, "abstained"), _numbers(table, "value")
    return LogRows(
        Scorer(log.model, log.version, log.role),
        log.columns,
        part.topic,
        part.partition,
        r.offset,
        min(max(r.timestamp, -1) * 1000, MAX_TS_US - 1),  # whatever a producer says, it is a number of 64 bits
        int(horizon_us[0]) if len(table) else 0,
        ts_event_us,
        np.where(abstained, np.nan, value) if abstained.any() else value,
        log.vectors() if len(table) else np.empty((0, len(log.columns))),
        abstained,
        table,
        *(_places(table) if placed and len(table) else _places_in_log(part, r, len(table))),
    )


@lru_cache(maxsize=32)
def _known(about: LogSchema) -> tuple[bool, tuple[tuple[int, str], ...]]:
    """Whether records of this schema have places, and where and which columns have no nulls; `ValueError` if it is no log's."""
    if not all(isinstance(name, str) for name in about.columns):
        raise ValueError("not an inference-log record: the names in its metadata `columns` must be texts")
    schema = about.schema
    placed = PLACES[0] in schema.names
    known = _FIELDS if placed else [f for f in _FIELDS if f.name not in PLACES]
    filled = []
    for field in [*known, pa.field("vector", pa.list_(pa.float64(), len(about.columns)), nullable=False)]:
        at = schema.get_field_index(field.name)
        if at < 0 or schema.field(at).type != field.type:
            found = "absent" if at < 0 else str(schema.field(at).type)
            raise ValueError(f"not an inference-log record: column {field.name!r} must be {field.type}, it is {found}")
        if not field.nullable:
            filled.append((at, field.name))
    return placed, tuple(filled)


def _places(table: pa.Table) -> tuple[str, NDArray[np.int64], NDArray[np.int64]]:
    """Source, own and decided places of rows, of which there must be one at least."""
    partition = _numbers(table, "source_partition")
    if len(table["source_topic"].unique()) > 1 or partition.min() != partition.max():
        raise ValueError("not an inference-log record: source_topic and source_partition must be the same in all rows")
    own = _positions(table, "source")
    nulls = table["decided_offset"].null_count, table["decided_index"].null_count
    if nulls == (len(table), len(table)):
        decided = np.full(len(table), AT_ONCE, np.int64)
    else:
        waited: NDArray[np.bool_] = table["decided_offset"].is_valid().to_numpy()
        if (waited != table["decided_index"].is_valid().to_numpy()).any():
            raise ValueError("not an inference-log record: of decided_offset and decided_index both must be null or neither")
        decided = np.where(waited, _positions(table, "decided"), AT_ONCE)
        if (decided < own)[waited].any():
            raise ValueError(
                "not an inference-log record: decided_offset and decided_index must not lie before the row's own place"
            )
    return f"{table['source_topic'][0]}-{partition[0]}", own, decided


def _positions(table: pa.Table, of: str) -> NDArray[np.int64]:
    offset, index = _numbers(table, f"{of}_offset", null=0), _numbers(table, f"{of}_index", null=0).astype(np.int64)
    if min(offset.min(), index.min()) < 0 or offset.max() >= _MAX_OFFSET or index.max() >= MAX_FRAME_ROWS:
        raise ValueError(
            f"not an inference-log record: {of}_offset must lie in [0, {_MAX_OFFSET}), {of}_index in [0, {MAX_FRAME_ROWS})"
        )
    positions: NDArray[np.int64] = offset << INDEX_BITS | index
    return positions


def _places_in_log(part: PartitionRecords, r: Record, rows: int) -> tuple[str, NDArray[np.int64], NDArray[np.int64]]:
    """The same for rows that say nothing of it."""
    return f"{part.topic}-{part.partition}", np.arange(rows), np.full(rows, r.offset, dtype=np.int64)


def _numbers(table: pa.Table, name: str, *, null: int | None = None) -> NDArray[Any]:
    column = table[name] if null is None or not table[name].null_count else table[name].fill_null(null)
    numbers: NDArray[Any] = column.to_numpy()
    return numbers
