"""JSON rows one by one, where not all of a stretch are good: says what is wrong, and with which. Core."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from streams.row_types import TOO_DEEP, Head, too_deep
from streams.wire import (
    ARROW_STREAM,
    BAD_RANGE,
    BAD_SYMBOL,
    CLOCK,
    FUTURE,
    INDEX_BITS,
    MAX_REVISION,
    MAX_TS_US,
    UNKNOWN_SET,
    WRONG_PARTITION,
    FeatureBatch,
    Homes,
    PartitionRecords,
    Record,
    Rejected,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streams.layout import Layout, SetLayout


class Rows:
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


class RowByRow:
    """Decodes rows singly; what cannot be used is added to the rejected."""

    def __init__(self, layout: Layout, *, decode: Callable[[bytes], Any], homes: Homes, max_future_us: int) -> None:
        self._layout = layout
        self._decode = decode
        self._head = msgspec.json.Decoder(Head).decode
        self._homes = homes
        self._max_future_us = max_future_us

    def take(
        self,
        part: PartitionRecords,
        by_type: Mapping[type[msgspec.Struct], Rows],
        rejected: list[Rejected],
        seq: int,
    ) -> None:
        """Add each record, of which the first is the chunk's `seq`-th, to its set's rows or to the rejected."""
        decode, astuple, homes, partition = self._decode, msgspec.structs.astuple, self._homes, part.partition
        for at, r in enumerate(part.records, seq):
            if r.value is not None and too_deep(r.value):
                rejected.append(_reject(part, r, "undecodable", TOO_DEEP))
                continue
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
        if head is not None and head.feature_set not in self._layout and head.feature_set != CLOCK:
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
