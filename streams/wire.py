"""What a features record is to the core: records in, rows in columns, or a rejection. Core: types and limits only.

Rows of one frame share their record's offset, yet each must see those before it and none after. So what windows, waits
and their state call the offset of a row is its position, and only what leaves the worker has the record's own offset:

    position = offset << 20 | index of the row in its frame, 0 for a JSON row

>>> hex(position_of(5, 3)), true_offset(position_of(5, 3))
('0x500003', 5)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from streams.partitioner import partition_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CONTENT_TYPE = "content-type"
ARROW_STREAM = b"application/vnd.apache.arrow.stream"

MAX_REVISION = 1023
"""Revisions share one int64 sort key with the event time, 10 bits of it."""
MAX_TS_US = 1 << 53
"""Event and known times lie in [0, 2**53) microseconds: 1970 to 2255, exact in every JSON reader."""
MAX_SYMBOL_BYTES = 256
"""Longest symbol, in UTF-8: it stands several times in every record made of the row, which must fit the topics."""
INDEX_BITS = 20
MAX_FRAME_ROWS = 1 << INDEX_BITS
"""A frame has fewer rows than this; offsets have the 43 bits above."""

CLOCK = "__clock__"
"""Reserved feature set: a row of it, keyed by any symbol of the partition, only moves the partition's stream time on."""

WRONG_PARTITION = "symbol {!r} belongs on partition {}: produce with partitioner=murmur2_random and the symbol as key"
BAD_SYMBOL = (
    f"symbol must be 1 to {MAX_SYMBOL_BYTES} bytes long in UTF-8, without NUL"  # tables keep other things under keys with NUL
)
BAD_RANGE = f"ts_event_us and ts_known_us must lie in [0, {MAX_TS_US}), revision in [0, {MAX_REVISION}]"
FUTURE = "event or known time is more than {} us after the record's Kafka timestamp (setting inference.max_future)"
UNKNOWN_SET = "no served model reads feature set {!r}; they read: {}"


_MOST_HOMES = 1 << 18
"""Symbols remembered: whoever sends nonsense sends ever new ones."""


def position_of(offset: int, index: int = 0) -> int:
    """The position of a row: `index` is its place in the frame at this offset."""
    return offset << INDEX_BITS | index


def true_offset(position: int) -> int:
    """The Kafka offset of the record a row came in."""
    return position >> INDEX_BITS


class Homes(dict[str, "tuple[bytes, int] | None"]):
    """Symbol → its key bytes and the partition it belongs to; None for one that cannot be. Remembered for a while.

    >>> homes = Homes(8)
    >>> homes["GOOG"], homes[""]
    ((b'GOOG', 1), None)
    """

    def __init__(self, partitions: int) -> None:
        super().__init__()
        self._partitions = partitions

    def __missing__(self, symbol: str) -> tuple[bytes, int] | None:
        key = symbol.encode()
        if not 0 < len(key) <= MAX_SYMBOL_BYTES or b"\x00" in key:
            return None
        if len(self) >= _MOST_HOMES:
            self.clear()
        where = self[symbol] = (key, partition_of(key, self._partitions))
        return where


class Record(Protocol):
    """What the core needs of a consumed record (aiokafka's ConsumerRecord has it)."""

    @property
    def offset(self) -> int:
        """Place in the partition."""
        ...

    @property
    def timestamp(self) -> int:
        """Kafka timestamp, milliseconds."""
        ...

    @property
    def key(self) -> bytes | None:
        """The symbol in UTF-8; of a frame anything."""
        ...

    @property
    def value(self) -> bytes | None:
        """The row, or the frame."""
        ...

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """Names and values; `content-type` tells a frame."""
        ...


@dataclass(frozen=True, slots=True)
class PartitionRecords:
    """Records of one topic partition, offsets ascending."""

    topic: str
    partition: int
    records: Sequence[Record]


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that cannot be used, with its original bytes and why; `reason` is a stable word.

    A bad row of a good frame is rejected by itself: `key` and `value` are then those of a record with this row alone.
    `content_type` is that of `value` where it is not a JSON row or unknown; `headers` are the record's own.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    reason: str
    detail: str
    content_type: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(slots=True)
class FeatureBatch:
    """Rows of one feature set, offsets ascending within each partition. Arrays are (rows,), values (rows, features).

    `offset` holds positions, so it differs for rows of one frame; `seq` is the row's place in the chunk, over all
    feature sets. A symbol lives on one partition only.
    """

    feature_set: str
    topic: str
    symbols: list[str]
    seq: NDArray[np.int64]
    partition: NDArray[np.int64]
    ts_event_us: NDArray[np.int64]
    ts_known_us: NDArray[np.int64]
    revision: NDArray[np.int64]
    offset: NDArray[np.int64]
    values: NDArray[np.float64]

    @property
    def source_offset(self) -> NDArray[np.int64]:
        """Kafka offsets of the rows' records, int64 (rows,)."""
        offsets: NDArray[np.int64] = self.offset >> INDEX_BITS
        return offsets

    def slice(self, start: int, stop: int) -> FeatureBatch:
        """The batch of rows [start, stop), its arrays views of these."""
        return FeatureBatch(
            self.feature_set,
            self.topic,
            self.symbols[start:stop],
            self.seq[start:stop],
            self.partition[start:stop],
            self.ts_event_us[start:stop],
            self.ts_known_us[start:stop],
            self.revision[start:stop],
            self.offset[start:stop],
            self.values[start:stop],
        )

    def take(self, rows: NDArray[np.intp]) -> FeatureBatch:
        """The batch of just these rows, in the order given."""
        return FeatureBatch(
            self.feature_set,
            self.topic,
            [self.symbols[i] for i in rows.tolist()],
            self.seq[rows],
            self.partition[rows],
            self.ts_event_us[rows],
            self.ts_known_us[rows],
            self.revision[rows],
            self.offset[rows],
            self.values[rows],
        )


def joined(pieces: Sequence[FeatureBatch]) -> FeatureBatch:
    """Pieces of one feature set as one batch, in the order given; there must be one at least."""
    if len(pieces) == 1:
        return pieces[0]
    return FeatureBatch(
        pieces[0].feature_set,
        pieces[0].topic,
        [symbol for piece in pieces for symbol in piece.symbols],
        np.concatenate([p.seq for p in pieces]),
        np.concatenate([p.partition for p in pieces]),
        np.concatenate([p.ts_event_us for p in pieces]),
        np.concatenate([p.ts_known_us for p in pieces]),
        np.concatenate([p.revision for p in pieces]),
        np.concatenate([p.offset for p in pieces]),
        np.concatenate([p.values for p in pieces]),
    )
