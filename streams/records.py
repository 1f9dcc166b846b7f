"""Wire bytes of the features topic to arrays: a record is one JSON feature row, or a frame of many. Core: no clock, no I/O.

    {"symbol": "GOOG", "feature_set": "bars_1d", "ts_event_us": 1167782400000000, "ts_known_us": 1167782460000000,
     "revision": 0, "values": {"ret_1": 0.013, "vol_20": null}}

`ts_known_us` absent or null: `ts_event_us` + the set's publication lag. `revision` absent: 0. A feature that is
null or absent is NaN; features no served model reads are ignored and counted. Integers and booleans count as float64.
A record whose header says so is a frame: `frames`. A row of the reserved set `__clock__` tells time and nothing else.
Nothing raises: what cannot be used comes back as `Rejected`, and
the rest goes on.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

from streams.frame_columns import FrameError
from streams.frames import FrameDecoder, is_frame, rejected_rows
from streams.layout import CLOCK_LAYOUT
from streams.row_by_row import RowByRow, Rows
from streams.row_columns import good_batches
from streams.row_types import row_decoder, row_type
from streams.unread import count_unread
from streams.wire import (
    ARROW_STREAM,
    MAX_REVISION,
    MAX_SYMBOL_BYTES,
    MAX_TS_US,
    FeatureBatch,
    Homes,
    PartitionRecords,
    Record,
    Rejected,
    joined,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import msgspec

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


class FeatureDecoder:
    """Bytes of the features topic → `FeatureBatch` per feature set, for one layout and partition count."""

    def __init__(self, layout: Layout, *, partitions: int, max_future_us: int) -> None:
        self._layout = layout
        self._max_future_us = max_future_us
        sets = (*layout.values(), CLOCK_LAYOUT)
        self._types = {row_type(s): s for s in sets}
        self._exact = {row_type(s, exact=True): s for s in sets}
        decode = self._decode = row_decoder(self._types)
        self._decode_exact = row_decoder(self._exact)
        self._more_than_read = False
        self._homes = Homes(partitions)
        self._singly = RowByRow(layout, decode=decode, homes=self._homes, max_future_us=max_future_us)
        self._frames = FrameDecoder(layout, self._homes, max_future_us=max_future_us)

    def decode(
        self, parts: Sequence[PartitionRecords], counts: Counter[str] | None = None
    ) -> tuple[list[FeatureBatch], list[Rejected]]:
        """A chunk's rows by feature set, and what was rejected; each in the order given.

        Adds to `counts`: `rows` (a frame that cannot be read counts as one), `frames`, and `unread_features`, the values
        that no served model reads.
        """
        counts = Counter() if counts is None else counts
        counts["rows"] += sum(len(p.records) for p in parts)
        framed = any(r.headers and is_frame(r) for part in parts for r in part.records)
        if parts and not framed and not self._more_than_read:
            whole = self._good(parts, exact=True)
            if whole is not None:
                return whole, []
        rejected: list[Rejected] = []
        by_type = {t: Rows(s) for t, s in self._types.items()}
        by_set = {rows.layout.feature_set: rows for rows in by_type.values()}
        seq = unread = 0
        for part in parts:
            records = part.records
            frames = [i for i, r in enumerate(records) if r.headers and is_frame(r)] if framed else []
            for before, at in pairwise([-1, *frames, len(records)]):
                stretch = PartitionRecords(part.topic, part.partition, records[before + 1 : at]) if frames else part
                unread += self._decode_stretch(stretch, by_type, by_set, rejected, seq)
                seq += len(stretch.records)
                if at < len(records):
                    seq += self._decode_frame(part, records[at], by_set, rejected, seq, counts)
        self._more_than_read = unread > 0
        counts["unread_features"] += unread
        topic = parts[0].topic if parts else ""
        for rows in by_set.values():
            rows.close(topic)
        return [joined(rows.pieces) for rows in by_set.values() if rows.pieces], rejected

    def _decode_frame(
        self,
        part: PartitionRecords,
        record: Record,
        by_set: Mapping[str, Rows],
        rejected: list[Rejected],
        seq: int,
        counts: Counter[str],
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
        counts["frames"] += 1
        counts["rows"] += n - 1
        counts["unread_features"] += unread
        return n

    def _decode_stretch(
        self,
        stretch: PartitionRecords,
        by_type: Mapping[type[msgspec.Struct], Rows],
        by_set: Mapping[str, Rows],
        rejected: list[Rejected],
        seq: int,
    ) -> int:
        """Take JSON rows; returns how many of their values no served model reads."""
        records = stretch.records
        if not records:
            return 0
        good = self._good([stretch], exact=False, seq=seq)
        if good is not None:
            for batch in good:
                rows = by_set[batch.feature_set]
                rows.close(stretch.topic)
                rows.pieces.append(batch)
            return count_unread((r.value for r in records), self._layout)  # type: ignore[misc]  # good rows have values
        before = len(rejected)
        self._singly.take(stretch, by_type, rejected, seq)
        refused = {r.offset for r in rejected[before:]}
        return count_unread((r.value for r in records if r.offset not in refused), self._layout)  # type: ignore[misc]  # what is taken has a value

    def _good(self, parts: Sequence[PartitionRecords], *, exact: bool, seq: int = 0) -> list[FeatureBatch] | None:
        return good_batches(
            parts,
            decode=self._decode_exact if exact else self._decode,
            types=self._exact if exact else self._types,
            homes=self._homes,
            max_future_us=self._max_future_us,
            seq=seq,
        )
