"""The embedded broker serves real clients, and fails on request."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from confluent_kafka import Consumer, Message, Producer
from confluent_kafka import TopicPartition as Partition

from streams.broker import Api, EmbeddedBroker
from streams.clients import producer_config
from streams.errors import BrokerError, TopicError
from streams.pacing import Progress
from streams.partitioner import partition_of
from streams.topics import check_topics, create_topics, existing_topics

if TYPE_CHECKING:
    from config.sections import Kafka

pytestmark = pytest.mark.broker

TOPIC = "trading.features"


def _produce(kafka: Kafka, count: int, **config: str | float | bool) -> list[str]:
    """Send `count` rows, return the delivery errors by name."""
    errors: list[str] = []
    producer = Producer({**producer_config(kafka), "log_level": 2, **config})

    def delivered(error: object, _message: Message) -> None:
        if error is not None:
            errors.append(str(error))

    for n in range(count):
        producer.produce(TOPIC, key=b"S%d" % (n % 10), value=b"%d" % n, on_delivery=delivered)
    assert producer.flush(20.0) == 0
    return errors


def test_topics_have_the_partitions_asked_for(kafka: Kafka) -> None:
    check_topics(kafka)
    assert existing_topics(kafka)[TOPIC] == 4
    assert set(create_topics(kafka).values()) == {"exists"}


def test_another_partition_count_is_refused_by_name(kafka: Kafka) -> None:
    with pytest.raises(TopicError, match=r"kafka.partitions is 8.*trading.features has 4"):
        check_topics(kafka.model_copy(update={"partitions": 8}))


def test_a_missing_topic_is_named_and_cannot_be_created_from_outside(kafka: Kafka) -> None:
    other = kafka.model_copy(update={"inference_group": "other"})
    with pytest.raises(TopicError, match=r"topics missing at .*: other-windows-changelog"):
        check_topics(other)
    with pytest.raises(TopicError, match="refused to create topic 'other-windows-changelog'"):
        create_topics(other, timeout_s=2.0)


def test_no_broker_is_an_error_that_says_where_it_was_sought(kafka: Kafka) -> None:
    with pytest.raises(BrokerError, match=r"no answer from Kafka at 127\.0\.0\.1:1 within"):
        existing_topics(kafka.model_copy(update={"bootstrap_servers": "127.0.0.1:1"}), timeout_s=0.3)


def test_records_come_back_from_the_partition_of_their_key(kafka: Kafka) -> None:
    assert _produce(kafka, 100) == []
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": "reader", "log_level": 2})
    consumer.assign([Partition(TOPIC, p, 0) for p in range(4)])
    seen: dict[bytes, int] = {}
    deadline = time.monotonic() + 10.0
    while len(seen) < 100 and time.monotonic() < deadline:
        for record in consumer.consume(100, 0.2):
            key, value, partition = record.key(), record.value(), record.partition()
            assert isinstance(key, bytes)
            assert isinstance(value, bytes)
            assert partition == partition_of(key, 4)
            seen[value] = partition
    consumer.close()
    assert len(seen) == 100


async def test_a_group_of_aiokafka_joins_commits_seeks_and_is_seen_from_outside(kafka: Kafka) -> None:
    assert _produce(kafka, 100) == []
    progress = Progress({"bootstrap.servers": kafka.bootstrap_servers})
    before = progress.behind("workers", TOPIC)
    consumer = AIOKafkaConsumer(
        TOPIC,
        bootstrap_servers=kafka.bootstrap_servers,
        group_id="workers",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=3000,
        heartbeat_interval_ms=500,
    )
    async with asyncio.timeout(20.0):
        await consumer.start()
        total, ends = 0, {}
        while total < 100:
            for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                total += len(records)
                ends[tp] = records[-1].offset + 1
        await consumer.commit(ends)
        after = await asyncio.to_thread(progress.behind, "workers", TOPIC)
        first = TopicPartition(TOPIC, min(tp.partition for tp in ends))
        assert await consumer.committed(first) == ends[first]
        consumer.seek(first, 0)
        again = await consumer.getone(first)
        await consumer.stop()
    progress.close()
    assert (total, again.offset) == (100, 0)
    assert before == max(ends.values())
    assert after == 0


def test_a_broker_that_comes_back_has_its_port_and_its_records(broker: EmbeddedBroker, kafka: Kafka) -> None:
    assert _produce(kafka, 10) == []
    broker.set_down()
    with pytest.raises(BrokerError, match="no answer"):
        existing_topics(kafka, timeout_s=0.3)
    broker.set_up()
    assert _produce(kafka, 10) == []
    progress = Progress({"bootstrap.servers": kafka.bootstrap_servers})
    assert progress.behind("nobody", TOPIC) > 0
    progress.close()


def test_pushed_errors_reach_the_client_once_each(broker: EmbeddedBroker, kafka: Kafka) -> None:
    broker.push_errors(Api.PRODUCE, [10])  # MSG_SIZE_TOO_LARGE: not retried
    (error,) = _produce(kafka, 1)
    assert "MSG_SIZE_TOO_LARGE" in error
    assert _produce(kafka, 1) == []
    broker.push_errors(Api.PRODUCE, [10] * 5)
    broker.clear_errors(Api.PRODUCE)
    assert _produce(kafka, 1) == []


def test_a_delay_is_felt_and_ends(broker: EmbeddedBroker, kafka: Kafka) -> None:
    existing_topics(kafka)
    broker.set_round_trip(round_trip_ms=300)
    begun = time.monotonic()
    existing_topics(kafka)
    assert time.monotonic() - begun >= 0.3
    broker.set_round_trip(round_trip_ms=0)
    existing_topics(kafka, timeout_s=5.0)


def test_misuse_says_what_is_right() -> None:
    broker = EmbeddedBroker({"a": 1})
    with pytest.raises(BrokerError, match="not running"):
        _ = broker.bootstrap_servers
    with broker:
        with pytest.raises(BrokerError, match="already started"):
            broker.start()
        with pytest.raises(BrokerError, match="'a': Broker: Topic already exists"):
            broker.create_topic("a", 1)
        with pytest.raises(BrokerError, match="give at least 1"):
            broker.create_topic("b", 0)
    broker.close()


def test_several_brokers_share_the_partitions() -> None:
    with EmbeddedBroker({"a": 3}, brokers=3) as broker:
        assert len(broker.bootstrap_servers.split(",")) == 3
        broker.set_leader("a", 0, 2)
        broker.set_coordinator("workers", 3)
        consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "x", "log_level": 2})
        assert consumer.list_topics("a", timeout=5.0).topics["a"].partitions[0].leader == 2
        consumer.close()
