"""How a refused record goes to the rejected topic. Core."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streams.records import PartitionRecords, Record, Rejected

MOST_BYTES = 900_000
"""Larger values are left out: the topic takes records of 1 MB, as Kafka does unless told otherwise."""


def rejection_headers(r: Rejected) -> list[tuple[str, bytes]]:
    """Kafka Connect's error headers, which existing tools read."""
    pairs = {
        "topic": r.topic,
        "partition": str(r.partition),
        "offset": str(r.offset),
        "stage": "VALUE_CONVERTER" if r.reason == "undecodable" else "TRANSFORMATION",
        "exception.class.name": r.reason,
        "exception.message": r.detail,
    }
    return [(f"__connect.errors.{name}", value.encode()) for name, value in pairs.items()]


def reject(part: PartitionRecords, r: Record, reason: str, detail: str) -> Rejected:
    """This record as rejected, its value only if the rejected topic can take it."""
    from streams.records import Rejected

    value = r.value
    if value is not None and len(value) > MOST_BYTES:
        detail = f"{detail} (value of {len(value)} bytes left out; it stands in {part.topic} at this offset)"
        value = None
    return Rejected(part.topic, part.partition, r.offset, r.key, value, reason, detail)
