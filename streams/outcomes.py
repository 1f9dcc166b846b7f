"""Wire bytes of the outcomes topic to arrays: one JSON outcome a record. Core: no clock, no I/O.

    {"symbol": "GOOG", "ts_event_us": 1167782400000000, "horizon_us": 432000000000, "value": 0.021,
     "ts_known_us": 1168214460000000, "revision": 0}

The key is the symbol, the partition the symbol's. `ts_known_us` may be absent or null, `revision` absent (0); unknown
fields are ignored. Ranges are those of `streams.records`. Nothing raises: what cannot be used comes back as `Rejected`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from streams.rejections import reject
from streams.wire import BAD_SYMBOL, FUTURE, MAX_REVISION, MAX_TS_US, WRONG_PARTITION, Homes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streams.records import PartitionRecords, Record, Rejected

UNKNOWN = -1
"""`OutcomeBatch.ts_known_us` of an outcome that does not say since when it is known."""


@dataclass(frozen=True, slots=True, eq=False)
class OutcomeBatch:
    """Outcomes of one partition, offsets ascending; arrays are (rows,)."""

    symbols: list[str]
    ts_event_us: NDArray[np.int64]
    horizon_us: NDArray[np.int64]
    revision: NDArray[np.int64]
    ts_known_us: NDArray[np.int64]
    value: NDArray[np.float64]
    offset: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.symbols)

    def after(self, offset: int) -> OutcomeBatch:
        """The rows of later offsets."""
        n = int(np.searchsorted(self.offset, offset, "right"))
        return OutcomeBatch(
            self.symbols[n:],
            self.ts_event_us[n:],
            self.horizon_us[n:],
            self.revision[n:],
            self.ts_known_us[n:],
            self.value[n:],
            self.offset[n:],
        )


class _Outcome(msgspec.Struct, gc=False):
    symbol: str
    ts_event_us: int
    horizon_us: int
    value: float
    ts_known_us: int | None = None
    revision: int = 0


class OutcomeDecoder:
    """Bytes of the outcomes topic → `OutcomeBatch`, for one partition count."""

    def __init__(self, *, partitions: int, max_future_us: int) -> None:
        """`max_future_us`: how far event and known time may lie ahead of the record's Kafka timestamp."""
        self._max_future_us = max_future_us
        self._decode = msgspec.json.Decoder(_Outcome).decode
        self._homes = Homes(partitions)

    def decode(self, part: PartitionRecords) -> tuple[OutcomeBatch, list[Rejected]]:
        """The outcomes of one partition's records, and what was rejected; both in the order given."""
        rejected: list[Rejected] = []
        symbols: list[str] = []
        integers: list[tuple[int, int, int, int, int]] = []
        values: list[float] = []
        for r in part.records:
            try:
                row = self._decode(r.value)  # type: ignore[arg-type]  # None (a tombstone) is refused like bad JSON
                wrong = self._wrong(row, r, part.partition)
            except (msgspec.MsgspecError, UnicodeError, TypeError, RecursionError) as e:
                wrong = ("undecodable", f"not an outcome: {e}" if r.value is not None else "empty value")
                rejected.append(reject(part, r, *wrong))
                continue
            if wrong is not None:
                rejected.append(reject(part, r, *wrong))
                continue
            known = UNKNOWN if row.ts_known_us is None else row.ts_known_us
            symbols.append(row.symbol)
            integers.append((row.ts_event_us, row.horizon_us, row.revision, known, r.offset))
            values.append(row.value)
        columns = np.array(integers, np.int64).reshape(len(symbols), 5).T
        event, horizon, revision, known_us, offset = (np.ascontiguousarray(c) for c in columns)
        return OutcomeBatch(symbols, event, horizon, revision, known_us, np.array(values, np.float64), offset), rejected

    def _wrong(self, row: _Outcome, r: Record, partition: int) -> tuple[str, str] | None:
        """Reason and detail of what is wrong with the row, None if nothing is."""
        symbol = row.symbol
        home = self._homes[symbol]
        if home is None:
            return "out_of_range", BAD_SYMBOL
        if r.key != home[0]:
            return "key_mismatch", f"key {r.key!r} is not the outcome's symbol {symbol!r} in UTF-8"
        if home[1] != partition:
            return "wrong_partition", WRONG_PARTITION.format(symbol, home[1])
        event, known, due = row.ts_event_us, row.ts_known_us, row.ts_event_us + row.horizon_us
        if not (0 <= event < due < MAX_TS_US and 0 <= row.revision <= MAX_REVISION and math.isfinite(row.value)):
            return "out_of_range", _RANGE
        if known is not None and not 0 <= known < MAX_TS_US:
            return "out_of_range", _RANGE
        if max(event, event if known is None else known) > r.timestamp * 1000 + self._max_future_us:
            return "future", FUTURE.format(self._max_future_us)
        return None


_RANGE = (
    f"ts_event_us, ts_known_us and ts_event_us + horizon_us must lie in [0, {MAX_TS_US}), horizon_us above 0, "
    f"revision in [0, {MAX_REVISION}], and value must be finite"
)
