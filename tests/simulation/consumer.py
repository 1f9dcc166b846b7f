"""The real chunk consumer and outbox over a broker of the world, and fakes in the places of what their modules import."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

from faust.types import TP

from config.sections import Topics
from streams import group, inference, outbox, table
from streams.chunks import ChunkConsumer, _ReadOffsets
from streams.spans import SpanTracker
from tests.simulation.store import Batch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import ExitStack

    from tests.simulation.broker import Producer
    from tests.simulation.worker import Worker

TOPICS = Topics()
CHANGELOG = "windows-changelog"


class Left(BaseException):
    """The process is over, at once: what `os._exit` and kill -9 do."""


class Everywhere:
    """What stands in for what the modules import, for all workers of all worlds; the one that runs is `running`."""

    running: Worker

    @classmethod
    def leave(cls, code: int, why: str) -> None:
        cls.running.over = f"{code}: {why}"
        raise Left

    @classmethod
    def producer(cls, _config: Mapping[str, Any]) -> Producer:
        return cls.running.producer

    @classmethod
    def monotonic(cls) -> float:
        return cls.running.loop.time()


def install(stack: ExitStack) -> None:
    """Put the fakes in the places of the real ones, until the stack is closed."""
    time = SimpleNamespace(monotonic=Everywhere.monotonic, perf_counter=Everywhere.monotonic)
    for module, name, fake in (
        (outbox, "Producer", Everywhere.producer),
        (table, "WriteBatch", Batch),
        (inference, "time", time),
        (group, "leave", Everywhere.leave),
    ):
        stack.enter_context(mock.patch.object(module, name, fake))


class _Thread:
    """The part of Faust's consumer thread that seeks."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    async def seek_to_committed(self) -> dict[TP, int | None]:
        """aiokafka's: a partition without a committed offset stays where it is, or begins at the first record."""
        me = self._consumer
        committed = {TP(TOPICS.features, p): me.worker.broker.committed.get(p) for p in me.share}
        await asyncio.sleep(0.001)
        for tp, offset in committed.items():
            me.places[tp.partition] = offset if offset is not None else me.places.get(tp.partition, 0)
        return committed

    async def seek_to_beginning(self, *partitions: TP) -> None:
        self._consumer.places.update({tp.partition: 0 for tp in partitions})


class Consumer(ChunkConsumer):
    """The real chunk consumer over a broker of the world."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.app: Any = SimpleNamespace(consumer_generation_id=0)
        self.tracker = SpanTracker()
        self.chunk_topics = frozenset([TOPICS.features])
        self.checkpoint = None
        self._next = {}
        self._stood: Any = {}
        self._read_offset: Any = _ReadOffsets(self.chunk_topics)
        self._committed_offset: Any = {}
        self._fetching = asyncio.Lock()
        self._dropped = False
        self._acked: Any = {}
        self._acked_index: Any = {}
        self._buffered_partitions: Any = set()
        self.scheduler: Any = SimpleNamespace(iterate=lambda _: iter(()))  # no other topics
        self.flow_active = False
        self.can_resume_flow: Any = asyncio.Event()
        self._thread: Any = _Thread(self)
        self.places: dict[int, int] = {}
        self.share: list[int] = []

    def __repr__(self) -> str:
        return f"<consumer of {self.worker.name}>"

    @property
    def should_stop(self) -> bool:
        return False

    async def wait(self, *events: Any, **_: Any) -> Any:
        await events[0].wait()

    def _to_message(self, tp: TP, record: Any) -> Any:
        return SimpleNamespace(tp=tp, offset=record.offset, key=record.key, value=record.value)

    async def _wait_next_records(self, timeout: float) -> Any:  # noqa: ARG002, ASYNC109 - Faust's signature
        rng, broker = self.worker.rng, self.worker.broker
        await asyncio.sleep(rng.choice([0.001, 0.004, 0.02]))
        found = {}
        for p in sorted(self.share, key=lambda _: rng.random()):
            log, at = broker.log(TOPICS.features, p), self.places.get(p)
            most = rng.choice([0, 1, 3, 20, 60])
            if at is not None and (some := log[at : at + most]):
                found[TP(TOPICS.features, p)] = some
                self.places[p] = at + len(some)
        await asyncio.sleep(rng.choice([0, 0.002]))
        return found, {TP(TOPICS.features, p) for p in self.share}

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:  # noqa: ARG002, FBT001, FBT002 - Faust's
        mine = {tp.partition: o for tp, o in offsets.items() if tp.partition in self.share}
        if not mine:
            return False
        self.worker.reached("commit asked")
        await asyncio.sleep(0.001)
        done = self.worker.broker.commit(self.worker.name, self.app.consumer_generation_id, mine)
        self.worker.reached("commit answered")
        await asyncio.sleep(0.001)
        return done
