"""A worker's state folder: RocksDB's files by partition, written in batches, and what a crash leaves of a batch."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from faust.types import TP

OFFSET_KEY = b"__faust\0offset__"


class Batch:
    """Stands in for rocksdict's `WriteBatch`."""

    def __init__(self, *, raw_mode: bool) -> None:
        assert raw_mode
        self.puts: list[tuple[bytes, bytes]] = []

    def put(self, key: bytes, value: bytes) -> None:
        self.puts.append((key, value))


class File:
    """One partition's database."""

    def __init__(self, folder: Folder) -> None:
        self.entries: dict[bytes, bytes] = {}
        self.folder = folder

    def get(self, key: bytes) -> bytes | None:
        return self.entries.get(key)

    def items(self) -> list[tuple[bytes, bytes]]:
        return sorted(self.entries.items())

    def write(self, batch: Batch) -> None:
        """All of a batch or nothing, as a write-ahead log has it."""
        self.folder.on_write()
        self.entries.update(batch.puts)

    def put(self, key: bytes, value: bytes) -> None:
        """One entry."""
        self.folder.on_write()
        self.entries[key] = value


class Folder:
    """What stays on disk when a process ends.

    `on_write` is called before each batch, and may kill the process there.
    """

    offset_key = OFFSET_KEY

    def __init__(self) -> None:
        self.files: dict[int, File] = {}
        self.on_write: Callable[[], object] = lambda: None

    def _db_for_partition(self, partition: int) -> File:
        if partition not in self.files:
            self.files[partition] = File(self)
        return self.files[partition]

    def offset(self, partition: int) -> int:
        """Changelog offset up to which the partition's file holds, -1 for none."""
        held = self._db_for_partition(partition).get(OFFSET_KEY)
        return -1 if held is None else int(held)

    def state(self, partition: int) -> dict[bytes, bytes]:
        """The partition's entries."""
        return {k: v for k, v in self._db_for_partition(partition).items() if k != OFFSET_KEY}

    def wipe(self) -> None:
        """The disk is lost."""
        self.files.clear()


class Store:
    """A process's view of a folder: a table's `data` to `streams.table`, written after `faust.stores.rocksdb.Store`."""

    offset_key = OFFSET_KEY

    def __init__(self, folder: Folder) -> None:
        self._db_for_partition = folder._db_for_partition
        self.apply_changelog_batch: Callable[[Sequence[Any]], None] = self._apply
        self.set_persisted_offset: Callable[[TP, int], None] = self._persist

    def _open_for_partition(self, partition: int) -> File:
        raise NotImplementedError

    def _apply(self, events: Sequence[Any]) -> None:
        """Values first, then the offset up to which they hold."""
        batches: defaultdict[int, Batch] = defaultdict(lambda: Batch(raw_mode=True))
        ends: dict[TP, int] = {}
        for event in events:
            m = event.message
            batches[m.partition].put(m.key, m.value)
            ends[m.tp] = m.offset
        for partition, batch in batches.items():
            self._db_for_partition(partition).write(batch)
        for tp, end in ends.items():
            self.set_persisted_offset(tp, end)

    def _persist(self, tp: TP, offset: int) -> None:
        self._db_for_partition(tp.partition).put(OFFSET_KEY, str(offset).encode())
