"""Incidents of drift and of quality, the monitor killed between raise and resolve, its receiver away: each is told exactly once.

    rise → kill -9 → end, which nobody hears → kill -9 → the receiver is back

Outcomes are with the monitor before the rows they are of, so what a window knows when it closes does not hang on timing.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest
from confluent_kafka import Consumer, TopicPartition

from config.sections import Kafka
from streams.broker import EmbeddedBroker
from streams.topics import all_topics
from tests.broker.inference_world import Worker, metric, wait_until
from tests.broker.test_monitor_killed import group_took, send, to_tell
from tests.unit.monitoring.receiver import Receiver
from tests.unit.streams.monitor_world import (
    COLUMNS,
    MINUTE_US,
    PARTITIONS,
    START_US,
    SYMBOLS,
    Market,
    home,
    log_record,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.unit.streams.monitor_world import Placed

COMMAND = ("tests.broker.light_monitor",)
BAD: Final = range(40, 80)
BARS: Final = 120

INCIDENTS: Final[dict[str, set[tuple[str, str | None]]]] = {
    "drift": {("feature_drift", "b")},
    "quality": {("quality", "rank_ic"), ("quality", "hit_rate"), ("interval_coverage", None)},
}
"""Which alerts each trouble raises: their name, and the column or metric they are about."""


class Troubled(Market):
    """A market with bad times: column b leaves training's distribution, or outcomes are not what was predicted."""

    def __init__(self, trouble: str) -> None:
        super().__init__(bars=BARS)
        self.trouble = trouble

    def part(self, bars: range) -> tuple[list[Placed], list[Placed]]:
        """The outcomes of these bars, and the log's records."""
        outcomes: list[Placed] = []
        logs: list[Placed] = []
        for bar in bars:
            for partition in range(PARTITIONS):
                symbols = [s for s in SYMBOLS if home(s) == partition]
                vectors = self._rng.standard_normal((len(symbols), len(COLUMNS)))
                vectors[:, 1] += 2.0 * (self.trouble == "drift" and bar in BAD)
                factor = -3.0 if self.trouble == "quality" and bar in BAD else 0.5
                outcomes += [self.outcome(s, bar, factor * v) for s, v in zip(symbols, vectors[:, 0].tolist(), strict=True)]
                value = log_record(symbols, START_US + bar * MINUTE_US, np.asarray(vectors), source_partition=partition)
                logs.append(self.place("trading.inference-log", partition, None, value))
        return outcomes, logs


class World:
    """A broker, a receiver, a market, and settings of monitors."""

    def __init__(self, folder: Path, broker: EmbeddedBroker, receiver: Receiver, trouble: str) -> None:
        self.servers = broker.bootstrap_servers
        self.market = Troubled(trouble)
        self._folder = folder
        rules = [
            {"metric": "rank_ic", "below": 0.0, "clear": 0.01, "min_effective": 5},
            {"metric": "hit_rate", "below": 0.4, "clear": 0.5, "min_effective": 5},
        ]
        hook = {"name": "hook", "kind": "webhook", "url": receiver.url, "secret": "key", "allow_private": True}
        self._settings = {
            "KAFKA__PARTITIONS": str(PARTITIONS),
            "MODELS": json.dumps([{"name": "m"}]),
            "MONITORING__METRICS_WINDOW": "20m",
            "MONITORING__PANES": "4",
            "MONITORING__MIN_SAMPLES": "50",
            "MONITORING__RULES__QUALITY": json.dumps(rules),
            "MONITORING__RULES__INTERVAL_COVERAGE__MIN_EFFECTIVE": "5",
            "MONITORING__NOTIFY": json.dumps([hook]),
            "DATABASE__PATH": str(folder / "ml.duckdb"),
        }

    def monitor(self) -> Worker:
        return Worker(self._folder, self.servers, command=COMMAND, **self._settings)

    def trade(self, bars: range, monitor: Worker) -> list[Placed]:
        """Send these bars' outcomes and, once the monitor has those for good, the log's records, which are returned."""
        outcomes, logs = self.market.part(bars)
        send(self.servers, outcomes)
        wait_until(lambda: group_took(self.servers, outcomes), 30, alive=monitor)
        send(self.servers, logs)
        return logs

    def said(self) -> dict[tuple[str, str | None], list[tuple[str, str, str]]]:
        """By alert (its name, and what it is about): what the topic says to receivers, each event once, in order."""
        events = {e["event_id"]: e for e in to_tell(self.servers)}
        return by_alert(list(events.values()))

    def states(self) -> dict[tuple[str, str | None], list[str]]:
        return {about: [state for _, state, _ in events] for about, events in self.said().items()}

    def told_all(self) -> bool:
        """Whether it is noted in Kafka that the receiver was told all that the topic says: a kill now repeats nothing."""
        partitions = [TopicPartition("trading.alerts", p) for p in range(PARTITIONS)]
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": "trading-ml-monitor-notify-hook"})
        noted = {tp.partition: tp.offset for tp in consumer.committed(partitions, timeout=10)}
        ends = {tp.partition: consumer.get_watermark_offsets(tp, timeout=10)[1] for tp in partitions}
        consumer.close()
        return noted == ends


def by_alert(events: list[dict[str, Any]]) -> dict[tuple[str, str | None], list[tuple[str, str, str]]]:
    found: dict[tuple[str, str | None], list[tuple[str, str, str]]] = {}
    for e in events:
        about = e["labels"]["alertname"], e["labels"].get("column", e["labels"].get("metric"))
        found.setdefault(about, []).append((e["incident_id"], e["state"], e["event_id"]))
    return found


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


@pytest.mark.parametrize(("trouble", "state"), [("drift", "kept"), ("quality", "gone")])
def test_each_incident_is_told_once_though_monitor_and_receiver_die(
    tmp_path: Path, receiver: Receiver, trouble: str, state: str
) -> None:
    plans = all_topics(Kafka(bootstrap_servers="none:1", partitions=PARTITIONS))
    fires = {about: ["firing"] for about in INCIDENTS[trouble]}
    ends = {about: ["firing", "resolved"] for about in INCIDENTS[trouble]}
    with EmbeddedBroker({p.name: p.partitions for p in plans}) as broker:
        world = World(tmp_path, broker, receiver, trouble)
        with world.monitor() as monitor:
            world.trade(range(BAD.stop), monitor)
            wait_until(lambda: world.states() == fires, 30, alive=monitor)
            wait_until(lambda: len(receiver.taken) == len(fires) and world.told_all(), 30, alive=monitor)
            receiver.close()
            monitor.kill()
        if state == "gone":
            shutil.rmtree(monitor.state)
        with world.monitor() as monitor:
            rows = world.trade(range(BAD.stop, BARS), monitor)
            wait_until(lambda: world.states() == ends, 30, alive=monitor)
            wait_until(lambda: away(monitor) > 0, 30, alive=monitor)
            monitor.kill()
        receiver.open()
        with world.monitor() as monitor:
            wait_until(lambda: world.told_all() and group_took(world.servers, rows), 30, alive=monitor)
            assert monitor.stop() == 0
        assert world.states() == ends
        assert all(len({incident for incident, _, _ in events}) == 1 for events in world.said().values())
        assert by_alert(receiver.events()) == world.said()  # every POST counts: none came twice, though it would do no harm


def away(monitor: Worker) -> float:
    return metric(monitor.get("/metrics")[1], "trading_ml_notifications_total", {"outcome": "away", "receiver": "hook"})
