"""Fetched batches taken whole: aiokafka's records of a topic as they stand in its batch, not copied one by one. Shell.

aiokafka makes a `ConsumerRecord` of eleven fields for every record, though the batch's own record already has the
`key`, `value`, `offset`, `timestamp` and `headers` that a chunk reads. For the topics named here a batch is taken in one
step; CRC check, control batches, aborted transactions and positions stay aiokafka's own, and so does every other topic.
Of whatever topic, a batch is read through `headernames`.

Replaced internals of aiokafka 0.14, each with a contract test in tests/unit/streams/test_fetching.py: `PartitionRecords`,
`FetchResult` and `MemoryRecords` of `aiokafka.consumer.fetcher`.
"""

from __future__ import annotations

from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords

from streams.headernames import KeptBatch, KeptRecords

_whole: set[str] = set()


class _Batch(KeptBatch):
    """A batch that gives itself as its one record: aiokafka's loop runs once a batch, and the rest is as it was."""

    __slots__ = ()

    def __iter__(self) -> Any:
        records = self.records()
        return iter([_Records(records)] if records else [])


class _Records:
    """The records of a batch, standing where aiokafka expects one."""

    __slots__ = ("offset", "records")

    def __init__(self, records: list[Any]) -> None:
        self.records = records
        self.offset: int = records[-1].offset


class WholeBatches(PartitionRecords):  # type: ignore[misc]  # aiokafka is untyped
    """Records of one partition's fetch; of a topic in `take_whole` an iterator over lists of them."""

    def __init__(self, tp: Any, records: Any, *args: Any) -> None:
        self.whole = tp.topic in _whole
        if self.whole:
            records.batch = _Batch
        super().__init__(tp, records, *args)

    def _consumer_record(self, tp: Any, record: Any) -> Any:
        if not self.whole:
            return super()._consumer_record(tp, record)
        records, wanted = record.records, self.next_fetch_offset
        # A compressed batch comes from its beginning, whatever offset was asked for.
        return records if records[0].offset >= wanted else [r for r in records if r.offset >= wanted]


class FetchedWhole(FetchResult):  # type: ignore[misc]  # aiokafka is untyped
    """One partition's fetch as `getall` hands it on; of a topic in `take_whole` batch by batch."""

    _partition_records: Any
    _rest: list[Any]
    _after_rest = 0

    def getall(self, max_records: int | None = None) -> list[Any]:
        """At most `max_records` records; what is left of a batch is kept for the next call."""
        source = self._partition_records
        if source is None or not source.whole or max_records is None:
            found: list[Any] = super().getall(max_records)
            return found
        if not self.check_assignment(self._topic_partition) or not self.has_more():
            return []
        taken: list[Any] = self.__dict__.pop("_rest", [])
        if taken:
            source.next_fetch_offset = self._after_rest
        while len(taken) < max_records:
            batch = next(source, None)
            if batch is None:
                self._update_position()
                self._partition_records = None
                return taken
            taken = taken + batch if taken else batch
        if len(taken) > max_records:
            self._rest, self._after_rest = taken[max_records:], source.next_fetch_offset
            taken = taken[:max_records]
            source.next_fetch_offset = taken[-1].offset + 1  # the position that `check_assignment` compares the next time
        self._update_position()
        return taken


def take_whole(topics: frozenset[str]) -> None:
    """From now on, batches of these topics are taken whole by every consumer of this process, others record by record."""
    fetcher.MemoryRecords = KeptRecords
    fetcher.PartitionRecords = WholeBatches
    fetcher.FetchResult = FetchedWhole
    _whole.update(topics)
