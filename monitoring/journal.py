"""What one source partition brought for the join, kept as a journal of segments: state that is written once, not over and over.

Core. Predictions wait for outcomes for weeks, so their state is large and changes a little every second. Packing all of it
at every checkpoint would cost what is held, not what came. So the rows themselves are kept as they came; what has been
joined from them follows (`monitoring.labels` joins them again at a restart, and joining twice changes nothing).

    slot 0   slot 1   slot 2        sealed segments are never written again
    [seq 4]  [seq 5]  [seq 6 ...    the open one is, at each checkpoint in which it grew, until it has SEGMENT_ROWS

A segment whose last deadline has passed gives its slot to a later one, so the number of slots is that of the segments alive.
Each segment says up to which source offsets the journal was complete when it was written: rows at or below are not
taken again. Should a crash leave only the first few of a checkpoint's segments, these marks are still right.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from monitoring.errors import StateError
from monitoring.journal_layout import ROW_BYTES, Block, Marks, Segment, grouped, pack, unpack
from monitoring.label_rows import NEVER

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from monitoring.symbols import Symbols

SEGMENT_ROWS = 2048
"""Rows of a segment."""

SEGMENT_BYTES = 256 * 1024
"""No packed segment is larger: where names are long it has fewer rows. Kafka takes 1 MB as one record unless told otherwise."""

_NAME_BYTES = 5
"""The most that MessagePack adds to a name."""


class Journal:
    """The journal of one source partition. One owner, one thread."""

    def __init__(self, symbols: Symbols, *, keep_us: int, most_rows: int) -> None:
        """`keep_us`: how long after it is due a row is kept; `most_rows`: rows kept, beyond which the oldest segments go."""
        self.symbols = symbols
        """Whose codes the rows have; to be changed only after `seal`."""
        self.keep_us = keep_us
        self.most_rows = most_rows
        self.marks: Marks = {}
        self.now_us = -1
        self.until_us = NEVER
        """Its owner's time, and the time before which all was given up: kept beside the rows."""
        self.dropped_rows = 0
        self._open = _empty(0)
        self._open_rows = 0
        self._slot = 0
        self._last_us = 0
        self._sealed: deque[tuple[int, int, int]] = deque()  # slot, rows, when its last row is due
        self._sealed_rows = 0
        self._free: list[int] = []
        self._written: list[tuple[int, bytes]] = []
        self._dirty = False

    def __len__(self) -> int:
        return self._open_rows + self._sealed_rows

    def append(self, block: Block) -> None:
        """Add rows. Their arrays must not be written to any more."""
        most = max(1, min(SEGMENT_ROWS, SEGMENT_BYTES // (ROW_BYTES + _NAME_BYTES + self.symbols.longest)))
        many, start = block.rows.many, 0
        while start < many:
            if self._open_rows >= most:
                self.seal()
            stop = min(many, start + most - self._open_rows)
            piece = block if stop - start == many else block._replace(rows=block.rows.cut(start, stop))
            self._open.blocks.append(piece)
            self._open_rows += stop - start
            self._last_us = max(self._last_us, _due_us(piece))
            self._dirty, start = True, stop

    def mark(self, source: str, offset: int) -> None:
        """All rows of this source up to this offset are in."""
        self.marks[source] = offset

    def forget(self, now_us: int) -> None:
        """Free the slots of the oldest segments: those past their last deadline, and more while there are too many rows."""
        while self._sealed and (len(self) > self.most_rows or self._sealed[0][2] + self.keep_us < now_us):
            slot, rows, last_us = self._sealed.popleft()
            self._free.append(slot)
            self._sealed_rows -= rows
            if last_us + self.keep_us >= now_us:
                self.dropped_rows += rows

    def take_dirty(self) -> list[tuple[int, bytes]]:
        """(slot, bytes) of segments changed since the last call, oldest first."""
        if self._dirty:
            self._written.append((self._slot, self._pack_open()))
        taken, self._written, self._dirty = self._written, [], False
        return taken

    def seal(self) -> None:
        """Add no more to the open segment."""
        if not self._open_rows:
            return
        if self._dirty:
            self._written.append((self._slot, self._pack_open()))
        self._sealed.append((self._slot, self._open_rows, self._last_us))
        self._sealed_rows += self._open_rows
        self._free.sort(reverse=True)
        # No slot is below another's number by chance: a free one, else the next that never was used.
        self._slot = self._free.pop() if self._free else len(self._sealed)
        self._open, self._open_rows = _empty(self._open.seq + 1), 0
        self._last_us, self._dirty = 0, False

    def _pack_open(self) -> bytes:
        self._open.blocks = grouped(self._open.blocks)  # so that the next checkpoint has few of them again
        self._open.marks, self._open.now_us, self._open.until_us = self.marks, self.now_us, self.until_us
        return pack(self._open, self.symbols.names())

    @classmethod
    def restore(
        cls, entries: Iterable[tuple[int, bytes]], symbols: Symbols, *, keep_us: int, most_rows: int
    ) -> tuple[Journal, list[Block], list[StateError]]:
        """The journal written as these (slot, bytes), its rows in the order they came, and what could not be read."""
        self = cls(symbols, keep_us=keep_us, most_rows=most_rows)
        found: list[tuple[Segment, int]] = []
        faults: list[StateError] = []
        for slot, data in entries:
            try:
                found.append((unpack(data, symbols), slot))
            except StateError as e:
                faults.append(e)
                self._free.append(slot)
        found.sort(key=lambda f: f[0].seq)
        blocks = [b for segment, _ in found for b in segment.blocks]
        if found:
            *before, (last, slot) = found
            self._sealed.extend((s, len(segment), _last_us(segment.blocks)) for segment, s in before)
            self._sealed_rows = sum(rows for _, rows, _ in self._sealed)
            self._open, self._open_rows, self._slot = last, len(last), slot
            self._last_us = _last_us(last.blocks)
            self.marks = dict(last.marks)
            self.now_us = max(segment.now_us for segment, _ in found)
            self.until_us = max(segment.until_us for segment, _ in found)
        used = {self._slot, *(s for s, _, _ in self._sealed)}
        self._free = [slot for slot in range(max((*used, *self._free)) + 1) if slot not in used]
        return self, blocks, faults


def _empty(seq: int) -> Segment:
    return Segment(seq, {}, -1, NEVER, [])


def _due_us(block: Block) -> int:
    return int(block.rows.integers[0].max(initial=0)) + block.horizon_us


def _last_us(blocks: Sequence[Block]) -> int:
    return max(map(_due_us, blocks), default=0)
