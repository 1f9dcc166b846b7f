"""The topics of the platform: which exist, with how many partitions, kept how; and their creation on a Kafka cluster.

Shell. All have `kafka.partitions` partitions, because a symbol's rows, predictions and outcomes are joined by partition
number, and a table's changelog must have as many as the topic that feeds it.

| topic                                 | kept                                    |
|---------------------------------------|-----------------------------------------|
| model-timeline                        | newest record of each key (compacted)   |
| alerts                                | the same, and everything for two days   |
| inference-log                         | as the cluster says, records to 8 MiB   |
| the changelogs                        | newest of each key, records to 8 MiB;   |
|                                       | of windows everything for an hour       |
| all others                            | as the cluster says                     |
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from streams.access import cluster, quiet_config
from streams.clients import MAX_RECORD_BYTES
from streams.errors import TopicError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from config.sections import Kafka

WINDOWS_TABLE = "windows"
"""Table of the inference group; Faust names its changelog `<group>-windows-changelog`."""

PANES_TABLE = "panes"
"""Table of the monitor group."""

_COMPACT = {"cleanup.policy": "compact"}

WINDOWS_KEPT_S = 3600
"""How long every record of the windows changelog is kept. A late record of a worker that is out of the group may follow, and so
replace, a newer one of the same key: for so long both are there to be told apart, and the owner writes the newer one again."""

ALERTS_KEPT_S = 2 * 24 * 3600
"""How long every event of the alerts topic is kept: longer than a receiver that is away is waited for."""


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """One topic as it should be; `config` holds Kafka's topic settings where the cluster's defaults will not do."""

    name: str
    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)


def changelog(group: str, table: str) -> str:
    """Name of a table's changelog topic, as Faust makes it.

    >>> changelog("trading-ml-inference", WINDOWS_TABLE)
    'trading-ml-inference-windows-changelog'
    """
    return f"{group}-{table}-changelog"


def all_topics(kafka: Kafka) -> tuple[TopicPlan, ...]:
    """Every topic of both groups, changelogs last."""
    topics = kafka.topics
    configs: dict[str, Mapping[str, str]] = {
        topics.features: {},
        topics.predictions: {},
        topics.predictions_shadow: {},
        topics.inference_log: {"max.message.bytes": str(MAX_RECORD_BYTES)},
        topics.outcomes: {},
        topics.alerts: _COMPACT | {"min.compaction.lag.ms": str(ALERTS_KEPT_S * 1000)},
        topics.performance: {},
        topics.model_timeline: _COMPACT,
        topics.features_rejected: {},
        changelog(kafka.inference_group, WINDOWS_TABLE): _COMPACT
        | {"max.message.bytes": str(MAX_RECORD_BYTES), "min.compaction.lag.ms": str(WINDOWS_KEPT_S * 1000)},
        changelog(kafka.monitor_group, PANES_TABLE): _COMPACT | {"max.message.bytes": str(MAX_RECORD_BYTES)},
    }
    return tuple(TopicPlan(name, kafka.partitions, config) for name, config in configs.items())


def existing_topics(kafka: Kafka, *, timeout_s: float = 10.0) -> dict[str, int]:
    """Return name → partitions of what the cluster has. Raises what `streams.access.cluster` raises."""
    return {name: len(topic.partitions) for name, topic in cluster(kafka, timeout_s=timeout_s).topics.items()}


def check_topics(kafka: Kafka, *, timeout_s: float = 10.0) -> None:
    """Raise `TopicError` for topics that are missing or have another partition count than `kafka.partitions`."""
    existing = existing_topics(kafka, timeout_s=timeout_s)
    plans = all_topics(kafka)
    _refuse_mismatch(kafka, plans, existing)
    missing = [plan.name for plan in plans if plan.name not in existing]
    if missing:
        raise TopicError(f"topics missing at {kafka.bootstrap_servers}: {', '.join(missing)}; run `trading-ml topics create`")


def create_topics(kafka: Kafka, *, timeout_s: float = 30.0) -> dict[str, Literal["created", "exists"]]:
    """Create what is missing and say of each topic what happened; safe to repeat, and to run twice at once.

    Raises `TopicError` before anything is created when an existing topic has another partition count, and when Kafka
    refuses; settings of existing topics are left alone.
    """
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # re-exported without saying so

    existing = existing_topics(kafka, timeout_s=timeout_s)
    plans = all_topics(kafka)
    _refuse_mismatch(kafka, plans, existing)
    missing = [plan for plan in plans if plan.name not in existing]
    done: dict[str, Literal["created", "exists"]] = {plan.name: "exists" for plan in plans}
    if not missing:
        return done
    wanted = [NewTopic(p.name, p.partitions, kafka.replication_factor, config=dict(p.config)) for p in missing]
    client = AdminClient(quiet_config(kafka))  # kept until the answers are in: they die with it
    answers = client.create_topics(wanted, operation_timeout=timeout_s, request_timeout=timeout_s)
    for name, answer in answers.items():
        try:
            answer.result()
            done[name] = "created"
        except KafkaException as e:
            if e.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # another process was quicker: as good as ours
                raise TopicError(f"Kafka refused to create topic {name!r}: {e.args[0].str()}") from e
    return done


def _refuse_mismatch(kafka: Kafka, plans: Sequence[TopicPlan], existing: Mapping[str, int]) -> None:
    wrong = [f"{p.name} has {existing[p.name]}" for p in plans if existing.get(p.name, p.partitions) != p.partitions]
    if wrong:
        raise TopicError(
            f"kafka.partitions is {kafka.partitions}, but {', '.join(wrong)}: topics are joined by partition, so all need "
            "the same number; set kafka.partitions to it, or delete and create the topic anew"
        )
