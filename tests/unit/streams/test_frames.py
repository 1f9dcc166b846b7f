"""Rows of frames are read as JSON rows are, and rejected one by one as they are."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from streams.frame_columns import write_frame
from streams.frames import rejected_rows
from streams.layout import SetLayout
from streams.partitioner import partition_of
from streams.records import PartitionRecords
from streams.rejections import rejection_headers
from streams.wire import ARROW_STREAM, CLOCK, MAX_REVISION, MAX_SYMBOL_BYTES, MAX_TS_US, position_of
from tests.unit.streams.framing import (
    AWAY,
    DICTIONARY,
    GOOD,
    HOME,
    LAYOUT,
    MAX_FUTURE_US,
    NEAR,
    NOW_MS,
    OFFSET,
    PARTITIONS,
    decode,
    decoder,
    record,
    same,
    table,
    taken,
)


def test_rows_are_read_field_by_field() -> None:
    batch = taken(table({"ts_known_us": 140, "revision": 3}, {"symbol": NEAR, "a": None}, {"ts_known_us": 7, "b": math.nan}))
    assert (batch.feature_set, batch.topic, batch.symbols) == ("bars", "f", ["A", NEAR, "A"])
    columns = (batch.ts_event_us, batch.ts_known_us, batch.revision, batch.partition, batch.seq, batch.source_offset)
    assert [c.tolist() for c in columns] == [[100] * 3, [140, 105, 7], [3, 0, 0], [HOME] * 3, [0, 1, 2], [OFFSET] * 3]
    assert batch.offset.tolist() == [position_of(OFFSET, i) for i in range(3)]
    assert batch.values.tobytes() == np.array([[1.5, -2.0], [np.nan, -2.0], [1.5, np.nan]]).tobytes()
    assert batch.values.flags["C_CONTIGUOUS"]


def test_rows_of_several_sets_and_batches_keep_their_places_in_the_frame() -> None:
    rows = table(
        {}, {"feature_set": "slow", "z": 3.0}, {"ts_event_us": 200}, {"feature_set": "slow", "z": None}, {"symbol": NEAR}
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows, max_chunksize=2)
        writer.write_batch(pa.RecordBatch.from_pylist([], rows.schema))
    (bars, slow), rejected, counts = decode(sink.getvalue().to_pybytes())
    assert rejected == []
    assert (bars.seq.tolist(), slow.seq.tolist()) == ([0, 2, 4], [1, 3])
    assert (bars.offset - position_of(OFFSET)).tolist() == bars.seq.tolist()
    assert (slow.offset - position_of(OFFSET)).tolist() == slow.seq.tolist()
    assert slow.ts_known_us.tolist() == [107, 107]
    assert same(slow.values, [[3.0], [np.nan]])
    assert counts == {"rows": 5, "frames": 1, "unread_features": 0}


def test_frames_and_json_rows_stand_in_the_order_of_their_offsets() -> None:
    one = json.dumps({"symbol": "A", "feature_set": "bars", "ts_event_us": 1, "values": {"a": 1, "b": 2}}).encode()
    frame = write_frame(table({}, {"ts_event_us": 101}))
    values = [(one, False), (frame, True), (b"no", False), (b"no", True), (one, False), (frame, True), (one, False)]
    records = [record(v, offset=OFFSET + i, key=b"A", framed=framed) for i, (v, framed) in enumerate(values)]
    counts: Counter[str] = Counter()
    (batch,), rejected = decoder().decode(
        [PartitionRecords("f", HOME, records[:4]), PartitionRecords("f", HOME, records[4:])], counts
    )
    assert batch.source_offset.tolist() == [10, 11, 11, 14, 15, 15, 16]
    assert batch.ts_event_us.tolist() == [1, 100, 101, 1, 100, 101, 1]
    assert (np.diff(batch.offset) > 0).all()
    assert (np.diff(batch.seq) > 0).all()
    assert [(r.offset, r.reason, r.content_type) for r in rejected] == [
        (12, "undecodable", None),
        (13, "undecodable", ARROW_STREAM),
    ]
    assert counts["rows"] == 9


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), DICTIONARY, pa.dictionary(pa.uint16(), pa.string())]
)
def test_texts_in_any_of_arrows_layouts(kind: pa.DataType) -> None:
    rows = table({}, {"symbol": NEAR}, {}, types={"symbol": kind, "feature_set": kind})
    assert taken(rows).symbols == ["A", NEAR, "A"]
    assert taken(rows.slice(1)).symbols == [NEAR, "A"]
    bad = table({}, {"ts_event_us": -1}, {"symbol": AWAY}, types={"symbol": kind, "feature_set": kind})
    (batch,), rejected, _ = decode(bad)
    assert (batch.symbols, [r.key for r in rejected]) == (["A"], [b"A", AWAY.encode()])
    parts = [PartitionRecords("f", HOME, [record(write_frame(rows))])]
    assert rejected_rows(parts, decoder().decode(parts)[0][0], [("conflict", "no")] * 3)[1].key == NEAR.encode()


def test_a_dictionary_may_repeat_itself_hold_nulls_or_more_than_is_used() -> None:
    symbols = pa.DictionaryArray.from_arrays(pa.array([0, 2, 3, 1], pa.int32()), ["A", NEAR, "A", None, *map(str, range(5))])
    sets = pa.DictionaryArray.from_arrays(pa.array([1, 0, 1, 1], pa.int8()), ["bars", "bars"])
    rows = table({}, {}, {}, {}).set_column(0, "symbol", symbols).set_column(1, "feature_set", sets)
    (batch,), (bad,), _ = decode(rows)
    assert (batch.symbols, batch.seq.tolist()) == (["A", "A", NEAR], [0, 1, 3])
    assert (bad.key, bad.reason) == (None, "undecodable")


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32(), pa.float16(), pa.int8(), pa.uint64(), pa.int64(), pa.bool_()])
def test_numbers_of_any_type_are_float64(kind: pa.DataType) -> None:
    ones = [True, None, False] if kind == pa.bool_() else np.array([1, 2, 0]).astype(kind.to_pandas_dtype())
    column = pa.array(ones, type=kind) if kind == pa.bool_() else pa.array(ones, mask=np.array([False, True, False]))
    rows = table({}, {}, {}).set_column(3, "a", column)
    assert same(taken(rows).values, [[1, -2], [np.nan, -2], [0, -2]])
    assert same(taken(rows, layout={"bars": SetLayout("bars", ("a",), 0, 4)}).values, [[1], [np.nan], [0]])


def test_large_integers_round_as_in_json_and_extreme_floats_stay() -> None:
    whole = [2**53 + 1, -(2**63), 2**63 - 1]
    extreme = [math.inf, 5e-324, -0.0]
    rows = table({}, {}, {}).set_column(3, "a", pa.array(whole)).set_column(4, "b", pa.array(extreme))
    assert taken(rows).values.tobytes() == np.array([[float(a), b] for a, b in zip(whole, extreme, strict=True)]).tobytes()


def test_missing_is_the_one_quiet_nan() -> None:
    odd = np.array([0xFFF8000000000001, 0x7FF0000000000001], dtype=np.uint64).view(np.float64)
    for layout in (LAYOUT, {"bars": SetLayout("bars", ("a",), 0, 4)}):
        batch = taken(table({}, {}).set_column(3, "a", pa.array(odd)), layout=layout)
        assert batch.values[:, 0].tobytes() == np.array([np.nan, np.nan]).tobytes()


def test_columns_are_found_by_name_absent_ones_are_missing_unread_ones_are_counted() -> None:
    rows = table({"u": 1, "t": "text", "z": 2.0}, {}, a=..., b=...)
    batch, counts = taken(rows), decode(rows)[2]
    assert np.isnan(batch.values).all()
    assert (batch.values.shape, counts["unread_features"]) == ((2, 2), 4)
    assert taken(table({}).select(["b", "ts_event_us", "a", "feature_set", "symbol"])).values.tolist() == [[1.5, -2.0]]


def test_columns_without_any_value_may_be_of_type_null() -> None:
    nothing = {n: pa.null() for n in ("ts_known_us", "revision", "a")}
    batch = taken(table({}, ts_known_us=None, revision=None, a=None, types=nothing))
    assert (batch.ts_known_us.tolist(), batch.revision.tolist()) == ([105], [0])
    assert same(batch.values, [[np.nan, -2.0]])


def test_a_frame_without_rows_is_nothing() -> None:
    batches, rejected, counts = decode(table({}).slice(0, 0))
    assert (batches, rejected, counts) == ([], [], {"rows": 0, "frames": 1, "unread_features": 0})


def test_clock_rows_are_rows_as_in_json() -> None:
    clock = {"feature_set": CLOCK, "ts_event_us": 300, "a": None, "b": None}
    batches, (bad,), counts = decode(table({}, clock, clock | {"symbol": NEAR, "ts_known_us": 310}, clock | {"symbol": AWAY}))
    assert [(b.feature_set, b.symbols, b.seq.tolist(), b.ts_known_us.tolist()) for b in batches] == [
        ("bars", ["A"], [0], [100 + LAYOUT["bars"].publication_lag_us]),
        (CLOCK, ["A", NEAR], [1, 2], [300, 310]),
    ]
    assert batches[1].values.shape == (2, 0)
    assert (bad.reason, counts["rows"]) == ("wrong_partition", 4)
    assert json.loads(bad.value or b"")["feature_set"] == CLOCK
    assert decode(table(clock), layout={})[0][0].symbols == ["A"]


# ---- bad rows


@pytest.mark.parametrize(
    ("change", "reason", "says"),
    [
        ({"symbol": None}, "undecodable", "symbol is null"),
        ({"feature_set": None}, "undecodable", "feature_set is null"),
        ({"ts_event_us": None}, "undecodable", "ts_event_us is null"),
        ({"feature_set": "other"}, "unknown_feature_set", "feature set 'other'; they read: bars, slow"),
        ({"symbol": ""}, "out_of_range", "1 to 256 bytes"),
        ({"symbol": "ä" * 129}, "out_of_range", "1 to 256 bytes"),
        ({"symbol": "A\x00"}, "out_of_range", "without NUL"),
        ({"symbol": AWAY}, "wrong_partition", f"belongs on partition {partition_of(AWAY.encode(), PARTITIONS)}"),
        ({"ts_event_us": -1}, "out_of_range", "must lie in"),
        ({"ts_event_us": MAX_TS_US}, "out_of_range", "must lie in"),
        ({"ts_event_us": 2**63 - 1}, "out_of_range", "must lie in"),
        ({"ts_known_us": -1}, "out_of_range", "must lie in"),
        ({"ts_known_us": MAX_TS_US}, "out_of_range", "must lie in"),
        ({"revision": -1}, "out_of_range", "revision in"),
        ({"revision": MAX_REVISION + 1}, "out_of_range", "revision in"),
        ({"ts_event_us": NOW_MS * 1000 + MAX_FUTURE_US + 1, "ts_known_us": 1}, "future", "inference.max_future"),
        ({"ts_known_us": NOW_MS * 1000 + MAX_FUTURE_US + 1}, "future", "inference.max_future"),
    ],
)
@pytest.mark.parametrize("alone", [False, True])
def test_a_bad_row_is_rejected_alone_as_a_record_that_json_rows_would_be_rejected_for(
    *, change: dict[str, Any], reason: str, says: str, alone: bool
) -> None:
    rows = [change] if alone else [{}, change | {"u": 7, "a": None, "t": "text"}, {"ts_known_us": 1, "revision": 0}]
    types = {"symbol": pa.string(), "feature_set": pa.string(), "ts_event_us": pa.int64()}
    batches, (bad,), counts = decode(table(*rows, types=types))
    assert [b.seq.tolist() for b in batches] == ([] if alone else [[0, 2]])
    assert (bad.topic, bad.partition, bad.offset, bad.reason, bad.content_type) == ("f", HOME, OFFSET, reason, None)
    assert f"row {0 if alone else 1} of the frame" in bad.detail
    assert says in bad.detail
    assert counts["rows"] == len(rows)
    assert bad.value is not None
    sent = json.loads(bad.value)
    assert sent.pop("values") == ({"a": 1.5, "b": -2.0} if alone else {"u": 7, "b": -2.0})
    assert sent == {k: v for k, v in (GOOD | change).items() if k not in {"a", "b"}}
    assert bad.key == (None if sent["symbol"] is None else sent["symbol"].encode())
    again, (refusal,) = decoder().decode([PartitionRecords("f", HOME, [record(bad.value, key=bad.key, framed=False)])])
    assert (again, refusal.reason) == ([], reason)


def test_an_unsigned_revision_too_large_for_int64_is_out_of_range() -> None:
    _, (bad,), _ = decode(table({"revision": 2**64 - 1}, types={"revision": pa.uint64()}))
    assert (bad.reason, json.loads(bad.value or b"")["revision"]) == ("out_of_range", 2**64 - 1)


def test_at_the_limits_rows_are_good() -> None:
    latest = NOW_MS * 1000 + MAX_FUTURE_US
    good = [{"ts_event_us": 0}, {"ts_known_us": 0}, {"ts_event_us": latest, "ts_known_us": latest}, {"revision": MAX_REVISION}]
    assert len(taken(table(*good)).symbols) == 4
    long = next(s for i in range(99) if partition_of((s := f"{i:0{MAX_SYMBOL_BYTES}}").encode(), PARTITIONS) == HOME)
    assert taken(table({"symbol": long})).symbols == [long]


def test_a_bad_row_that_json_cannot_say_becomes_a_frame_of_its_own() -> None:
    _, (bad,), _ = decode(table({}, {"a": math.inf, "b": math.nan, "ts_event_us": -5, "revision": 2, "z": True}))
    assert bad.content_type == ARROW_STREAM
    assert rejection_headers(bad)[-1] == ("content-type", ARROW_STREAM)
    (row,) = pa.ipc.open_stream(bad.value).read_all().to_pylist()
    assert math.isnan(row.pop("b"))
    assert row == {"symbol": "A", "feature_set": "bars", "ts_event_us": -5, "revision": 2, "a": math.inf, "z": True}
    _, (again,), _ = decode(bad.value or b"")
    assert again.reason == "out_of_range"


def test_rows_rejected_later_are_found_again() -> None:
    one = json.dumps({"symbol": "A", "feature_set": "bars", "ts_event_us": 1, "values": {}}).encode()
    frame = write_frame(table({"ts_event_us": 2}, {"feature_set": "slow", "z": 9.0}, {"ts_event_us": 3, "a": 0.5}))
    records = [record(one, key=b"A", framed=False), record(frame, offset=12)]
    parts = [PartitionRecords("f", HOME, records)]
    bars, _ = decoder().decode(parts)[0]
    found = rejected_rows(parts, bars, [("conflict", "no"), ("conflict", "n"), ("expired", "late")])
    assert [(r.offset, r.reason, r.detail) for r in found] == [
        (10, "conflict", "no"),
        (12, "conflict", "row 0 of the frame, counted from 0: n"),
        (12, "expired", "row 2 of the frame, counted from 0: late"),
    ]
    assert found[0].value == one
    assert [json.loads(r.value or b"")["ts_event_us"] for r in found] == [1, 2, 3]
