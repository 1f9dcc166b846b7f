"""One run's own topics, groups and settings on a cluster that others use too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from config.sections import Kafka, Topics
from streams.topics import WINDOWS_TABLE, changelog, create_topics
from tests.broker.inference_rows import PARTITIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

SESSION_S = 2.0
"""A dead worker's partitions go to the others after this; Kafka's default broker setting allows 6 s and more."""


class Names:
    """Everything called `<prefix>...` on the cluster at `servers`."""

    def __init__(self, servers: str, prefix: str, *, copies: int = 1, session_s: float = SESSION_S) -> None:
        self.servers = servers
        self.prefix = prefix
        roles = {r: f"{prefix}.{r.replace('_', '-')}" for r in Topics.model_fields}
        self.kafka = Kafka(
            bootstrap_servers=servers,
            partitions=PARTITIONS,
            replication_factor=copies,
            inference_group=f"{prefix}-inference",
            monitor_group=f"{prefix}-monitor",
            topics=Topics(**roles),
        )
        self._session_s = session_s

    @property
    def topics(self) -> Topics:
        """Their names."""
        return self.kafka.topics

    @property
    def windows(self) -> str:
        """The changelog of the windows table."""
        return changelog(self.kafka.inference_group, WINDOWS_TABLE)

    def create(self) -> None:
        """Make all topics."""
        create_topics(self.kafka)

    def settings(self) -> Mapping[str, str]:
        """What leads a worker here, as `TRADING_ML__<key>`."""
        k = self.kafka
        return {
            "KAFKA__BOOTSTRAP_SERVERS": self.servers,
            "KAFKA__PARTITIONS": str(k.partitions),
            "KAFKA__REPLICATION_FACTOR": str(k.replication_factor),
            "KAFKA__INFERENCE_GROUP": k.inference_group,
            "KAFKA__MONITOR_GROUP": k.monitor_group,
            "KAFKA__SESSION_TIMEOUT": f"{self._session_s:g}s",
            **{f"KAFKA__TOPICS__{role.upper()}": name for role, name in k.topics},
        }
