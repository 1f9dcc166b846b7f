"""A Faust table's RocksDB files, read and written in whole batches. Shell.

The table is an ordinary Faust table: Faust assigns its partitions with the source's, recovers them from the
changelog and keeps standbys. Only the write path is ours: one atomic batch per partition at a checkpoint, with
the changelog offset it holds up to, in place of one write and one changelog record per key.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from rocksdict import WriteBatch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streams.checkpoint import TableRecord

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
