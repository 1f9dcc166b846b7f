"""Counts per pane of event time, for one model version: sliding windows that replays cannot count twice.

Core. A pane is a step of event time; a window is the last `panes` panes. Both are open at the start and closed
at the end, since a bar's `ts_event_us` is its END: the bar that ends at 10:00 belongs to what ended at 10:00.

| pane_us = 5 | ts = 0 | ts = 1 | ts = 5 | ts = 6 |
|-------------|--------|--------|--------|--------|
| pane        | -1     | 0      | 0      | 1      |
| its end_us  | 0      | 5      | 5      | 10     |

Time is the greatest event time seen, nothing else. A pane's window closes when a row arrives more than
`grace_panes` panes after it; later rows still count in their pane, for the windows yet to close, while any
such window covers it; older ones are dropped and counted in `late_rows`. A pane without rows closes no window.

All of it is decided row by row, so how rows are cut into batches changes nothing.

**Rows that come again.** A source partition's rows come in two orders, each kept by itself:

| rows                | ascend in                                                     | `decided` |
|---------------------|---------------------------------------------------------------|-----------|
| answered at once    | their own place in the source                                 | `AT_ONCE` |
| that waited         | the place of the row that ended the wait, then their own      | its place |

Whoever writes them may go back and repeat rows, but leaves none out. So a row that is not above all before it of its kind was
counted before, and is skipped: `Marks` are how far each kind has come.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from monitoring.drift import count, encode, tally
from monitoring.errors import StateError
from monitoring.packing import Reader, Writer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from monitoring.reference import Floats, Ints, Reference

LAYOUT: Final = 2
"""Number of the packed layout written by this version; it stands first in the bytes.

Layout 1 kept one offset of the inference log for each source, its record being the last counted; it is still read.
"""

AT_ONCE: Final = -1
"""What stands for the place that ended a wait where a row did not wait."""

_LAST: Final = np.iinfo(np.int64).max
_FEW = 4
"""Up to so many groups of rows, counting each is faster than encoding all."""


class Marks(NamedTuple):
    """How far a source was counted: up to row `at_once`, and of rows that waited up to (`decided`, `waited`)."""

    at_once: int = -1
    decided: int = -1
    waited: int = -1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Window:
    """Counts of all rows with start_us < ts_event_us <= end_us, as known when the window closed."""

    start_us: int
    end_us: int
    rows: int
    counts: Ints  # (columns, bins + 1)


class Panes:
    """Counts of one (model, version), bounded by panes + grace_panes arrays of the reference's shape."""

    def __init__(self, reference: Reference, *, pane_us: int, panes: int = 12, grace_panes: int = 1) -> None:
        """`pane_us`: length of a pane; `panes`: panes in a window; `grace_panes`: how late a row may come for its own window."""
        if pane_us <= 0 or panes <= 0 or grace_panes < 0:
            raise ValueError(f"pane_us {pane_us} and panes {panes} must be positive, grace_panes {grace_panes} not negative")
        self.reference = reference
        self.pane_us = pane_us
        self.panes = panes
        self.grace_panes = grace_panes
        self.newest: int | None = None
        self.late_rows = 0
        self.watermarks: dict[str, Marks] = {}
        self._counts: dict[int, Ints] = {}

    def add(self, values: Floats, ts_event_us: Ints, *, source: str, own: Ints, decided: Ints) -> list[Window]:
        """Count rows of one source partition, as they came, and return the windows they closed, oldest first.

        `values` float64[rows, columns]; `ts_event_us`, `own`, `decided` int64[rows]: `own` are the rows' places in the source,
        `decided` those that ended their waits, or `AT_ONCE`. Rows that were counted before are skipped.
        """
        fresh, marks = _fresh(own, decided, self.watermarks.get(source, Marks()))
        if not fresh.any():
            return []
        values, pane = values if fresh.all() else values[fresh], (ts_event_us[fresh] - 1) // self.pane_us
        newest = np.maximum.accumulate(pane if self.newest is None else np.maximum(pane, self.newest))
        in_time = pane > newest - self.panes - self.grace_panes
        groups = self._groups(values[in_time], pane[in_time], newest[in_time])
        # Only now, when nothing can be refused any more, is the state touched.
        self.watermarks[source] = marks
        self.late_rows += int((~in_time).sum())
        closed: list[Window] = []
        for now, index, counts in groups:
            closed += self._advance(now)
            held = self._counts.get(index)
            self._counts[index] = counts if held is None else held + counts
        return closed

    def window(self, end_us: int | None = None) -> Window:
        """The sliding window ending at `end_us` (rounded up to a pane's end), or at the newest pane: closed or not."""
        last = -1 if self.newest is None else self.newest
        return self._window(last if end_us is None else (end_us - 1) // self.pane_us)

    def _groups(self, values: Floats, pane: Ints, newest: Ints) -> list[tuple[int, int, Ints]]:
        """Rows grouped by (newest pane so far, own pane), in the order time advanced: (newest, pane, counts)."""
        if not len(pane):
            return []
        order = np.lexsort((pane, newest))
        key = np.stack([newest[order], pane[order]])
        cuts = [0, *(np.flatnonzero((np.diff(key) != 0).any(axis=0)) + 1).tolist(), len(order)]
        spans = list(itertools.pairwise(cuts))
        values = values if (np.diff(order) > 0).all() else values[order]
        if len(spans) <= _FEW:
            return [(int(key[0, a]), int(key[1, a]), count(self.reference, values[a:b])) for a, b in spans]
        codes = encode(self.reference, values)
        return [(int(key[0, a]), int(key[1, a]), tally(self.reference, codes[:, a:b])) for a, b in spans]

    def _advance(self, newest: int) -> list[Window]:
        """Move time to `newest`: close the windows of panes passed, forget the panes no open window covers."""
        before, self.newest = self.newest, newest
        if before is None or before == newest:
            return []
        due = range(before - self.grace_panes, newest - self.grace_panes)
        closed = [self._window(index) for index in sorted(self._counts) if index in due]
        for index in [i for i in self._counts if i <= newest - self.panes - self.grace_panes]:
            del self._counts[index]
        return closed

    def _window(self, last: int) -> Window:
        counts = np.zeros(self.reference.shape, np.int64)
        for index, held in self._counts.items():
            if last - self.panes < index <= last:
                counts += held
        end_us = (last + 1) * self.pane_us
        rows = int(counts[0].sum()) if len(counts) else 0
        return Window(start_us=end_us - self.panes * self.pane_us, end_us=end_us, rows=rows, counts=counts)

    def pack(self) -> bytes:
        """The whole state as bytes, layout number first; the same state always gives the same bytes."""
        w = Writer(LAYOUT)
        w.raw(self.reference.digest())
        w.ints(self.pane_us, self.panes, self.grace_panes, self.late_rows)
        w.ints(*([0] if self.newest is None else [1, self.newest]))
        w.ints(len(self.watermarks))
        for source, marks in sorted(self.watermarks.items()):
            w.text(source)
            w.ints(*marks)
        w.ints(len(self._counts))
        for index, counts in sorted(self._counts.items()):
            w.ints(index)
            w.counts(counts)
        return w.done()

    @classmethod
    def unpack(cls, reference: Reference, data: bytes) -> Panes:
        """Read `pack`'s bytes. Raises `StateError` on another layout, another reference, or damage."""
        r = Reader(data, (1, LAYOUT), what="panes")
        if r.raw(8) != reference.digest():
            raise StateError("packed panes were counted against another reference; start them afresh from the inference log")
        pane_us, panes, grace_panes, late_rows = r.ints(4)
        self = cls(reference, pane_us=pane_us, panes=panes, grace_panes=grace_panes)
        self.late_rows = late_rows
        started = r.ints(1)[0]
        self.newest = r.ints(1)[0] if started else None
        for _ in range(r.ints(1)[0]):
            source = r.text()
            # Rows of then have no places: their record's offset decides, and their own place is their index in the record.
            self.watermarks[source] = Marks(decided=r.ints(1)[0], waited=_LAST) if r.layout == 1 else Marks(*r.ints(3))
        for _ in range(r.ints(1)[0]):
            index = r.ints(1)[0]
            self._counts[index] = r.counts(reference.shape)
        r.end()
        return self


def _fresh(own: Ints, decided: Ints, marks: Marks) -> tuple[NDArray[np.bool_], Marks]:
    """Which rows come for the first time, bool (rows,), and the marks once they are counted."""
    waited = decided != AT_ONCE
    if not waited.any():
        fresh, (_, at_once) = _above(decided, own, (AT_ONCE, marks.at_once))
        return fresh, marks._replace(at_once=at_once)
    at_once = ~waited
    fresh = np.empty(len(own), dtype=bool)
    fresh[at_once], (_, mark) = _above(decided[at_once], own[at_once], (AT_ONCE, marks.at_once))
    fresh[waited], last = _above(decided[waited], own[waited], marks[1:])
    return fresh, Marks(mark, *last)


def _above(major: Ints, minor: Ints, mark: tuple[int, int]) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """Which pairs are greater than the mark and all pairs before them, bool (rows,), and the greatest of all."""
    major, minor = np.append(mark[0], major), np.append(mark[1], minor)
    order = np.lexsort((minor, major))
    differs = (np.diff(major[order], prepend=major[order[0]]) != 0) | (np.diff(minor[order], prepend=minor[order[0]]) != 0)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.cumsum(differs)
    greatest = order[-1]
    return rank[1:] > np.maximum.accumulate(rank)[:-1], (int(major[greatest]), int(minor[greatest]))
