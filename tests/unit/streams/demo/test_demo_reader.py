"""The reader sees every record of its topics, from the first, and reports what the broker dropped."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from streams.broker import EmbeddedBroker
from streams.demo.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Callable


def wait(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20.0
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.broker
def test_it_reads_from_the_first_record_and_counts_what_is_left() -> None:
    from confluent_kafka import Producer

    seen: list[bytes] = []
    gaps: list[str] = []
    with EmbeddedBroker({"a": 2}) as broker:
        producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "log_level": 2})
        for i in range(100):
            producer.produce("a", key=str(i).encode(), value=str(i).encode())
        producer.flush(10)
        reader = Reader(
            broker.bootstrap_servers, {"a": lambda m: seen.append(m.value() or b"")}, partitions=2, on_gap=gaps.append
        )
        assert reader.behind() == 100
        reader.start()
        wait(lambda: len(seen) == 100)
        assert (reader.behind(), gaps) == (0, [])
        reader.close()
        reader.check()


@pytest.mark.broker
def test_a_handler_that_fails_is_heard_of() -> None:
    from confluent_kafka import Producer

    def fail(_: object) -> None:
        raise ValueError("cannot read this")

    with EmbeddedBroker({"a": 1}) as broker:
        producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "log_level": 2})
        producer.produce("a", value=b"x")
        producer.flush(10)
        reader = Reader(broker.bootstrap_servers, {"a": fail}, partitions=1, on_gap=lambda _: None)
        reader.start()

        def failed() -> bool:
            try:
                reader.check()
            except ValueError:
                return True
            return False

        wait(failed)
        reader.close()


@pytest.mark.broker
def test_a_gap_is_reported() -> None:
    from confluent_kafka import Producer

    gaps: list[str] = []
    with EmbeddedBroker({"a": 1}) as broker:
        producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "log_level": 2, "linger.ms": 0})
        for _ in range(12):  # 5 MiB is what a partition keeps
            producer.produce("a", value=bytes(900_000))
            producer.flush(10)
        reader = Reader(broker.bootstrap_servers, {"a": lambda _: None}, partitions=1, on_gap=gaps.append)
        reader.start()
        wait(lambda: bool(gaps))
        reader.close()
    assert "were dropped by the broker before they were read" in gaps[0]
