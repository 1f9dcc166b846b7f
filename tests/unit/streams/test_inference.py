"""The inference handler before a chunk: every version it may be scored by is at hand, or the worker leaves and says why."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from config.sections import Kafka
from models.errors import RegistryUnreachable, UntrustedModel
from streams import group
from streams.inference import InferenceHandler
from streams.partitioner import partition_of
from streams.partitions import VERSIONS
from streams.pipeline import Pipeline
from streams.records import PartitionRecords
from streams.switches import SWITCH, History, Order, read_switch
from tests.unit.streams.following_world import World
from tests.unit.streams.pipes import PARTITIONS, bar, bodies, part, switch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HOME = partition_of(b"A", PARTITIONS)
TOPICS = Kafka(bootstrap_servers="none:1").topics
SECOND = Order(model="m", role="champion", seq=2, version="2", effective_from_us=20)


class Sent:
    """An outbox that keeps predictions, and what is for the features topic."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.predictions: list[Any] = []

    def send(self, topic: str, **record: Any) -> None:
        if topic == TOPICS.features:
            self.records.append(record)

    def send_many(self, _topic: str, records: list[Any]) -> None:
        self.predictions += records

    async def room(self) -> None:
        """There always is."""


class Chunk:
    """Records, and whether they were finished."""

    def __init__(self, *parts: list[PartitionRecords]) -> None:
        records = [r for some in parts for p in some for r in p.records]
        self.parts = [PartitionRecords("f", HOME, records)]
        self.finished = False

    def finish(self) -> None:
        self.finished = True


class Worker:
    """A handler over a fake registry and timeline, its table a dictionary."""

    def __init__(self, **table: bytes) -> None:
        self.world = World()
        self.sent = Sent()
        outbox: Any = self.sent
        pipeline = Pipeline(
            self.world.handles, partitions=PARTITIONS, max_future_us=10**15, slack_rows=8, orders=self.world.orders
        )
        self.handler = InferenceHandler(pipeline, outbox, TOPICS, idle_wait_s=1.0, following=self.world.following)
        held = {key.encode(): value for key, value in table.items()}

        class Table:
            def get(self, _partition: int, key: bytes) -> bytes | None:
                return held.get(key)

            def items(self, _partition: int) -> list[tuple[bytes, bytes]]:
                return list(held.items())

        self.handler.use_table(Table())  # type: ignore[arg-type]  # all that is asked of it

    def take(self, *parts: list[PartitionRecords]) -> list[dict[str, Any]]:
        """Prepare and process a chunk; the predictions."""
        chunk: Any = Chunk(*parts)
        asyncio.run(self.handler.prepare(chunk))
        self.sent.predictions.clear()
        self.handler.process(chunk)
        out: Any = self.sent
        return bodies(out)

    def left(self, chunk: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
        """How the agent ends the process over this chunk."""
        calls: list[tuple[int, str]] = []
        monkeypatch.setattr(group, "leave", lambda code, why: calls.append((code, why)))

        async def stream() -> AsyncIterator[Any]:
            yield chunk

        me: Any = type("Me", (), {"outbox": self.sent, "handler": self.handler, "_beginnings": None})()
        asyncio.run(group.Group._agent(me, stream()))
        return calls


def test_a_switch_of_an_order_not_heard_of_is_looked_up_and_its_version_loaded_before_the_chunk() -> None:
    worker = Worker()
    worker.world.topic.append(SECOND)
    chunk = [part(bar(10, x=1.0)), switch(SECOND, offset=1), part(bar(20, x=1.0), first=2)]
    assert [(b["ts_event_us"], b["version"]) for b in worker.take(*chunk)] == [(10, "1"), (20, "2")]
    assert worker.world.registry.loads == ["1", "2"]


def test_what_a_partitions_table_says_is_in_force_is_loaded_before_its_first_chunk() -> None:
    held = History.starting(Worker().world.orders, first_offset=0).then(SECOND, offset=4, stream_time_us=9)
    worker = Worker(**{VERSIONS: held.pack()})
    assert [b["version"] for b in worker.take(part(bar(30, x=1.0), first=5))] == ["2"]
    early = Worker(**{VERSIONS: held.pack()})
    assert [b["version"] for b in early.take(part(bar(30, x=1.0), first=3))] == ["1"]
    assert early.world.registry.loads == ["1"]


@pytest.mark.parametrize("error", [RegistryUnreachable("the registry is away"), UntrustedModel("other bytes")])
def test_a_version_in_force_that_is_not_to_be_had_in_time_ends_the_worker_with_75_and_nothing_done(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker()
    worker.world.topic.append(SECOND)
    worker.world.registry.broken["2"] = error
    chunk = Chunk(switch(SECOND, offset=0), part(bar(30, x=1.0), first=1))
    ((code, why),) = worker.left(chunk, monkeypatch)
    assert (code, chunk.finished, worker.sent.predictions) == (75, False, [])
    assert str(error) in why
    del worker.world.registry.broken["2"]
    assert worker.left(chunk, monkeypatch) == []
    assert chunk.finished


def test_switches_are_appended_where_due_once_and_again_when_they_do_not_come() -> None:
    worker = Worker()
    worker.take(part(bar(10, x=1.0)))
    worker.handler.append_switches([HOME], now_s=0.0)
    assert worker.sent.records == []
    worker.world.topic.append(SECOND)
    worker.handler.append_switches([HOME], now_s=1.0)
    assert worker.sent.records == []  # not loaded yet
    worker.world.load_ordered()
    for now_s in (2.0, 3.0, 11.9, 12.1):
        worker.handler.append_switches([HOME], now_s=now_s)
    appended = worker.sent.records
    assert [(r["partition"], r["key"], r["headers"]) for r in appended] == [(HOME, None, [("content-type", SWITCH)])] * 2
    found = read_switch(appended[0]["value"])
    assert found is not None
    assert found.key == SECOND.key
    worker.take(switch(SECOND, offset=1))
    worker.handler.append_switches([HOME], now_s=90.0)
    assert len(worker.sent.records) == 2


def test_a_version_that_counts_nowhere_any_more_is_let_go_of_and_had_again_by_a_rollback() -> None:
    worker = Worker()
    worker.take(part(bar(10, x=1.0)))
    for seq in (2, 3, 4):
        order = Order(model="m", role="champion", seq=seq, version=str(seq), effective_from_us=0)
        worker.world.topic.append(order)
        worker.take(switch(order, offset=10 * seq), part(bar(100 * seq, x=1.0), first=10 * seq + 1))
        worker.handler.append_switches([HOME], now_s=0.0)
    assert sorted(v for _, v in worker.world.following.loaded) == ["3", "4"]
    assert sorted(v for _, v in worker.handler.pipeline.partitions.handles) == ["3", "4"]
    back = Order(model="m", role="champion", seq=5, version="1", effective_from_us=0)
    worker.world.topic.append(back)
    (again,) = worker.take(switch(back, offset=90), part(bar(900, x=1.0), first=91))
    assert (again["version"], again["ts_event_us"]) == ("1", 900)
