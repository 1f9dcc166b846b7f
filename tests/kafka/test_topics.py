"""`trading-ml topics` on a real cluster: what the docs say about each topic is what the broker says."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType  # type: ignore[attr-defined]  # re-exported

from streams.clients import MAX_RECORD_BYTES
from streams.topics import all_topics
from tests.chaos.names import Names
from tests.chaos.workers import environment

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kafka.cluster import KafkaCluster

pytestmark = [pytest.mark.broker, pytest.mark.timeout(400)]  # the first test here may fetch Kafka

COMPACTED = {"alerts", "model-timeline", "inference-windows-changelog", "monitor-panes-changelog"}
LARGE = {"inference-log", "inference-windows-changelog", "monitor-panes-changelog"}


def run(names: Names, folder: Path, *words: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "streams.cli", "topics", *words],
        cwd=folder,
        env=environment(names.settings()),
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout.splitlines()


def test_create_makes_every_topic_as_documented_and_can_be_repeated(kafka_cluster: KafkaCluster, tmp_path: Path) -> None:
    names = Names(kafka_cluster.bootstrap_servers, "made")
    plans = [p.name for p in all_topics(names.kafka)]
    assert run(names, tmp_path, "create") == [f"{'created':<8}{name}" for name in plans]
    assert run(names, tmp_path, "create") == [f"{'exists':<8}{name}" for name in plans]
    assert len([line for line in run(names, tmp_path, "list") if "  4  ok" in line]) == len(plans)
    client = AdminClient({"bootstrap.servers": names.servers})
    answers = client.describe_configs([ConfigResource(ResourceType.TOPIC, name) for name in plans])
    for resource, answer in answers.items():
        said = {name: entry.value for name, entry in answer.result(30).items()}
        short = resource.name.removeprefix("made.").removeprefix("made-")
        assert said["cleanup.policy"] == ("compact" if short in COMPACTED else "delete"), resource.name
        own = {name for name, entry in answer.result().items() if entry.source == 1}  # of the topic itself
        kept = {"min.compaction.lag.ms"} if short in {"inference-windows-changelog", "alerts"} else set()
        large = {"max.message.bytes"} if short in LARGE else set()
        assert own == ({"cleanup.policy"} if short in COMPACTED else set()) | large | kept
        if short in LARGE:
            assert said["max.message.bytes"] == str(MAX_RECORD_BYTES)
