"""Rows of the features topic as bytes, decoded by a decoder of two sets."""

from __future__ import annotations

import json
from typing import Any

from streams.layout import SetLayout
from streams.partitioner import partition_of
from streams.records import FeatureBatch, FeatureDecoder, PartitionRecords, Rejected
from tests.record import Record

PARTITIONS = 3
HOME = partition_of(b"A", PARTITIONS)
LAYOUT = {
    "bars": SetLayout("bars", ("a", "b"), publication_lag_us=5, depth_rows=4),
    "slow": SetLayout("slow", ("z",), publication_lag_us=7, depth_rows=4),
}
ONE_SET = {"bars": LAYOUT["bars"]}
NOW_MS = 1_000_000
MAX_FUTURE_US = 1_000


def row(**changes: Any) -> bytes:
    """A good row's bytes; a change to `...` leaves the field out."""
    given: dict[str, Any] = {"symbol": "A", "feature_set": "bars", "ts_event_us": 100, "values": {"a": 1.5, "b": -2}}
    return json.dumps({k: v for k, v in (given | changes).items() if v is not ...}).encode()


def decode(
    *values: bytes | None, key: bytes | None = b"A", partition: int = HOME, layout: dict[str, SetLayout] | None = None
) -> tuple[list[FeatureBatch], list[Rejected]]:
    decoder = FeatureDecoder(LAYOUT if layout is None else layout, partitions=PARTITIONS, max_future_us=MAX_FUTURE_US)
    records = [Record(10 + i, NOW_MS, key, v) for i, v in enumerate(values)]
    return decoder.decode([PartitionRecords("f", partition, records)])


def taken(value: bytes, **more: Any) -> FeatureBatch:
    batches, rejected = decode(value, **more)
    assert rejected == []
    (batch,) = batches
    return batch


def refused(value: bytes | None, **more: Any) -> Rejected:
    batches, rejected = decode(value, **more)
    assert batches == []
    (one,) = rejected
    assert (one.topic, one.partition, one.offset, one.value) == ("f", more.get("partition", HOME), 10, value)
    assert one.key == more.get("key", b"A")
    return one
