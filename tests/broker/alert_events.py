"""Alert events in the topic, as a monitor writes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from confluent_kafka import Producer

from monitoring.alerts import AlertPolicy, Observation, decide
from streams.partitioner import partition_of

if TYPE_CHECKING:
    from config.sections import Kafka

START_US = 1_700_000_000_000_000
MINUTE_US = 60_000_000


class Alerts:
    """Observes columns, one window a minute, and writes what comes of it; `events` is what a receiver must be told of."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "linger.ms": 0})
        self._state: Any = {}
        self._minute = 0
        self.events: list[dict[str, Any]] = []

    def window(self, **values: float) -> list[dict[str, Any]]:
        """One window in which these columns have these PSI: above 0.1 they fire, below they end, above 1 it is critical."""
        self._minute += 1
        seen = [
            Observation(
                labels={"alertname": "feature_drift", "column": column},
                value=value,
                raise_at=0.1,
                clear_at=0.1,
                severity="critical" if value > 1 else "warn",
                summary=f"{column} drifts",
            )
            for column, value in values.items()
        ]
        policy = AlertPolicy(pending_windows=1, cooldown_us=0)
        self._state, new = decide(self._state, seen, START_US + self._minute * MINUTE_US, policy=policy)
        self.events += new
        self.write(new)
        return new

    def write(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            key = event["fingerprint"].encode()
            self._producer.produce(
                self._kafka.topics.alerts, json.dumps(event).encode(), key, partition_of(key, self._kafka.partitions)
            )
        assert self._producer.flush(10) == 0

    def ids(self) -> list[str]:
        return [event["event_id"] for event in self.events]
