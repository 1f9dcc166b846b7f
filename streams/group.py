"""An agent group: a Faust app that takes chunks, keeps packed state and commits at checkpoints. Shell.

Both groups (inference, monitor) are one of these with another `Handler`. Nothing escapes the agent: Faust would
acknowledge the event and go on, so on an error the process leaves at once, before anything is committed.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Protocol

import faust
import structlog

from models.errors import ModelError
from streams.checkpoint import Checkpoint, TableRecord
from streams.chunks import SCHEME, Chunk, ChunkConsumer, register
from streams.errors import BrokerError, DeliveryError, TopicError
from streams.leave import EX_CONFIG, EX_SOFTWARE, EX_TEMPFAIL, leave
from streams.madeanew import Beginnings, refuse_short_changelog
from streams.partitions import VERSIONS
from streams.pipeline import STREAM_TIME
from streams.state import newer
from streams.switches import joined_histories
from streams.table import ROCKSDB_OPTIONS, PackedTable, guard
from streams.topics import WINDOWS_TABLE
from streams.waiting import joined_times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from config import Settings
    from streams.outbox import Outbox

log = structlog.get_logger()


def windows_to_hold(key: bytes, held: bytes, came: bytes) -> bytes:
    """Of two values of a windows table's key, what recovery holds."""
    if key == _STREAM_TIME:
        return joined_times(held, came)
    return joined_histories(held, came) if key == _VERSIONS else newer(held, came)


_STREAM_TIME, _VERSIONS = STREAM_TIME.encode(), VERSIONS.encode()
RULES = {WINDOWS_TABLE: windows_to_hold}
"""Tables of which recovery can tell the newer of two values. Entries of the panes table do not say how new they are."""


MOST_CHUNKS = 2
"""Chunks that wait for the agent at most; what comes after waits in the fetcher, then in Kafka."""
FETCH_BYTES = 4 << 20


class Handler(Protocol):
    """What a group does with chunks. All calls come from one event loop, never during `process`."""

    async def prepare(self, chunk: Chunk) -> None:
        """Get what a chunk needs from elsewhere, before it is taken. What raises here ends the process."""
        ...

    def process(self, chunk: Chunk) -> bool | None:
        """Take a chunk whole: state changed, everything it leads to in the outbox. Must not keep the loop long.

        True: the handler finishes the chunk itself, when all of it is in the state.
        """
        ...

    def take_dirty(self) -> Sequence[TableRecord]:
        """Table entries changed since the last call."""
        ...

    def urgent(self) -> bool:
        """Whether state changed, with the time alone, that must be made durable although no row came."""
        ...

    async def kept(self) -> None:
        """Return when what the last `take_dirty` tells of, and is kept elsewhere than in the table, is durable there."""
        ...

    def use_table(self, table: PackedTable) -> None:
        """The table is there; called once, before the first chunk."""
        ...

    def revoked(self, partitions: Iterable[int]) -> None:
        """These source partitions went to another worker, after their last checkpoint."""
        ...


class ChunkApp(faust.App):
    """A Faust app whose consumer yields chunks for `chunk_topics` and checkpoints instead of committing."""

    chunk_topics: frozenset[str] = frozenset()
    fetch_max_wait_ms: int
    group: Group

    def attach_consumer(self, consumer: ChunkConsumer) -> None:
        """Called by the consumer when Faust makes it."""
        self.group.attach(consumer)


class Group:
    """One agent group of one worker process."""

    def __init__(
        self,
        settings: Settings,
        *,
        app_id: str,
        topics: Sequence[str],
        table: str,
        handler: Handler,
        outbox: Outbox,
        fetch_bytes: int = FETCH_BYTES,
    ) -> None:
        """`fetch_bytes`: that one fetch brings of a partition at most, unless a single record is larger."""
        register()
        self._fetch_bytes = fetch_bytes
        self.settings = settings
        self.handler = handler
        self.outbox = outbox
        self.consumer: ChunkConsumer | None = None
        self.checkpoint: Checkpoint | None = None
        self.app = self._new_app(app_id)
        self.app.chunk_topics = frozenset(topics)
        self.app.fetch_max_wait_ms = int(settings.kafka.fetch_max_wait.total_seconds() * 1000)
        self.app.group = self
        self._topic = self.app.topic(*topics, key_type=bytes, value_type=bytes)
        self._topic.maxsize = MOST_CHUNKS  # Faust's `topic(maxsize=...)` is dropped on the way: the queue would take 4,096
        self._table = self.app.Table(
            table, partitions=settings.kafka.partitions, key_type=bytes, value_type=bytes, options=dict(ROCKSDB_OPTIONS)
        )
        self.packed: PackedTable | None = None
        self._beginnings: Beginnings | None = None
        self.app.agent(self._topic, name=f"{app_id}.chunks")(self._agent)
        on_revoked: Any = self._on_revoked
        on_assigned: Any = self._on_assigned
        self.app.on_partitions_revoked.connect(on_revoked, weak=False)
        self.app.on_partitions_assigned.connect(on_assigned, weak=False)

    @property
    def ready(self) -> bool:
        """Partitions assigned, state recovered, chunks welcome."""
        app = self.app
        return (
            app.started
            and self.consumer is not None
            and not app.rebalancing
            and not app.in_recovery
            and app.tables.actives_ready
            and bool(self.assignment())
        )

    def assignment(self) -> list[int]:
        """Source partitions this worker holds."""
        if self.consumer is None:
            return []
        try:
            tps = self.consumer.assignment()
        except Exception:  # noqa: BLE001 - before the consumer thread is up there is no assignment to ask for
            return []
        return sorted({tp.partition for tp in tps if tp.topic in self.app.chunk_topics})

    def lag(self) -> int:
        """Records in the assigned source partitions that were not yet taken."""
        if self.consumer is None:
            return 0
        total = 0
        for tp, position in self.consumer.positions().items():
            total += max(0, (self.consumer.highwater(tp) or 0) - position)
        return total

    def attach(self, consumer: ChunkConsumer) -> None:
        """Faust made its consumer: give it the checkpoint that stands in for a commit."""
        self.consumer = consumer
        guard(self._table.data, RULES.get(self._table.name))
        packed = self.packed = PackedTable(self._table)
        self.handler.use_table(packed)
        self._beginnings = Beginnings(
            lambda partition: packed.get(partition, _STREAM_TIME), consumer.highwater, consumer.highwaters
        )
        tables: Any = self.app.tables  # Faust's interface does not know its recovery
        refuse_short_changelog(tables.recovery)
        self.checkpoint = Checkpoint(
            consumer,
            self.outbox,
            self.handler,
            self.packed,
            clock=time.monotonic,
            on_failure=lambda e: leave(EX_TEMPFAIL, f"checkpoint failed, nothing was committed: {e}"),
            urgent=self.handler.urgent,
            kept=self.handler.kept,
        )
        consumer.checkpoint = self.checkpoint

    async def _agent(self, stream: Any) -> None:
        async for chunk in stream:
            try:
                await self.outbox.room()
                if self._beginnings is not None:
                    await self._beginnings.check(chunk.parts)
                await self.handler.prepare(chunk)
                if not self.handler.process(chunk):
                    chunk.finish()
            except asyncio.CancelledError:
                raise
            except TopicError as e:
                leave(EX_CONFIG, str(e))
            except (ModelError, BrokerError) as e:
                leave(EX_TEMPFAIL, f"a chunk waits for what is not to be had, nothing of it was committed: {e}")
            except DeliveryError as e:
                leave(EX_TEMPFAIL, f"a record could not be delivered, nothing was committed: {e}")
            except Exception as e:
                log.exception("chunk failed")
                leave(EX_SOFTWARE, f"a chunk could not be processed, nothing of it was committed: {type(e).__name__}: {e}")
            await asyncio.sleep(0)

    async def _on_assigned(self, _sender: Any, assigned: Any, **_: Any) -> None:
        log.info("partitions assigned", partitions=sorted({tp.partition for tp in assigned if tp.topic in self.app.chunk_topics}))

    async def _on_revoked(self, _sender: Any, revoked: Any, **_: Any) -> None:
        if self.checkpoint is not None:
            # One begun before must not end after: others may have gone on by then. No await from here to the end.
            await self.checkpoint.quiet()
            self.checkpoint.forget()
        gone = {tp.partition for tp in revoked if tp.topic in self.app.chunk_topics}
        self.handler.revoked(gone)
        if self._beginnings is not None:
            self._beginnings.forget(gone)

    def _new_app(self, app_id: str) -> ChunkApp:
        from streams.credentials import faust_credentials

        s = self.settings
        servers = [x.strip() for x in s.kafka.bootstrap_servers.split(",")]
        session_s = s.kafka.session_timeout.total_seconds()
        return ChunkApp(
            app_id,
            broker=[f"kafka://{x}" for x in servers],
            broker_consumer=[f"{SCHEME}://{x}" for x in servers],
            broker_client_id=s.kafka.client_id,
            broker_credentials=faust_credentials(s.kafka.security),
            broker_session_timeout=session_s,
            broker_heartbeat_interval=session_s / 4,
            broker_request_timeout=max(90.0, session_s),
            broker_commit_interval=s.inference.commit_interval.total_seconds(),
            broker_max_poll_records=s.inference.batch_size,
            consumer_auto_offset_reset="earliest",
            consumer_max_fetch_size=self._fetch_bytes,
            datadir=str(s.storage.state_dir),
            store="rocksdb://",
            key_serializer="raw",
            value_serializer="raw",
            topic_partitions=s.kafka.partitions,
            topic_allow_declare=False,
            topic_disable_leader=True,
            table_standby_replicas=0,
            web_enabled=False,
        )

    def every(self, interval_s: float, call: Callable[[], Any]) -> None:
        """Run an async callable at an interval while the worker runs."""
        self.app.timer(interval=interval_s, on_leader=False)(call)
