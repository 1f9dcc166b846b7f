"""A real Kafka by whatever way this machine has: its own jars, else Docker, else none, with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.kafka.artifacts import Unavailable, java, library
from tests.kafka.cluster import KafkaCluster

if TYPE_CHECKING:
    from pathlib import Path


def new_cluster(folder: Path, **how: Any) -> KafkaCluster:
    """A cluster to enter, not started yet; `how` as `KafkaCluster` takes it. Raises `Unavailable` where there is none."""
    try:
        java()
        library()
    except Unavailable as without_docker:
        from tests.kafka import containers

        try:
            containers.check()
        except Unavailable as e:
            raise Unavailable(f"no real Kafka here: {without_docker}; and {e}") from e
        return KafkaCluster(folder, make=containers.ContainerNode, **how)
    return KafkaCluster(folder, **how)
