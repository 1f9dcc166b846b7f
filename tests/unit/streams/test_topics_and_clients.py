"""Topic plans and client configuration follow the settings."""

from __future__ import annotations

import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException

from config.sections import Kafka, Topics
from config.security import Security
from streams.clients import MAX_QUEUE_BYTES, MAX_RECORD_BYTES, kafka_client_config, producer_config
from streams.topics import all_topics, create_topics
from tests.kafka.certificates import Authority

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def _kafka(**changes: object) -> Kafka:
    return Kafka.model_validate({"bootstrap_servers": "kafka:9092", **changes})


def test_every_topic_of_the_settings_is_planned_with_the_same_partition_count() -> None:
    plans = all_topics(_kafka(partitions=6))
    assert {p.partitions for p in plans} == {6}
    assert {name for _, name in Topics()} < {p.name for p in plans}


def test_changelogs_are_named_as_faust_names_them_and_compacted() -> None:
    plans = {p.name: p.config for p in all_topics(_kafka(inference_group="a", monitor_group="b"))}
    assert plans["trading.model-timeline"] == {"cleanup.policy": "compact"}
    told_for = {"min.compaction.lag.ms": "172800000"}  # longer than a receiver that is away is waited for
    assert plans["trading.alerts"] == {"cleanup.policy": "compact"} | told_for
    large = {"cleanup.policy": "compact", "max.message.bytes": str(MAX_RECORD_BYTES)}  # a wide symbol's windows need it
    assert plans["b-panes-changelog"] == large
    assert plans["a-windows-changelog"] == large | {"min.compaction.lag.ms": "3600000"}  # until a late record is repaired
    assert "cleanup.policy" not in plans["trading.features"]


def test_plain_kafka_needs_no_credentials() -> None:
    config = kafka_client_config(_kafka())
    assert config["bootstrap.servers"] == "kafka:9092"
    assert config["security.protocol"] == "PLAINTEXT"
    assert not [name for name in config if name.startswith(("sasl.", "ssl."))]


def test_login_and_certificates_reach_librdkafka_under_its_names(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    own = authority.issue("own", password="k3y")  # noqa: S106 - of a file that lives as long as the test
    security = Security.model_validate(
        {
            "protocol": "SASL_SSL",
            "mechanism": "SCRAM-SHA-512",
            "username": "trader",
            "password": "s3cret",
            "ca_file": authority.file,
            "certificate_file": own.certificate,
            "key_file": own.key,
            "key_password": "k3y",
        }
    )
    config = kafka_client_config(_kafka(security=security))
    assert config["sasl.mechanism"] == "SCRAM-SHA-512"
    assert (config["sasl.username"], config["sasl.password"]) == ("trader", "s3cret")
    assert config["ssl.ca.location"] == str(authority.file)
    assert (config["ssl.certificate.location"], config["ssl.key.location"]) == (str(own.certificate), str(own.key))
    assert config["ssl.key.password"] == "k3y"


def test_producers_are_idempotent_acknowledged_by_all_and_use_the_shared_partitioner() -> None:
    config = producer_config(_kafka())
    assert config["partitioner"] == "murmur2_random"
    assert config["acks"] == "all"
    assert config["enable.idempotence"] is True


def test_a_producer_holds_a_bounded_number_of_bytes_and_a_record_of_any_size_fits() -> None:
    held = int(producer_config(_kafka())["queue.buffering.max.kbytes"]) * 1024
    assert held == MAX_QUEUE_BYTES
    assert held > 10 * MAX_RECORD_BYTES


class _Admin:
    """An admin client whose answers die with it, as confluent-kafka's do."""

    def __init__(self, _config: object) -> None:
        self.made: list[str] = []

    def list_topics(self, **_: float) -> SimpleNamespace:
        return SimpleNamespace(topics={})

    def create_topics(self, wanted: list[Any], **_: float) -> dict[str, SimpleNamespace]:
        alive = weakref.ref(self)

        def result() -> None:
            if alive() is None:
                raise KafkaException(KafkaError(KafkaError._DESTROY))

        return {topic.topic: SimpleNamespace(result=result) for topic in wanted}


def test_the_client_that_creates_topics_lives_until_they_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("confluent_kafka.admin.AdminClient", _Admin)
    assert set(create_topics(_kafka()).values()) == {"created"}
