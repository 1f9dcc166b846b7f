"""How a refused record goes to the rejected topic. Core."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from streams.wire import CONTENT_TYPE, Rejected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.wire import PartitionRecords, Record

_ERRORS = "__connect.errors."
MOST_BYTES = 900_000
"""Larger values are left out: the topic takes records of 1 MB, as Kafka does unless told otherwise."""
MOST_HEADER_BYTES = 16_000
"""Headers of a record's own stay with it up to here, all or none."""
_MOST_SHARED_BYTES = 1_000_000
_HEADER_BYTES = 8  # of a header, name and data apart
MOST_DETAIL = 2_000
"""Characters of the detail at most: it may quote what the record says, which may be long."""


def rejection_headers(r: Rejected) -> list[tuple[str, bytes]]:
    """Kafka Connect's error headers, which existing tools read, the value's content type where it is not JSON, and its own."""
    pairs = {
        "topic": r.topic,
        "partition": str(r.partition),
        "offset": str(r.offset),
        "stage": "VALUE_CONVERTER" if r.reason == "undecodable" else "TRANSFORMATION",
        "exception.class.name": r.reason,
        "exception.message": r.detail,
    }
    headers = [(f"{_ERRORS}{name}", value.encode(errors="backslashreplace")) for name, value in pairs.items()]
    if r.content_type is not None:
        headers.append((CONTENT_TYPE, r.content_type))
    return headers + [(name, data) for name, data in r.headers if name != CONTENT_TYPE and not name.startswith(_ERRORS)]


def reject(part: PartitionRecords, r: Record, reason: str, detail: str) -> Rejected:
    """This record as rejected, its value only if the rejected topic can take it."""
    return fit(Rejected(part.topic, part.partition, r.offset, r.key, r.value, reason, detail, headers=own_headers(r)))


def with_headers(rejected: Sequence[Rejected], parts: Sequence[PartitionRecords]) -> list[Rejected]:
    """These records, rejected from `parts`, with the headers they came with; rows of a frame only if that is not much."""
    by_partition = {p.partition: p.records for p in parts}
    rows = Counter((r.partition, r.offset) for r in rejected)
    own = {}
    for (partition, offset), number in rows.items():
        records = by_partition[partition]
        headers = own_headers(records[bisect_left(records, offset, key=lambda x: x.offset)])
        left_out = number > 1 and number * _size(headers) > _MOST_SHARED_BYTES
        own[partition, offset] = ((), _left_out(headers)) if left_out else (headers, "")
    out = []
    for r in rejected:
        headers, note = own[r.partition, r.offset]
        out.append(replace(r, headers=headers, detail=r.detail + note) if headers or note else r)
    return out


def own_headers(r: Record) -> tuple[tuple[str, bytes], ...]:
    """What a record's producer told of it beside key and value, under names that can be sent on."""
    return tuple((_sendable(name), bytes(data or b"")) for name, data in r.headers)


def _sendable(name: str) -> str:
    """The name as it is, but what the producing client cannot take escaped: it ends a name at a NUL, and dies of a surrogate."""
    return name if name.isascii() and "\0" not in name else name.replace("\0", "\\x00").encode(errors="backslashreplace").decode()


def fit(r: Rejected) -> Rejected:
    """The rejected record as its topic can take it: what is too large is left out, and the detail says so."""
    detail = r.detail if len(r.detail) <= MOST_DETAIL else f"{r.detail[:MOST_DETAIL]}…"
    kept = {"key": r.key, "value": r.value}
    for name in sorted(kept, key=lambda n: -len(kept[n] or b"")):  # the largest goes first
        if sum(len(x) for x in kept.values() if x is not None) > MOST_BYTES:
            detail = f"{detail} ({name} of {len(kept[name] or b'')} bytes left out; it stands in {r.topic} at this offset)"
            kept[name] = None
    headers = r.headers
    if _size(headers) > MOST_HEADER_BYTES:
        detail, headers = detail + _left_out(headers), ()
    return replace(r, detail=detail, key=kept["key"], value=kept["value"], headers=headers)


def _size(headers: tuple[tuple[str, bytes], ...]) -> int:
    return sum(len(name.encode(errors="replace")) + len(data) + _HEADER_BYTES for name, data in headers)


def _left_out(headers: tuple[tuple[str, bytes], ...]) -> str:
    return f" ({len(headers)} headers left out, they are too large)"
