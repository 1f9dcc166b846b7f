"""A header name that is not UTF-8 costs nobody a record: the batch is read again, and every other byte is as it was."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import codec
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record import default_records, memory_records
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import TopicPartition

from streams import fetching, headernames
from streams.fetching import FetchedWhole, WholeBatches
from streams.headernames import KeptRecords
from tests.odd_headers import GZIP, LZ4, SNAPPY, ZSTD, RawName, builder

TP = TopicPartition("features", 0)
OTHER = TopicPartition("changelog", 0)
HERE = {0: True, GZIP: codec.has_gzip(), SNAPPY: codec.has_snappy(), LZ4: codec.has_lz4(), ZSTD: codec.has_zstd()}
CODECS = [number for number, here in HERE.items() if here]
ODD = RawName(b"tr\xffce-\xc3\xa9")
READ = "tr\\xffce-é"


def batch(first: int, headers: list[Any], *, compression: int = 0) -> bytes:
    """Four records; the third has these headers."""
    made = builder(compression)
    for i in range(4):
        row = {"key": None if i == 1 else b"k%d" % i, "value": None if i == 3 else b"v" * 200}
        made.append(offset=i, timestamp=1_000 + i, headers=headers if i == 2 else [("content-type", b"x")], **row)
    built = made.build()
    built[0:8] = first.to_bytes(8, "big")
    return bytes(built)


def plain(records: list[Any]) -> list[Any]:
    return [(r.offset, r.timestamp, r.timestamp_type, r.key, r.value, r.checksum, list(r.headers)) for r in records]


@pytest.fixture
def reread(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that were read a second time."""
    sizes: list[int] = []
    again = headernames.read_tolerantly

    def counted(data: memoryview) -> list[Any]:
        sizes.append(len(data))
        return again(data)

    monkeypatch.setattr(headernames, "read_tolerantly", counted)
    return sizes


@pytest.mark.parametrize("compression", CODECS)
def test_all_of_a_batch_is_read_and_the_name_stands_escaped(compression: int, reread: list[int]) -> None:
    odd = batch(7, [("a", b"1"), (ODD, b"2"), (ODD, None)], compression=compression)
    good = batch(7, [("a", b"1"), (READ, b"2"), (READ, None)], compression=compression)
    kept = KeptRecords(batch(3, [], compression=compression) + odd + batch(11, [], compression=compression))
    found = [kept.next_batch().records() for _ in range(3)]
    assert not kept.has_next()
    assert plain(found[1]) == plain(list(memory_records.MemoryRecords(good).next_batch()))
    assert [r.offset for part in found for r in part] == list(range(3, 15))
    assert reread == [len(odd)]


@pytest.mark.parametrize("tp", [TP, OTHER], ids=["whole", "singly"])
@pytest.mark.parametrize("most", [2, 100])
def test_whole_or_singly_a_fetch_gives_every_record_and_moves_on(
    tp: TopicPartition, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_whole", {TP.topic})
    data = batch(0, []) + batch(4, [(ODD, b"2")]) + batch(8, [])
    state = SimpleNamespace(paused=False, position=1)
    state.consumed_to = lambda position: setattr(state, "position", position)
    source = WholeBatches(tp, KeptRecords(data), [], 1, None, None, True, fetcher.READ_COMMITTED)  # noqa: FBT003 - aiokafka's own order
    assignment = SimpleNamespace(active=True, state_value=lambda _: state)
    result = FetchedWhole(tp, assignment=assignment, partition_records=source, backoff=0.0)
    taken = []
    for _ in range(20):
        taken += result.getall(most)
        if not result.has_more():
            break
    assert [r.offset for r in taken] == list(range(1, 12))
    assert [list(r.headers) for r in taken if r.offset == 6] == [[(READ, b"2")]]
    assert state.position == 12


def test_where_the_compiled_reader_is_absent_the_same_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_records, "DefaultRecordBatch", default_records._DefaultRecordBatchPy)
    monkeypatch.setattr(headernames, "MemoryRecords", memory_records._MemoryRecordsPy)
    found = KeptRecords(batch(0, [(ODD, b"2")])).next_batch().records()
    assert [list(r.headers) for r in found][2] == [(READ, b"2")]
    torn = batch(0, [])
    with pytest.raises(CorruptRecordException):
        KeptRecords(_with_length(torn[:-1])).next_batch().records()


@pytest.mark.parametrize("headers", [[], [(ODD, b"2")]])
def test_bytes_that_are_no_records_are_still_refused(headers: list[Any]) -> None:
    torn = batch(0, headers)[:-1]
    with pytest.raises(CorruptRecordException):
        KeptRecords(_with_length(torn)).next_batch().records()


def _with_length(data: bytes) -> bytes:
    return data[:8] + (len(data) - 12).to_bytes(4, "big") + data[12:]


def test_what_is_leant_on_in_aiokafka() -> None:
    """The compiled reader decodes strictly; the one in Python decodes a piece of its buffer, after it is decompressed."""
    data = batch(0, [(ODD, b"2")])
    with pytest.raises(UnicodeDecodeError):
        list(memory_records.MemoryRecords(data).next_batch())
    source = inspect.getsource(default_records._DefaultRecordBatchPy)
    assert 'buffer[pos : pos + h_key_len].decode("utf-8")' in source
    assert "self._maybe_uncompress()" in inspect.getsource(default_records._DefaultRecordBatchPy.__iter__)
    assert "self._buffer = bytearray(uncompressed)" in source
    assert DefaultRecordBatchBuilder is not default_records._DefaultRecordBatchBuilderPy, "the compiled records are not installed"
    for name in ("has_next", "next_batch", "size_in_bytes"):
        assert callable(getattr(KeptRecords(data), name))
