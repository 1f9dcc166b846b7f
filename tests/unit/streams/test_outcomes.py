"""Outcomes off the wire: what is read, what is refused and why."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.outcomes import UNKNOWN, OutcomeDecoder
from streams.partitioner import partition_of
from streams.records import MAX_REVISION, MAX_TS_US, PartitionRecords
from streams.rejections import MOST_BYTES, reject
from streams.wire import BAD_SYMBOL
from tests.record import Record

DECODER = OutcomeDecoder(partitions=4, max_future_us=300_000_000)
GOOG = partition_of(b"GOOG", 4)
GOOD: dict[str, Any] = {
    "symbol": "GOOG",
    "ts_event_us": 1_167_782_400_000_000,
    "horizon_us": 432_000_000_000,
    "value": 0.021,
    "ts_known_us": 1_168_214_460_000_000,
    "revision": 2,
}


def part(*values: bytes | None, key: bytes | None = b"GOOG", partition: int = GOOG) -> PartitionRecords:
    records = [Record(7 + i, 1_168_300_000_000, key, v) for i, v in enumerate(values)]
    return PartitionRecords("trading.outcomes", partition, records)


def wire(**changes: Any) -> bytes:
    return json.dumps({k: v for k, v in (GOOD | changes).items() if v != "absent"}).encode()


def test_outcomes_become_arrays() -> None:
    batch, rejected = DECODER.decode(
        part(wire(), wire(ts_known_us="absent", revision="absent", value=1, note="x"), wire(ts_known_us=None))
    )
    assert rejected == []
    assert batch.symbols == ["GOOG"] * 3
    assert batch.ts_event_us.tolist() == [GOOD["ts_event_us"]] * 3
    assert batch.horizon_us.tolist() == [GOOD["horizon_us"]] * 3
    assert batch.value.tolist() == [0.021, 1.0, 0.021]
    assert batch.ts_known_us.tolist() == [GOOD["ts_known_us"], UNKNOWN, UNKNOWN]
    assert batch.revision.tolist() == [2, 0, 2]
    assert batch.offset.tolist() == [7, 8, 9]
    assert batch.after(7).offset.tolist() == [8, 9]
    assert len(batch.after(9)) == 0


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "undecodable"),
        (b"", "undecodable"),
        (b"\xff\xfe", "undecodable"),
        (b"[1]", "undecodable"),
        (wire(value="high"), "undecodable"),
        (wire(value=None), "undecodable"),
        (wire(value=True), "undecodable"),
        (wire(horizon_us="absent"), "undecodable"),
        (wire(ts_event_us=1.5), "undecodable"),
        (wire().replace(b"0.021", b"NaN"), "undecodable"),
        (wire().replace(b"0.021", b"1e999"), "undecodable"),
        (wire(ts_event_us=-1), "out_of_range"),
        (wire(ts_event_us=MAX_TS_US), "out_of_range"),
        (wire(ts_event_us=10**30), "out_of_range"),
        (wire(horizon_us=0), "out_of_range"),
        (wire(horizon_us=MAX_TS_US), "out_of_range"),
        (wire(ts_known_us=-5), "out_of_range"),
        (wire(revision=-1), "out_of_range"),
        (wire(revision=MAX_REVISION + 1), "out_of_range"),
        (wire(symbol="MSFT"), "key_mismatch"),
        (wire(ts_event_us=1_168_300_000_000_000 + 300_000_001, ts_known_us=None), "future"),
    ],
)
def test_bad_outcomes_are_refused_with_their_reason_and_bytes(value: bytes | None, reason: str) -> None:
    batch, (refused,) = DECODER.decode(part(value))
    assert len(batch) == 0
    assert (refused.reason, refused.value, refused.key, refused.offset) == (reason, value, b"GOOG", 7)
    assert (refused.topic, refused.partition) == ("trading.outcomes", GOOG)
    assert refused.detail


@pytest.mark.parametrize("symbol", ["", "A\x00", "ä" * 129, "x" * 90_000])
def test_a_symbol_that_cannot_be_is_refused_as_it_is_in_features(symbol: str) -> None:
    _, (refused,) = DECODER.decode(part(wire(symbol=symbol), key=symbol.encode()))
    assert (refused.reason, refused.detail) == ("out_of_range", BAD_SYMBOL)


def test_what_is_nested_too_deep_to_read_is_refused() -> None:
    for nested in (b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000, b"[" * 100_000):
        batch, (refused,) = DECODER.decode(part(wire()[:-1] + b', "q": ' + nested + b"}", wire()))
        assert (refused.reason, refused.offset, batch.offset.tolist()) == ("undecodable", 7, [8])


def test_a_symbol_on_another_partition_is_named() -> None:
    _, (refused,) = DECODER.decode(part(wire(), partition=(GOOG + 1) % 4))
    assert refused.reason == "wrong_partition"
    assert f"belongs on partition {GOOG}" in refused.detail


@given(st.lists(st.one_of(st.binary(max_size=40), st.text(max_size=40).map(str.encode), st.just(wire()), st.none()), max_size=8))
def test_every_record_is_read_or_refused_in_order(values: list[bytes | None]) -> None:
    batch, rejected = DECODER.decode(part(*values))
    assert sorted([*batch.offset.tolist(), *(r.offset for r in rejected)]) == list(range(7, 7 + len(values)))


def test_a_value_too_large_for_the_rejected_topic_is_left_out() -> None:
    records = part(b"x" * (MOST_BYTES + 1))
    refused = reject(records, records.records[0], "undecodable", "no")
    assert refused.value is None
    assert refused.detail == "no (value of 900001 bytes left out; it stands in trading.outcomes at this offset)"
