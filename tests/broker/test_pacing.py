"""A paced producer never runs further ahead than it may."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, TopicPartition

from streams.clients import kafka_client_config
from streams.errors import BrokerError
from streams.pacing import Delivery, Follower, PacedProducer, Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from config.sections import Kafka
    from streams.broker import EmbeddedBroker

pytestmark = pytest.mark.broker

TOPIC = "trading.features"
GROUP = "workers"


def _wait(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "condition not met in time"
        time.sleep(0.01)


@pytest.fixture
def progress(kafka: Kafka) -> Iterator[Progress]:
    seen = Progress(kafka_client_config(kafka))
    yield seen
    seen.close()


@pytest.fixture
def group(kafka: Kafka) -> Iterator[Consumer]:
    """A consumer that commits what the test says, as a worker would."""
    consumer = Consumer({**kafka_client_config(kafka), "group.id": GROUP, "enable.auto.commit": False, "log_level": 2})
    consumer.assign([TopicPartition(TOPIC, 0, 0)])
    yield consumer
    consumer.close()


def _key_of_partition_0() -> bytes:
    from streams.partitioner import partition_of

    return next(k for k in (b"S%d" % n for n in range(100)) if partition_of(k, 4) == 0)


def test_it_waits_for_every_commit_and_never_goes_past_the_limit(kafka: Kafka, progress: Progress, group: Consumer) -> None:
    key, result = _key_of_partition_0(), []

    def produce() -> None:
        with PacedProducer(kafka_client_config(kafka), TOPIC, group=GROUP, max_ahead=100) as producer:
            for n in range(250):
                producer.send(key, b"%d" % n)
            result.append(producer.flush())

    thread = threading.Thread(target=produce)
    thread.start()
    for committed in (60, 100, 200):
        # It fills the room it has, and there it stays until the group has gone on.
        _wait(lambda: progress.behind(GROUP, TOPIC) == 100)
        assert thread.is_alive()
        group.commit(offsets=[TopicPartition(TOPIC, 0, committed)], asynchronous=False)
    thread.join(10.0)
    assert result == [Delivery(sent=250, delivered=250, failed=0, first_error=None)]
    assert progress.behind(GROUP, TOPIC) == 50


def test_a_group_that_does_not_move_is_named(kafka: Kafka) -> None:
    with PacedProducer(kafka_client_config(kafka), TOPIC, group=GROUP, max_ahead=10, stall_s=0.2) as producer:
        for n in range(10):
            producer.send(_key_of_partition_0(), b"%d" % n)
        with pytest.raises(BrokerError, match=r"'workers' has committed nothing on 'trading\.features'.* 10 records behind"):
            producer.send(_key_of_partition_0(), b"10")
    assert producer.delivery.delivered == 10


def test_a_follower_of_another_topic_is_waited_for_too(kafka: Kafka) -> None:
    config = kafka_client_config(kafka)
    with PacedProducer(config, "trading.inference-log") as log:
        for n in range(5):
            log.send(_key_of_partition_0(), b"%d" % n)
        assert log.flush().delivered == 5
    monitor = Follower("monitor", "trading.inference-log", max_behind=5)
    with PacedProducer(config, TOPIC, also=[monitor], stall_s=0.2) as producer:
        assert producer.behind() == {("monitor", "trading.inference-log"): 5}
        with pytest.raises(BrokerError, match="'monitor'"):
            producer.send(b"A", b"1")


def test_what_is_not_delivered_is_counted_and_explained(broker: EmbeddedBroker, kafka: Kafka) -> None:
    with PacedProducer({**kafka_client_config(kafka), "message.timeout.ms": 2000}, TOPIC) as producer:
        producer.send(b"A", b"1", headers=[("content-type", b"application/json")], timestamp_ms=1_000)
        assert producer.flush() == Delivery(sent=1, delivered=1, failed=0, first_error=None)
        broker.set_down()
        producer.send(b"A", b"2")
        result = producer.flush(5.0)
        broker.set_up()
    assert (result.sent, result.delivered, result.failed) == (2, 1, 1)
    assert result.first_error is not None
    assert "timed out" in result.first_error


def test_limits_below_one_are_refused(kafka: Kafka) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        PacedProducer(kafka_client_config(kafka), TOPIC, group=GROUP, max_ahead=0)


def test_a_topic_that_is_not_there_is_named(kafka: Kafka, progress: Progress) -> None:
    with pytest.raises(BrokerError, match="no topic 'nothing'"):
        progress.behind(GROUP, "nothing")
    assert kafka.topics.features == TOPIC
