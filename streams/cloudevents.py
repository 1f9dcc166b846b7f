"""Records of the monitor as CloudEvents 1.0 in binary mode: the headers that name them, and their sending. Shell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from monitoring.record import encode
from streams.partitioner import partition_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from config.sections import Kafka
    from streams.outbox import Headers, Outbox

PERFORMANCE: Final = "trading-ml.performance"
RETRAIN_REQUEST: Final = "trading-ml.retrain-request"


def event_headers(kind: str, event_id: str, *, group: str) -> Headers:
    """The headers of a JSON record. `kind`: its CloudEvents type; `event_id`: the same for a record that is repeated.

    >>> dict(event_headers(PERFORMANCE, "m:3:champion:0:60:0", group="trading-ml-monitor"))["ce_source"]
    b'/trading-ml-monitor'
    """
    return [
        ("content-type", b"application/json"),
        ("ce_specversion", b"1.0"),
        ("ce_id", event_id.encode()),
        ("ce_type", kind.encode()),
        ("ce_source", f"/{group}".encode()),
    ]


def send_performance(outbox: Outbox, kafka: Kafka, record: Mapping[str, Any]) -> None:
    """Hand a performance record over to the topic `performance`."""
    _send(outbox, kafka, record, PERFORMANCE, record["performance_id"])


def send_retrain_request(outbox: Outbox, kafka: Kafka, request: Mapping[str, Any]) -> None:
    """Hand a retrain request over to the topic `performance`."""
    _send(outbox, kafka, request, RETRAIN_REQUEST, request["request_id"])


def _send(outbox: Outbox, kafka: Kafka, record: Mapping[str, Any], kind: str, event_id: str) -> None:
    key = record["model"].encode()
    outbox.send(
        kafka.topics.performance,
        partition=partition_of(key, kafka.partitions),
        key=key,
        value=encode(record),
        headers=event_headers(kind, event_id, group=kafka.monitor_group),
    )
