"""JSON rows that are all good, column by column: the same batches as row by row, for a third less. Core.

Most stretches of records hold no bad row. Then checks and conversions can run over whole columns; if anything at all is
wrong, nothing is returned and `records` goes through the stretch row by row, to say what and where.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from streams.wire import INDEX_BITS, MAX_REVISION, MAX_TS_US, FeatureBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from streams.layout import SetLayout
    from streams.wire import Homes, PartitionRecords, Record


def good_batches(
    part: PartitionRecords,
    records: Sequence[Record],
    *,
    decode: Callable[[bytes], Any],
    types: Mapping[type[msgspec.Struct], SetLayout],
    homes: Homes,
    max_future_us: int,
    seq: int,
) -> list[FeatureBatch] | None:
    """A batch per feature set of these records, of which the first is the chunk's `seq`-th; None if any row is not good."""
    try:
        rows = [decode(r.value) for r in records]  # type: ignore[arg-type]  # None raises, as bad JSON does
        symbols = [row.symbol for row in rows]
        key_of = {}
        for symbol in set(symbols):
            key, partition = homes[symbol]  # type: ignore[misc]  # None, for a symbol that cannot be, raises
            if partition != part.partition:
                return None
            key_of[symbol] = key
        if [key_of[s] for s in symbols] != [r.key for r in records]:
            return None
        limit_us = np.array([r.timestamp for r in records], dtype=np.int64) * 1000 + max_future_us
        position = np.array([r.offset for r in records], dtype=np.int64) << INDEX_BITS
        kinds = set(map(type, rows))
        batches = []
        for kind in kinds:
            chosen = None if len(kinds) == 1 else np.array([i for i, row in enumerate(rows) if type(row) is kind])
            batch = _batch(part, types[kind], rows, symbols, position, limit_us, chosen, seq)
            if batch is None:
                return None
            batches.append(batch)
    except (msgspec.MsgspecError, UnicodeError, TypeError, OverflowError, KeyError, RecursionError, AttributeError):
        return None
    return batches


def _batch(
    part: PartitionRecords,
    layout: SetLayout,
    rows: list[Any],
    symbols: list[str],
    position: NDArray[np.int64],
    limit_us: NDArray[np.int64],
    chosen: NDArray[np.intp] | None,
    seq: int,
) -> FeatureBatch | None:
    at = np.arange(len(rows), dtype=np.int64)
    if chosen is not None:
        rows, symbols = [rows[i] for i in chosen.tolist()], [symbols[i] for i in chosen.tolist()]
        position, limit_us, at = position[chosen], limit_us[chosen], at[chosen]
    event = np.array([row.ts_event_us for row in rows], dtype=np.int64)
    told = [row.ts_known_us for row in rows]
    if None in told:
        lag_us = layout.publication_lag_us
        told = [e + lag_us if k is None else k for k, e in zip(told, event.tolist(), strict=True)]
    known = np.array(told, dtype=np.int64)
    revision = np.array([row.revision for row in rows], dtype=np.int64)
    earliest, latest = np.minimum(event, known), np.maximum(event, known)
    if earliest.min() < 0 or latest.max() >= MAX_TS_US or revision.min() < 0 or revision.max() > MAX_REVISION:
        return None
    if (latest > limit_us).any():
        return None
    return FeatureBatch(
        layout.feature_set,
        part.topic,
        symbols,
        at + seq,
        np.full(len(rows), part.partition, dtype=np.int64),
        event,
        known,
        revision,
        position,
        _values([msgspec.structs.astuple(row.values) for row in rows], len(layout.features)),
    )


def _values(tuples: list[tuple[Any, ...]], features: int) -> NDArray[np.float64]:
    """float64 (rows, features), None as NaN. Packing is three times as fast as `np.array`, and refuses None."""
    pack = struct.Struct(f"={features}d").pack
    try:
        packed = b"".join([pack(*values) for values in tuples])
    except struct.error:
        return np.array(tuples, dtype=np.float64).reshape(len(tuples), features)
    return np.frombuffer(packed, dtype=np.float64).reshape(len(tuples), features)
