"""Arrow streams that are small and would be large: metadata that points to the same bytes again and again, and the like."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pyarrow as pa

from streams.arrowstream import (
    _BODY_LENGTH,
    _FIELDS,
    _HEADER,
    _HEADER_TYPE,
    _MESSAGE_PAIRS,
    _RECORD_BATCH,
    _SCHEMA_PAIRS,
    _VARIADIC,
    _below,
    _field,
)
from streams.frame_columns import write_frame
from tests.fuzz.seeds import AWAY, SYMBOLS

START = 8  # of the metadata of a stream's first message


def good(rows: int = 2) -> dict[str, Any]:
    """Columns of a good frame."""
    return {
        "symbol": pa.array([SYMBOLS[0]] * rows).dictionary_encode(),
        "feature_set": pa.array(["bars"] * rows).dictionary_encode(),
        "ts_event_us": pa.array(np.arange(rows) * 10),
        "x": pa.array(np.ones(rows)),
    }


def table(rows: int = 2, **changes: Any) -> pa.Table:
    return pa.table({**good(rows), **changes})


def written(rows: pa.Table, **options: Any) -> bytes:
    """The rows as a stream, by Arrow's options."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(rows)
    return bytes(sink.getvalue())


def _all_the_same(stream: bytes, which: int) -> bytes:
    """The schema's vector `which`, every entry pointing to the entry that lies last in the message."""
    out = bytearray(stream)
    (size,) = struct.unpack_from("<i", out, 4)
    metadata = bytes(out[START : START + size])
    schema = _below(metadata, _field(metadata, struct.unpack_from("<I", metadata)[0], _HEADER))
    _repeat_last(out, START, metadata, _below(metadata, _field(metadata, schema, which)))
    return bytes(out)


def _repeat_last(stream: bytearray, start: int, metadata: bytes, at: int) -> None:
    """Point every entry of the vector at `at` in the metadata, which begins at `start`, to the table that lies last."""
    (number,) = struct.unpack_from("<I", metadata, at)
    places = [at + 4 + 4 * i for i in range(number)]
    last = max(_below(metadata, p) for p in places)
    for p in places:
        struct.pack_into("<I", stream, start + p, last - p)


def _record_batch(stream: bytes | bytearray) -> tuple[int, bytes, int, int]:
    """Of the first message with rows: where its metadata begins, the metadata, and where in it Message and RecordBatch lie."""
    at = 0
    while True:
        (size,) = struct.unpack_from("<i", stream, at + 4)
        metadata = bytes(stream[at + 8 : at + 8 + size])
        root = struct.unpack_from("<I", metadata)[0]
        if metadata[_field(metadata, root, _HEADER_TYPE)] == _RECORD_BATCH:
            return at + 8, metadata, root, _below(metadata, _field(metadata, root, _HEADER))
        body_at = _field(metadata, root, _BODY_LENGTH)
        at += 8 + size + (struct.unpack_from("<q", metadata, body_at)[0] if body_at else 0)


def shared_pairs(number: int = 3_000, size: int = 300_000) -> bytes:
    """Custom metadata of `number` pairs that are all the one large one: a gigabyte, in 300 kB."""
    pairs = {"k": "v" * size} | {f"k{i}": "" for i in range(number)}
    return _all_the_same(write_frame(table().replace_schema_metadata(pairs)), _SCHEMA_PAIRS)


def shared_fields(number: int = 3_000, size: int = 300_000) -> bytes:
    """Columns that are all the one with the long name."""
    schema = pa.schema([pa.field("n" * size, pa.null()), *(pa.field(f"{i}", pa.null()) for i in range(number))])
    return _all_the_same(write_frame(pa.Table.from_batches([], schema)), _FIELDS)


def shared_zone(number: int = 500, size: int = 300_000) -> bytes:
    """Columns that are all the one with the long time zone."""
    zone = pa.timestamp("us", "z" * size)
    schema = pa.schema([pa.field("long", zone), *(pa.field(f"{i}", pa.timestamp("us", "UTC")) for i in range(number))])
    return _all_the_same(write_frame(pa.Table.from_batches([], schema)), _FIELDS)


def message_pairs(number: int = 3_000, size: int = 300_000) -> bytes:
    """A batch with pairs of its own that are all the one large one."""
    rows = table()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_batch(rows.to_batches()[0], custom_metadata={"k": "v" * size} | {f"k{i}": "" for i in range(number)})
    stream = bytearray(sink.getvalue())
    at, metadata, root, _ = _record_batch(stream)
    _repeat_last(stream, at, metadata, _below(metadata, _field(metadata, root, _MESSAGE_PAIRS)))
    return bytes(stream)


def big_endian() -> bytes:
    """A schema that says so of numbers that are not."""
    schema = bytearray(write_frame(table()))
    (size,) = struct.unpack_from("<i", schema, 4)
    metadata = bytes(schema[START : START + size])
    table_at = _below(metadata, _field(metadata, struct.unpack_from("<I", metadata)[0], _HEADER))
    vtable = table_at - struct.unpack_from("<i", metadata, table_at)[0]
    fields = struct.unpack_from("<H", metadata, vtable + 4 + 2 * _FIELDS)[0]
    # The byte order is left out where it is little: here it reads the low half of another number, which is not 0.
    struct.pack_into("<H", schema, START + vtable + 4, fields)
    return bytes(schema)


def many_views(number: int = 2**31 - 1) -> bytes:
    """A view column that says how many buffers it has."""
    stream = bytearray(write_frame(table(t=pa.array(["x" * 40] * 2, pa.string_view()))))
    at, metadata, _, batch = _record_batch(stream)
    struct.pack_into("<q", stream, at + _below(metadata, _field(metadata, batch, _VARIADIC)) + 4, number)
    return bytes(stream)


def old_compression() -> bytes:
    """Compressed as it was told before the format's version 5: in the pairs of the message."""
    rows = table(500)
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(metadata_version=pa.ipc.MetadataVersion.V4)
    with pa.ipc.new_stream(sink, rows.schema, options=options) as writer:
        writer.write_batch(rows.to_batches()[0], custom_metadata={"ARROW:experimental_compression": "zstd"})
    return bytes(sink.getvalue())


def null_view(length: int = -5) -> bytes:
    """A null whose view, which nobody should read, has this length: Arrow's validation does not look at it, its cast does."""
    views = struct.pack("<i12si12s", 2, SYMBOLS[0].encode(), length, b"")
    column = pa.Array.from_buffers(pa.string_view(), 2, [pa.py_buffer(b"\x01"), pa.py_buffer(views)])
    return write_frame(table(symbol=column))


def long_views(rows: int = 20_000, size: int = 400_000) -> bytes:
    """Every row's text is the same 400 kB, of which the frame holds one."""
    text = b"L" * size
    view = struct.pack("<i4sii", size, text[:4], 0, 0)
    column = pa.Array.from_buffers(pa.string_view(), rows, [None, pa.py_buffer(view * rows), pa.py_buffer(text)])
    return write_frame(table(rows, symbol=column))


def long_words(rows: int = 20_000, size: int = 400_000, *, kind: pa.DataType | None = None) -> bytes:
    """A dictionary of one long word and many empty ones; every row has the long one."""
    words = pa.array(["L" * size, *[""] * (rows + 1)], kind or pa.large_string())
    return write_frame(table(rows, symbol=pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), words)))


def long_names(rows: int = 20_000, size: int = 400_000) -> bytes:
    """Every row is bad, and as a record of its own would have the column's long name."""
    return write_frame(table(rows, symbol=pa.array([AWAY] * rows).dictionary_encode(), **{"n" * size: pa.array(np.ones(rows))}))


def conflicts(rows: int = 10_000, size: int = 400_000) -> bytes:
    """Every row but one contradicts the first, and would have the long name as well."""
    return write_frame(
        table(
            rows,
            ts_event_us=pa.array(np.zeros(rows, np.int64)),
            x=pa.array(np.arange(rows) * 1.0),
            **{"n" * size: pa.array(np.ones(rows))},
        )
    )


def many_columns(number: int) -> bytes:
    """So many columns nobody reads."""
    return write_frame(table(1, **{f"{i}": pa.nulls(1) for i in range(number)}))


def all_bad(rows: int = 60_000) -> bytes:
    """As many rows as fit a megabyte, each for another partition."""
    return write_frame(table(rows, symbol=pa.array([AWAY] * rows).dictionary_encode(), x=pa.nulls(rows)))
