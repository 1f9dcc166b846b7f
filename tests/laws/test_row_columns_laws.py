"""Rows taken column by column are the rows taken one by one."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streams.layout import SetLayout
from streams.records import FeatureDecoder
from streams.wire import FeatureBatch, PartitionRecords, joined
from tests.record import Record

LAYOUT = {"bars": SetLayout("bars", ("x", "y"), 7, 4), "slow": SetLayout("slow", ("z",), 0, 4)}
FUTURE_US = 10**6

numbers = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.floats(allow_nan=False, allow_infinity=False, width=32))
values = st.dictionaries(st.sampled_from(["x", "y", "z", "other"]), numbers, max_size=3)
rows = st.fixed_dictionaries(
    {
        "symbol": st.sampled_from(["A", "B", "C"]),
        "feature_set": st.sampled_from(["bars", "bars", "slow"]),
        "ts_event_us": st.integers(0, 3 * FUTURE_US),
        "values": values,
    },
    optional={"ts_known_us": st.one_of(st.none(), st.integers(0, 10)), "revision": st.integers(0, 3)},
)
spoiled = st.sampled_from([b"", b"{}", None, b'{"symbol":"A","feature_set":"none","ts_event_us":1,"values":{}}'])


def decoder() -> FeatureDecoder:
    return FeatureDecoder(LAYOUT, partitions=1, max_future_us=FUTURE_US)


def told(batches: list[FeatureBatch]) -> dict[str, list[Any]]:
    return {
        b.feature_set: [
            b.symbols,
            *(x.tolist() for x in (b.partition, b.ts_event_us, b.ts_known_us, b.revision, b.offset)),
            b.values.tobytes(),
        ]
        for b in batches
    }


@given(st.lists(st.tuples(rows, st.booleans()), min_size=1, max_size=20), st.lists(spoiled, max_size=2))
def test_a_stretch_gives_the_batches_and_rejections_of_its_records(
    given: list[tuple[Any, bool]], bad: list[bytes | None]
) -> None:
    spoil = len(bad) == 2
    records = [
        Record(
            5 * i,
            2 * FUTURE_US // 1000,
            b"?" if wrong and spoil else row["symbol"].encode(),
            json.dumps(row).encode(),
        )
        for i, (row, wrong) in enumerate(given)
    ]
    records += [Record(1000 + i, 0, b"A", value) for i, value in enumerate(bad)]
    batches, rejected = decoder().decode([PartitionRecords("f", 0, records)])
    single = decoder()
    apart: dict[str, list[FeatureBatch]] = {}
    refused = []
    for record in records:
        one, why = single.decode([PartitionRecords("f", 0, [record])])
        refused += why
        for batch in one:
            apart.setdefault(batch.feature_set, []).append(batch)
    assert told(batches) == told([joined(pieces) for pieces in apart.values()])
    assert rejected == refused
    for b in batches:
        assert (np.diff(b.seq) > 0).all()
        assert [records[i].offset << 20 for i in b.seq.tolist()] == b.offset.tolist()
