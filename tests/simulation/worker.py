"""A worker's process in a world: the real chunk path, from fetch to commit, over fakes of what lies outside the process.

Real: `ChunkConsumer` (fetch, drop, seek), `SpanTracker`, `Group._agent`, `InferenceHandler` with its pipeline and idle clock,
`Outbox`, `Checkpoint`, `PackedTable`. Not real: Faust's order of a rebalance and its recovery of a table, written here
after `faust.app.base._on_partitions_revoked` and `faust.tables.recovery`; the clients of Kafka; RocksDB's files.
"""

# ruff: noqa: ASYNC110 - in virtual time a loop that sleeps is the simplest wait

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from faust.types import TP

from streams import inference, table
from streams.checkpoint import Checkpoint
from streams.group import RULES, Group
from streams.outbox import Outbox
from streams.pipeline import Pipeline
from streams.topics import WINDOWS_TABLE
from tests.simulation.broker import Producer
from tests.simulation.consumer import CHANGELOG, TOPICS, Consumer, Everywhere, Left
from tests.simulation.loop import Loop
from tests.simulation.rows import PARTITIONS
from tests.simulation.store import Folder, Store
from tests.simulation.versions import Knowing

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator

    from streams.chunks import Chunk
    from tests.simulation.broker import Broker
    from tests.simulation.versions import Registry

COMMIT_EVERY_S, IDLE_WAIT_S = 0.08, 0.1
STAGES = ("output produced", "commit asked", "commit answered", "changelog produced", "table batch", "table batch")


@dataclass(slots=True)
class Armed:
    """A fault that waits for its process at a stage, after it has passed there some times."""

    stage: str
    passes: int
    pause_s: float | None = None
    """None: killed."""


@dataclass(slots=True)
class Read:
    """A changelog record as Faust hands it on."""

    tp: TP
    offset: int
    key: bytes | None
    value: bytes | None

    @property
    def partition(self) -> int:
        return self.tp.partition


class Worker:
    """One life of a process, on a folder that outlives it."""

    def __init__(self, name: str, folder: Folder, broker: Broker, rng: random.Random, registry: Registry) -> None:
        self.name = name
        self.folder = folder
        self.broker = broker
        self.rng = rng
        self.registry = registry
        self.over: str | None = None
        self.paused_until = -1.0
        self.loop = Loop(broker.clock)
        self.producer = Producer(broker, name)
        self.armed: Armed | None = None
        self.slept: list[str] = []
        self.loop.start(self._life())

    def step(self) -> bool:
        """One callback; True if there was one."""
        Everywhere.running = self
        self.folder.on_write = lambda: self.reached("table batch")
        self.producer.on_produce = self._produced
        did = self.loop.step()
        if self.loop.errors and self.over is None:
            raise AssertionError(self.loop.errors)
        return did

    def kill(self, why: str) -> None:
        """Kill -9: records under way arrive in part, the folder stays as it is."""
        while self.rng.random() < 0.5 and self.producer.deliver():
            pass
        self.over = self.over or why
        self.loop.abandon()

    def reached(self, stage: str) -> None:
        """The process is at a place where a fault may have been armed for it."""
        armed = self.armed
        if armed is None or armed.stage != stage:
            return
        armed.passes -= 1
        if armed.passes >= 0:
            return
        self.armed = None
        if armed.pause_s is not None:
            self.sleep(armed.pause_s, f"paused at: {stage}")
        else:
            self.over = f"killed at: {stage}"
            raise Left

    def sleep(self, pause_s: float, why: str) -> None:
        """Stopped for a while, with everything the process has under way."""
        self.paused_until = self.loop.time() + pause_s
        self.slept.append(why)

    def _produced(self, topic: str) -> None:
        self.reached("changelog produced" if topic == CHANGELOG else "output produced")

    async def _life(self) -> None:
        knowing = self.knowing = Knowing(self.registry, self.rng)
        pipeline = Pipeline(
            await knowing.have(knowing.ordered()),
            partitions=PARTITIONS,
            max_future_us=10**15,
            slack_rows=self.rng.choice([2, 5, 30]),
            orders=knowing.known(),
        )
        out = Outbox({})
        following: Any = knowing
        handler = inference.InferenceHandler(pipeline, out, TOPICS, idle_wait_s=IDLE_WAIT_S, following=following)
        self.handler = handler
        self.consumer = consumer = Consumer(self)
        self.store = Store(self.folder)
        table.guard(self.store, RULES[WINDOWS_TABLE])
        stub: Any = SimpleNamespace(data=self.store, changelog_topic=SimpleNamespace(get_topic_name=lambda: CHANGELOG))
        packed = table.PackedTable(stub)
        handler.use_table(packed)
        self.checkpoint = consumer.checkpoint = self._checkpoint(consumer, out, handler, packed)
        self.queue: asyncio.Queue[Chunk] = asyncio.Queue(maxsize=2)
        self.unacked = 0
        me: Any = SimpleNamespace(outbox=out, handler=handler, _beginnings=None)
        for task in (
            lambda: Group._agent(me, self._stream()),
            self._fetch,
            lambda: self._every(COMMIT_EVERY_S, self._commit),
            lambda: self._every(IDLE_WAIT_S / 2, self._tick),
            lambda: self._every(0.1, self._follow),
        ):
            self.loop.start(self._to_the_end(task))
        self.broker.join(self.name)
        while True:
            await self._membership(consumer, handler)

    def _checkpoint(self, consumer: Consumer, out: Any, handler: Any, packed: Any) -> Checkpoint:
        return Checkpoint(
            consumer, out, handler, packed, clock=self.loop.time, on_failure=lambda e: Everywhere.leave(75, repr(e))
        )

    async def _to_the_end(self, task: Any) -> None:
        try:
            await task()
        except Exception as e:  # Faust crashes the worker then, whatever it is
            self.over = f"crashed: {e!r}"
            raise

    async def _membership(self, consumer: Consumer, handler: Any) -> None:
        """Faust's order: assigned, table recovered, sought, flowing; then revoked: drained, committed, forgotten."""
        while (found := self.broker.share(self.name)) is None:
            await asyncio.sleep(0.01)
        consumer.app.consumer_generation_id, share = found
        consumer.share = list(share)
        consumer.places.clear()
        await self._recover(share)
        await consumer.perform_seek()
        consumer.flow_active = True
        consumer.can_resume_flow.set()
        while self.broker.heartbeat(self.name, found[0]):
            await asyncio.sleep(0.03)
        consumer.flow_active = False
        consumer.can_resume_flow.clear()
        self.unacked -= self.queue.qsize()
        while not self.queue.empty():
            self.queue.get_nowait()
        while self.unacked > 0:
            await consumer.force_commit()
            await asyncio.sleep(0.01)
        await consumer.force_commit()
        await asyncio.sleep(0)
        await self.checkpoint.quiet()
        self.checkpoint.forget()
        handler.revoked(consumer.share)
        await asyncio.sleep(0)
        consumer.tracker.reset()
        consumer._next.clear()
        self.broker.join(self.name)

    async def _recover(self, share: list[int]) -> None:
        """Read the changelog from where the folder's files end to where it ended when recovery began."""
        for p in share:
            found = self.broker.compacted(CHANGELOG, p, start=self.folder.offset(p) + 1)
            most = self.rng.choice([5, 40, 1000])
            for at in range(0, len(found), most):
                events = [
                    SimpleNamespace(message=Read(TP(CHANGELOG, p), r.offset, r.key, r.value)) for r in found[at : at + most]
                ]
                self.store.apply_changelog_batch(events)
                await asyncio.sleep(0)
            await asyncio.sleep(self.rng.choice([0, 0.01, 0.1]))

    async def _fetch(self) -> None:
        while True:
            async for _, message in self.consumer.getmany(1.0):
                while self.queue.full() and self.consumer.flow_active:
                    await asyncio.sleep(0.002)
                if self.consumer.flow_active:
                    self.unacked += 1
                    self.queue.put_nowait(message.value)
            await asyncio.sleep(0)

    async def _stream(self) -> AsyncIterator[Chunk]:
        while True:
            chunk = await self.queue.get()
            await asyncio.sleep(self.rng.choice([0, 0, 0.005, 0.05]))
            yield chunk
            self.unacked -= 1

    async def _every(self, interval_s: float, call: Any) -> None:
        while True:
            await asyncio.sleep(interval_s)
            await call()

    async def _commit(self) -> None:
        await self.consumer.force_commit()

    async def _tick(self) -> None:
        self.handler.move_idle_partitions()

    async def _follow(self) -> None:
        await self.knowing.listen()
        if self.consumer.flow_active:
            self.handler.append_switches(self.consumer.share, now_s=self.loop.time())
