"""What one source partition brought for the join, kept as a journal of segments: state that is written once, not over and over.

Core. Predictions wait for outcomes for weeks, so their state is large and changes a little every second. Packing all of it
at every checkpoint would cost what is held, not what came. So the rows themselves are kept as they came; what has been
joined from them follows (`monitoring.labels` joins them again at a restart, and joining twice changes nothing).

    slot 0   slot 1   slot 2        sealed segments are never written again
    [seq 4]  [seq 5]  [seq 6 ...    the open one is, at each checkpoint in which it grew, until it has SEGMENT_ROWS

A segment whose last deadline has passed gives its slot to a later one, so the number of slots is that of the segments alive.
Each segment says up to which source offsets the journal was complete when it was written: rows at or below are not
taken again. Should a crash leave only the first few of a checkpoint's segments, these marks are still right.

Packed: u16 layout number, then MessagePack of (seq, marks, blocks); numbers of a block as little-endian arrays.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from monitoring.errors import StateError
from monitoring.joined import Scorer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from monitoring.reference import Floats, Ints

LAYOUT = 1
"""Number of the packed layout written by this version; it stands first in the bytes."""

SEGMENT_ROWS = 1024
"""Rows of a segment: about 100 kB, a tenth of what Kafka takes as one record unless told otherwise."""


class Predictions(msgspec.Struct, array_like=True, tag="p", frozen=True):
    """Predictions of one scorer and horizon. `integers` int64[2, rows]: event time, revision; `floats` float64[4, rows]."""

    scorer: Scorer
    horizon_us: int
    prediction_ids: list[str]
    symbols: list[str]
    integers: bytes
    floats: bytes

    @classmethod
    def of(
        cls,
        scorer: Scorer,
        *,
        horizon_us: int,
        prediction_ids: list[str],
        symbols: list[str],
        ts_event_us: Ints,
        revision: Ints,
        value: Floats,
        lower: Floats,
        upper: Floats,
        p_up: Floats,
    ) -> Predictions:
        """From arrays (rows,)."""
        integers, floats = np.stack((ts_event_us, revision)), np.stack((value, lower, upper, p_up))
        return cls(scorer, horizon_us, prediction_ids, symbols, _packed(integers), _packed(floats))

    def __len__(self) -> int:
        return len(self.symbols)

    def columns(self) -> tuple[Ints, Floats]:
        """int64[2, rows] and float64[4, rows], as in `of`."""
        n = len(self.symbols)
        return np.frombuffer(self.integers, "<i8").reshape(2, n), np.frombuffer(self.floats, "<f8").reshape(4, n)

    def pieces(self, most: int) -> list[Predictions]:
        """The same rows in blocks of at most `most`."""
        if len(self) <= most:
            return [self]
        integers, floats = self.columns()
        return [
            Predictions(
                self.scorer,
                self.horizon_us,
                self.prediction_ids[a : a + most],
                self.symbols[a : a + most],
                _packed(integers[:, a : a + most]),
                _packed(floats[:, a : a + most]),
            )
            for a in range(0, len(self), most)
        ]

    def last_us(self) -> int:
        """When the last of these rows is due: event time and horizon."""
        return int(self.columns()[0][0].max(initial=0)) + self.horizon_us


class Outcomes(msgspec.Struct, array_like=True, tag="o", frozen=True):
    """Outcomes. `integers` int64[3, rows]: event time, horizon, revision; `value` float64[rows]."""

    symbols: list[str]
    integers: bytes
    value: bytes

    @classmethod
    def of(cls, *, symbols: list[str], ts_event_us: Ints, horizon_us: Ints, revision: Ints, value: Floats) -> Outcomes:
        """From arrays (rows,)."""
        return cls(symbols, _packed(np.stack((ts_event_us, horizon_us, revision))), _packed(value))

    def __len__(self) -> int:
        return len(self.symbols)

    def columns(self) -> tuple[Ints, Floats]:
        """int64[3, rows] and float64[rows], as in `of`."""
        n = len(self.symbols)
        return np.frombuffer(self.integers, "<i8").reshape(3, n), np.frombuffer(self.value, "<f8").reshape(n)

    def pieces(self, most: int) -> list[Outcomes]:
        """The same rows in blocks of at most `most`."""
        if len(self) <= most:
            return [self]
        integers, value = self.columns()
        return [
            Outcomes(self.symbols[a : a + most], _packed(integers[:, a : a + most]), _packed(value[a : a + most]))
            for a in range(0, len(self), most)
        ]

    def last_us(self) -> int:
        """When the last of these rows is due: event time and horizon."""
        integers = self.columns()[0]
        return int((integers[0] + integers[1]).max(initial=0))


Block = Predictions | Outcomes
Marks = dict[str, int]
"""Source → offset up to which its rows are in the journal."""


class _Segment(msgspec.Struct, array_like=True):
    seq: int
    marks: Marks
    blocks: list[Block]

    def __len__(self) -> int:
        return sum(len(b) for b in self.blocks)


class Journal:
    """The journal of one source partition. One owner, one thread."""

    def __init__(self, *, timeout_us: int, most_rows: int) -> None:
        """`timeout_us`: how long after it is due a row is kept; `most_rows`: rows kept, beyond which the oldest segments go."""
        self.timeout_us = timeout_us
        self.most_rows = most_rows
        self.marks: Marks = {}
        self.dropped_rows = 0
        self._open = _Segment(0, {}, [])
        self._slot = 0
        self._last_us = 0
        self._sealed: deque[tuple[int, int, int]] = deque()  # slot, rows, when its last row is due
        self._sealed_rows = 0
        self._free: list[int] = []
        self._written: list[tuple[int, bytes]] = []
        self._dirty = False

    def __len__(self) -> int:
        return len(self._open) + self._sealed_rows

    def append(self, block: Block) -> None:
        """Add rows."""
        for piece in block.pieces(SEGMENT_ROWS):
            if not len(piece):
                continue
            if self._open.blocks and len(self._open) + len(piece) > SEGMENT_ROWS:
                self._seal()
            self._open.blocks.append(piece)
            self._last_us = max(self._last_us, piece.last_us())
            self._dirty = True

    def mark(self, source: str, offset: int) -> None:
        """All rows of this source up to this offset are in."""
        self.marks[source] = offset

    def forget(self, now_us: int) -> None:
        """Free the slots of the oldest segments: those past their last deadline, and more while there are too many rows."""
        while self._sealed and (len(self) > self.most_rows or self._sealed[0][2] + self.timeout_us < now_us):
            slot, rows, last_us = self._sealed.popleft()
            self._free.append(slot)
            self._sealed_rows -= rows
            if last_us + self.timeout_us >= now_us:
                self.dropped_rows += rows

    def take_dirty(self) -> list[tuple[int, bytes]]:
        """(slot, bytes) of segments changed since the last call, oldest first."""
        if self._dirty:
            self._written.append((self._slot, self._pack_open()))
        taken, self._written, self._dirty = self._written, [], False
        return taken

    def _seal(self) -> None:
        if self._dirty:
            self._written.append((self._slot, self._pack_open()))
        self._sealed.append((self._slot, len(self._open), self._last_us))
        self._sealed_rows += len(self._open)
        self._free.sort(reverse=True)
        # No slot is below another's number by chance: a free one, else the next that never was used.
        self._slot = self._free.pop() if self._free else len(self._sealed)
        self._open = _Segment(self._open.seq + 1, {}, [])
        self._last_us = 0

    def _pack_open(self) -> bytes:
        self._open.marks = self.marks
        return LAYOUT.to_bytes(2, "little") + msgspec.msgpack.encode(self._open)

    @classmethod
    def restore(
        cls, entries: Iterable[tuple[int, bytes]], *, timeout_us: int, most_rows: int
    ) -> tuple[Journal, list[Block], list[StateError]]:
        """The journal written as these (slot, bytes), its rows in the order they came, and what could not be read."""
        self = cls(timeout_us=timeout_us, most_rows=most_rows)
        found: list[tuple[_Segment, int]] = []
        faults: list[StateError] = []
        for slot, data in entries:
            try:
                found.append((_unpack(data), slot))
            except StateError as e:
                faults.append(e)
                self._free.append(slot)
        found.sort(key=lambda f: f[0].seq)
        blocks = [b for segment, _ in found for b in segment.blocks]
        if found:
            *before, (last, slot) = found
            self._sealed.extend((s, len(segment), _last_us(segment.blocks)) for segment, s in before)
            self._sealed_rows = sum(rows for _, rows, _ in self._sealed)
            self._open, self._slot, self._last_us = last, slot, _last_us(last.blocks)
            self.marks = dict(last.marks)
        used = {self._slot, *(s for s, _, _ in self._sealed)}
        self._free = [slot for slot in range(max((*used, *self._free)) + 1) if slot not in used]
        return self, blocks, faults


def _unpack(data: bytes) -> _Segment:
    found = int.from_bytes(data[:2], "little")
    if found != LAYOUT:
        raise StateError(f"a journal segment has layout {found}, this version reads {LAYOUT}; its rows are passed over")
    try:
        segment = msgspec.msgpack.decode(data[2:], type=_Segment)
        for block in segment.blocks:
            block.columns()
    except (msgspec.MsgspecError, ValueError) as e:
        raise StateError(f"a journal segment cannot be read ({e}); its rows are passed over") from e
    return segment


def _last_us(blocks: Sequence[Block]) -> int:
    return max((b.last_us() for b in blocks), default=0)


def _packed(array: Ints | Floats) -> bytes:
    return array.astype("<i8" if array.dtype.kind == "i" else "<f8", copy=False).tobytes()
