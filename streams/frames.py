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
from streams.frame_columns import FrameError, Plan, integers, lone_rows, lone_size, nulls, plan_columns, texts
from streams.layout import CLOCK_LAYOUT
from streams.wire import (
    ARROW_STREAM,
    BAD_RANGE,
    BAD_SYMBOL,
    CLOCK,
    CONTENT_TYPE,
    FUTURE,
    INDEX_BITS,
    MAX_FRAME_ROWS,
    MAX_REVISION,
    MAX_SYMBOL_BYTES,
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
_MOST_PLANNED_BYTES: Final = 16 << 20
MOST_LONE_BYTES: Final = 32 << 20
"""What bad rows of one frame may come to, about, as records of their own. Else they are rejected without their bytes:
names of columns and words of dictionaries, once in the frame, would be in each of a hundred thousand records."""
_MOST_QUOTED: Final = 300


@dataclass(slots=True)
class Frame:
    """Good rows by batch and feature set, rejected rows; how many rows it had, and values no served model reads."""

    pieces: list[FeatureBatch]
    rejected: list[Rejected]
    rows: int
    unread: int
    left_bytes: int = MOST_LONE_BYTES


def is_frame(record: Record) -> bool:
    """Whether the record's header says that it is a frame."""
    return any(name == CONTENT_TYPE and value == ARROW_STREAM for name, value in record.headers)


class FrameDecoder:
    """Frames → pieces of `FeatureBatch`, for one layout and partition count."""

    def __init__(self, layout: Layout, homes: Homes, *, max_future_us: int) -> None:
        self._layout = layout
        self._sets = {**layout, CLOCK: CLOCK_LAYOUT}
        self._max_future_us = max_future_us
        self._homes = homes
        self._plans: dict[bytes, Plan] = {}
        self._planned_bytes = 0

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
                    plan = plan_columns(reader.schema, self._sets)
                    self._remember(schema, plan)
                for batch in reader:
                    if batch.num_rows:
                        batch.validate(full=True)  # what the bytes say of themselves is believed by Arrow
                        self._take(plan, batch, part, record, frame, seq=seq + frame.rows)
                        frame.rows += batch.num_rows
        except (pa.ArrowException, ValueError, TypeError, KeyError, OSError, OverflowError, RecursionError) as e:
            raise FrameError(f"not a frame of feature rows: {e}") from e
        frame.unread = plan.unread * frame.rows
        return frame

    def _remember(self, schema: bytes, plan: Plan) -> None:
        if len(self._plans) >= _MOST_PLANS or self._planned_bytes + len(schema) > _MOST_PLANNED_BYTES:
            self._plans.clear()
            self._planned_bytes = 0
        self._plans[schema] = plan
        self._planned_bytes += len(schema)

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
        served = np.array([s in self._sets for s in sets])[set_codes]
        good &= served
        bad = np.flatnonzero(~good).tolist()
        if bad:
            words = [(symbols[symbol_codes[row]], sets[set_codes[row]]) for row in bad]
            undated = nulls(batch.column(plan.heads["ts_event_us"]))
            dated = [True] * len(bad) if undated is None else (~undated[bad]).tolist()
            facts = zip(words, home[bad].tolist(), dated, in_range[bad].tolist(), strict=True)
            why = [self._why(part.partition, *fact) for fact in facts]
            rejected, frame.left_bytes = _reject_rows(
                part, record.offset, batch, bad, words, why, first=frame.rows, left_bytes=frame.left_bytes
            )
            frame.rejected += rejected
        names = np.array(symbols, dtype=object)
        for code, name in enumerate(sets):
            if name is None or name not in self._sets:
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
        layouts = [None if s is None else self._sets.get(s) for s in sets]
        by_lag = event + np.array([0 if s is None else s.publication_lag_us for s in layouts])[set_codes]
        return by_lag if given is None or missing is None else np.where(missing, by_lag, given)

    def _why(
        self,
        partition: int,
        words: tuple[str | None, str | None],
        place: int,
        dated: bool,  # noqa: FBT001 - facts of a row, as `_take` found them
        in_range: bool,  # noqa: FBT001 - the same
    ) -> tuple[str, str]:
        """Reason and detail of what is wrong with a bad row."""
        symbol, feature_set = words
        served = feature_set in self._sets
        if feature_set is None or (symbol is None and served):
            return "undecodable", f"not a feature row: {'symbol' if feature_set is not None else 'feature_set'} is null"
        if not served:
            known = ", ".join(sorted(self._layout)) or "none"
            return "unknown_feature_set", UNKNOWN_SET.format(feature_set[:_MOST_QUOTED], known)
        if not dated:
            return "undecodable", "not a feature row: ts_event_us is null"
        if place == _BAD_SYMBOL:
            return "out_of_range", BAD_SYMBOL
        if place != partition:
            return "wrong_partition", WRONG_PARTITION.format(symbol, place)
        if not in_range:
            return "out_of_range", BAD_RANGE
        return "future", FUTURE.format(self._max_future_us)

    def _partition(self, symbol: str | None) -> int:
        if symbol is None:
            return _NO_SYMBOL
        where = self._homes[symbol]
        return _BAD_SYMBOL if where is None else where[1]


def rejected_rows(parts: Sequence[PartitionRecords], rows: FeatureBatch, why: Sequence[tuple[str, str]]) -> list[Rejected]:
    """These rows, decoded from `parts`, as rejected for these (reason, detail): a row of a frame alone, others as they came."""
    out: list[Rejected | None] = []
    of_frame: dict[tuple[int, int], list[int]] = {}
    by_partition = {p.partition: p for p in parts}
    places = list(zip(rows.partition.tolist(), rows.offset.tolist(), strict=True))
    for at, (partition, position) in enumerate(places):
        offset = true_offset(position)
        record = _record_at(by_partition[partition], offset)
        if is_frame(record):
            of_frame.setdefault((partition, offset), []).append(at)
            out.append(None)
        else:
            out.append(Rejected(rows.topic, partition, offset, record.key, record.value, *why[at]))
    for (partition, offset), those in of_frame.items():
        part = by_partition[partition]
        table = pa.ipc.open_stream(_record_at(part, offset).value).read_all()
        words = [(rows.symbols[at], rows.feature_set) for at in those]
        indices = [places[at][1] & ((1 << INDEX_BITS) - 1) for at in those]
        # Windows refuse rows piece by piece, so it is all or none, by what all rows of the frame would come to.
        left_bytes = MOST_LONE_BYTES if table.num_rows * lone_size(table) <= MOST_LONE_BYTES else 0
        rejected, _ = _reject_rows(part, offset, table, indices, words, [why[at] for at in those], left_bytes=left_bytes)
        for at, r in zip(those, rejected, strict=True):
            out[at] = r
    return [r for r in out if r is not None]


def _record_at(part: PartitionRecords, offset: int) -> Record:
    return part.records[bisect_left(part.records, offset, key=lambda r: r.offset)]


def _reject_rows(
    part: PartitionRecords,
    offset: int,
    rows: pa.Table | pa.RecordBatch,
    bad: Sequence[int],
    words: Sequence[tuple[str | None, str | None]],
    why: Sequence[tuple[str, str]],
    *,
    left_bytes: int,
    first: int = 0,
) -> tuple[list[Rejected], int]:
    """Bad rows as rejected, and how many bytes are left for more. `words`: symbol and feature set of each.

    `first` is the place in the frame of the first of `rows`.
    """
    sizes = lone_size(rows) + np.array([len(symbol or "") + len(name or "") for symbol, name in words], dtype=np.int64)
    ends = np.cumsum(sizes)
    kept = int(np.searchsorted(ends, left_bytes, "right"))
    lone = lone_rows(rows, bad[:kept])
    out = []
    for i, (row, (reason, detail)) in enumerate(zip(bad, why, strict=True)):
        told = f"row {first + row} of the frame, counted from 0: {detail}"
        if i < kept:
            key, value, content_type = lone[i]
            out.append(Rejected(part.topic, part.partition, offset, key, value, reason, told, content_type))
            continue
        symbol = words[i][0]
        key = None if symbol is None or len(symbol) > MAX_SYMBOL_BYTES else symbol.encode()
        told = f"{told} (row of about {sizes[i]} bytes left out; it stands in {part.topic} at this offset)"
        out.append(Rejected(part.topic, part.partition, offset, key, None, reason, told))
    return out, left_bytes - (int(ends[kept - 1]) if kept else 0)
