"""Wire bytes of the features topic to arrays: a record is one JSON feature row, or a frame of many. Core: no clock, no I/O.

    {"symbol": "GOOG", "feature_set": "bars_1d", "ts_event_us": 1167782400000000, "ts_known_us": 1167782460000000,
     "revision": 0, "values": {"ret_1": 0.013, "vol_20": null}}

`ts_known_us` absent or null: `ts_event_us` + the set's publication lag. `revision` absent: 0. A feature that is
null or absent is NaN; features no served model reads are ignored. Integers and booleans count as float64.
A record whose header says so is a frame: `frames`. A row of the reserved set `__clock__` tells time and nothing else.
Nothing raises: what cannot be used comes back as `Rejected`, and
the rest goes on.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from streams.frame_columns import FrameError
from streams.frames import FrameDecoder, is_frame, rejected_rows
from streams.layout import SetLayout
from streams.row_columns import good_batches
from streams.row_types import Head, Nameless, row_type
from streams.wire import (
    ARROW_STREAM,
    BAD_RANGE,
    BAD_SYMBOL,
    CLOCK,
    FUTURE,
    INDEX_BITS,
    MAX_REVISION,
    MAX_SYMBOL_BYTES,
    MAX_TS_US,
    UNKNOWN_SET,
    WRONG_PARTITION,
    FeatureBatch,
    Homes,
    PartitionRecords,
    Record,
    Rejected,
    joined,
)

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

    from streams.layout import Layout

__all__ = [
    "MAX_REVISION",
    "MAX_SYMBOL_BYTES",
    "MAX_TS_US",
    "FeatureBatch",
    "FeatureDecoder",
    "PartitionRecords",
    "Record",
    "Rejected",
    "rejected_rows",
]


class _Rows:
    """One feature set while a chunk is read: columns of JSON rows, which `close` makes the next of the pieces."""

    __slots__ = ("event", "known", "layout", "offset", "partition", "pieces", "revision", "seq", "symbols", "values")

    def __init__(self, layout: SetLayout) -> None:
        self.layout = layout
        self.pieces: list[FeatureBatch] = []
        self._clear()

    def _clear(self) -> None:
        self.symbols: list[str] = []
        self.seq: list[int] = []
        self.partition: list[int] = []
        self.event: list[int] = []
        self.known: list[int] = []
        self.revision: list[int] = []
        self.offset: list[int] = []
        self.values: list[tuple[Any, ...]] = []

    def close(self, topic: str) -> None:
        """Add the rows read since the last call to the pieces."""
        if not self.symbols:
            return
        self.pieces.append(
            FeatureBatch(
                self.layout.feature_set,
                topic,
                self.symbols,
                np.array(self.seq, dtype=np.int64),
                np.array(self.partition, dtype=np.int64),
                np.array(self.event, dtype=np.int64),
                np.array(self.known, dtype=np.int64),
                np.array(self.revision, dtype=np.int64),
                np.array(self.offset, dtype=np.int64) << INDEX_BITS,
                np.array(self.values, dtype=np.float64).reshape(len(self.symbols), len(self.layout.features)),
            )
        )
        self._clear()


class FeatureDecoder:
    """Bytes of the features topic → `FeatureBatch` per feature set, for one layout and partition count."""

    def __init__(self, layout: Layout, *, partitions: int, max_future_us: int) -> None:
        self._layout = layout
        self._max_future_us = max_future_us
        self._types = {row_type(s): s for s in (*layout.values(), SetLayout(CLOCK, (), 0, 1))}
        union: Any = Nameless
        for row in self._types:
            union = union | row
        self._decode = msgspec.json.Decoder(union).decode
        self._head = msgspec.json.Decoder(Head).decode
        self._homes = Homes(partitions)
        self._frames = FrameDecoder(layout, self._homes, max_future_us=max_future_us)

    def decode(
        self, parts: Sequence[PartitionRecords], counts: Counter[str] | None = None
    ) -> tuple[list[FeatureBatch], list[Rejected]]:
        """A chunk's rows by feature set, and what was rejected; each in the order given.

        Adds to `counts`: `rows` (a frame that cannot be read counts as one), `frames`, and `unread_features`, the values in
        frames that no served model reads.
        """
        rejected: list[Rejected] = []
        by_type = {t: _Rows(s) for t, s in self._types.items()}
        by_set = {rows.layout.feature_set: rows for rows in by_type.values()}
        if counts is not None:
            counts["rows"] += sum(len(p.records) for p in parts)
        seq = 0
        for part in parts:
            records = part.records
            frames = [i for i, r in enumerate(records) if r.headers and is_frame(r)]
            for before, at in pairwise([-1, *frames, len(records)]):
                self._decode_stretch(part, records[before + 1 : at] if frames else records, by_type, rejected, seq)
                seq += at - before - 1
                if at < len(records):
                    seq += self._decode_frame(part, records[at], by_set, rejected, seq, counts)
        topic = parts[0].topic if parts else ""
        for rows in by_set.values():
            rows.close(topic)
        return [joined(rows.pieces) for rows in by_set.values() if rows.pieces], rejected

    def _decode_frame(
        self,
        part: PartitionRecords,
        record: Record,
        by_set: dict[str, _Rows],
        rejected: list[Rejected],
        seq: int,
        counts: Counter[str] | None,
    ) -> int:
        """Take a frame's rows; returns how many they are."""
        try:
            frame = self._frames.decode(part, record, seq=seq)
        except FrameError as e:
            rejected.append(
                Rejected(part.topic, part.partition, record.offset, record.key, record.value, "undecodable", str(e), ARROW_STREAM)
            )
            n, unread = 1, 0
        else:
            n, unread = frame.rows, frame.unread
            rejected += frame.rejected
            for piece in frame.pieces:
                rows = by_set[piece.feature_set]
                rows.close(part.topic)
                rows.pieces.append(piece)
        if counts is not None:
            counts["frames"] += 1
            counts["rows"] += n - 1
            counts["unread_features"] += unread
        return n

    def _decode_stretch(
        self,
        part: PartitionRecords,
        records: Sequence[Record],
        by_type: dict[type[msgspec.Struct], _Rows],
        rejected: list[Rejected],
        seq: int,
    ) -> None:
        if not records:
            return
        good = good_batches(
            part,
            records,
            decode=self._decode,
            types=self._types,
            homes=self._homes,
            max_future_us=self._max_future_us,
            seq=seq,
        )
        if good is None:
            self._decode_rows(part, records, by_type, rejected, seq)
            return
        by_set = {rows.layout.feature_set: rows for rows in by_type.values()}
        for batch in good:
            rows = by_set[batch.feature_set]
            rows.close(part.topic)
            rows.pieces.append(batch)

    def _decode_rows(
        self,
        part: PartitionRecords,
        records: Sequence[Record],
        by_type: dict[type[msgspec.Struct], _Rows],
        rejected: list[Rejected],
        seq: int,
    ) -> None:
        decode, astuple, homes, partition = self._decode, msgspec.structs.astuple, self._homes, part.partition
        for at, r in enumerate(records, seq):
            try:
                row: Any = decode(r.value)  # type: ignore[arg-type]  # None (a tombstone) is refused like bad JSON
                rows = by_type[type(row)]
                symbol = row.symbol
                where = homes[symbol]
                if where is None:
                    rejected.append(_reject(part, r, "out_of_range", BAD_SYMBOL))
                    continue
                if r.key != where[0]:
                    rejected.append(
                        _reject(part, r, "key_mismatch", f"key {r.key!r} is not the row's symbol {symbol!r} in UTF-8")
                    )
                    continue
                if where[1] != partition:
                    rejected.append(_reject(part, r, "wrong_partition", WRONG_PARTITION.format(symbol, where[1])))
                    continue
                event = row.ts_event_us
                known = row.ts_known_us
                if known is None:
                    known = event + rows.layout.publication_lag_us
                if not (0 <= event < MAX_TS_US and 0 <= known < MAX_TS_US and 0 <= row.revision <= MAX_REVISION):
                    rejected.append(_reject(part, r, "out_of_range", BAD_RANGE))
                    continue
                if max(event, known) > r.timestamp * 1000 + self._max_future_us:
                    rejected.append(_reject(part, r, "future", FUTURE.format(self._max_future_us)))
                    continue
            except (msgspec.MsgspecError, UnicodeError, TypeError, OverflowError, KeyError, RecursionError) as e:
                rejected.append(self._refuse(part, r, e))
                continue
            rows.symbols.append(symbol)
            rows.seq.append(at)
            rows.partition.append(partition)
            rows.event.append(event)
            rows.known.append(known)
            rows.revision.append(row.revision)
            rows.offset.append(r.offset)
            rows.values.append(astuple(row.values))

    def _refuse(self, part: PartitionRecords, r: Record, error: Exception) -> Rejected:
        try:
            head = self._head(r.value) if r.value is not None else None
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            head = None
        if head is not None and head.feature_set not in self._layout:
            known = ", ".join(sorted(self._layout)) or "none"
            return _reject(part, r, "unknown_feature_set", UNKNOWN_SET.format(head.feature_set, known))
        if r.value is None:
            return _reject(part, r, "undecodable", "empty value")
        if r.value[:4] == _ARROW_MARK:
            return _reject(part, r, "undecodable", _NO_HEADER)
        return _reject(part, r, "undecodable", f"not a feature row: {error}")


_ARROW_MARK = b"\xff\xff\xff\xff"
_NO_HEADER = f"an Arrow stream without the header content-type: {ARROW_STREAM.decode()}"


def _reject(part: PartitionRecords, r: Record, reason: str, detail: str) -> Rejected:
    return Rejected(part.topic, part.partition, r.offset, r.key, r.value, reason, detail)
