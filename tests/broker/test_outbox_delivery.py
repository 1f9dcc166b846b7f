"""The outbox against a broker: every record on the partition it was given for, confirmed only when it is there."""

from __future__ import annotations

from confluent_kafka import Consumer, TopicPartition

from streams.broker import EmbeddedBroker
from streams.clients import producer_rules
from streams.outbox import Outbox

PARTITIONS = 4


async def test_records_land_on_the_partition_given_whatever_their_key_hashes_to() -> None:
    with EmbeddedBroker({"t": PARTITIONS}) as broker:
        outbox = Outbox({"bootstrap.servers": broker.bootstrap_servers, **producer_rules()})
        outbox.connect()
        outbox.send_many("t", [(p, b"same key", str(p).encode()) for p in range(PARTITIONS) for _ in range(3)])
        for p in range(PARTITIONS):
            outbox.send("t", partition=p, key=None, value=str(p).encode())
        await outbox.confirmed(outbox.turn())
        changelog = outbox.send_changelog("t", [(p, b"same key", str(p).encode()) for p in range(PARTITIONS)])
        await outbox.confirmed(changelog)
        assert changelog.offsets == {("t", p): 4 for p in range(PARTITIONS)}
        assert len(outbox) == 0
        reader = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "reader"})
        reader.assign([TopicPartition("t", p, 0) for p in range(PARTITIONS)])
        seen = [m for _ in range(PARTITIONS * 5) if (m := reader.poll(10.0)) is not None]
        reader.close()
        assert [(m.partition(), m.value()) for m in seen if m.value() != str(m.partition()).encode()] == []
        assert len(seen) == PARTITIONS * 5
