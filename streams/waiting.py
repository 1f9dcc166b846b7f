"""Trigger rows that wait for another feature set, and the stream time that ends their wait. Core: no clock, no I/O.

A spec with a `deadline_us` lets a trigger row wait when a required column of another set has no value at its decision
time. What ends the wait is decided by rows and offsets alone:

| at the offset of                                       | decision time              | sees                       |
|--------------------------------------------------------|----------------------------|----------------------------|
| the first row of the symbol that makes all required    | the later of the trigger's | rows up to that offset     |
| columns of other sets present                          | and that row's known time  |                            |
| the first row of the partition, of whatever symbol,    | trigger's known time       | rows up to that offset     |
| with stream time at or past the deadline               | + deadline_us              |                            |

Stream time of a partition at an offset: the greatest known time of its rows up to there. Either way the trigger row
yields its one record then, complete or not. Of a symbol so many rows wait at most (`deadlines.MOST_WAITING`); a row that comes
while they do is decided where it stands, at its own known time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streams.errors import StateLayoutError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from streams.records import FeatureBatch

NEVER = -1
"""Stream time before any row."""
_KEPT = 16
_KEPT_JOINED = 64
"""More than a worker writes, so that those written and never committed do not push out the one that was."""


class Waiting(NamedTuple):
    """A trigger row that waits; identity and decision time of the row, and where it stands."""

    model: str
    ts_event_us: int
    revision: int
    ts_known_us: int
    offset: int


class Ticks(NamedTuple):
    """A partition's stream time at each of its rows in a piece of a chunk: both int64 (rows,), both ascending."""

    offset: NDArray[np.int64]
    time_us: NDArray[np.int64]

    def reaches(self, deadline_us: int, *, from_offset: int) -> int | None:
        """Offset of the first row, at or after `from_offset`, at which stream time is at or past the deadline."""
        at = max(int(np.searchsorted(self.time_us, deadline_us)), int(np.searchsorted(self.offset, from_offset)))
        return int(self.offset[at]) if at < len(self.offset) else None


class StreamTime:
    """Stream time by partition, and what it was at the last few checkpoints.

    After a crash reading goes on from a committed offset, which may lie behind the last time written: the time to go
    on from is the one written for that offset, not the newest.
    """

    def __init__(self) -> None:
        self._now: dict[int, int] = {}
        self._end: dict[int, int] = {}
        self._written: dict[int, list[tuple[int, int]]] = {}
        self._dirty: set[int] = set()

    def __contains__(self, partition: int) -> bool:
        return partition in self._now

    def start(self, partition: int, first_offset: int, packed: bytes | None) -> None:
        """Begin a partition at an offset with what its table holds."""
        pairs = [] if packed is None else _unpack(packed)
        reached = [(end, time_us) for end, time_us in pairs if end <= first_offset]
        self._written[partition] = reached
        self._now[partition] = reached[-1][1] if reached else NEVER
        self._end[partition] = first_offset

    def advance(self, batches: Sequence[FeatureBatch]) -> dict[int, Ticks]:
        """Take a piece's rows in; the stream time at each, by partition."""
        if not batches:
            return {}
        partition = np.concatenate([b.partition for b in batches])
        offset = np.concatenate([b.offset for b in batches])
        known = np.concatenate([b.ts_known_us for b in batches])
        order = np.lexsort((offset, partition))
        partition, offset, known = partition[order], offset[order], known[order]
        edges = np.flatnonzero(np.diff(partition, prepend=-1, append=-1))
        ticks = {}
        for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            p = int(partition[start])
            times = np.maximum.accumulate(np.maximum(known[start:stop], self._now.get(p, NEVER)))
            ticks[p] = Ticks(offset[start:stop], times)
            self._now[p] = int(times[-1])
        return ticks

    def read_up_to(self, partition: int, end: int) -> None:
        """A chunk's records of the partition are taken in, up to but not including this offset."""
        self._end[partition] = end
        self._dirty.add(partition)

    def take_dirty(self) -> list[tuple[int, bytes]]:
        """(partition, table value) of those that moved since the last call."""
        out = []
        for p in sorted(self._dirty):
            pairs = [*self._written[p], (self._end[p], self._now[p])][-_KEPT:]
            self._written[p] = pairs
            out.append((p, _pack(pairs)))
        self._dirty.clear()
        return out

    def now(self, partition: int) -> int:
        """Where a partition has come to."""
        return self._now.get(partition, NEVER)

    def greatest(self) -> int:
        """The greatest of all partitions held."""
        return max(self._now.values(), default=NEVER)

    def drop(self, partition: int) -> None:
        """Forget a partition."""
        self._now.pop(partition, None)
        self._end.pop(partition, None)
        self._written.pop(partition, None)
        self._dirty.discard(partition)


def joined_times(held: bytes, came: bytes) -> bytes:
    """Two table values of a partition's stream time as one: what each says it was at an offset is true.

    The greater of the two would not do. A worker starts again at the committed offset, so the one that holds the time there
    may be either. The second alone where one cannot be read.
    """
    try:
        before, after = dict(_unpack(held)), dict(_unpack(came))
    except StateLayoutError:
        return came
    if not before or max(before) in after:  # it goes on from the one held, as one writer's do: what it left out is too old
        return came
    return _pack(sorted((before | after).items())[-_KEPT_JOINED:])


def ends_of(packed: bytes) -> list[int]:
    """The offsets up to which the partition was read, ascending, that a table value of its stream time knows."""
    return [end for end, _ in _unpack(packed)]


def _pack(pairs: Iterable[tuple[int, int]]) -> bytes:
    return b"\x01" + np.array(list(pairs), dtype="<i8").tobytes()


def _unpack(data: bytes) -> list[tuple[int, int]]:
    if data[:1] != b"\x01" or len(data) % 16 != 1:
        raise StateLayoutError(
            f"stream time of {len(data)} bytes has layout {data[:1].hex() or 'none'}, this release reads 01: run the release "
            "that wrote it, or delete the state folder and the windows changelog"
        )
    return [(int(end), int(time_us)) for end, time_us in np.frombuffer(data, "<i8", offset=1).reshape(-1, 2)]
