"""The chunk consumer without Kafka: what a fetch becomes, and that a seek and a fetch never overlap."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from faust.types import TP

from config import load_settings
from streams.chunks import Chunk, ChunkConsumer
from streams.group import Group

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

F0, F1, LOG = TP("trading.features", 0), TP("trading.features", 1), TP("changelog", 0)


@dataclass
class Record:
    """What aiokafka hands out."""

    topic: str
    partition: int
    offset: int
    timestamp: int = 1
    timestamp_type: int = 0
    key: bytes | None = b"k"
    value: bytes | None = b"v"
    checksum: int | None = None
    serialized_key_size: int = 1
    serialized_value_size: int = 1
    headers: tuple[tuple[str, bytes], ...] = ()


def records(tp: TP, offsets: Iterable[int]) -> list[Record]:
    return [Record(tp.topic, tp.partition, o) for o in offsets]


class Script:
    """Stands in for Kafka: each fetch answers with the next of `fetches`."""

    def __init__(self, consumer: ChunkConsumer) -> None:
        self.consumer = consumer
        self.fetches: list[dict[TP, list[Record]]] = []
        self.sought = 0
        self.gate: asyncio.Event | None = None
        self.on_fetch: Any = None
        self.seek_error: Exception | None = None
        self.events: list[str] = []

    async def wait_next_records(self, _timeout_s: float) -> tuple[dict[TP, list[Record]], set[TP]]:
        self.events.append("fetch")
        if self.gate is not None:
            await self.gate.wait()
        if self.on_fetch is not None:
            self.on_fetch()
        self.events.append("fetched")
        return (self.fetches.pop(0) if self.fetches else {}), {F0, F1, LOG}

    async def seek_to_committed(self) -> dict[TP, int]:
        self.events.append("seek")
        if self.seek_error is not None:
            raise self.seek_error
        await asyncio.sleep(0)
        self.sought += 1
        self.events.append("sought")
        return {F0: 0}

    async def get(self) -> list[tuple[TP, Any]]:
        return [(tp, m) async for tp, m in self.consumer.getmany(1.0)]


class _Handler:
    async def kept(self) -> None:
        pass

    def urgent(self) -> bool:
        return False

    def use_table(self, table: object) -> None:
        """Nothing is kept."""


@pytest.fixture(name="script")
async def fixture_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    env = {"TRADING_ML__STORAGE__STATE_DIR": str(tmp_path)}
    nothing: Any = _Handler()
    group = Group(load_settings(env=env), app_id="g", topics=[F0.topic], table="windows", handler=nothing, outbox=nothing)
    consumer: Any = group.app.consumer
    assert isinstance(consumer, ChunkConsumer)
    assert group.consumer is consumer
    script = Script(consumer)
    monkeypatch.setattr(consumer, "_wait_next_records", script.wait_next_records)
    monkeypatch.setattr(consumer, "seek_to_committed", script.seek_to_committed)
    return script


def spans(chunk: Chunk) -> list[tuple[Any, int, int]]:
    return [(s.partition, s.first, s.end) for s in chunk.spans]


async def test_a_fetch_is_one_message_and_other_topics_go_their_own_way(script: Script) -> None:
    script.fetches = [{F1: records(F1, [5, 6, 9]), LOG: records(LOG, [1, 2]), F0: records(F0, [0])}]
    got = await script.get()
    assert [(tp, m.offset) for tp, m in got[:2]] == [(LOG, 1), (LOG, 2)]
    ((tp, message),) = got[2:]
    chunk = message.value
    assert (tp, message.key, len(chunk)) == (F1, None, 4)
    assert [(p.topic, p.partition, [r.offset for r in p.records]) for p in chunk.parts] == [
        (F0.topic, 1, [5, 6, 9]),
        (F0.topic, 0, [0]),
    ]
    assert spans(chunk) == [(F1, 5, 10), (F0, 0, 1)]
    assert script.consumer.positions() == {F1: 10, F0: 1}
    assert script.consumer.tracker.committable() == {}
    chunk.finish()
    assert script.consumer.tracker.committable() == {F1: 10, F0: 1}


async def test_an_empty_fetch_yields_nothing(script: Script) -> None:
    assert await script.get() == []


async def test_what_was_taken_is_not_taken_twice(script: Script) -> None:
    script.fetches = [{F0: records(F0, [0, 1, 2])}, {F0: records(F0, [1, 2, 3])}, {F0: records(F0, [2, 3])}]
    assert [spans(m.value) for _, m in await script.get()] == [[(F0, 0, 3)]]
    ((_, second),) = await script.get()
    assert [r.offset for r in second.value.parts[0].records] == [3]
    assert await script.get() == []


async def test_records_of_a_partition_that_is_not_active_come_again(script: Script) -> None:
    other = TP(F0.topic, 7)
    script.fetches = [{other: records(other, [0]), F0: records(F0, [0])}]
    assert await script.get() == []
    assert script.consumer.tracker.in_flight() == 0
    assert script.sought == 1


async def test_after_a_seek_reading_starts_again_and_old_chunks_count_for_nothing(script: Script) -> None:
    script.fetches = [{F0: records(F0, [0, 1, 2])}, {F0: records(F0, [0, 1])}]
    ((_, old),) = await script.get()
    await script.consumer.perform_seek()
    ((_, new),) = await script.get()
    assert spans(new.value) == [(F0, 0, 2)]
    old.value.finish()
    assert script.consumer.tracker.committable() == {}
    new.value.finish()
    assert script.consumer.tracker.committable() == {F0: 2}


async def test_a_seek_waits_for_the_fetch_under_way(script: Script) -> None:
    script.gate = asyncio.Event()
    script.fetches = [{F0: records(F0, [0, 1])}]
    fetch = asyncio.create_task(script.get())
    await asyncio.sleep(0)
    seek = asyncio.create_task(script.consumer.perform_seek())
    await asyncio.sleep(0)
    script.gate.set()
    ((_, message),) = await fetch
    await seek
    assert script.events == ["fetch", "fetched", "seek", "sought"]
    assert spans(message.value) == [(F0, 0, 2)]
    assert script.consumer.positions() == {}


async def test_a_fetch_waits_for_the_seek_under_way(script: Script) -> None:
    script.fetches = [{F0: records(F0, [0])}]
    seek = asyncio.create_task(script.consumer.perform_seek())
    await asyncio.sleep(0)
    got = await script.get()
    await seek
    assert script.events == ["seek", "sought", "fetch", "fetched"]
    assert len(got) == 1
    assert script.consumer.positions() == {F0: 1}


async def test_what_a_rebalance_overtook_is_dropped_and_comes_again(script: Script) -> None:
    script.fetches = [{F0: records(F0, [0, 1]), LOG: records(LOG, [4])}]
    script.on_fetch = script.consumer.stop_flow
    assert await script.get() == []
    assert script.events == ["fetch", "fetched", "seek", "sought"]
    assert script.consumer.tracker.in_flight() == 0
    script.consumer.resume_flow()
    script.on_fetch = None
    script.fetches = [{F0: records(F0, [0])}]
    assert [spans(m.value) for _, m in await script.get()] == [[(F0, 0, 1)]]


async def test_nothing_is_taken_past_dropped_records_until_a_seek_has_brought_them_again(script: Script) -> None:
    """Else the rows between would count as done: they lie below the last one applied."""
    script.fetches = [{F0: records(F0, [0, 1])}, {F0: records(F0, [2, 3]), LOG: records(LOG, [4])}, {F0: records(F0, [4])}]
    script.on_fetch = script.consumer.stop_flow
    script.seek_error = RuntimeError("no current assignment")
    assert await script.get() == []  # the partitions may be gone by the time it would seek
    script.consumer.resume_flow()
    script.on_fetch = None
    assert [tp for tp, _ in await script.get()] == [LOG]
    script.seek_error = None
    assert await script.get() == []
    script.fetches = [{F0: records(F0, [0, 1, 2, 3, 4])}]
    assert [spans(m.value) for _, m in await script.get()] == [[(F0, 0, 5)]]


async def test_a_partition_without_a_commit_is_sought_to_its_beginning(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[TP] = []

    class Thread:
        async def seek_to_committed(self) -> dict[TP, int | None]:
            return {F0: None, F1: 7, TP(F0.topic, 2): 0, LOG: None}

        async def seek_to_beginning(self, *tps: TP) -> None:
            begun.extend(tps)

    consumer: Any = script.consumer
    monkeypatch.setattr(consumer, "_thread", Thread())
    await ChunkConsumer.seek_to_committed(consumer)  # the script's own stands in the instance
    assert begun == [F0, TP(F0.topic, 2)]


async def test_nothing_read_is_remembered_for_chunk_topics(script: Script) -> None:
    read: Any = script.consumer._read_offset
    read[F0] = 7
    read[LOG] = 7
    assert (read[F0], read[LOG], read[TP("changelog", 5)]) == (None, 7, None)


async def test_a_commit_is_a_checkpoint_and_keeps_no_list_of_messages(script: Script) -> None:
    consumer: Any = script.consumer
    ran = 0

    async def run() -> bool:
        nonlocal ran
        ran += 1
        return True

    consumer._acked[F0].append(5)
    consumer._acked_index[F0].add(5)
    consumer.checkpoint = None
    assert not await consumer.commit()
    consumer.checkpoint = type("C", (), {"run": staticmethod(run)})
    assert await consumer.commit()
    assert (ran, dict(consumer._acked), dict(consumer._acked_index)) == (1, {}, {})


async def test_an_acknowledged_message_is_no_longer_waited_for(script: Script) -> None:
    script.fetches = [{F0: records(F0, [0])}]
    ((_, message),) = await script.get()
    consumer: Any = script.consumer
    consumer._unacked_messages.add(message)
    assert consumer.ack(message)
    assert not consumer.ack(message)
    assert set(consumer._unacked_messages) == set()
    assert consumer.tracker.committable() == {}  # only Chunk.finish lets offsets go
