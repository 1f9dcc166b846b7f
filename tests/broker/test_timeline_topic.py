"""The topic of orders on a broker: the first of a number counts for every reader, garbage is passed over, ends are reached."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec
import pytest
from confluent_kafka import Producer

from config.sections import Kafka
from streams.errors import BrokerError
from streams.partitioner import partition_of
from streams.switches import Order
from streams.timeline_topic import TimelineTopic
from tests.broker.inference_world import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.broker


@pytest.fixture
def topics(kafka: Kafka) -> Iterator[list[TimelineTopic]]:
    """Three readers."""
    made = [TimelineTopic(kafka) for _ in range(3)]
    yield made
    for t in made:
        t.close()


def order(seq: int, version: str, model: str = "m", role: str = "champion") -> Order:
    return Order(model=model, role=role, seq=seq, version=version, effective_from_us=seq)  # type: ignore[arg-type]  # a role


def test_an_empty_topic_is_read_to_its_end(topics: list[TimelineTopic]) -> None:
    assert topics[0].read() == []


def test_append_returns_what_counts_and_every_reader_finds_the_same(topics: list[TimelineTopic]) -> None:
    one, two, three = topics
    assert one.append(order(1, "1")) == order(1, "1")
    assert two.append(order(1, "9")) == order(1, "1")
    assert two.append(order(2, "9")) == order(2, "9")
    assert one.append(order(1, "3", "n")) == order(1, "3", "n")
    assert one.append(order(1, "4", role="canary")) == order(1, "4", role="canary")
    found = {o.key: o for o in three.read()}
    assert found == {o.key: o for o in (order(1, "1"), order(2, "9"), order(1, "3", "n"), order(1, "4", role="canary"))}
    assert {o.key: o for o in one.read()} == {o.key: o for o in two.read()} == found


def test_of_many_that_write_one_number_at_once_one_counts_for_all(topics: list[TimelineTopic]) -> None:
    with ThreadPoolExecutor(3) as pool:
        for seq in (1, 2):
            counted = list(pool.map(lambda at, seq=seq: at[1].append(order(seq, str(at[0]))), enumerate(topics)))
            assert len({o.version for o in counted}) == 1
    assert len({tuple(sorted((o.seq, o.version) for o in t.read())) for t in topics}) == 1


def test_what_is_no_order_is_passed_over(kafka: Kafka, topics: list[TimelineTopic]) -> None:
    home = partition_of(b"m", kafka.partitions)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    good = msgspec.json.encode(order(1, "1"))
    bad = [b"", b"\xff", b"{}", b"[1]", good[:-1], good.replace(b"champion", b"king"), good.replace(b'"seq":1', b'"seq":"1"')]
    for value in (None, *bad, good):
        producer.produce(kafka.topics.model_timeline, value, None, home)
    assert producer.flush(10) == 0
    assert topics[0].read() == [order(1, "1")]
    assert topics[0].append(order(2, "2")) == order(2, "2")


def test_a_watcher_hears_of_an_order_by_itself_and_once(topics: list[TimelineTopic]) -> None:
    heard: list[Order] = []
    topics[1].watch(heard.append)
    topics[0].append(order(1, "1"))
    topics[2].append(order(1, "2"))
    topics[0].append(order(2, "2"))
    wait_until(lambda: len(heard) == 2, 10)
    assert heard == [order(1, "1"), order(2, "2")]
    assert topics[1].orders() == heard


def test_reading_and_watching_at_once_miss_and_double_nothing(topics: list[TimelineTopic]) -> None:
    heard: list[Order] = []
    topics[0].watch(heard.append)
    for seq in range(1, 6):
        topics[1].append(order(seq, str(seq)))
        assert max(o.seq for o in topics[0].read()) == seq
    assert [o.seq for o in topics[0].orders()] == list(range(1, 6))
    assert len(heard) == len({o.key for o in heard})


def test_a_broker_that_does_not_answer_is_an_error_in_time() -> None:
    topic = TimelineTopic(Kafka(bootstrap_servers=f"127.0.0.1:{free_port()}", partitions=4))
    with pytest.raises(BrokerError, match=r"the end of .* could not be asked for"):
        topic.read(timeout_s=0.5)
    with pytest.raises(BrokerError, match="an order could not be written"):
        topic.append(order(1, "1"), timeout_s=0.5)
    topic.close()
