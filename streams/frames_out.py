"""Rows of a table as frames to produce: Arrow IPC streams of one partition each. Core; for producers, not for the workers.

    for partition, frame in frames(table, partitions=8):
        producer.produce("trading.features", frame, partition=partition, headers=FRAME_HEADERS)

`frame_columns` says what a frame's columns are. Here a table may also have timestamps in place of microseconds.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from streams.wire import ARROW_STREAM, BAD_SYMBOL, CONTENT_TYPE, MAX_FRAME_ROWS, Homes

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    import pyarrow as pa

FRAME_HEADERS: Final = ((CONTENT_TYPE, ARROW_STREAM),)
"""What tells a frame from a JSON row: produce every frame with it."""
ROWS_PER_FRAME: Final = 500
MAX_BYTES: Final = 900_000
"""Kafka takes records of 1 MB unless told otherwise."""


def frames(
    table: pa.Table | pd.DataFrame,
    *,
    partitions: int,
    feature_set: str | None = None,
    rows_per_frame: int = ROWS_PER_FRAME,
    max_bytes: int = MAX_BYTES,
) -> Iterator[tuple[int, bytes]]:
    """(partition, frame) of all rows; those of a partition stay in order, and frames come in the order of their first rows.

    `table`: columns symbol, ts_event_us and optionally feature_set, ts_known_us and revision; all others are features, of
    numbers or booleans. Times are integers in microseconds or timestamps (without a time zone: UTC). `feature_set` names
    the set where the table has no such column. A frame is larger than `max_bytes` only if one row is. Raises
    `ValueError`, before the first frame, for a table that is none of this.
    """
    if partitions < 1 or not 0 < rows_per_frame < MAX_FRAME_ROWS:
        raise ValueError(f"partitions must be at least 1, rows_per_frame in [1, {MAX_FRAME_ROWS})")
    rows = _normal(_arrow(table), feature_set)
    home = _homes(rows, partitions)
    return _frames(rows, home, rows_per_frame, max_bytes)


def _frames(rows: pa.Table, home: Any, rows_per_frame: int, max_bytes: int) -> Iterator[tuple[int, bytes]]:
    from streams.frame_columns import write_frame

    left: list[tuple[int, int, Any]] = []  # first row, partition, rows of every frame to come
    for partition in np.unique(home).tolist():
        places = np.flatnonzero(home == partition)
        some = [places[at : at + rows_per_frame] for at in range(0, len(places), rows_per_frame)]
        left += [(int(piece[0]), partition, piece) for piece in some]
    heapq.heapify(left)
    while left:
        first, partition, places = heapq.heappop(left)
        frame = write_frame(_with_dictionaries(rows.take(places)))
        half = len(places) // 2
        if len(frame) <= max_bytes or half == 0:
            yield partition, frame
        else:
            heapq.heappush(left, (first, partition, places[:half]))
            heapq.heappush(left, (int(places[half]), partition, places[half:]))


def _with_dictionaries(rows: pa.Table) -> pa.RecordBatch:
    """One batch, texts as codes into the frame's own different ones: what a reader takes apart fastest."""
    import pyarrow as pa

    columns = [
        column.combine_chunks().dictionary_encode() if name in {"symbol", "feature_set"} else column.combine_chunks()
        for name, column in zip(rows.column_names, rows.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, names=rows.column_names)


def _arrow(table: Any) -> pa.Table:
    import pyarrow as pa

    if type(table).__module__.partition(".")[0] == "pandas":
        return pa.Table.from_pandas(table, preserve_index=False)
    return table if isinstance(table, pa.Table) else pa.table(table)


def _normal(table: pa.Table, feature_set: str | None) -> pa.Table:
    """The columns of a frame, texts as plain strings, features as float64."""
    import pyarrow as pa

    names: list[str] = table.column_names
    needed = ["symbol", "ts_event_us", *(["feature_set"] if feature_set is None else [])]
    missing = [name for name in needed if name not in names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if missing or twice:
        what = f"no column {missing[0]!r}" if missing else f"column {twice[0]!r} {names.count(twice[0])} times"
        raise ValueError(f"the table has {what}; its columns are {', '.join(names)}")
    if feature_set is not None and "feature_set" in names:
        raise ValueError("the table has a column 'feature_set', so no feature set may be named beside it")
    columns = {}
    for name in names:
        try:
            columns[name] = _cast(name, table[name])
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as e:
            raise ValueError(f"column {name!r} is {table[name].type}: {e}") from e
    if feature_set is not None:
        columns["feature_set"] = pa.chunked_array([pa.repeat(feature_set, table.num_rows)])
    for name in ("symbol", "feature_set", "ts_event_us"):
        if columns[name].null_count:
            raise ValueError(f"column {name!r} has {columns[name].null_count} empty values")
    return pa.table(columns)


def _cast(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow as pa

    if name in {"symbol", "feature_set"}:
        return column.cast(pa.string())
    if name in {"ts_event_us", "ts_known_us"}:
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp("us", column.type.tz))
        return column.cast(pa.int64())
    if name == "revision":
        return column.cast(pa.int64())
    return column.cast(pa.float64(), safe=False)


def _homes(rows: pa.Table, partitions: int) -> Any:
    """Partition of each row, int64 (rows,)."""
    symbols = rows["symbol"].combine_chunks().dictionary_encode()
    known = Homes(partitions)
    places = []
    for symbol in symbols.dictionary.to_pylist():
        where = known[symbol]
        if where is None:
            raise ValueError(f"symbol {symbol[:40]!r} cannot be: {BAD_SYMBOL}")
        places.append(where[1])
    return np.array(places, dtype=np.int64)[symbols.indices.to_numpy()]
