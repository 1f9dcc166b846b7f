"""One real Kafka node for all tests here; where none is to be had, they are skipped and say why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos.names import Names
from tests.kafka.artifacts import Unavailable
from tests.kafka.provide import new_cluster

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kafka.cluster import KafkaCluster


@pytest.fixture(scope="session")
def kafka_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """A running node; every test takes names of its own on it."""
    try:
        cluster = new_cluster(tmp_path_factory.mktemp("kafka"))
    except Unavailable as e:
        pytest.skip(str(e))
    with cluster:
        yield cluster


@pytest.fixture
def names(kafka_cluster: KafkaCluster, request: pytest.FixtureRequest) -> Names:
    """Topics and groups of this test alone, made."""
    made = Names(kafka_cluster.bootstrap_servers, request.node.name.removeprefix("test_")[:60])
    made.create()
    return made
