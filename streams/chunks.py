"""The chunk transport: one event per fetch instead of one per record. Shell, over Faust's aiokafka driver.

Registered under its own scheme, `chunks://host:port`. For the topics the app names in `chunk_topics` the consumer
hands the agent one `Chunk` per fetch: the records of every assigned partition that were ready, grouped by
partition, in order. Everything else (changelogs while recovering or standing by) takes Faust's own path.

Overridden internals of faust-streaming 0.15.x, each with a contract test in tests/unit/streams/test_faust_contract.py:
`Consumer.getmany`, `ack`, `perform_seek`, `seek_to_committed`, `force_commit`, `on_partitions_revoked`, `on_buffer_full`,
`verify_event_path`, `_read_offset`, and `AIOKafkaConsumerThread._create_worker_consumer`; of aiokafka 0.14
`CoordinatorGroupRebalance._send_sync_group_request`.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import structlog
from aiokafka.consumer.group_coordinator import CoordinatorGroupRebalance
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError
from faust.transport import drivers
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage
from mode.utils.futures import notify

from streams.fetching import take_whole
from streams.frame_reader import receive_frames
from streams.records import PartitionRecords
from streams.spans import Span, SpanTracker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from streams.checkpoint import Checkpoint

SCHEME = "chunks"
log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class Chunk:
    """Records handed to an agent as one event. Call `finish` when everything they lead to has been handed over."""

    parts: Sequence[PartitionRecords]
    spans: Sequence[Span]
    tracker: SpanTracker

    def finish(self) -> None:
        """All this chunk led to is in the outbox and in the windows: its offsets may go with the next checkpoint."""
        for span in self.spans:
            self.tracker.finish(span)

    def __len__(self) -> int:
        return sum(len(p.records) for p in self.parts)


class ChunkConsumerThread(driver.AIOKafkaConsumerThread):
    """The driver's thread: the fetch wait that the settings say in place of its hard-coded 1.5 s, batches taken whole."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        app: Any = self.app
        consumer._fetch_max_wait_ms = app.fetch_max_wait_ms  # noqa: SLF001 - Faust has no setting for it
        take_whole(app.chunk_topics)
        receive_frames()
        return consumer


class _ReadOffsets(defaultdict[TP, "int | None"]):
    """Faust's last-read offsets, which chunk topics do without.

    Faust drops a message below the last one read, and takes a jump forward for a gap that it acknowledges. After a seek
    back both are wrong: what was read before the seek must come again, in whatever pieces it is fetched then.
    """

    def __init__(self, chunk_topics: frozenset[str]) -> None:
        super().__init__(lambda: None)
        self._chunk_topics = chunk_topics

    def __getitem__(self, tp: TP) -> int | None:
        return None if tp.topic in self._chunk_topics else super().__getitem__(tp)


class ChunkConsumer(driver.Consumer):
    """Consumer that yields one message per fetch for chunk topics."""

    tracker: SpanTracker
    chunk_topics: frozenset[str]
    checkpoint: Checkpoint | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        app: Any = self.app  # a ChunkApp; Faust's interface does not know it
        self.tracker = SpanTracker()
        self.chunk_topics = app.chunk_topics
        self.checkpoint = None
        self._next: dict[TP, int] = {}
        self._stood: dict[TP, int] = {}
        self._read_offset = _ReadOffsets(self.chunk_topics)
        self._fetching = asyncio.Lock()
        # Records were fetched and dropped: what follows them must not be taken before a seek has brought them again, for a
        # row at or below the last one applied counts as done.
        self._dropped = False
        app.attach_consumer(self)

    def _new_consumer_thread(self) -> ChunkConsumerThread:
        return ChunkConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:  # noqa: ASYNC109 - Faust's signature
        """Yield the ready records: chunk topics as one message, others record by record."""
        if not self.flow_active:
            can_resume: Any = self.can_resume_flow
            await self.wait(can_resume)
        # A fetch is wholly before or wholly after a seek: Faust seeks to the committed offsets while its fetcher runs,
        # and what was fetched before must not count as read after.
        async with self._fetching:
            if not self.flow_active or self.should_stop:
                return
            found: Any = await self._wait_next_records(timeout)
            records, active = found
            generation = self.app.consumer_generation_id
            stale = not self.flow_active
            chunk = None
            rest: dict[TP, list[Any]] = {}
            if records and not self.should_stop:
                ours = {tp: r for tp, r in records.items() if tp.topic in self.chunk_topics}
                if stale or any(active is not None and tp not in active for tp in ours):
                    self._dropped = True
                if not self._dropped:
                    chunk = self._chunk_message(ours)
                if not stale:
                    rest = {tp: r for tp, r in records.items() if tp.topic not in self.chunk_topics}
        if stale or (self._dropped and records):
            await self._try_to_seek()
        if stale:
            return
        for tp, record in self.scheduler.iterate(rest):
            if self._interrupted(generation):
                return
            if active is None or tp in active or tp in self._buffered_partitions:
                yield tp, self._to_message(tp, record)
        if chunk is not None:
            yield chunk.tp, chunk

    async def _try_to_seek(self) -> None:
        try:
            await self.perform_seek()
        except Exception as e:  # noqa: BLE001 - partitions may be gone already; after the rebalance Faust seeks again
            log.info("not sought during a rebalance", error=repr(e))

    def _interrupted(self, generation: int) -> bool:
        """A rebalance has begun since records of this generation were fetched."""
        return not self.flow_active or self.app.consumer_generation_id != generation

    def _chunk_message(self, records: dict[TP, list[Any]]) -> Any:
        parts, spans = [], []
        for tp, all_of_tp in records.items():
            floor = self._next.get(tp, 0)
            fresh = all_of_tp if all_of_tp[0].offset >= floor else [r for r in all_of_tp if r.offset >= floor]
            if fresh:
                end = fresh[-1].offset + 1
                spans.append(self.tracker.add(tp, first=fresh[0].offset, end=end))
                parts.append(PartitionRecords(tp.topic, tp.partition, fresh))
                self._next[tp] = end
        if not parts:
            return None
        tp, last = TP(parts[0].topic, parts[0].partition), parts[0].records[-1]
        chunk: Any = Chunk(parts, spans, self.tracker)
        sent_s = last.timestamp / 1000.0
        generation = self.app.consumer_generation_id
        return ConsumerMessage(*tp, last.offset, sent_s, 0, None, None, chunk, None, 0, 0, tp, generation_id=generation)

    def positions(self) -> dict[TP, int]:
        """Next offset to take, by source partition read from since it was assigned."""
        return dict(self._next)

    def stood(self) -> dict[TP, int]:
        """Committed offsets as they were when reading began, of source partitions that had one."""
        return dict(self._stood)

    def ack(self, message: Any) -> bool:
        """Faust's own bookkeeping of single offsets is not used: `Chunk.finish` is what lets offsets go."""
        if message.acked:
            return False
        message.acked = True
        self._unacked_messages.discard(message)
        notify(self._waiting_for_ack)
        return True

    async def perform_seek(self) -> None:
        """Start again from the committed offsets."""
        async with self._fetching:
            await super().perform_seek()
            self._dropped = False
            self.tracker.reset()
            self._next.clear()

    async def seek_to_committed(self) -> Any:
        """Seek every partition; one without a committed offset to its beginning.

        aiokafka leaves such a partition where it stands: what was fetched of it and dropped in a rebalance would be lost.
        """
        committed: Any = await super().seek_to_committed()
        self._stood = {tp: offset for tp, offset in committed.items() if tp.topic in self.chunk_topics and offset}
        anew = [tp for tp, offset in committed.items() if tp.topic in self.chunk_topics and not offset]
        if anew:
            await self._thread.seek_to_beginning(*anew)
        return committed

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """After Faust's own handling (which drains and commits), forget what was in flight."""
        await super().on_partitions_revoked(revoked)
        self.tracker.reset()
        self._next.clear()
        self._stood = {}

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:  # noqa: ARG002, FBT001, FBT002 - Faust's signature
        """A commit is a checkpoint: nothing is committed that is not confirmed."""
        # What Faust's stream notes of every message it acknowledged, a chunk by chunk, is not used and would only grow.
        self._acked.clear()
        self._acked_index.clear()
        if self.checkpoint is None:
            return False
        return await self.checkpoint.run()

    def on_buffer_full(self, tp: TP) -> None:
        """The bounded agent queue is the back-pressure; partitions are never taken out of the fetch for it."""

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's livelock detector reads per-event sensors that chunks do not feed; `/readyz` and lag metrics tell instead."""


class ChunkTransport(driver.Transport):
    """Transport whose consumer yields chunks."""

    Consumer: ClassVar[Any] = ChunkConsumer


async def _sync_group(self: Any, request: Any) -> Any:
    """Wrap aiokafka's SyncGroup, with an unexpected error as what it is: a reason to join again.

    aiokafka has asked for the rejoin by then, but raises, which ends its coordination for good while the worker
    looks alive. A broker that answers a follower late with error 42 is enough. Missing authorization still raises.
    """
    try:
        return await _send_sync_group_request(self, request)
    except GroupAuthorizationFailedError:
        raise
    except KafkaError as e:
        log.warning("group sync refused, joining again", error=repr(e))
        return None


_send_sync_group_request = CoordinatorGroupRebalance._send_sync_group_request  # noqa: SLF001 - wrapped below


def register() -> None:
    """Make `chunks://` known to Faust, and aiokafka's group membership survive an unexpected sync error."""
    drivers.TRANSPORTS.aliases[SCHEME] = f"{__name__}:ChunkTransport"
    CoordinatorGroupRebalance._send_sync_group_request = _sync_group  # noqa: SLF001 - as said there
