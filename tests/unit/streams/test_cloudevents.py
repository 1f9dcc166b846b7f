"""Performance records and retrain requests on their way to Kafka: key, partition, headers, bytes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator

from config import load_settings
from streams import schemas
from streams.cloudevents import send_performance, send_retrain_request
from streams.partitioner import partition_of
from tests.unit.monitoring import a_record

if TYPE_CHECKING:
    from collections.abc import Sequence

KAFKA = load_settings(env={}).kafka


class Sent:
    """Stands in for the outbox."""

    def __init__(self) -> None:
        self.records: list[tuple[str, int, bytes, bytes, dict[str, str]]] = []

    def send(self, topic: str, *, partition: int, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]]) -> None:
        self.records.append((topic, partition, key, value, {name: data.decode() for name, data in headers}))


def test_both_are_events_of_the_model_with_an_id_that_a_repeat_repeats() -> None:
    sent: Any = Sent()
    record, request = a_record.window(), a_record.request()
    send_performance(sent, KAFKA, record)
    send_retrain_request(sent, KAFKA, request)
    send_retrain_request(sent, KAFKA, request)
    first, second, again = sent.records
    assert second == again
    key = b"goog_ret_5d"
    for topic, partition, used, _, _ in (first, second):
        assert (topic, partition, used) == ("trading.performance", partition_of(key, KAFKA.partitions), key)
    for (*_, value, headers), name, message in (
        (first, "performance", "performance"),
        (second, "retrain_request", "retrainRequest"),
    ):
        Draft202012Validator(schemas.load(name)).validate(json.loads(value))
        described = schemas.load("asyncapi")["components"]["messages"][message]["headers"]
        Draft202012Validator(described).validate(headers)
        assert list(described["properties"]) == list(headers)
    assert first[4]["ce_id"] == record["performance_id"]
    assert second[4]["ce_id"] == request["request_id"]
