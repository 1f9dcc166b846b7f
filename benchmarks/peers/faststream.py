"""FastStream in batches; its state is a plain object in memory, which is gone when the process ends.

Tuned: batches in and out, bytes through without FastStream's JSON, batches sent without waiting for those before, offsets
committed once a second after everything sent was confirmed. State is one's own business here: lists by symbol, as the other
frameworks have them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from aiokafka import TopicPartition
from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker, KafkaPublishMessage
from faststream.kafka.annotations import KafkaMessage  # noqa: TC002 - FastStream reads the handler's annotations

from benchmarks.options import parser
from benchmarks.peers.windows import Place, Shared

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

BATCH_BYTES = 2_000_000
COMMIT_S = 1.0
UNCONFIRMED = 16  # sends under way before the oldest ones are waited for


async def _raw(message: Any) -> Any:
    """The consumed records as they are: no guess at what is in them."""
    return message.raw_message


def _windows(shared: Shared) -> Callable[[Sequence[Any]], Any]:
    """From rows to vectors, windows as lists by symbol."""
    held: defaultdict[str, list[Any]] = defaultdict(list)

    def vectors(rows: Sequence[Any]) -> Any:
        found = []
        for symbol, row in rows:
            window = held[symbol]
            window.append(row)
            del window[: -shared.depth]
            found.append(shared.vector(window))
        return found

    return vectors


def main(args: argparse.Namespace) -> None:
    """Run until SIGTERM."""
    shared = Shared(args)
    vectors_of = _windows(shared)
    rules: dict[str, Any] = {"acks": "all", "linger_ms": 0, "max_batch_size": BATCH_BYTES, "max_request_size": BATCH_BYTES}
    broker = KafkaBroker(args.servers, logger=None, **rules)
    unconfirmed: list[Any] = []
    ends: dict[TopicPartition, int] = {}
    consumers: list[Any] = []
    between_batches = asyncio.Lock()

    async def commit() -> None:
        while True:
            await asyncio.sleep(COMMIT_S)
            async with between_batches:
                await asyncio.gather(*unconfirmed)
                unconfirmed.clear()
                if ends:  # not `ack`: that would take in what was fetched and not yet handled
                    await consumers[0].commit(ends)
                    ends.clear()

    async def batch(messages: Any, whole: KafkaMessage) -> None:
        rows = [shared.decode(m.value) for m in messages]
        places = [Place(s, row[0], m.partition, m.offset) for (s, row), m in zip(rows, messages, strict=True)]
        by_partition = defaultdict(list)
        for m, record in zip(messages, shared.records(places, vectors_of(rows)), strict=True):
            by_partition[m.partition].append(KafkaPublishMessage(record, key=m.key))
        async with between_batches:
            for partition, records in by_partition.items():
                sent = await broker.publish_batch(*records, topic=args.predictions, partition=partition, no_confirm=True)
                unconfirmed.append(sent)
            consumers[:] = [whole.consumer]
            ends.update({TopicPartition(m.topic, m.partition): m.offset + 1 for m in messages})
            if len(unconfirmed) > UNCONFIRMED:
                await asyncio.gather(*unconfirmed[:-UNCONFIRMED])
                del unconfirmed[:-UNCONFIRMED]

    async def serve() -> None:
        committing = asyncio.create_task(commit())
        await FastStream(broker).run(log_level=logging.WARNING)
        committing.cancel()

    subscriber = broker.subscriber(
        args.features,
        batch=True,
        max_records=args.batch_rows,
        batch_timeout_ms=100,
        group_id=args.group,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=args.fetch_max_wait_ms,
        session_timeout_ms=6_000,
        ack_policy=AckPolicy.MANUAL,
        decoder=_raw,
    )
    subscriber(batch)
    asyncio.run(serve())


if __name__ == "__main__":
    main(parser().parse_args())
