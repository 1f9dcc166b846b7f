"""Kafka records as text a person reads: JSON as it is, Arrow streams row by row, rejected records with their reason. Core."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CONTENT_TYPE = "content-type"
ARROW = b"application/vnd.apache.arrow.stream"
_REASON_PREFIX = "__connect.errors."


def record_lines(value: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> list[str]:
    """Lines of one record: a JSON object each, except for what is no JSON.

    >>> record_lines(b'{"symbol": "GOOG"}', [])
    ['{"symbol":"GOOG"}']
    >>> record_lines(None, [])
    ['(deleted)']
    >>> record_lines(b"no", [("__connect.errors.exception.message", b"undecodable")])
    ['{"exception.message":"undecodable","value":"no"}']
    >>> record_lines(b"no", [("__connect.errors.exception.message", b"cut short"), ("content-type", ARROW)])
    ['{"exception.message":"cut short","value":"(frame of 2 bytes)"}']
    """
    by_name = {name: b"" if data is None else data for name, data in headers}
    reasons = {k.removeprefix(_REASON_PREFIX): _text(v) for k, v in by_name.items() if k.startswith(_REASON_PREFIX)}
    if reasons:
        framed = by_name.get(CONTENT_TYPE) == ARROW
        return [
            _json({**reasons, "value": None if value is None else f"(frame of {len(value)} bytes)" if framed else _text(value)})
        ]
    if value is None:
        return ["(deleted)"]
    if by_name.get(CONTENT_TYPE) == ARROW:
        return _arrow_lines(value)
    try:
        return [msgspec.json.format(value, indent=-1).decode()]
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return [_text(value)]


def _arrow_lines(value: bytes) -> list[str]:
    import pyarrow as pa

    try:
        table = pa.ipc.open_stream(value).read_all()
    except (pa.ArrowException, OSError) as e:
        return [f"(not an Arrow stream: {e})"]
    metadata = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    columns = json.loads(metadata["columns"]) if "columns" in metadata else None
    return [_json(_named(row, columns)) for row in table.to_pylist()]


def _named(row: dict[str, Any], columns: list[str] | None) -> dict[str, Any]:
    vector = row.get("vector")
    if columns is None or vector is None:
        return row
    return {**row, "vector": dict(zip(columns, vector, strict=False))}


def _json(row: Mapping[str, Any]) -> str:
    return msgspec.json.encode(row).decode()  # NaN as null


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
