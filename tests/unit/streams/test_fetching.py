"""Batches taken whole give what aiokafka gives record by record, in whatever pieces they are asked for."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import TopicPartition

from streams import fetching
from streams.fetching import FetchedWhole, WholeBatches
from streams.headernames import KeptRecords

TP = TopicPartition("features", 0)
OTHER = TopicPartition("changelog", 0)


@pytest.fixture(autouse=True)
def _taken_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_whole", {TP.topic})


def batch(first: int, n: int, *, compression: int = 0) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=compression,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 20,
    )
    for i in range(n):
        headers = [("content-type", b"x")] if i == 2 else []
        builder.append(offset=i, timestamp=1_000 + i, key=b"k%d" % i, value=None if i == 1 else b"v" * i, headers=headers)
    built = bytearray(builder.build())
    built[0:8] = first.to_bytes(8, "big")
    return bytes(built)


def fetched(tp: TopicPartition, data: bytes, at: int, kind: tuple[Any, Any]) -> tuple[Any, SimpleNamespace]:
    state = SimpleNamespace(paused=False, position=at)
    state.consumed_to = lambda position: setattr(state, "position", position)
    check_crcs = True
    records = kind[0](tp, KeptRecords(data), [], at, None, None, check_crcs, fetcher.READ_UNCOMMITTED)
    assignment = SimpleNamespace(active=True, state_value=lambda _: state)
    return kind[1](tp, assignment=assignment, partition_records=records, backoff=0.0), state


WHOLE, SINGLY = (WholeBatches, FetchedWhole), (fetcher.PartitionRecords, fetcher.FetchResult)


def read(kind: tuple[Any, Any], data: bytes, at: int, most: list[int], tp: TopicPartition = TP) -> list[Any]:
    result, state = fetched(tp, data, at, kind)
    seen: list[Any] = []
    for n in most * 20:
        if not result.has_more():
            break
        taken = result.getall(n)
        assert len(taken) <= n
        seen.append(([(r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in taken], state.position))
    assert not result.has_more()
    return seen


@pytest.mark.parametrize("at", [0, 3, 4, 5, 9])
@pytest.mark.parametrize("most", [[1], [2, 5], [3], [4], [100]])
@pytest.mark.parametrize("compression", [0, 1], ids=["plain", "gzip"])
def test_the_records_and_positions_are_those_of_aiokafka(at: int, most: list[int], compression: int) -> None:
    # The second batch ends at 9 though compaction left fewer records than that in the third.
    data = batch(0, 5, compression=compression) + batch(5, 5, compression=compression) + batch(14, 2, compression=compression)
    assert read(WHOLE, data, at, most) == read(SINGLY, data, at, most)


def test_other_topics_keep_their_records() -> None:
    result, _ = fetched(OTHER, batch(0, 3), 0, WHOLE)
    assert [type(r).__name__ for r in result.getall(10)] == ["ConsumerRecord"] * 3


def test_what_is_left_is_forgotten_when_the_position_moved() -> None:
    result, state = fetched(TP, batch(0, 5), 0, WHOLE)
    assert len(result.getall(2)) == 2
    state.position = 0  # a seek
    assert result.getall(2) == []
    assert not result.has_more()


def test_a_corrupt_batch_is_refused() -> None:
    data = bytearray(batch(0, 5))
    data[-1] ^= 1
    result, _ = fetched(TP, bytes(data), 0, WHOLE)
    with pytest.raises(CorruptRecordException, match="Invalid CRC"):
        result.getall(10)


def test_the_fetcher_makes_them_by_the_names_that_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    source = inspect.getsource(fetcher.Fetcher)
    assert "records = MemoryRecords(part_data[-1])" in source
    assert "PartitionRecords(" in source
    assert "FetchResult(" in source
    assert "type(res_or_error) is FetchResult" in source
    assert list(inspect.signature(fetcher.PartitionRecords.__init__).parameters)[:4] == [
        "self",
        "tp",
        "records",
        "aborted_transactions",
    ]
    for name in ("PartitionRecords", "FetchResult", "MemoryRecords"):
        monkeypatch.setattr(fetcher, name, getattr(fetcher, name))
    fetching.take_whole(frozenset({"more"}))
    assert (fetcher.PartitionRecords, fetcher.FetchResult) == WHOLE
    assert fetcher.MemoryRecords is KeptRecords
    assert fetching._whole == {TP.topic, "more"}
