"""Frames for tests, and what becomes of them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from streams.frame_columns import write_frame
from streams.layout import SetLayout
from streams.partitioner import partition_of
from streams.records import FeatureBatch, FeatureDecoder, PartitionRecords, Rejected
from streams.wire import ARROW_STREAM
from tests.record import Record

if TYPE_CHECKING:
    from numpy.typing import NDArray

PARTITIONS = 3
HOME = partition_of(b"A", PARTITIONS)
AWAY = next(s for s in "BCDEFG" if partition_of(s.encode(), PARTITIONS) != HOME)
NEAR = next(s for s in "BCDEFGHIJ" if partition_of(s.encode(), PARTITIONS) == HOME)
LAYOUT = {
    "bars": SetLayout("bars", ("a", "b"), publication_lag_us=5, depth_rows=4),
    "slow": SetLayout("slow", ("z",), publication_lag_us=7, depth_rows=4),
}
HEADERS = (("other", b"x"), ("content-type", ARROW_STREAM))
NOW_MS = 1_000
MAX_FUTURE_US = 500
OFFSET = 10
DICTIONARY = pa.dictionary(pa.int8(), pa.large_string())
GOOD: dict[str, Any] = {"symbol": "A", "feature_set": "bars", "ts_event_us": 100, "a": 1.5, "b": -2.0}


def table(*rows: dict[str, Any], types: dict[str, pa.DataType] | None = None, **same: Any) -> pa.Table:
    """The rows, each changed from a good one; a change to `...` leaves the column out."""
    full = [{k: v for k, v in (GOOD | same | row).items() if v is not ...} for row in rows]
    names = dict.fromkeys(name for row in full for name in row)
    return pa.table({n: pa.array([r.get(n) for r in full], type=(types or {}).get(n)) for n in names})


def decoder(layout: dict[str, SetLayout] | None = None) -> FeatureDecoder:
    return FeatureDecoder(LAYOUT if layout is None else layout, partitions=PARTITIONS, max_future_us=MAX_FUTURE_US)


def record(value: bytes | None, *, offset: int = OFFSET, key: bytes | None = None, framed: bool = True) -> Record:
    return Record(offset, NOW_MS, key, value, HEADERS if framed else ())


def decode(value: bytes | pa.Table, **more: Any) -> tuple[list[FeatureBatch], list[Rejected], Counter[str]]:
    counts: Counter[str] = Counter()
    data = value if isinstance(value, bytes) else write_frame(value)
    batches, rejected = decoder(**more).decode([PartitionRecords("f", HOME, [record(data)])], counts)
    return batches, rejected, counts


def taken(value: bytes | pa.Table, **more: Any) -> FeatureBatch:
    (batch,), rejected, _ = decode(value, **more)
    assert rejected == []
    return batch


def refused(value: bytes | pa.Table, **more: Any) -> Rejected:
    batches, (one,), counts = decode(value, **more)
    assert batches == []
    assert (counts["rows"], counts["frames"]) == (1, 1)
    return one


def same(values: NDArray[np.float64], expected: list[list[float]]) -> bool:
    return values.tobytes() == np.array(expected, dtype=np.float64).tobytes()
