"""Batches as a client in another language may send them: header names that are no text."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

if TYPE_CHECKING:
    from collections.abc import Sequence

GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4


class RawName(str):
    """A header name that is written as these bytes."""

    __slots__ = ("raw",)
    raw: bytes

    def __new__(cls, raw: bytes) -> Self:
        name = super().__new__(cls, raw.decode("latin-1"))
        name.raw = raw
        return name

    def encode(self, *_: Any, **__: Any) -> bytes:
        return self.raw


def builder(compression: int = 0) -> Any:
    """Builds a batch in Python: the compiled one takes no header names but text."""
    return _DefaultRecordBatchBuilderPy(2, compression, 0, -1, -1, -1, 1 << 20)


def produce(servers: str, topic: str, records: Sequence[dict[str, Any]], *, partition: int, compression: int = 0) -> int:
    """Send records (`timestamp`, `key`, `value`, `headers`) as one batch; the offset of the first."""

    async def send() -> int:
        async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
            batch = producer.create_batch()
            batch._builder = builder(compression)
            for r in records:
                assert batch.append(**r) is not None
            sent: Any = await (await producer.send_batch(batch, topic, partition=partition))
            return int(sent.offset)

    return asyncio.run(send())
