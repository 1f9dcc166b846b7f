"""The checkpoint: outputs confirmed → still a member → changelog confirmed → offsets committed → table written. Shell.

Each stage only holds what the one before it has confirmed (docs/adr/0002). So after a crash anywhere:

| crashed after | what the next worker finds                  | what it does with the rows since the last commit |
|---------------|---------------------------------------------|--------------------------------------------------|
| outputs       | older state, older offsets                  | repeats them, with identical ids and bodies      |
| changelog     | newer state of some symbols, older offsets  | skips those symbols' rows, repeats the others    |
| commit        | everything, some of it in the changelog only | nothing; recovery reads what the table lacks     |
| table         | everything                                  | nothing                                          |

A worker that was paused so long that others have its partitions must not spoil what they write. Three things see to it:

- Before the changelog the offsets that stand already are committed once more. The broker refuses them, nothing is written.
- It may be paused between that answer and the arrival of its records. Then the commit is refused, and its table, which
  comes last, never holds what was written under others' hands. Recovery keeps the newer value of a key (`table.guard`).
- Offsets of one writer have no gaps. Where there is one, somebody else wrote: the owner, which the broker tells it is, sends
  all entries of that partition again, so that the newest record of each key is right however old records are removed.

State that was refused was taken and is in no file, so nothing more is committed until the worker is told of its revocation,
and forgets it all.

Chunks are taken whole: state and offsets are captured between two chunks, without an await in between, and
the agent goes on with the next chunk while this one's confirmations come in.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import structlog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from streams.outbox import Outbox
    from streams.spans import SpanTracker

log = structlog.get_logger()

TableRecord = tuple[int, bytes, bytes]
"""(partition, key, value) of a table entry."""

EXPLAINS = b"\x00\x00"
"""Entries whose key begins so say how others are to be read: the changelog has them before any of those is sent."""


class Consumer(Protocol):
    """What a checkpoint needs of the consumer whose offsets it commits."""

    tracker: SpanTracker

    def stood(self) -> Mapping[Any, int]:
        """Committed offsets as they were when reading began, by source partition."""
        ...

    async def _commit_offsets(self, offsets: Mapping[Any, int]) -> bool:
        """Faust's own last step of a commit: leave out what is no longer assigned, ask the broker, tell the sensors."""
        ...


class StateSource(Protocol):
    """What a checkpoint needs of the state it keeps."""

    def take_dirty(self) -> Sequence[TableRecord]:
        """Entries changed since the last call, packed."""
        ...


class TableWriter(Protocol):
    """The table a checkpoint writes to."""

    changelog_topic: str

    def offset(self, partition: int) -> int | None:
        """The changelog offset up to which it holds, None if it does not know."""
        ...

    def items(self, partition: int) -> Sequence[tuple[bytes, bytes]]:
        """All entries of a partition, (key, value). Blocking."""
        ...

    def write(self, records: Sequence[TableRecord], offsets: Mapping[tuple[str, int], int]) -> None:
        """Write entries, and per (changelog topic, partition) the offset up to which they hold. Blocking."""
        ...


@dataclass(slots=True)
class CheckpointStats:
    """Counters since start."""

    checkpoints: int = 0
    table_records: int = 0
    last_duration_s: float = 0.0


async def _nothing_kept() -> None:
    """There is nothing to wait for."""


class Checkpoint:
    """Runs checkpoints, one at a time; a failure is passed to `on_failure`, which ends the process."""

    def __init__(
        self,
        consumer: Consumer,
        outbox: Outbox,
        source: StateSource,
        table: TableWriter,
        *,
        clock: Callable[[], float],
        on_failure: Callable[[BaseException], Any],
        urgent: Callable[[], bool] = lambda: False,
        kept: Callable[[], Awaitable[None]] = _nothing_kept,
    ) -> None:
        """`urgent`: whether state changed, with the time alone, that must be made durable although no row came.

        `kept`: called once `take_dirty` was; returns when what belongs to that state and is kept elsewhere is durable there.
        """
        self._urgent = urgent
        self._kept = kept
        self._consumer = consumer
        self._outbox = outbox
        self._source = source
        self._table = table
        self._clock = clock
        self._on_failure = on_failure
        self._running: asyncio.Task[bool] | None = None
        self._committed: dict[Any, int] = {}
        self._refused = False
        self.stats = CheckpointStats()

    async def run(self) -> bool:
        """Make everything finished so far durable and commit it; True when offsets were committed.

        A checkpoint once begun goes through even if the caller is cancelled: its dirty windows are in no other hands.
        """
        while self._running is not None and not self._running.done():  # several may wait here: one begins, the others wait on
            await asyncio.shield(self._running)
        self._running = asyncio.get_running_loop().create_task(self._run())
        return await asyncio.shield(self._running)

    async def _run(self) -> bool:
        started = self._clock()
        if self._refused:
            return False
        # No await between these three: state, offsets and the epoch's records all end at the same chunk.
        offsets: dict[Any, int] = {
            tp: o for tp, o in self._consumer.tracker.committable().items() if self._committed.get(tp) != o
        }
        began = {**self._consumer.stood(), **self._consumer.tracker.began()}
        if not offsets and self._urgent():
            offsets = {tp: self._committed.get(tp, first) for tp, first in began.items()}  # once more where they stand
        if not offsets:
            return False
        standing = {tp: self._committed.get(tp, first) for tp, first in began.items() if tp in offsets}
        try:
            dirty = self._source.take_dirty()
            outputs = self._outbox.turn()
            await self._kept()
            await self._outbox.confirmed(outputs)
            held = await self._to_changelog(dirty, standing) if dirty else {}
            if held is None:
                return self._refuse(len(dirty))
            committed = await self._consumer._commit_offsets(offsets)  # noqa: SLF001 - Faust's own last step of a commit
            if dirty:
                if not committed:
                    return self._refuse(len(dirty))
                await asyncio.to_thread(self._table.write, dirty, held)
        except Exception as e:
            self._on_failure(e)
            raise
        if committed:
            self._committed.update(offsets)
        self.stats.checkpoints += 1
        self.stats.table_records += len(dirty)
        self.stats.last_duration_s = self._clock() - started
        return committed

    async def _to_changelog(
        self, dirty: Sequence[TableRecord], standing: Mapping[Any, int]
    ) -> Mapping[tuple[str, int], int] | None:
        """Make the changelog hold these entries, newer than what others may have written of their partitions.

        Returns up to which offset it now holds, by (changelog topic, partition); None if this worker is no longer a member.
        """
        topic = self._table.changelog_topic
        before = {partition: self._table.offset(partition) for partition, _, _ in dirty}
        held: dict[tuple[str, int], int] = {}
        records = dirty
        while True:
            if not await self._consumer._commit_offsets(standing):  # noqa: SLF001 - as in `_run`
                return None
            foreign: set[int] = set()
            for some in _explaining_first(records):
                sent = self._outbox.send_changelog(topic, some)
                await self._outbox.confirmed(sent)
                held.update(sent.offsets)
                for p in {partition for partition, _, _ in some}:
                    if not sent.alone(topic, p, after=before[p]):
                        foreign.add(p)
                    before[p] = sent.offsets.get((topic, p))
            before = {p: before[p] for p in foreign}
            if not before:
                return held
            records = await asyncio.to_thread(self._entries, before, dirty)
            log.warning(
                "another worker wrote to the changelog, entries are sent again", partitions=sorted(before), entries=len(records)
            )

    def _entries(self, partitions: Collection[int], dirty: Sequence[TableRecord]) -> list[TableRecord]:
        """All entries of these partitions, as the table will hold them."""
        entries = {(p, key): value for p in partitions for key, value in self._table.items(p)}
        entries.update({(p, key): value for p, key, value in dirty if p in partitions})
        return [(p, key, value) for (p, key), value in entries.items()]

    def _refuse(self, entries: int) -> bool:
        self._refused = True
        log.warning("no longer a member of the group: this worker's rows go to their new owners", rows_of=entries)
        return False

    async def quiet(self) -> None:
        """Wait until no checkpoint is under way."""
        while self._running is not None and not self._running.done():
            await asyncio.wait({self._running})

    def forget(self) -> None:
        """Partitions were revoked: what was read and committed before says nothing any more. Only while none is under way."""
        self._consumer.tracker.reset()
        self._committed.clear()
        self._refused = False


def _explaining_first(records: Sequence[TableRecord]) -> list[Sequence[TableRecord]]:
    """What is sent and confirmed together, in order."""
    first = [r for r in records if r[1].startswith(EXPLAINS)]
    return [first, [r for r in records if not r[1].startswith(EXPLAINS)]] if first else [records]
