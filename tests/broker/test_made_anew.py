"""Topics made anew under a worker's state: it leaves in one line, where it would read on and pass over rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from streams.broker import EmbeddedBroker
from streams.topics import WINDOWS_TABLE, changelog
from tests.broker import inference_judge as judging
from tests.broker import inference_rows as making
from tests.broker import inference_world as world
from tests.broker.inference_rows import Feeder
from tests.broker.inference_world import Worker, wait_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.broker
CHANGELOG = changelog(making.GROUP, WINDOWS_TABLE)


def test_a_changelog_or_a_source_that_is_shorter_than_what_was_read_of_it_is_refused(tmp_path: Path) -> None:
    rows = list(making.stream(3, 20))
    with EmbeddedBroker(making.topics_of_the_broker()) as broker:
        servers = broker.bootstrap_servers
        Feeder(servers).send(rows)
        with Worker(tmp_path, servers, command=world.LIGHT) as worker:
            wait_until(judging.all_committed(servers), alive=worker)
            assert worker.stop() == 0
        kept = judging.read_all(servers, CHANGELOG)
    with EmbeddedBroker(making.topics_of_the_broker()) as broker:
        servers = broker.bootstrap_servers
        Feeder(servers).send(rows[:100])
        with Worker(tmp_path, servers, command=world.LIGHT) as worker:
            assert worker.process.wait(30) == 78
            assert worker.log.splitlines()[-1].startswith("trading-ml: a changelog ends before what this worker's state folder")
            assert "Traceback" not in worker.log
        producer = Producer({"bootstrap.servers": servers})
        for r in kept:
            producer.produce(CHANGELOG, r.value, r.key, r.partition)
        assert producer.flush(10) == 0
        with Worker(tmp_path, servers, command=world.LIGHT) as worker:
            assert worker.process.wait(30) == 78
            assert f"of {making.TOPICS.features} ends at " in worker.log.splitlines()[-1]
            assert "Traceback" not in worker.log
        assert judging.read_all(servers, making.TOPICS.predictions) == []
