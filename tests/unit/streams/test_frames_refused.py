"""Frames that are none are refused whole, with their bytes; damage never raises and loses no row."""

from __future__ import annotations

import json
import struct

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.arrowstream import check_stream
from streams.frame_columns import write_frame
from streams.frames import FrameDecoder
from streams.records import PartitionRecords
from streams.rejections import rejection_headers
from streams.wire import ARROW_STREAM, MAX_FRAME_ROWS, Homes
from tests.fuzz import bombs
from tests.record import Record
from tests.unit.streams.framing import (
    DICTIONARY,
    HOME,
    LAYOUT,
    NOW_MS,
    OFFSET,
    decode,
    decoder,
    record,
    refused,
    table,
)


def compressed(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(rows)
    return bytes(sink.getvalue())


def file_format(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_table(rows)
    return bytes(sink.getvalue())


def endless(rows: int) -> bytes:
    """A few bytes that say they are many rows."""
    some = write_frame(pa.table({"symbol": pa.nulls(987_654), "feature_set": pa.nulls(987_654)}))
    return some.replace(struct.pack("<q", 987_654), struct.pack("<q", rows))


WHOLE = write_frame(table({}))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b"", "cut short"),
        (b"{}", "cut short"),
        (b'{"symbol": "A"}', "no Arrow IPC stream"),
        (WHOLE[:-8], "cut short"),
        (WHOLE[:-1], "cut short"),
        (WHOLE + b"x", "1 bytes after the end"),
        (WHOLE + WHOLE, "after the end"),
        (WHOLE[:-8] + WHOLE, "only the first, is its schema"),
        (WHOLE[-8:], "without a schema"),
        (file_format(table({})), "no Arrow IPC stream"),
        (compressed(table(*[{}] * 500)), "compressed"),
        (endless(MAX_FRAME_ROWS), f"fewer than {MAX_FRAME_ROWS} rows"),
        (endless(-1), "fewer than"),
        (endless(2**62), f"fewer than {MAX_FRAME_ROWS} rows"),
        (write_frame(table({}, symbol=...)), "no column 'symbol'"),
        (write_frame(table({}, feature_set=...)), "no column 'feature_set'"),
        (write_frame(table({}, ts_event_us=...)), "no column 'ts_event_us'"),
        (write_frame(table({}, symbol=5)), "'symbol' must be string, or dictionary of string, it is int64"),
        (write_frame(table({}, symbol=b"A")), "it is binary"),
        (write_frame(table({}, ts_event_us=100.0)), "'ts_event_us' must be int64, it is double"),
        (write_frame(table({}, types={"ts_event_us": pa.timestamp("us")})), "'ts_event_us' must be int64, it is timestamp"),
        (write_frame(table({}, types={"ts_event_us": pa.int32()})), "'ts_event_us' must be int64, it is int32"),
        (write_frame(table({}, ts_known_us="x")), "'ts_known_us' must be int64, it is string"),
        (write_frame(table({}, revision=1.0)), "'revision' must be an integer, it is double"),
        (write_frame(table({}, a="1.5")), "feature 'a' must be float64"),
        (write_frame(table({}, z=[1.0])), "feature 'z' must be float64"),
        (write_frame(pa.table([[1.0], *table({}).columns], names=["a", *table({}).column_names])), "'a' stands 2 times"),
        (
            write_frame(pa.table([["A"], *table({}).columns], names=["symbol", *table({}).column_names])),
            "'symbol' stands 2 times",
        ),
    ],
)
def test_a_frame_that_is_none_is_refused_whole_with_its_bytes(value: bytes, says: str) -> None:
    one = refused(value)
    assert (one.topic, one.partition, one.offset, one.key, one.value) == ("f", HOME, OFFSET, None, value)
    assert (one.reason, one.content_type) == ("undecodable", ARROW_STREAM)
    assert says in one.detail
    assert dict(rejection_headers(one))["content-type"] == ARROW_STREAM


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (bombs.shared_pairs(), "metadata says more than it holds"),
        (bombs.shared_fields(), "metadata says more than it holds"),
        (bombs.shared_zone(), "metadata says more than it holds"),
        (bombs.many_views(), "more buffers than the batch"),
        (bombs.many_views(-1), "more buffers than the batch"),
        (bombs.old_compression(), "compressed"),
        (bombs.message_pairs(), "metadata says more than it holds"),
        (bombs.big_endian(), "big-endian"),
    ],
)
def test_what_is_small_and_would_be_large_is_refused_before_arrow_reads_it(value: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        check_stream(value, max_rows=MAX_FRAME_ROWS)
    assert says in refused(value).detail


@pytest.mark.parametrize("columns", [0, 1, 3, 2_000])
def test_schemas_that_say_each_thing_once_pass(columns: int) -> None:
    kinds = [pa.timestamp("us", "Europe/Berlin"), pa.list_(pa.struct([("a", pa.int8()), ("", pa.string_view())])), pa.null()]
    fields = [pa.field(f"c{i}" * (i % 3), kinds[i % 3], metadata={"k": "v" * (i % 5)} if i % 2 else None) for i in range(columns)]
    for metadata in (None, {"a": "", "": "b" * 999}):
        rows = pa.Table.from_batches([], pa.schema(fields, metadata))
        check_stream(write_frame(rows), max_rows=MAX_FRAME_ROWS)


def test_schemas_seen_do_not_fill_memory() -> None:
    frames = FrameDecoder(LAYOUT, Homes(3), max_future_us=10**9)
    part = PartitionRecords("f", HOME, [])
    for i in range(40):
        metadata = {"m": f"{i}" + "x" * 900_000}
        frames.decode(part, record(write_frame(table({}).replace_schema_metadata(metadata))), seq=0)
    assert sum(map(len, frames._plans)) <= 16 << 20


def test_a_tombstone_with_the_header_is_refused() -> None:
    assert decoder().decode([PartitionRecords("f", HOME, [record(None)])])[1][0].detail.endswith("empty value")


def test_a_frame_without_its_header_is_named() -> None:
    _, (one,) = decoder().decode([PartitionRecords("f", HOME, [record(WHOLE, framed=False)])])
    assert (one.reason, one.detail) == (
        "undecodable",
        f"an Arrow stream without the header content-type: {ARROW_STREAM.decode()}",
    )


def test_another_content_type_is_a_json_row() -> None:
    row = json.dumps({"symbol": "A", "feature_set": "bars", "ts_event_us": 1, "values": {}}).encode()
    plain = Record(OFFSET, NOW_MS, b"A", row, (("content-type", b"application/json"),))
    assert decoder().decode([PartitionRecords("f", HOME, [plain])])[1] == []


def test_a_later_batch_that_is_wrong_takes_the_whole_frame_with_it() -> None:
    good, long = (table({"symbol": s}).to_batches()[0] for s in ("A", "A" * 77))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, good.schema) as writer:
        writer.write_batch(good)
        writer.write_batch(long)
    value = bytes(sink.getvalue())
    broken = value.replace(struct.pack("<ii", 0, 77), struct.pack("<ii", 0, 7777))
    assert broken != value
    assert refused(broken).reason == "undecodable"


SEEDS = [
    write_frame(table({}, {"ts_known_us": 140, "revision": 1, "a": None}, {"feature_set": "slow", "z": 1.0})),
    write_frame(
        table(
            *[{"ts_event_us": i, "symbol": "A" if i % 3 else None} for i in range(20)],
            types={"symbol": DICTIONARY, "a": pa.float32()},
        )
    ),
    write_frame(table({"u": [1, 2], "t": "x"}, {"t": "y"}, types={"symbol": pa.string_view(), "b": pa.bool_()}, b=True)),
]


def accounted(value: bytes) -> bool:
    """Whether the frame came back as all its rows, or whole."""
    batches, rejected, counts = decode(value)
    good = sum(len(b.symbols) for b in batches)
    if good + len(rejected) != counts["rows"]:
        return False
    assert all(b.values.shape == (len(b.symbols), len(LAYOUT[b.feature_set].features)) for b in batches)
    return all(r.offset == OFFSET and r.detail for r in rejected)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_truncation_is_refused_whole(seed: bytes) -> None:
    assert accounted(seed)
    shared = decoder()
    for n in range(len(seed)):
        batches, (one,) = shared.decode([PartitionRecords("f", HOME, [record(seed[:n])])])
        assert (batches, one.reason, one.value) == ([], "undecodable", seed[:n])


@settings(max_examples=600)
@given(
    st.sampled_from(SEEDS),
    st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.sampled_from([0, 1, 2, 4, 127, 128, 254, 255])), min_size=1, max_size=6
    ),
)
def test_damage_never_raises_and_no_row_is_lost(seed: bytes, damage: list[tuple[float, int]]) -> None:
    value = bytearray(seed)
    for where, byte in damage:
        value[int(where * len(value))] = byte
    assert accounted(bytes(value))


@given(st.binary(max_size=200))
def test_any_bytes_after_a_plausible_beginning_are_refused(data: bytes) -> None:
    assert refused(b"\xff\xff\xff\xff" + data).reason == "undecodable"
