"""A worker's state folder: RocksDB's files by partition, written in batches, and what a crash leaves of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

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


class Folder:
    """What stays on disk when a process ends; a table's `data` to `streams.table.PackedTable`.

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
