"""How a refused record goes to the rejected topic. Core."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from streams.wire import CONTENT_TYPE, Rejected

if TYPE_CHECKING:
    from streams.wire import PartitionRecords, Record

MOST_BYTES = 900_000
"""Larger values are left out: the topic takes records of 1 MB, as Kafka does unless told otherwise."""
MOST_DETAIL = 2_000
"""Characters of the detail at most: it may quote what the record says, which may be long."""


def rejection_headers(r: Rejected) -> list[tuple[str, bytes]]:
    """Kafka Connect's error headers, which existing tools read, and the value's content type where it is not JSON."""
    pairs = {
        "topic": r.topic,
        "partition": str(r.partition),
        "offset": str(r.offset),
        "stage": "VALUE_CONVERTER" if r.reason == "undecodable" else "TRANSFORMATION",
        "exception.class.name": r.reason,
        "exception.message": r.detail,
    }
    headers = [(f"__connect.errors.{name}", value.encode(errors="backslashreplace")) for name, value in pairs.items()]
    return headers if r.content_type is None else [*headers, (CONTENT_TYPE, r.content_type)]


def reject(part: PartitionRecords, r: Record, reason: str, detail: str) -> Rejected:
    """This record as rejected, its value only if the rejected topic can take it."""
    return fit(Rejected(part.topic, part.partition, r.offset, r.key, r.value, reason, detail))


def fit(r: Rejected) -> Rejected:
    """The rejected record as its topic can take it: what is too large is left out, and the detail says so."""
    detail = r.detail if len(r.detail) <= MOST_DETAIL else f"{r.detail[:MOST_DETAIL]}…"
    kept = {"key": r.key, "value": r.value}
    for name in sorted(kept, key=lambda n: -len(kept[n] or b"")):  # the largest goes first
        if sum(len(x) for x in kept.values() if x is not None) > MOST_BYTES:
            detail = f"{detail} ({name} of {len(kept[name] or b'')} bytes left out; it stands in {r.topic} at this offset)"
            kept[name] = None
    return replace(r, detail=detail, key=kept["key"], value=kept["value"])
