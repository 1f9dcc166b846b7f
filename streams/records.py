"""Wire bytes of the features topic to arrays: one JSON feature row a record. Core: no clock, no I/O.

    {"symbol": "GOOG", "feature_set": "bars_1d", "ts_event_us": 1167782400000000, "ts_known_us": 1167782460000000,
     "revision": 0, "values": {"ret_1": 0.013, "vol_20": null}}

`ts_known_us` absent or null: `ts_event_us` + the set's publication lag. `revision` absent: 0. A feature that is
null or absent is NaN; features no served model reads are ignored. Integers and booleans count as float64.
Nothing raises: what cannot be used comes back as `Rejected`, and the rest of the records goes on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np

from streams.partitioner import partition_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from streams.layout import Layout, SetLayout

MAX_REVISION = 1023
"""Revisions share one int64 sort key with the event time, 10 bits of it."""
MAX_TS_US = 1 << 53
"""Event and known times lie in [0, 2**53) microseconds: 1970 to 2255, exact in every JSON reader."""
MAX_SYMBOL_BYTES = 256
"""Longest symbol, in UTF-8: it stands several times in every record made of the row, which must fit the topics."""


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
        """The symbol in UTF-8."""
        ...

    @property
    def value(self) -> bytes | None:
        """The row."""
        ...


@dataclass(frozen=True, slots=True)
class PartitionRecords:
    """Records of one topic partition, offsets ascending."""

    topic: str
    partition: int
    records: Sequence[Record]


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that cannot be used, with its original bytes and why; `reason` is a stable word."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    reason: str
    detail: str


@dataclass(slots=True)
class FeatureBatch:
    """Rows of one feature set, offsets ascending within each partition. Arrays are (rows,), values (rows, features).

    `seq` is the record's position in the chunk, over all feature sets. A symbol lives on one partition only.
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


class _Head(msgspec.Struct):
    feature_set: str


class _Nameless(msgspec.Struct, tag_field="feature_set", tag=""):
    """No feature set has this name; beside it a row must name its own, which msgspec asks only where there is a choice."""


class _Rows:
    """Columns of one feature set while a chunk is read."""

    __slots__ = ("event", "known", "layout", "offset", "partition", "revision", "seq", "symbols", "values")

    def __init__(self, layout: SetLayout) -> None:
        self.layout = layout
        self.symbols: list[str] = []
        self.seq: list[int] = []
        self.partition: list[int] = []
        self.event: list[int] = []
        self.known: list[int] = []
        self.revision: list[int] = []
        self.offset: list[int] = []
        self.values: list[tuple[Any, ...]] = []


def _row_type(layout: SetLayout) -> tuple[type[msgspec.Struct], type[msgspec.Struct]]:
    # Wire names need not be Python identifiers, so fields are f0, f1, … renamed to them.
    fields = [f"f{i}" for i in range(len(layout.features))]
    values = msgspec.defstruct(
        "Values",
        [(f, float | bool | None, math.nan) for f in fields],
        rename=dict(zip(fields, layout.features, strict=True)),
        gc=False,
    )
    row = msgspec.defstruct(
        "Row",
        [
            ("symbol", str),
            ("ts_event_us", int),
            ("values", values),
            ("ts_known_us", int | None, None),
            ("revision", int, 0),
        ],
        tag_field="feature_set",
        tag=layout.feature_set,
        gc=False,
    )
    return row, values


class FeatureDecoder:
    """Bytes of the features topic → `FeatureBatch` per feature set, for one layout and partition count."""

    def __init__(self, layout: Layout, *, partitions: int, max_future_us: int) -> None:
        self._layout = layout
        self._partitions = partitions
        self._max_future_us = max_future_us
        self._types = {_row_type(s)[0]: s for s in layout.values()}
        union: Any = _Nameless
        for row in self._types:
            union = union | row
        self._decode = msgspec.json.Decoder(union).decode
        self._head = msgspec.json.Decoder(_Head).decode
        self._home: dict[str, tuple[bytes, int]] = {}  # symbol → its key bytes and the partition it belongs to

    def decode(self, parts: Sequence[PartitionRecords]) -> tuple[list[FeatureBatch], list[Rejected]]:
        """A chunk's rows by feature set, and what was rejected; each in the order given."""
        rejected: list[Rejected] = []
        by_type = {t: _Rows(s) for t, s in self._types.items()}
        seq = 0
        for part in parts:
            self._decode_partition(part, by_type, rejected, seq)
            seq += len(part.records)
        topic = parts[0].topic if parts else ""
        return [_batch(topic, rows) for rows in by_type.values() if rows.symbols], rejected

    def _decode_partition(
        self, part: PartitionRecords, by_type: dict[type[msgspec.Struct], _Rows], rejected: list[Rejected], seq: int
    ) -> None:
        decode, astuple, home, partition = self._decode, msgspec.structs.astuple, self._home, part.partition
        for at, r in enumerate(part.records, seq):
            try:
                row: Any = decode(r.value)  # type: ignore[arg-type]  # None (a tombstone) is refused like bad JSON
                rows = by_type[type(row)]
                symbol = row.symbol
                where = home.get(symbol)
                if where is None:
                    key = symbol.encode()
                    if not 0 < len(key) <= MAX_SYMBOL_BYTES or b"\x00" in key:
                        rejected.append(_reject(part, r, "out_of_range", _SYMBOL))
                        continue
                    where = home[symbol] = (key, partition_of(key, self._partitions))
                if r.key != where[0]:
                    rejected.append(
                        _reject(part, r, "key_mismatch", f"key {r.key!r} is not the row's symbol {symbol!r} in UTF-8")
                    )
                    continue
                if where[1] != partition:
                    rejected.append(_reject(part, r, "wrong_partition", _WRONG_PARTITION.format(symbol, where[1])))
                    continue
                event = row.ts_event_us
                known = row.ts_known_us
                if known is None:
                    known = event + rows.layout.publication_lag_us
                if not (0 <= event < MAX_TS_US and 0 <= known < MAX_TS_US and 0 <= row.revision <= MAX_REVISION):
                    rejected.append(_reject(part, r, "out_of_range", _RANGE))
                    continue
                if max(event, known) > r.timestamp * 1000 + self._max_future_us:
                    rejected.append(_reject(part, r, "future", _FUTURE.format(self._max_future_us)))
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
            return _reject(
                part, r, "unknown_feature_set", f"no served model reads feature set {head.feature_set!r}; they read: {known}"
            )
        return _reject(part, r, "undecodable", f"not a feature row: {error}" if r.value is not None else "empty value")


_WRONG_PARTITION = "symbol {!r} belongs on partition {}: produce with partitioner=murmur2_random and the symbol as key"
_SYMBOL = f"symbol must be 1 to {MAX_SYMBOL_BYTES} bytes long in UTF-8, without NUL"  # tables keep other things under keys with NUL
_RANGE = f"ts_event_us and ts_known_us must lie in [0, {MAX_TS_US}), revision in [0, {MAX_REVISION}]"
_FUTURE = "event or known time is more than {} us after the record's Kafka timestamp (setting inference.max_future)"


def _reject(part: PartitionRecords, r: Record, reason: str, detail: str) -> Rejected:
    return Rejected(part.topic, part.partition, r.offset, r.key, r.value, reason, detail)


def _batch(topic: str, rows: _Rows) -> FeatureBatch:
    return FeatureBatch(
        rows.layout.feature_set,
        topic,
        rows.symbols,
        np.array(rows.seq, dtype=np.int64),
        np.array(rows.partition, dtype=np.int64),
        np.array(rows.event, dtype=np.int64),
        np.array(rows.known, dtype=np.int64),
        np.array(rows.revision, dtype=np.int64),
        np.array(rows.offset, dtype=np.int64),
        np.array(rows.values, dtype=np.float64).reshape(len(rows.symbols), len(rows.layout.features)),
    )
