"""The outside of an Arrow IPC stream, looked at before Arrow reads it. Core.

Arrow's reader takes a stream that was cut between two batches for a whole one, and allocates what a compressed buffer
says of its own size. Neither may come from a topic: a frame is whole, it is bounded, and it is not compressed by itself
(Kafka compresses its batches). Layout: https://arrow.apache.org/docs/format/Columnar.html#encapsulated-message-format

    0xFFFFFFFF | i32 size of metadata | metadata (flatbuffer Message) | body        repeated, the schema first
    0xFFFFFFFF | 0                                                                  the end
"""

from __future__ import annotations

import struct
from typing import Final

_PREFIX: Final = struct.Struct("<Ii")
_MARK: Final = 0xFFFFFFFF
_U16, _U32, _I32, _I64 = (struct.Struct(f"<{c}").unpack_from for c in "HIiq")

_HEADER_TYPE, _HEADER, _BODY_LENGTH = 1, 2, 3  # fields of Message
_DICTIONARY_DATA = 1  # of DictionaryBatch
_LENGTH, _COMPRESSION = 0, 3  # of RecordBatch
_SCHEMA, _DICTIONARY_BATCH, _RECORD_BATCH = 1, 2, 3  # kinds of header


def check_stream(data: bytes, *, max_rows: int) -> bytes:
    """The metadata of the stream's schema message; raises `ValueError` when the stream is not a whole, bounded one.

    What lies inside the messages is not looked at: that is Arrow's business.
    """
    at, rows, schema = 0, 0, b""
    while True:
        if len(data) - at < _PREFIX.size:
            raise ValueError("cut short: an Arrow stream ends with its end-of-stream marker")
        mark, size = _PREFIX.unpack_from(data, at)
        at += _PREFIX.size
        if mark != _MARK or size < 0:
            raise ValueError("no Arrow IPC stream (the file format and streams from before Arrow 0.15 are not read)")
        if size == 0:
            break
        metadata = data[at : at + size]
        at += size
        try:
            kind, body, length, compressed = _message(metadata)
        except (struct.error, IndexError) as e:
            raise ValueError(f"cut short or damaged: {e}") from e
        if (kind == _SCHEMA) == bool(schema):
            raise ValueError("the first message of an Arrow stream, and only the first, is its schema")
        schema = schema or metadata
        if compressed:
            raise ValueError("its buffers are compressed: write them plain, Kafka compresses what it sends")
        if kind == _RECORD_BATCH:
            rows += length
        if not (0 <= length < max_rows and rows < max_rows):
            raise ValueError(f"a frame has fewer than {max_rows} rows")
        at += body
        if body < 0 or at > len(data):
            raise ValueError("cut short: a message is longer than the record")
    if not schema:
        raise ValueError("an Arrow stream without a schema")
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes after the end of the Arrow stream")
    return schema


def _message(metadata: bytes) -> tuple[int, int, int, bool]:
    """Kind of header, size of the body, rows, and whether buffers are compressed, of one message."""
    root = _U32(metadata, 0)[0]
    kind_at, header_at, body_at = (_field(metadata, root, n) for n in (_HEADER_TYPE, _HEADER, _BODY_LENGTH))
    kind = metadata[kind_at] if kind_at else 0
    body = _I64(metadata, body_at)[0] if body_at else 0
    if kind not in {_DICTIONARY_BATCH, _RECORD_BATCH} or not header_at:
        return kind, body, 0, False
    batch = _below(metadata, header_at)
    if kind == _DICTIONARY_BATCH:
        data_at = _field(metadata, batch, _DICTIONARY_DATA)
        if not data_at:
            return kind, body, 0, False
        batch = _below(metadata, data_at)
    length_at = _field(metadata, batch, _LENGTH)
    return kind, body, _I64(metadata, length_at)[0] if length_at else 0, _field(metadata, batch, _COMPRESSION) > 0


def _below(metadata: bytes, at: int) -> int:
    """Where the table lies that the field at `at` points to."""
    return at + int(_U32(metadata, at)[0])


def _field(metadata: bytes, table: int, number: int) -> int:
    """Where a field of a flatbuffer table lies, 0 if it is absent."""
    vtable = table - _I32(metadata, table)[0]
    if vtable < 0:
        raise IndexError("a table without a plan")
    if _U16(metadata, vtable)[0] < 6 + 2 * number:
        return 0
    within = int(_U16(metadata, vtable + 4 + 2 * number)[0])
    return table + within if within else 0
