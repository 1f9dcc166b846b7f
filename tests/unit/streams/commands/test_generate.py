"""`generate` as a process: rows and outcomes of now, on the partitions of their symbols, and a clean end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer

from config import load_settings
from streams.broker import EmbeddedBroker
from streams.commands.generate import run
from streams.demo.synthetic import START_US, SyntheticPlan
from streams.errors import BrokerError
from streams.partitioner import partition_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from config.sections import Kafka

PARTITIONS = 4
LOCAL = Path(__file__).parents[4] / "config/local.yaml"
PROGRAM = "import typer; from streams.commands.generate import generate; typer.run(generate)"


def kafka_at(servers: str) -> Kafka:
    return load_settings(LOCAL, {"TRADING_ML__KAFKA__BOOTSTRAP_SERVERS": servers}).kafka


def read(servers: str, topic: str, count: int) -> list[dict[str, Any]]:
    """The first `count` records of a topic, each checked to lie where its key belongs."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": f"test-{topic}", "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    try:
        messages = consumer.consume(count, timeout=30.0)
    finally:
        consumer.close()
    assert len(messages) == count
    for message in messages:
        assert message.partition() == partition_of(message.key() or b"", PARTITIONS)
    return [json.loads(message.value() or b"") for message in messages]


@pytest.fixture
def broker() -> Iterator[str]:
    with EmbeddedBroker({"trading.features": PARTITIONS, "trading.outcomes": PARTITIONS}) as running:
        yield running.bootstrap_servers


def test_it_writes_what_happens_now_and_ends_when_told(broker: str) -> None:
    command = [sys.executable, "-c", PROGRAM, "--symbols", "3"]
    env = {**os.environ, "CONFIG_PATH": str(LOCAL), "TRADING_ML__KAFKA__BOOTSTRAP_SERVERS": broker}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as program:
        rows = read(broker, "trading.features", 6)
        program.send_signal(signal.SIGTERM)
        output, _ = program.communicate(timeout=20)
    assert program.returncode == 0
    assert output.splitlines()[-1].endswith("outcomes written")
    assert {row["symbol"] for row in rows} == {"S0000", "S0001", "S0002"}
    for row in rows:
        assert abs(row["ts_event_us"] / 1e6 - time.time()) < 30
        assert row["ts_event_us"] % 1_000_000 == 0


def test_rows_wait_until_they_are_known_and_outcomes_follow(broker: str) -> None:
    """A clock that stands still after bar 12 holds everything later back."""
    stop = threading.Event()
    plan = SyntheticPlan(symbols=2, bars=sys.maxsize, drift_at=None)
    results: list[Any] = []
    clock_us = [START_US + 12_500_000]
    writer = threading.Thread(target=lambda: results.append(run(kafka_at(broker), plan, stop, lambda: clock_us[0])))
    writer.start()
    # 13 bars and one slow row of 2 symbols are known by then; outcomes of bars 0 to 2 have matured.
    rows = read(broker, "trading.features", 13 * 2 + 2)
    outcomes = read(broker, "trading.outcomes", 3 * 2)
    stop.set()
    writer.join(timeout=10)
    assert (results[0].rows, results[0].outcomes) == (13 * 2 + 2, 3 * 2)
    assert all(row["ts_known_us"] <= clock_us[0] for row in rows + outcomes)


def test_a_broker_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "streams.clients.producer_rules", lambda *, linger_ms: {"linger.ms": linger_ms, "message.timeout.ms": 500}
    )
    with pytest.raises(BrokerError, match=r"kafka\.bootstrap_servers \(127\.0\.0\.1:1\)"):
        run(kafka_at("127.0.0.1:1"), SyntheticPlan(symbols=1, bars=sys.maxsize), threading.Event(), lambda: START_US + 1_000_000)
