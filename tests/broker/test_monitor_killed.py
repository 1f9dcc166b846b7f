"""kill -9 of the monitor between raise and resolve, its receiver away meanwhile: one firing and one resolved per incident."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, Producer, TopicPartition

from config.sections import Kafka
from monitoring.notices import told
from streams.broker import EmbeddedBroker
from streams.topics import all_topics
from tests.broker.inference_world import Worker, wait_until
from tests.unit.monitoring.receiver import Receiver
from tests.unit.streams.monitor_world import PARTITIONS, Market

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.unit.streams.monitor_world import Placed

COMMAND = ("tests.broker.light_monitor",)


def test_each_incident_is_told_though_monitor_and_receiver_die(tmp_path: Path) -> None:
    """Version 1 drifts and is replaced, which ends its alerts; version 2 drifts on."""
    plans = all_topics(Kafka(bootstrap_servers="none:1", partitions=PARTITIONS))
    rows = Market(bars=130, drift_bar=20, versions={0: "1", 80: "2"}).stream()
    cut = next(n for n, (topic, _, r) in enumerate(rows) if topic.endswith("log") and b"m:2:" in (r.value or b""))
    with EmbeddedBroker({p.name: p.partitions for p in plans}) as broker, Receiver() as receiver:
        hook = {"name": "hook", "kind": "webhook", "url": receiver.url, "secret": "key", "allow_private": True}
        settings = {
            "KAFKA__PARTITIONS": str(PARTITIONS),
            "MODELS": json.dumps([{"name": "m"}]),
            "MONITORING__METRICS_WINDOW": "20m",
            "MONITORING__PANES": "4",
            "MONITORING__MIN_SAMPLES": "50",
            "MONITORING__NOTIFY": json.dumps([hook]),
            "DATABASE__PATH": str(tmp_path / "ml.duckdb"),
        }
        servers = broker.bootstrap_servers
        send(servers, rows[:cut])
        with Worker(tmp_path, servers, command=COMMAND, **settings) as monitor:
            wait_until(lambda: len(receiver.taken) > 0, 30, alive=monitor)
            receiver.close()
            wait_until(lambda: group_took(servers, rows[:cut]), 30, alive=monitor)
            monitor.kill()
        send(servers, rows[cut:])
        with Worker(tmp_path, servers, command=COMMAND, **settings) as monitor:
            wait_until(lambda: group_took(servers, rows), 30, alive=monitor)
            wait_until(lambda: any(e["state"] == "resolved" for e in to_tell(servers)), 30, alive=monitor)
            receiver.open()
            wait_until(lambda: {e["event_id"] for e in to_tell(servers)} == keys(receiver), 30, alive=monitor)
            assert monitor.stop() == 0
        wanted = to_tell(servers)
        assert keys(receiver) == {e["event_id"] for e in wanted}
        ended = {e["incident_id"] for e in wanted if e["state"] == "resolved"}
        told_of = receiver.incidents()
        assert ended <= {incident for incident, state in told_of if state == "firing"}
        assert all(len(told_of[incident, "resolved"]) == 1 for incident in ended)


def keys(receiver: Receiver) -> set[str]:
    return {e["event_id"] for e in receiver.events()}


def send(servers: str, rows: Sequence[Placed]) -> None:
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 5})
    for topic, partition, record in rows:
        producer.produce(topic, record.value, record.key, partition)
    assert producer.flush(20) == 0


def group_took(servers: str, rows: Sequence[Placed]) -> bool:
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "trading-ml-monitor"})
    ends: dict[tuple[str, int], int] = {}
    for topic, partition, record in rows:
        ends[topic, partition] = record.offset + 1
    found = consumer.committed([TopicPartition(t, p) for t, p in ends], timeout=10)
    consumer.close()
    return all(tp.offset >= ends[tp.topic, tp.partition] for tp in found)


def to_tell(servers: str) -> list[dict[str, Any]]:
    """All of the alerts topic that a receiver is to be told of."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "reader", "enable.partition.eof": True})
    consumer.assign([TopicPartition("trading.alerts", p, 0) for p in range(PARTITIONS)])
    found: list[dict[str, Any]] = []
    ended = 0
    while ended < PARTITIONS:
        message: Any = consumer.poll(5.0)
        assert message is not None
        if message.error() is not None:
            ended += 1
        else:
            found.append(json.loads(message.value()))
    consumer.close()
    return [e for e in found if told(e) is not None]
