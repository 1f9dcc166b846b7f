"""The outside of an Arrow IPC stream, looked at before Arrow reads it. Core.

Arrow's reader takes a stream that was cut between two batches for a whole one, and allocates what a compressed buffer
or a view column says of its own size. Neither may come from a topic: a frame is whole, it is bounded, and it is not
compressed by itself (Kafka compresses its batches). Nor may its metadata point to the same bytes again and again: copied
out, a megabyte would be terabytes. Layout: https://arrow.apache.org/docs/format/Columnar.html#encapsulated-message-format

    0xFFFFFFFF | i32 size of metadata | metadata (flatbuffer Message) | body        repeated, the schema first
    0xFFFFFFFF | 0                                                                  the end
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final

_PREFIX: Final = struct.Struct("<Ii")
_MARK: Final = 0xFFFFFFFF
_U16, _U32, _I32, _I64 = (struct.Struct(f"<{c}").unpack_from for c in "HIiq")

_VERSION, _HEADER_TYPE, _HEADER, _BODY_LENGTH, _MESSAGE_PAIRS = range(5)  # fields of Message
_ENDIANNESS, _FIELDS, _SCHEMA_PAIRS = range(3)  # of Schema
_NAME, _TYPE_KIND, _TYPE, _CHILDREN, _FIELD_PAIRS = 0, 2, 3, 5, 6  # of Field
_ZONE = 1  # of Timestamp
_KEY, _VALUE = range(2)  # of KeyValue
_DICTIONARY_DATA = 1  # of DictionaryBatch
_LENGTH, _BUFFERS, _COMPRESSION, _VARIADIC = 0, 2, 3, 4  # of RecordBatch
_SCHEMA, _DICTIONARY_BATCH, _RECORD_BATCH = 1, 2, 3  # kinds of header
_TIMESTAMP = 10  # kind of type
_LEAST = 12  # bytes of a Field or KeyValue
_V5 = 4


def check_stream(data: bytes, *, max_rows: int) -> bytes:
    """The metadata of the stream's schema message; raises `ValueError` when the stream is not a whole, bounded one.

    What lies inside the messages is not looked at: that is Arrow's business.
    """
    return checked_stream(data, max_rows=max_rows)[0]


def checked_stream(data: bytes, *, max_rows: int) -> tuple[bytes, int | None]:
    """The same, and where the stream's record batch begins if it has but one, and no dictionary."""
    at, rows, schema = 0, 0, b""
    others: list[int] = []
    while True:
        begins = at
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
        if not schema:
            schema = metadata
            _check_schema(schema)
        else:
            others.append(begins if kind == _RECORD_BATCH else -1)
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
    return schema, others[0] if len(others) == 1 and others[0] >= 0 else None


def _message(metadata: bytes) -> tuple[int, int, int, bool]:
    """Kind of header, size of the body, rows, and whether buffers are compressed, of one message."""
    root = _U32(metadata, 0)[0]
    kind_at, header_at, body_at = (_field(metadata, root, n) for n in (_HEADER_TYPE, _HEADER, _BODY_LENGTH))
    kind = metadata[kind_at] if kind_at else 0
    body = _I64(metadata, body_at)[0] if body_at else 0
    pairs = _field(metadata, root, _MESSAGE_PAIRS)
    if pairs:
        _Walk(metadata).pairs(pairs)
    if kind not in {_DICTIONARY_BATCH, _RECORD_BATCH} or not header_at:
        return kind, body, 0, False
    version_at = _field(metadata, root, _VERSION)
    old = not version_at or _U16(metadata, version_at)[0] < _V5
    batch = _below(metadata, header_at)
    if kind == _DICTIONARY_BATCH:
        data_at = _field(metadata, batch, _DICTIONARY_DATA)
        if not data_at:
            return kind, body, 0, False
        batch = _below(metadata, data_at)
    _check_views(metadata, batch)
    length_at = _field(metadata, batch, _LENGTH)
    # Before version 5 compression was told in the message's key-value pairs.
    compressed = _field(metadata, batch, _COMPRESSION) > 0 or (old and pairs > 0)
    return kind, body, _I64(metadata, length_at)[0] if length_at else 0, compressed


def _check_views(metadata: bytes, batch: int) -> None:
    """View columns have no more buffers than there are."""
    counts_at, buffers_at = (_field(metadata, batch, n) for n in (_VARIADIC, _BUFFERS))
    if not counts_at:
        return
    at = _below(metadata, counts_at)
    counts = struct.unpack_from(f"<{min(_U32(metadata, at)[0], len(metadata))}q", metadata, at + 4)
    buffers = _U32(metadata, _below(metadata, buffers_at))[0] if buffers_at else 0
    if any(n < 0 for n in counts) or sum(counts) > buffers:
        raise ValueError("damaged: a view column says it has more buffers than the batch")


@lru_cache(maxsize=16)
def _check_schema(metadata: bytes) -> None:
    """Raises `ValueError` for a schema message that would be larger copied out, or whose numbers are big-endian."""
    try:
        schema = _below(metadata, _field(metadata, _U32(metadata, 0)[0], _HEADER))
        endianness_at = _field(metadata, schema, _ENDIANNESS)
        if endianness_at and _U16(metadata, endianness_at)[0]:
            raise ValueError("its numbers are big-endian, they must be little-endian")
        _Walk(metadata).schema(schema)
    except (struct.error, IndexError) as e:
        raise ValueError(f"cut short or damaged: {e}") from e


class _Walk:
    """Goes through what Arrow copies out of a message's metadata, and raises when that is more than the metadata is long."""

    def __init__(self, metadata: bytes) -> None:
        self._data = metadata
        self._left = len(metadata)

    def schema(self, schema: int) -> None:
        self.pairs(_field(self._data, schema, _SCHEMA_PAIRS))
        fields = self._tables(_field(self._data, schema, _FIELDS))
        while fields:
            field = fields.pop()
            self._text(_field(self._data, field, _NAME))
            self.pairs(_field(self._data, field, _FIELD_PAIRS))
            fields += self._tables(_field(self._data, field, _CHILDREN))
            kind_at, type_at = (_field(self._data, field, n) for n in (_TYPE_KIND, _TYPE))
            if kind_at and type_at and self._data[kind_at] == _TIMESTAMP:
                self._text(_field(self._data, _below(self._data, type_at), _ZONE))

    def pairs(self, at: int) -> None:
        """Key-value pairs; `at` is where the field lies that points to them, 0 for none."""
        for pair in self._tables(at):
            self._text(_field(self._data, pair, _KEY))
            self._text(_field(self._data, pair, _VALUE))

    def _tables(self, at: int) -> list[int]:
        """Where the tables of a vector lie."""
        if not at:
            return []
        at = _below(self._data, at)
        number = _U32(self._data, at)[0]
        self._spend(4 + number * (4 + _LEAST))
        return [_below(self._data, at + 4 + 4 * i) for i in range(number)]

    def _text(self, at: int) -> None:
        if at:
            self._spend(4 + _U32(self._data, _below(self._data, at))[0])

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ValueError("damaged: its metadata says more than it holds")


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
