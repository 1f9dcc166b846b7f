"""Bad messages by name, each at least once in every run."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from streams.frame_columns import write_frame
from streams.wire import ARROW_STREAM
from tests.fuzz import bombs
from tests.fuzz.seeds import AWAY, LATEST_US, SYMBOLS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.record import Record

Header = tuple[str, Any]
Message = tuple[bytes | None, bytes | None, tuple[Header, ...]]
"""Key, value, headers."""

FRAME: tuple[Header, ...] = (("content-type", ARROW_STREAM),)
KEY = SYMBOLS[0].encode()
ROW: dict[str, Any] = {"symbol": SYMBOLS[0], "feature_set": "bars", "ts_event_us": 40, "values": {"x": 1.5, "y": 2}}
GOOD = json.dumps(ROW).encode()
WHOLE = write_frame(bombs.table(3))


def json_rows() -> Iterator[tuple[str, Message]]:
    """JSON rows, and what has neither a form."""

    def case(name: str, value: bytes | None, key: bytes | None = KEY, headers: tuple[Header, ...] = ()) -> tuple[str, Message]:
        return name, (key, value, headers)

    def end(more: bytes) -> bytes:
        return GOOD[:-1] + b"," + more + b"}"

    yield case("empty", b"")
    yield case("tombstone", None)
    yield case("above the size limit", end(b'"note":"' + b"x" * 2_000_000 + b'"'))
    yield case("above the size limit and no JSON", b"x" * 2_000_000)
    yield case("a long key", GOOD, b"k" * 1_000_000)
    for name, key in (("non-UTF-8 key", b"\xff\xfe\x80"), ("no key", None), ("key of another", b"other"), ("empty key", b"")):
        yield case(name, GOOD, key)
    yield case("key and symbol of another partition", json.dumps(ROW | {"symbol": AWAY}).encode(), AWAY.encode())
    for name, start, stop in (("arrays", b"[", b"]"), ("objects", b'{"a":', b"}")):
        for depth in (300, 390, 401, 500, 900, 950, 985, 100_000):
            nested = start * depth + b"1" + stop * depth
            yield case(f"{depth} nested {name}", nested)
            yield case(f"{depth} nested {name} in an unknown field", end(b'"q":' + nested))
            yield case(f"{depth} nested {name} in an unread feature", GOOD.replace(b'"y": 2', b'"q":' + nested))
            yield case(f"{depth} {name} left open", start * depth)
    for name in ("symbol", "feature_set", "ts_event_us", "revision", "values"):
        for again in (b'"X"', b"5", b"null", b"{}", b'"slow"', b'"\xff"'):
            yield case(f"{name} twice", end(b'"' + name.encode() + b'":' + again))
            yield case(f"{name} twice", GOOD.replace(b"{", b'{"' + name.encode() + b'":' + again + b",", 1))
    yield case("a feature twice", GOOD.replace(b'"x": 1.5', b'"x": 1.5, "x": 2.5'))
    for number in (
        b"1e400",
        b"-1e400",
        b"9" * 400,
        b"9" * 5000,
        b"1" + b"0" * 100_000,
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"-0",
        b"01",
    ):
        for old in (b"1.5", b"40"):
            yield case(f"number {number[:9].decode()}", GOOD.replace(old, number))
        yield case(f"revision {number[:9].decode()}", end(b'"revision":' + number))
    for name, text in (
        ("lone surrogate", b"\\ud800"),
        ("lone surrogate in bytes", b"\xed\xa0\x80"),
        ("NUL escaped", b"\\u0000"),
        ("not UTF-8", b"\xff\xfe"),
        ("overlong UTF-8", b"\xc0\x80"),
    ):
        for old in (b'"x"', b'"y"', SYMBOLS[0].encode(), b"bars", b'"values"'):
            yield case(f"{name} in {old.decode()}", GOOD.replace(old, b'"' + text + b'"' if old[:1] == b'"' else text))
        yield case(f"{name} in an unknown field", end(b'"q":"' + text + b'"'))
        yield case(f"{name} in an unread feature", GOOD.replace(b'"y": 2', b'"' + text + b'": 2, "v": "' + text + b'"'))
    yield case("byte order mark", b"\xef\xbb\xbf" + GOOD)
    yield case("UTF-16", GOOD.decode().encode("utf-16"))
    for name, tail in (("NUL", b"\x00"), ("garbage", b"x"), ("another row", GOOD), ("a comma", b",")):
        yield case(f"{name} after the row", GOOD + tail)
    yield case("future", GOOD.replace(b"40", str(LATEST_US + 1).encode()))
    for name, headers in headers_of():
        yield case(name, GOOD, KEY, headers)
        yield case(f"{name}, bad row", b"{", KEY, headers)
        yield case(f"{name}, frame", WHOLE, None, (*FRAME, *headers))
        yield case(f"{name}, frame with bad rows", bombs.all_bad(50), None, (*FRAME, *headers))
    for value in (ARROW_STREAM + b"x", ARROW_STREAM.upper(), b"application/json", b"", b"\xff"):
        yield case("wrong content type, frame", WHOLE, None, (("content-type", value),))
    yield case("JSON as a frame", GOOD, KEY, FRAME)
    yield case("tombstone as a frame", None, None, FRAME)


def headers_of() -> Iterator[tuple[str, tuple[Header, ...]]]:
    yield "10,000 headers", tuple((f"h{i}", b"x") for i in range(10_000))
    yield "10,000 empty headers", (("", b""),) * 10_000
    yield "10,000 headers that say JSON", (("content-type", b"application/json"),) * 10_000
    yield "huge header", (("h", b"x" * 900_000),)
    yield "huge header name", (("h" * 900_000, b""),)
    yield "header without a value", (("h", None), ("content-type", None), ("", None))
    odd = ("tr\\xffce", "a\0b", "content-type\0", "\udcff", "größe")
    yield "header names that cannot be sent as they are", tuple((name, ARROW_STREAM) for name in odd)
    yield "the same header twice", (("trace", b"1"), ("trace", b"2"), ("content-type", b"x"), ("content-type", b"y"))
    yield "headers of the rejected topic", (("__connect.errors.topic", b"other"), ("__connect.errors.offset", b"\xff"))


def arrow() -> Iterator[tuple[str, Message]]:
    """Frames."""

    def case(name: str, value: bytes) -> tuple[str, Message]:
        return name, (None, value, FRAME)

    for at in range(len(WHOLE)):
        yield case("frame cut short", WHOLE[:at])
    for size in (4, 8):
        for at in range(0, len(WHOLE) - size, 4):
            for number in (-1, 2**31 - 1, 7):
                changed = bytearray(WHOLE)
                struct.pack_into("<i" if size == 4 else "<q", changed, at, number)
                yield case("frame with another number in it", bytes(changed))
    two = bombs.table
    for codec in ("zstd", "lz4"):
        yield case(f"compressed by {codec}", bombs.written(two(500), compression=codec))
    yield case("compressed the old way", bombs.old_compression())
    yield case("metadata of version 4", bombs.written(two(), metadata_version=pa.ipc.MetadataVersion.V4))
    yield case("before Arrow 0.15", bombs.written(two(), use_legacy_format=True))
    out_of_range = pa.DictionaryArray.from_arrays(pa.array([0, 77], pa.int8()), ["A", "B"], safe=False)
    yield case("dictionary index out of range", write_frame(two(symbol=out_of_range)))
    for column in ("symbol", "t"):
        three = write_frame(two(**{column: pa.array(["M", "M"])}))
        for name, ends in (("backwards", (0, 5, 2)), ("negative", (0, -1, 2)), ("past the end", (0, 1, 2**30))):
            yield case(f"offsets {name} in {column}", three.replace(struct.pack("<iii", 0, 1, 2), struct.pack("<iii", *ends)))
    not_text = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(np.array([0, 1, 2], np.int32)), pa.py_buffer(b"\xff\xfe")]
    )
    yield case("not UTF-8", write_frame(two(symbol=not_text)))
    for name, column in (
        ("list", pa.array([[1.0], None])),
        ("struct", pa.array([{"a": 1}, None])),
        ("map", pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int8()))),
        (
            "dense union",
            pa.UnionArray.from_dense(pa.array([0, 1], pa.int8()), pa.array([0, 0], pa.int32()), [pa.array([1]), pa.array(["x"])]),
        ),
        ("run ends", pa.RunEndEncodedArray.from_arrays([2], [1.0])),
        ("decimal", pa.array([1, 2], pa.decimal128(9))),
        ("extension", pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"u" * 16] * 2, pa.binary(16)))),
        ("extension of numbers", pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0], pa.int8()))),
        ("list view", pa.array([[1], [2]], pa.list_view(pa.int8()))),
        ("text", pa.array(["1", "2"])),
        ("dictionary of numbers", pa.array([1.0, 2.0]).dictionary_encode()),
    ):
        for place in ("x", "symbol", "ts_event_us", "revision", "nobody"):
            yield case(f"{name} as {place}", write_frame(two(**{place: column})))
    deep: pa.Array = pa.array([1, 2])
    for _ in range(60):
        deep = pa.StructArray.from_arrays([deep], ["d"])
    yield case("60 nested types", write_frame(two(d=deep)))
    for number in (1_000, 10_000):
        yield case(f"{number} columns", bombs.many_columns(number))
    yield case("no rows", write_frame(two(0)))
    yield case("no columns", write_frame(pa.table({})))
    yield case("metadata of a megabyte", write_frame(two().replace_schema_metadata({"m": "x" * 900_000})))
    yield case("10,000 pairs of metadata", write_frame(two().replace_schema_metadata({f"m{i}": "x" for i in range(10_000)})))
    for length in (-5, -(2**31), 2**31 - 1, 13):
        yield case(f"a null whose view has length {length}", bombs.null_view(length))
    yield case("big-endian", bombs.big_endian())
    clock = two(feature_set=["__clock__", "bars"])
    yield case("a clock row in a frame", write_frame(clock))


def bomb(rows: int) -> Iterator[tuple[str, Message]]:
    """Frames that would be gigabytes, those with bad rows of so many."""
    made = {
        "pairs of metadata that are one": bombs.shared_pairs(),
        "columns that are one": bombs.shared_fields(),
        "time zones that are one": bombs.shared_zone(),
        "pairs of a batch that are one": bombs.message_pairs(),
        "a view column of too many buffers": bombs.many_views(),
        "a long view in every row": bombs.long_views(rows),
        "a long word in every row": bombs.long_words(rows),
        "a long viewed word in every row": bombs.long_words(rows, kind=pa.string_view()),
        "a long column name": bombs.long_names(rows),
        "conflicts with a long column name": bombs.conflicts(rows // 2),
        "bad rows": bombs.all_bad(3 * rows),
    }
    for name, value in made.items():
        yield name, (None, value, FRAME)
    yield "bad rows with 10,000 headers", (None, made["bad rows"], (*FRAME, *((f"h{i}", b"") for i in range(10_000))))


def named(rows: int) -> Iterator[tuple[str, Message]]:
    """All of them."""
    yield from json_rows()
    yield from arrow()
    yield from bomb(rows)


def as_record(message: Message, offset: int, timestamp_ms: int) -> Record:
    """The message as it is consumed. aiokafka gives None for a header without a value, whatever the type says."""
    from tests.record import Record

    key, value, headers = message
    return Record(offset, timestamp_ms, key, value, headers)
