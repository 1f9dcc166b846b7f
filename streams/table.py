"""A Faust table's RocksDB files, read and written in whole batches; damaged ones moved aside. Shell.

The table is an ordinary Faust table: Faust assigns its partitions with the source's, recovers them from the
changelog and keeps standbys. Only the write path is ours: one atomic batch per partition at a checkpoint, with
the changelog offset it holds up to, in place of one write and one changelog record per key.

Files are read through when they are opened. Damaged ones are moved aside, to `<table>-<partition>.db.damaged`, and Faust
recovers the partition from the changelog as on an empty disk.

The last record of a key in the changelog need not be the newest: one of a worker that was paused while others took its
partitions may come late. With a rule that tells of two values which to hold, recovery and standbys hold that. The rule is
the table's owner's: `streams.group` has it.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from rocksdict import WriteBatch

from streams.leave import EX_TEMPFAIL, leave

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streams.checkpoint import TableRecord

    Rule = Callable[[bytes, bytes, bytes], bytes]

log = structlog.get_logger()

ROCKSDB_OPTIONS: Mapping[str, int] = {"block_cache_size": 32 << 20, "write_buffer_size": 16 << 20, "max_open_files": 256}
"""Per partition. Faust's defaults are a 2 GiB cache and 18,000 open files each."""


class PackedTable:
    """Packed values by (partition, key) in a Faust table."""

    def __init__(self, table: Any) -> None:
        self._store = table.data
        self.changelog_topic: str = table.changelog_topic.get_topic_name()

    def get(self, partition: int, key: bytes) -> bytes | None:
        """The value of a key in the partition's file."""
        value: bytes | None = self._store._db_for_partition(partition).get(key)  # noqa: SLF001 - by partition, not by Faust's current event
        return value

    def items(self, partition: int) -> list[tuple[bytes, bytes]]:
        """All entries of a partition."""
        db = self._store._db_for_partition(partition)  # noqa: SLF001 - by partition, not by Faust's current event
        return [(k, v) for k, v in db.items() if k != self._store.offset_key]

    def offset(self, partition: int) -> int | None:
        """The changelog offset up to which the partition's file holds, None if it does not know."""
        return _offset(self._store, partition)

    def write(self, records: Sequence[TableRecord], offsets: Mapping[tuple[str, int], int]) -> None:
        """Write entries, one atomic batch per partition, with the changelog offset it now holds up to."""
        batches: defaultdict[int, Any] = defaultdict(lambda: WriteBatch(raw_mode=True))
        for partition, key, value in records:
            batches[partition].put(key, value)
        for partition, batch in batches.items():
            offset = offsets.get((self.changelog_topic, partition))
            if offset is not None:
                batch.put(self._store.offset_key, str(offset).encode())
            self._store._db_for_partition(partition).write(batch)  # noqa: SLF001 - by partition, not by Faust's current event


def guard(store: Any, rule: Rule | None = None) -> None:
    """Make a table's RocksDB store (Faust's `table.data`) move damaged files aside, and recover wholly or not at all.

    `rule`: (key, value held, value of a later changelog record) → the value to hold; None: always the later record's.

    Left alone, a damaged file ends the worker on every start, a damaged block ends a walk over the entries as if there were
    no more, and a changelog record that cannot be written while recovering is only warned of.
    """
    store._open_for_partition = partial(_open, store, store._open_for_partition)  # noqa: SLF001 - contract test
    recovery = _Recovery(store, rule)
    store.apply_changelog_batch = recovery.apply
    store.set_persisted_offset = recovery.persist


def _open(store: Any, plain: Callable[[int], Any], partition: int) -> Any:
    """Open a partition's file as Faust does, and read it through; where it is damaged, an empty one in its place."""
    damage: str | None
    try:
        db = plain(partition)
    except Exception as e:
        damage = str(e)
        if not _is_damage(damage):
            raise
    else:
        damage = _bad_block(db)
        if damage is None:
            return db
        db.close()
    aside = _move_aside(Path(str(store.partition_path(partition))))
    log.warning("damaged state moved aside, it is rebuilt from the changelog", partition=partition, moved=aside, error=damage)
    return plain(partition)


def _bad_block(db: Any) -> str | None:
    """Read every block; what RocksDB says of one that does not have its checksum."""
    at = db.iter()
    at.seek_to_first()
    while at.valid():
        at.next()
    try:
        at.status()
    except Exception as e:  # noqa: BLE001 - rocksdict has no class of its own
        return str(e)  # the error itself would hold the iterator, and that the file's lock
    return None


class _Recovery:
    """Applies changelog records as Faust does, under a rule; where they cannot be, the process leaves.

    Records that the rule passes over are wrong if they are the last of their key, until a checkpoint writes them again: the
    file is said to hold only up to the first of them. The next checkpoint finds a gap then, and writes; and a worker that
    ends before it, finds them again.
    """

    def __init__(self, store: Any, rule: Rule | None) -> None:
        self._store = store
        self._rule = rule
        self._plain_apply = store.apply_changelog_batch
        self._plain_persist = store.set_persisted_offset
        self._ends: dict[int, int] = {}

    def apply(self, batch: Sequence[Any], *args: Any, **kwargs: Any) -> None:
        """Stands in for the store's `apply_changelog_batch`, which ends with `set_persisted_offset`."""
        try:
            if self._rule is not None:
                self._settle(self._rule, batch)
            self._plain_apply(batch, *args, **kwargs)
        except Exception as e:  # noqa: BLE001 - whatever it is, the state would not be what the changelog says
            leave(EX_TEMPFAIL, f"state could not be recovered from the changelog: {e}")

    def persist(self, tp: Any, offset: int) -> None:
        """Stands in for the store's `set_persisted_offset`."""
        self._plain_persist(tp, min(offset, self._ends.get(tp.partition, offset)))

    def _settle(self, rule: Rule, batch: Sequence[Any]) -> None:
        """Let each record say what is to be held after it; note the offset before the first one passed over."""
        for partition in {event.message.partition for event in batch}:
            if self._ends.get(partition) != _offset(self._store, partition):
                self._ends.pop(partition, None)  # a checkpoint has written since
        held: dict[tuple[int, bytes], bytes | None] = {}
        for event in batch:
            m = event.message
            at = m.partition, m.key
            before = held[at] if at in held else self._file(m.partition).get(m.key)
            if before is not None and m.value is not None:
                came, m.value = m.value, rule(m.key, before, m.value)
                if m.value == before != came:
                    self._ends.setdefault(m.partition, m.offset - 1)
            held[at] = m.value

    def _file(self, partition: int) -> Any:
        return self._store._db_for_partition(partition)  # noqa: SLF001 - by partition, not by Faust's current event


def _offset(store: Any, partition: int) -> int | None:
    held = store._db_for_partition(partition).get(store.offset_key)  # noqa: SLF001 - by partition, not by Faust's current event
    return None if held is None else int(held)


def _is_damage(said: str) -> bool:
    """Whether RocksDB says that files are corrupt or gone; a full disk and a held lock are neither."""
    return said.startswith("Corruption") or "No such file or directory" in said


def _move_aside(place: Path) -> str:
    """Rename a partition's folder; one moved aside before makes room."""
    aside = place.with_name(f"{place.name}.damaged")
    shutil.rmtree(aside, ignore_errors=True)
    if place.exists():
        place.rename(aside)
    return str(aside)
