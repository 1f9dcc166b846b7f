"""Records with a header name that is no text, as a client in another language may send them: the workers go on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from streams.broker import EmbeddedBroker
from streams.partitioner import partition_of
from streams.reading import headers_of
from tests import odd_headers
from tests.broker import inference_judge as judging
from tests.broker import inference_rows as making
from tests.broker import inference_world as world
from tests.broker.inference_world import Worker, wait_until
from tests.laws.oracle import Row

if TYPE_CHECKING:
    from pathlib import Path

    from confluent_kafka import Message

pytestmark = pytest.mark.broker

SYMBOL = making.SYMBOLS[0]
HOME = partition_of(SYMBOL.encode(), making.PARTITIONS)
ODD = [(odd_headers.RawName(b"tr\xffce"), b"7")]
READ = "tr\\xffce"


def sent(n: int, *, value: bytes | None = None, odd: bool = False) -> dict[str, Any]:
    event = making.START_US + n * making.BAR_US
    row = making.message(Row(0, SYMBOL, "bars", event, event + 1_000_000, 0, {"x": 1.0 + n, "y": 2.0}))
    timestamp = making.START_US // 1000 + 10**9
    return {"timestamp": timestamp, "key": row["key"], "value": value or row["value"], "headers": ODD if odd else []}


def test_a_row_is_predicted_and_a_bad_one_rejected_whatever_its_header_is_called(tmp_path: Path) -> None:
    with EmbeddedBroker(making.topics_of_the_broker()) as broker:
        servers = broker.bootstrap_servers
        rows = [sent(0), sent(1, odd=True), sent(2, value=b"no row", odd=True), sent(3)]
        odd_headers.produce(servers, making.TOPICS.features, rows, partition=HOME)
        rows += [sent(4), sent(5, odd=True)]
        odd_headers.produce(servers, making.TOPICS.features, rows[4:], partition=HOME, compression=odd_headers.GZIP)
        with Worker(tmp_path, servers, command=world.LIGHT) as worker:
            wait_until(lambda: judging.committed(servers)[HOME] == len(rows), alive=worker)
            assert worker.stop() == 0
        made = [json.loads(r.value or b"")["ts_event_us"] for r in judging.read_all(servers, making.TOPICS.predictions)]
        (refused,) = judging.read_all(servers, making.TOPICS.features_rejected)
    assert made == [making.START_US + n * making.BAR_US for n in (0, 1, 3, 4, 5)]
    assert (refused.value, refused.headers[READ]) == (b"no row", b"7")
    assert refused.headers["__connect.errors.offset"] == b"2"


def test_the_monitor_takes_outcomes_whatever_their_header_is_called(tmp_path: Path) -> None:
    event = making.START_US
    outcome = {"symbol": SYMBOL, "ts_event_us": event, "horizon_us": making.BAR_US, "value": 0.5}
    good = {"timestamp": making.START_US // 1000 + 10**9, "key": SYMBOL.encode(), "value": json.dumps(outcome).encode()}
    with EmbeddedBroker(making.topics_of_the_broker()) as broker:
        servers = broker.bootstrap_servers
        rows = [good | {"headers": ODD}, good | {"value": b"no outcome", "headers": ODD}]
        odd_headers.produce(servers, making.TOPICS.outcomes, rows, partition=HOME)
        command = ("streams.cli", "worker", "monitor")
        with Worker(tmp_path, servers, command=command, DATABASE__PATH=str(tmp_path / "w.duckdb")) as worker:
            wait_until(lambda: bool(judging.read_all(servers, making.TOPICS.features_rejected)), alive=worker)
            assert worker.stop() == 0
        (refused,) = judging.read_all(servers, making.TOPICS.features_rejected)
    assert (refused.value, refused.headers[READ]) == (b"no outcome", b"7")


def test_tail_shows_such_a_record_without_its_headers() -> None:
    from confluent_kafka import Consumer, TopicPartition

    with EmbeddedBroker({"t": 1}) as broker:
        odd_headers.produce(broker.bootstrap_servers, "t", [sent(0, odd=True), sent(1)] * 50, partition=0)
        consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "reader"})
        consumer.assign([TopicPartition("t", 0, 0)])
        found: list[Message] = consumer.consume(100, timeout=10)
        consumer.close()
    assert [headers_of(m) for m in found] == [[], []] * 50
