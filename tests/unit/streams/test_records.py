"""What becomes of the features topic's bytes that are rows: every field, and what nobody reads."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from streams.records import FeatureDecoder, PartitionRecords
from streams.row_types import MAX_NESTING, TOO_DEEP
from streams.wire import Homes
from tests.record import Record
from tests.unit.streams.rowbytes import HOME, LAYOUT, MAX_FUTURE_US, NOW_MS, PARTITIONS, decode, refused, row, taken


def test_a_row_is_read_field_by_field() -> None:
    batch = taken(row(ts_known_us=140, revision=3))
    assert (batch.feature_set, batch.topic, batch.symbols) == ("bars", "f", ["A"])
    columns = (batch.ts_event_us, batch.ts_known_us, batch.revision, batch.source_offset, batch.partition, batch.seq)
    assert [c.tolist() for c in columns] == [[100], [140], [3], [10], [HOME], [0]]
    assert batch.values.tolist() == [[1.5, -2.0]]


@pytest.mark.parametrize("known", [..., None])
def test_known_time_defaults_to_the_publication_lag(known: object) -> None:
    batch = taken(row(ts_known_us=known))
    assert (batch.ts_known_us.tolist(), batch.revision.tolist()) == ([105], [0])


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"a": 1, "b": True}, [1.0, 1.0]),
        ({"a": 10**30, "b": False}, [1e30, 0.0]),
        ({"a": None}, [np.nan, np.nan]),
        ({}, [np.nan, np.nan]),
        ({"a": -0.0, "b": 5e-324, "unread": "text", "also": [1, {"x": None}]}, [-0.0, 5e-324]),
    ],
)
def test_features_are_float64_and_what_is_absent_null_or_unread_is_not(given: dict[str, Any], read: list[float]) -> None:
    assert taken(row(values=given)).values.tobytes() == np.array([read]).tobytes()


def test_values_that_no_model_reads_are_counted_in_whatever_company() -> None:
    decoder = FeatureDecoder(LAYOUT, partitions=PARTITIONS, max_future_us=MAX_FUTURE_US)
    plain = row()
    more = row(values={"a": 1.0, "c": {"a": [2]}, "d": None})
    other = row(feature_set="slow", values={"z": 1.0, "a": 2.0})
    clock = row(feature_set="__clock__", values={})
    chunks: list[tuple[list[bytes | None], int, int]] = [
        ([plain], 0, 0),
        ([plain, more, other, clock], 3, 0),
        ([more, more], 4, 0),
        ([plain, plain], 0, 0),
        ([more, None, plain, b"{", other, row(feature_set="none", values={"q": 1})], 3, 3),
        ([plain], 0, 0),
    ]
    for values, unread, bad in chunks:
        counts: Counter[str] = Counter()
        records = [Record(i, NOW_MS, b"A", v) for i, v in enumerate(values)]
        batches, rejected = decoder.decode([PartitionRecords("f", HOME, records)], counts)
        assert (counts["unread_features"], len(rejected)) == (unread, bad)
        assert sum(len(b.symbols) for b in batches) == counts["rows"] - bad == len(values) - bad


def test_names_that_are_no_text_and_nobody_reads_are_counted_and_harm_nothing() -> None:
    odd = row(values={"a": 1.0, "q": 2}).replace(b'"q"', b'"\xff\xfe"')
    for values in ([odd], [odd, None], [row(), odd]):
        counts: Counter[str] = Counter()
        decoder = FeatureDecoder(LAYOUT, partitions=PARTITIONS, max_future_us=MAX_FUTURE_US)
        records = [Record(i, NOW_MS, b"A", v) for i, v in enumerate(values)]
        (batch,), rejected = decoder.decode([PartitionRecords("f", HOME, records)], counts)
        assert (len(batch.symbols), counts["unread_features"], len(rejected)) == (
            sum(v is not None for v in values),
            1,
            None in values,
        )


@pytest.mark.parametrize(("start", "stop"), [(b"[", b"]"), (b'{"a":', b"}")])
@pytest.mark.parametrize("place", ["a feature nobody reads", "an unknown field"])
def test_how_deep_a_row_may_be_nested_does_not_depend_on_who_reads_it(start: bytes, stop: bytes, place: str) -> None:
    def nested(depth: int) -> bytes:
        inner = start * depth + b"1" + stop * depth
        return (
            row().replace(b"-2}", b'-2, "q": ' + inner + b"}") if place[0:4] == "a fe" else row()[:-1] + b', "q": ' + inner + b"}"
        )

    def reasons(depth: int, frames: int) -> list[str]:
        if frames:
            return reasons(depth, frames - 1)
        return [r.detail for values in ([nested(depth)], [nested(depth), row()]) for r in decode(*values)[1]]

    for frames in (0, 100, 300):
        assert reasons(MAX_NESTING - 2, frames) == []
        for depth in (MAX_NESTING + 1, 900, 100_000):
            assert reasons(depth, frames) == [TOO_DEEP] * 2


def test_a_clock_row_that_is_none_is_not_said_to_be_of_an_unknown_set() -> None:
    assert refused(row(feature_set="__clock__", values=...)).reason == "undecodable"


def test_ever_new_symbols_do_not_fill_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.wire._MOST_HOMES", 10)
    homes = Homes(PARTITIONS)
    assert [homes[f"{i}"] for i in range(99)] == [Homes(PARTITIONS)[f"{i}"] for i in range(99)]
    assert len(homes) <= 10


def test_the_last_of_two_equal_keys_counts() -> None:
    value = row().replace(b'"ts_event_us": 100', b'"ts_event_us": 7, "ts_event_us": 100')
    assert taken(value).ts_event_us.tolist() == [100]


def test_unknown_fields_of_a_row_are_ignored() -> None:
    assert taken(row(source="vendor", nested={"feature_set": "slow"})).symbols == ["A"]
