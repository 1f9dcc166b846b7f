"""The embedded broker in this process, and settings that lead to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from config.sections import Kafka
from streams.broker import EmbeddedBroker
from streams.topics import all_topics

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    """All topics of the default settings, 4 partitions each."""
    plans = all_topics(Kafka(bootstrap_servers="none:1", partitions=4))
    with EmbeddedBroker({p.name: p.partitions for p in plans}) as embedded:
        yield embedded


@pytest.fixture
def kafka(broker: EmbeddedBroker) -> Kafka:
    """Settings of the cluster that `broker` is."""
    return Kafka(bootstrap_servers=broker.bootstrap_servers, partitions=4)
