"""Performance records in the topic, a registry that may be away, and what is on the pages of its versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, Producer, TopicPartition

from monitoring.record import encode, performance_record
from streams.partitioner import partition_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from config.sections import Kafka

MINUTE_US = 60_000_000
START_US = 1_700_000_040_000_000


class Away:
    """A client whose registry does not answer while `away`; `calls` that were tried."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client
        self.away = False
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **named: Any) -> Any:
            self.calls += 1
            if self.away:
                raise ConnectionError("refused")
            return getattr(self._client, name)(*args, **named)

        return call


class Windows:
    """Performance records in the topic, as a monitor writes them."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "linger.ms": 0})

    def write(self, name: str, version: str, minute: int, psi: float = 0.3, revision: int = 0, ic: float = 0.1) -> None:
        column = {"name": "x", "psi": psi, "verdict": "warn"}
        end_us = START_US + minute * MINUTE_US
        record = performance_record(
            model=name,
            version=version,
            role="champion",
            window_start_us=end_us - MINUTE_US,
            window_end_us=end_us,
            revision=revision,
            drift=None if revision else {"verdict": "warn", "columns": [column]},
            quality={"horizon_us": MINUTE_US, "rows": 10, "ic": ic, "ic_se": 0.05, "rank_ic": float("nan"), "by_group": {}},
        )
        self.put(name, encode(record))

    def put(self, name: str, value: bytes) -> None:
        key = name.encode()
        self._producer.produce(self._kafka.topics.performance, value, key, partition_of(key, self._kafka.partitions))
        assert self._producer.flush(10) == 0


def offsets(kafka: Kafka) -> tuple[list[int], list[int]]:
    """(committed, end) of every partition."""
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": f"{kafka.monitor_group}-registry"})
    partitions = [TopicPartition(kafka.topics.performance, p) for p in range(kafka.partitions)]
    committed = [tp.offset for tp in consumer.committed(partitions, timeout=10)]
    ends = [consumer.get_watermark_offsets(tp, timeout=10)[1] for tp in partitions]
    consumer.close()
    return committed, ends


def noted(kafka: Kafka) -> list[int]:
    return offsets(kafka)[0]


def settled(kafka: Kafka) -> bool:
    """Whether a restart would log nothing again that stands in the topic now."""
    committed, ends = offsets(kafka)
    return committed == ends


def run_of(client: MlflowClient, name: str, version: str) -> str:
    return str(client.get_model_version(name, version).run_id)


def history(client: MlflowClient, name: str, version: str, metric: str) -> list[tuple[int, int, float]]:
    """(step in minutes since the start, timestamp less its window's end in ms, value) as logged on the run."""
    found = client.get_metric_history(run_of(client, name, version), f"monitor.champion.{metric}")
    return sorted(((m.step - START_US // 10**6) // 60, m.timestamp - m.step * 1000, m.value) for m in found)


def page(client: MlflowClient, name: str, version: str, metric: str) -> list[float]:
    """The values on the logged model's page, by step."""
    run = client.get_run(run_of(client, name, version))
    (logged,) = client.search_logged_models([run.info.experiment_id], filter_string=f"source_run_id = '{run.info.run_id}'")
    found = [m for m in logged.metrics or () if m.key == f"monitor.champion.{metric}"]
    return [m.value for m in sorted(found, key=lambda m: (m.step, m.timestamp))]
