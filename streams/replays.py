"""Rejected records as they are listed, and which of them go back to the topic they came from. Core.

A record that is sent again says in a header how often it was (`REPLAYS`). If it is refused once more the header comes with
it, so that a record nothing can be made of does not go round and round.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streams.wire import CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

REPLAYS = "trading-ml.replays"
"""Header: how often a record was sent again."""

_ERRORS = "__connect.errors."
_LEFT_OUT = " bytes left out; it stands in "

Header = tuple[str, bytes | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A record of the rejected topic: `topic`, `partition`, `offset` tell where the original is, `ts_ms` when it was refused."""

    ts_ms: int
    topic: str
    partition: int
    offset: int
    reason: str
    message: str
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    """The original's own."""

    @property
    def replays(self) -> int:
        """How often it had been sent again when it was refused."""
        found = dict(self.headers).get(REPLAYS)
        return int(found) if found is not None and found.isdigit() else 0

    @property
    def whole(self) -> bool:
        """Whether all the original's bytes are here: what was too large for the rejected topic was left out."""
        return _LEFT_OUT not in self.message


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which rejected records are meant; None is all. Times in milliseconds: since <= refused < until."""

    reason: str | None = None
    symbol: str | None = None
    partition: int | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    def takes(self, r: Refused) -> bool:
        """Whether it is one of them; of the symbol are records with it as their key."""
        return (
            (self.reason is None or r.reason == self.reason)
            and (self.symbol is None or r.key == self.symbol.encode())
            and (self.partition is None or r.partition == self.partition)
            and (self.since_ms is None or r.ts_ms >= self.since_ms)
            and (self.until_ms is None or r.ts_ms < self.until_ms)
        )


def refused(ts_ms: int, key: bytes | None, value: bytes | None, headers: Iterable[Header]) -> Refused | None:
    """A record of the rejected topic, read; None if its headers do not say where it came from.

    >>> source = [("__connect.errors.topic", b"f"), ("__connect.errors.partition", b"1"), ("__connect.errors.offset", b"9")]
    >>> found = refused(0, b"A", b"{", [*source, ("__connect.errors.exception.class.name", b"undecodable"), ("trace", b"7")])
    >>> found.topic, found.partition, found.offset, found.reason, found.headers
    ('f', 1, 9, 'undecodable', (('trace', b'7'),))
    """
    pairs = [(name, data) for name, data in headers]
    told = {name.removeprefix(_ERRORS): _text(data) for name, data in pairs if name.startswith(_ERRORS)}
    try:
        partition, offset = int(told["partition"]), int(told["offset"])
        topic = told["topic"]
    except (KeyError, ValueError):
        return None
    return Refused(
        ts_ms=ts_ms,
        topic=topic,
        partition=partition,
        offset=offset,
        reason=told.get("exception.class.name", ""),
        message=told.get("exception.message", ""),
        key=key,
        value=value,
        headers=tuple((name, data) for name, data in pairs if not name.startswith(_ERRORS)),
    )


@dataclass(slots=True)
class Selection:
    """What a replay sends, in the order it was refused, and how many records it leaves where they are, by why."""

    send: list[Refused]
    left: dict[str, int]


def select(records: Sequence[Refused], choice: Choice, *, topics: Collection[str], most_replays: int) -> Selection:
    """Of these records those to send again, each once however often it stands in the rejected topic.

    `topics`: what the platform reads; nothing is sent anywhere else, whatever a record says. A record that was sent again
    `most_replays` times and refused each time is left, and so are the earlier refusals of the same bytes.
    """
    replays: dict[tuple[Any, ...], int] = {}
    for r in records:
        same = _bytes(r)
        replays[same] = max(replays.get(same, 0), r.replays)
    out = Selection([], {})
    seen: set[tuple[Any, ...]] = set()
    for r in records:
        if not choice.takes(r):
            continue
        why = None
        if r.topic not in topics:
            why = "from a topic the platform does not read"
        elif not r.whole:
            why = "too large to have been kept here"
        elif replays[_bytes(r)] >= most_replays:
            why = "refused after as many replays as allowed"
        elif _bytes(r) in seen or r.replays < replays[_bytes(r)]:
            why = "the same bytes again"
        if why is None:
            seen.add(_bytes(r))
            out.send.append(r)
        else:
            out.left[why] = out.left.get(why, 0) + 1
    return out


def headers_again(r: Refused) -> list[tuple[str, str | bytes | None]]:
    """Headers to send a record with: its own, and how often it now was sent again."""
    return [*((name, data) for name, data in r.headers if name != REPLAYS), (REPLAYS, str(r.replays + 1).encode())]


def as_row(r: Refused) -> dict[str, Any]:
    """A record for programs: text where bytes are UTF-8, else `key_hex` and `value_hex`."""
    row: dict[str, Any] = {
        "rejected_ms": r.ts_ms,
        "topic": r.topic,
        "partition": r.partition,
        "offset": r.offset,
        "reason": r.reason,
        "message": r.message,
        "replays": r.replays,
        "whole": r.whole,
    }
    content_type = dict(r.headers).get(CONTENT_TYPE)
    if content_type is not None:
        row["content_type"] = _text(content_type)
    for name, data in (("key", r.key), ("value", r.value)):
        try:
            row[name] = None if data is None else data.decode()
        except UnicodeDecodeError:
            row[f"{name}_hex"] = (data or b"").hex()
    return row


def _bytes(r: Refused) -> tuple[Any, ...]:
    return r.topic, r.partition, r.key, r.value, dict(r.headers).get(CONTENT_TYPE)


def _text(data: bytes | None) -> str:
    return "" if data is None else data.decode("utf-8", "backslashreplace")
