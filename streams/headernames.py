r"""Records with a header name that is not UTF-8: read, where aiokafka's reader gives up its whole fetch. Shell.

Kafka says a header's name is text and brokers take any bytes for it. aiokafka decodes strictly, so one such record would
end every worker that comes to it, again and again. Here a fetch keeps its bytes; only a batch whose names cannot be decoded is
read a second time, by aiokafka's own reader in Python, with the bytes that are no text as `\xNN`.

Replaced or used internals of aiokafka 0.14, each with a contract test in tests/unit/streams/test_headernames.py:
`MemoryRecords` of `aiokafka.consumer.fetcher`, and `_DefaultRecordBatchPy` of `aiokafka.record.default_records`.
"""

from __future__ import annotations

from typing import Any

from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

_LENGTH = slice(8, 12)
_BEFORE_LENGTH_COUNTS = 12


class KeptRecords:
    """What a fetch brought of one partition, as aiokafka reads it, and its bytes."""

    __slots__ = ("_data", "_records", "_taken", "batch", "has_next", "size_in_bytes")

    def __init__(self, data: bytes) -> None:
        self.batch = KeptBatch
        self._data = data
        self._records = MemoryRecords(data)
        self._taken = 0
        self.has_next = self._records.has_next
        self.size_in_bytes = self._records.size_in_bytes

    def next_batch(self) -> KeptBatch:
        """The next batch."""
        batch = self.batch(self._records.next_batch(), self, self._taken)
        self._taken += 1
        return batch

    def bytes_of(self, number: int) -> memoryview:
        """The bytes of the batch of this number, the first being 0."""
        left = memoryview(self._data)
        for _ in range(number):
            left = left[_BEFORE_LENGTH_COUNTS + int.from_bytes(left[_LENGTH], "big") :]
        return left[: _BEFORE_LENGTH_COUNTS + int.from_bytes(left[_LENGTH], "big")]


class KeptBatch:
    """A batch as aiokafka reads it, whose records can be had whatever their headers are called."""

    __slots__ = ("_batch", "_fetch", "_number")

    def __init__(self, batch: Any, fetch: KeptRecords, number: int) -> None:
        self._batch = batch
        self._fetch = fetch
        self._number = number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)  # a control batch's marker

    def __iter__(self) -> Any:
        return iter(self.records())

    def records(self) -> list[Any]:
        """All its records, in order. Raises aiokafka's `CorruptRecordException` for bytes that are none."""
        try:
            return list(self._batch)
        except UnicodeDecodeError:
            pass
        except CorruptRecordException as e:  # so says aiokafka's reader in Python, where the compiled one is not installed
            if not isinstance(e.__cause__, UnicodeDecodeError):
                raise
        return read_tolerantly(self._fetch.bytes_of(self._number))


class _Lenient(bytearray):
    """Bytes whose pieces decode whatever they are."""

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        return _Lenient(found) if isinstance(at, slice) else found

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, errors)


def read_tolerantly(batch: memoryview) -> list[Any]:
    r"""Records of a batch of Kafka's second format; bytes of a header's name that are not UTF-8 stand as `\xNN`."""
    reader: Any = _DefaultRecordBatchPy(batch)
    reader._maybe_uncompress()  # noqa: SLF001 - its names are decoded out of this buffer
    reader._buffer = _Lenient(reader._buffer)  # noqa: SLF001 - the same
    return list(reader)
