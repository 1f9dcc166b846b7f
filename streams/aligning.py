"""The log's rows of all partitions in the order of event time, though partitions are read unevenly. Core.

A monitor that starts, or was away, reads what waits, and one partition may be hours ahead of another. A window spans all
partitions and time is the greatest event time seen, so rows that are ahead wait until the partitions behind have come up:

| newest pane of the partition furthest behind | it has more to read | rows of another partition          |
|----------------------------------------------|---------------------|------------------------------------|
| 5                                            | yes                 | up to pane 5 + grace are counted   |
| 5                                            | no                  | all are counted: nothing comes     |
| none yet                                     | yes                 | all wait                           |

So a window closes only once all rows of it were read that are there. What waits is not committed, and comes again after a
crash. At most `most_rows` wait, and none longer than `patience_s`: a partition that is behind and brings nothing is then not
waited for until it does.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from streams.logrows import LogRows

MOST_ROWS = 200_000
"""With 80 columns 130 MB of vectors."""
PATIENCE_S = 10.0
AT_ONCE_ROWS = 2_048
"""With 80 columns 1.3 MB: much more does not stay in the processor's cache."""
NEVER: Final = -(2**62)
"""A pane before all."""


class Finished(Protocol):
    """What is told once all rows of a chunk were counted; a chunk."""

    def finish(self) -> None:
        """All it led to is in the state."""
        ...


@dataclass(slots=True)
class _Held:
    """A chunk of which so many pieces wait."""

    chunk: Finished
    left: int = 0


class _Piece(NamedTuple):
    """Rows of one record whose greatest event time so far lies in this pane."""

    pane: int
    partition: int
    rows: LogRows
    held: _Held
    since_s: float


class Aligned:
    """The rows that wait, by partition. One owner, one thread."""

    def __init__(self, *, pane_us: int, grace_panes: int, most_rows: int = MOST_ROWS, patience_s: float = PATIENCE_S) -> None:
        """`pane_us`, `grace_panes`: those of the windows; `most_rows`: that wait at most; `patience_s`: the longest wait."""
        self._pane_us = pane_us
        self._grace = grace_panes
        self._most_rows = most_rows
        self._patience_s = patience_s
        self._queues: dict[int, deque[_Piece]] = {}
        self._newest: dict[int, int] = {}
        self._given_up: set[int] = set()
        self._taken: list[_Held] = []
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def add(self, records: Iterable[LogRows], chunk: Finished, *, now_s: float) -> bool:
        """Queue a chunk's records; whether there were any. If so, the chunk is finished by `settle`, by whichever."""
        held = _Held(chunk)
        for record in records:
            partition = record.partition
            queue = self._queues.setdefault(partition, deque())
            self._given_up.discard(partition)
            for pane, rows in self._pieces(record):
                queue.append(_Piece(pane, partition, rows, held, now_s))
                held.left += 1
                self._newest[partition] = pane
            self._rows += len(record)
        return held.left > 0

    def take(self, behind: Collection[int], *, now_s: float) -> list[LogRows]:
        """Rows that need not wait any more, in the order of their panes, each partition's in its own order.

        `behind`: partitions that have more to read. Call `settle` once the rows are counted.
        """
        awaited = [p for p in behind if p not in self._given_up]
        oldest_s = min((queue[0].since_s for queue in self._queues.values() if queue), default=now_s)
        if awaited and oldest_s + self._patience_s <= now_s:
            first = min(queue[0].pane for queue in self._queues.values() if queue)
            self._given_up.update(p for p in awaited if self._newest.get(p, first - self._grace - 1) + self._grace < first)
            awaited = [p for p in awaited if p not in self._given_up]
        newest = [self._newest.get(p) for p in awaited]
        limit = None if not newest else NEVER if None in newest else min(n for n in newest if n is not None) + self._grace
        return [piece.rows for piece in self._up_to(limit)]

    def settle(self) -> None:
        """What was taken is counted: finish the chunks of which nothing waits any more."""
        taken, self._taken = self._taken, []
        for held in taken:
            held.left -= 1
            if held.left == 0:
                held.chunk.finish()

    def clear(self) -> None:
        """Let go of everything: its partitions are somebody else's."""
        self._queues.clear()
        self._newest.clear()
        self._given_up.clear()
        self._taken.clear()
        self._rows = 0

    def _up_to(self, limit: int | None) -> Iterator[_Piece]:
        """The pieces up to this pane, and more while too many rows wait; the lowest pane first, then the lowest partition."""
        heads = [(queue[0].pane, partition) for partition, queue in self._queues.items() if queue]
        heapq.heapify(heads)
        while heads and (limit is None or heads[0][0] <= limit or self._rows > self._most_rows):
            _, partition = heads[0]
            queue = self._queues[partition]
            piece = queue.popleft()
            self._rows -= len(piece.rows)
            self._taken.append(piece.held)
            if queue:
                heapq.heapreplace(heads, (queue[0].pane, partition))
            else:
                heapq.heappop(heads)
            yield piece

    def _pieces(self, record: LogRows) -> Iterator[tuple[int, LogRows]]:
        """The record cut where the greatest pane so far rises."""
        pane = (record.ts_event_us - 1) // self._pane_us
        known = self._newest.get(record.partition)
        pane = np.maximum.accumulate(pane if known is None else np.maximum(pane, known))
        cuts = [0, *(np.flatnonzero(np.diff(pane)) + 1).tolist(), len(pane)]
        for a, b in itertools.pairwise(cuts):
            yield int(pane[a]), record if b - a == len(pane) else record.cut(a, b)


def together(rows: Iterable[LogRows]) -> Iterator[list[LogRows]]:
    """Neighbours as one list, up to `AT_ONCE_ROWS` rows or a record more: counting a list costs little more than counting one."""
    some: list[LogRows] = []
    many = 0
    for r in rows:
        some.append(r)
        many += len(r)
        if many >= AT_ONCE_ROWS:
            yield some
            some, many = [], 0
    if some:
        yield some
