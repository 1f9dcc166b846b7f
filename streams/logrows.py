"""A record of the inference log, checked and as columns, for the monitor. Core.

A record that is no Arrow stream, lacks a column, has one of another type, a null or a time out of range, comes back as
`Rejected`. Columns this version does not know are ignored.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from monitoring.joined import Scorer
from streams.inference_log import LogBatch, decode_log, log_schema
from streams.records import MAX_TS_US
from streams.rejections import reject

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from streams.records import PartitionRecords, Record, Rejected

_FIELDS = [f for f in log_schema(model="", version="", role="", columns=()) if f.name != "vector"]


@dataclass(frozen=True, slots=True, eq=False)
class LogRows:
    """One record's rows. `vectors` float64 (rows, columns), all other arrays (rows,); `table` is all of it as Arrow."""

    scorer: Scorer
    columns: tuple[str, ...]
    topic: str
    partition: int
    offset: int
    horizon_us: int
    ts_event_us: NDArray[np.int64]
    value: NDArray[np.float64]  # NaN where abstained
    vectors: NDArray[np.float64]
    abstained: NDArray[np.bool_]
    table: pa.Table

    def __len__(self) -> int:
        return len(self.ts_event_us)

    @property
    def source(self) -> str:
        """Topic and partition in one word."""
        return f"{self.topic}-{self.partition}"


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
    table = log.table
    if not all(isinstance(name, str) for name in log.columns):
        raise ValueError("not an inference-log record: the names in its metadata `columns` must be texts")
    for field in [*_FIELDS, pa.field("vector", pa.list_(pa.float64(), len(log.columns)), nullable=False)]:
        at = table.schema.get_field_index(field.name)
        if at < 0 or table.schema.field(at).type != field.type:
            found = "absent" if at < 0 else str(table.schema.field(at).type)
            raise ValueError(f"not an inference-log record: column {field.name!r} must be {field.type}, it is {found}")
        if not field.nullable and table.column(at).null_count:
            raise ValueError(f"not an inference-log record: column {field.name!r} has nulls")
    table.validate(full=True)  # what the bytes say of themselves is believed by Arrow, and read past the end if wrong
    ts_event_us, horizon_us = _numbers(table, "ts_event_us"), _numbers(table, "horizon_us")
    if len(table) and not (ts_event_us.min() >= 0 and ts_event_us.max() < MAX_TS_US):
        raise ValueError(f"not an inference-log record: ts_event_us must lie in [0, {MAX_TS_US})")
    if len(table) and not 0 < horizon_us.min() == horizon_us.max() < MAX_TS_US:
        raise ValueError("not an inference-log record: horizon_us must be positive and the same in all rows")
    abstained = _numbers(table, "abstained")
    return LogRows(
        Scorer(log.model, log.version, log.role),
        log.columns,
        part.topic,
        part.partition,
        r.offset,
        int(horizon_us[0]) if len(table) else 0,
        ts_event_us,
        np.where(abstained, np.nan, _numbers(table, "value")),
        log.vectors() if len(table) else np.empty((0, len(log.columns))),
        abstained,
        table,
    )


def _numbers(table: pa.Table, name: str) -> NDArray[Any]:
    numbers: NDArray[Any] = table[name].to_numpy()
    return numbers


def in_time_order(rows: Iterable[LogRows], *, pane_us: int) -> Iterator[list[LogRows]]:
    """Rows of one scorer in the order of their panes, each partition's in its own order; its next few rows come together.

    Time is the greatest event time seen, over all partitions. Taking a partition whole before the next would make the next
    one's rows late for no reason.
    """
    by_partition: dict[int, list[tuple[int, LogRows]]] = {}
    for r in rows:
        queue = by_partition.setdefault(r.partition, [])
        pane = int(r.ts_event_us.min() - 1) // pane_us
        queue.append((max(pane, queue[-1][0]) if queue else pane, r))
    merged = heapq.merge(*(by_partition[p] for p in sorted(by_partition)), key=lambda entry: entry[0])
    for _, together in itertools.groupby(merged, key=lambda entry: (entry[0], entry[1].partition)):
        yield [r for _, r in together]
