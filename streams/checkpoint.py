"""The checkpoint: outputs confirmed → still a member → changelog confirmed → table written → offsets committed. Shell.

Each stage only holds what the one before it has confirmed (docs/adr/0002). So after a crash anywhere:

| crashed after        | what the next worker finds                    | what it does with the rows since the last commit |
|----------------------|-----------------------------------------------|--------------------------------------------------|
| outputs              | older state, older offsets                    | repeats them, with identical ids and bodies      |
| changelog, table     | newer state of some symbols, older offsets    | skips those symbols' rows, repeats the others    |
| commit               | everything                                    | nothing                                          |

Before the changelog the offsets that stand already are committed once more: the broker refuses them from a worker that was
paused so long that others have its partitions. What that one knows is old by now and must not follow what they wrote; it
will be told of its revocation, and forgets it all.

Chunks are taken whole: state and offsets are captured between two chunks, without an await in between, and
the agent goes on with the next chunk while this one's confirmations come in.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streams.outbox import Outbox
    from streams.spans import SpanTracker

log = structlog.get_logger()

TableRecord = tuple[int, bytes, bytes]
"""(partition, key, value) of a table entry."""


class Consumer(Protocol):
    """What a checkpoint needs of the consumer whose offsets it commits."""

    tracker: SpanTracker

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

    def write(self, records: Sequence[TableRecord], offsets: Mapping[tuple[str, int], int]) -> None:
        """Write entries, and per (changelog topic, partition) the offset up to which they hold. Blocking."""
        ...


@dataclass(slots=True)
class CheckpointStats:
    """Counters since start."""

    checkpoints: int = 0
    table_records: int = 0
    last_duration_s: float = 0.0


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
    ) -> None:
        self._consumer = consumer
        self._outbox = outbox
        self._source = source
        self._table = table
        self._clock = clock
        self._on_failure = on_failure
        self._running: asyncio.Task[bool] | None = None
        self._committed: dict[Any, int] = {}
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
        # No await between these three: state, offsets and the epoch's records all end at the same chunk.
        offsets: dict[Any, int] = {
            tp: o for tp, o in self._consumer.tracker.committable().items() if self._committed.get(tp) != o
        }
        if not offsets:
            return False
        standing = {tp: self._committed.get(tp, first) for tp, first in self._consumer.tracker.began().items() if tp in offsets}
        try:
            dirty = self._source.take_dirty()
            outputs = self._outbox.turn()
            await self._outbox.confirmed(outputs)
            if dirty:
                if not await self._consumer._commit_offsets(standing):  # noqa: SLF001 - as below
                    log.warning("no longer a member of the group: this worker's rows go to their new owners", rows_of=len(dirty))
                    return False
                changelog = self._outbox.send_changelog(self._table.changelog_topic, dirty)
                await self._outbox.confirmed(changelog)
                await asyncio.to_thread(self._table.write, dirty, changelog.offsets)
            committed = await self._consumer._commit_offsets(offsets)  # noqa: SLF001 - Faust's own last step of a commit
        except Exception as e:
            self._on_failure(e)
            raise
        if committed:
            self._committed.update(offsets)
        self.stats.checkpoints += 1
        self.stats.table_records += len(dirty)
        self.stats.last_duration_s = self._clock() - started
        return committed

    def forget(self) -> None:
        """Partitions were revoked: what was committed before says nothing any more."""
        self._committed.clear()
