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
_MOST_SHOWN = 32_000_000
_NOT_SHOWN = (ValueError, TypeError, KeyError, ArithmeticError, OSError, RecursionError, NotImplementedError, MemoryError)


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
    return [_printable(line) for line in _lines(value, headers)]


def _lines(value: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> list[str]:
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
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return [_text(value)]


def _arrow_lines(value: bytes) -> list[str]:
    import pyarrow as pa

    from streams.arrowstream import check_stream
    from streams.wire import MAX_FRAME_ROWS

    try:
        check_stream(value, max_rows=MAX_FRAME_ROWS)
        table = pa.ipc.open_stream(value).read_all()
        table.validate(full=True)
        columns = json.loads((table.schema.metadata or {}).get(b"columns", b"null"))
        return _row_lines(table, columns)
    except _NOT_SHOWN as e:
        return [f"(not an Arrow stream that can be shown: {e})"]


def _row_lines(table: Any, columns: Any) -> list[str]:
    """A line for each row, as long as they are not absurdly many bytes: a short stream may say a long word in every row."""
    lines: list[str] = []
    left = _MOST_SHOWN
    for batch in table.to_batches(max_chunksize=20):
        if left <= 0:
            return [*lines, f"({table.num_rows - len(lines)} more rows)"]
        more = [_json(_named(row, columns)) for row in batch.to_pylist()]
        left -= sum(map(len, more))
        lines += more
    return lines


def _named(row: dict[str, Any], columns: Any) -> dict[str, Any]:
    vector = row.get("vector")
    if not isinstance(columns, list) or not isinstance(vector, list):
        return row
    return {**row, "vector": dict(zip(map(str, columns), vector, strict=False))}


def _json(row: Mapping[str, Any]) -> str:
    return msgspec.json.encode(row).decode()  # NaN as null


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def _printable(line: str) -> str:
    """The line with what is not printable escaped as JSON does: a terminal must not take a record's text for anything else."""
    return line if line.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)
