"""Frames: a features record that is an Arrow IPC stream with many rows of its partition. Core: no clock, no I/O.

Row by row a frame means what JSON rows mean (`records`), with its columns as `frame_columns` has them. A stream that
cannot be read, or whose columns are wrong, is refused whole (`FrameError`). A bad row of a good frame is rejected alone,
as a record of its own that can be sent again.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from streams.arrowstream import check_stream
from streams.frame_columns import FrameError, Plan, integers, lone_row, nulls, plan_columns, texts
from streams.wire import (
    ARROW_STREAM,
    BAD_RANGE,
    BAD_SYMBOL,
    CONTENT_TYPE,
    FUTURE,
    INDEX_BITS,
    MAX_FRAME_ROWS,
    MAX_REVISION,
    MAX_TS_US,
    UNKNOWN_SET,
    WRONG_PARTITION,
    FeatureBatch,
    Rejected,
    position_of,
    true_offset,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from streams.layout import Layout
    from streams.wire import Homes, PartitionRecords, Record

_NO_SYMBOL: Final = -1
_BAD_SYMBOL: Final = -2
_MOST_PLANS: Final = 256


@dataclass(slots=True)
class Frame:
    """Good rows by batch and feature set, rejected rows; how many rows it had, and values no served model reads."""

    pieces: list[FeatureBatch]
    rejected: list[Rejected]
    rows: int
    unread: int


def is_frame(record: Record) -> bool:
    """Whether the record's header says that it is a frame."""
    return any(name == CONTENT_TYPE and value == ARROW_STREAM for name, value in record.headers)


class FrameDecoder:
    """Frames → pieces of `FeatureBatch`, for one layout and partition count."""

    def __init__(self, layout: Layout, homes: Homes, *, max_future_us: int) -> None:
        self._layout = layout
        self._max_future_us = max_future_us
        self._homes = homes
        self._plans: dict[bytes, Plan] = {}

    def decode(self, part: PartitionRecords, record: Record, *, seq: int) -> Frame:
        """The rows of a frame; `seq` is the first one's. Raises `FrameError`, and nothing else, when it is none."""
        frame = Frame([], [], 0, 0)
        try:
            if record.value is None:
                raise FrameError("empty value")
            schema = check_stream(record.value, max_rows=MAX_FRAME_ROWS)
            with pa.ipc.open_stream(record.value) as reader:
                plan = self._plans.get(schema)
                if plan is None:
                    plan = plan_columns(reader.schema, self._layout)
                    if len(self._plans) >= _MOST_PLANS:
                        self._plans.clear()
                    self._plans[schema] = plan
                for batch in reader:
                    if batch.num_rows:
                        batch.validate(full=True)  # what the bytes say of themselves is believed by Arrow
                        self._take(plan, batch, part, record, frame, seq=seq + frame.rows)
                        frame.rows += batch.num_rows
        except (pa.ArrowException, ValueError, TypeError, KeyError, OSError, OverflowError, RecursionError) as e:
            raise FrameError(f"not a frame of feature rows: {e}") from e
        frame.unread = plan.unread * frame.rows
        return frame

    def _take(self, plan: Plan, batch: pa.RecordBatch, part: PartitionRecords, record: Record, frame: Frame, *, seq: int) -> None:
        symbol_codes, symbols = texts(batch.column(plan.heads["symbol"]))
        set_codes, sets = texts(batch.column(plan.heads["feature_set"]))
        event = integers(batch.column(plan.heads["ts_event_us"]), null=-1)
        known = self._known(plan, batch, event, set_codes, sets)
        at = plan.heads.get("revision")
        revision = np.zeros(len(event), dtype=np.int64) if at is None else integers(batch.column(at), null=0)
        home = np.array([self._partition(s) for s in symbols])[symbol_codes]
        latest_us = record.timestamp * 1000 + self._max_future_us
        in_range = (event >= 0) & (event < MAX_TS_US) & (known >= 0) & (known < MAX_TS_US)
        in_range &= (revision >= 0) & (revision <= MAX_REVISION)
        good = (home == part.partition) & in_range & (np.maximum(event, known) <= latest_us)
        served = np.array([s in self._layout for s in sets])[set_codes]
        good &= served
        for row in np.flatnonzero(~good).tolist():
            feature_set, symbol, place = sets[set_codes[row]], symbols[symbol_codes[row]], int(home[row])
            if feature_set is None or (symbol is None and served[row]):
                why = "undecodable", f"not a feature row: {'symbol' if feature_set is not None else 'feature_set'} is null"
            elif not served[row]:
                why = "unknown_feature_set", UNKNOWN_SET.format(feature_set, ", ".join(sorted(self._layout)) or "none")
            elif not batch.column(plan.heads["ts_event_us"])[row].is_valid:
                why = "undecodable", "not a feature row: ts_event_us is null"
            elif place == _BAD_SYMBOL:
                why = "out_of_range", BAD_SYMBOL
            elif place != part.partition:
                why = "wrong_partition", WRONG_PARTITION.format(symbol, place)
            elif not in_range[row]:
                why = "out_of_range", BAD_RANGE
            else:
                why = "future", FUTURE.format(self._max_future_us)
            frame.rejected.append(_reject_row(part, record.offset, batch, row, frame.rows + row, why))
        names = np.array(symbols, dtype=object)
        for code, name in enumerate(sets):
            if name is None or name not in self._layout:
                continue
            rows = np.flatnonzero(good & (set_codes == code))
            if not len(rows):
                continue
            values = plan.sets[name].values(batch)
            frame.pieces.append(
                FeatureBatch(
                    name,
                    part.topic,
                    names[symbol_codes[rows]].tolist(),
                    seq + rows,
                    np.full(len(rows), part.partition, dtype=np.int64),
                    event[rows],
                    known[rows],
                    revision[rows],
                    position_of(record.offset, frame.rows) + rows,
                    values if len(rows) == len(values) else values[rows],
                )
            )

    def _known(
        self, plan: Plan, batch: pa.RecordBatch, event: NDArray[np.int64], set_codes: NDArray[np.intp], sets: list[str | None]
    ) -> NDArray[np.int64]:
        at = plan.heads.get("ts_known_us")
        given = None if at is None else integers(batch.column(at), null=0)
        missing = None if at is None else nulls(batch.column(at))
        if given is not None and missing is None:
            return given
        layouts = [None if s is None else self._layout.get(s) for s in sets]
        by_lag = event + np.array([0 if s is None else s.publication_lag_us for s in layouts])[set_codes]
        return by_lag if given is None or missing is None else np.where(missing, by_lag, given)

    def _partition(self, symbol: str | None) -> int:
        if symbol is None:
            return _NO_SYMBOL
        where = self._homes[symbol]
        return _BAD_SYMBOL if where is None else where[1]


def rejected_rows(parts: Sequence[PartitionRecords], rows: FeatureBatch, why: Sequence[tuple[str, str]]) -> list[Rejected]:
    """These rows, decoded from `parts`, as rejected for these (reason, detail): a row of a frame alone, others as they came."""
    out = []
    read: dict[tuple[int, int], pa.Table] = {}
    by_partition = {p.partition: p for p in parts}
    for partition, position, because in zip(rows.partition.tolist(), rows.offset.tolist(), why, strict=True):
        part, offset = by_partition[partition], true_offset(position)
        record = part.records[bisect_left(part.records, offset, key=lambda r: r.offset)]
        if not is_frame(record):
            out.append(Rejected(part.topic, partition, offset, record.key, record.value, *because))
            continue
        if (partition, offset) not in read:
            read[partition, offset] = pa.ipc.open_stream(record.value).read_all()
        index = position & ((1 << INDEX_BITS) - 1)
        out.append(_reject_row(part, offset, read[partition, offset], index, index, because))
    return out


def _reject_row(
    part: PartitionRecords, offset: int, rows: pa.Table | pa.RecordBatch, at: int, index: int, why: tuple[str, str]
) -> Rejected:
    key, value, content_type = lone_row(rows, at)
    detail = f"row {index} of the frame, counted from 0: {why[1]}"
    return Rejected(part.topic, part.partition, offset, key, value, why[0], detail, content_type)
