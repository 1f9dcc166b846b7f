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
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from monitoring import instants
from monitoring.drift import count, encode, tally
from monitoring.errors import StateError
from monitoring.packing import Reader, Writer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from monitoring.reference import Floats, Ints, Reference

LAYOUT: Final = 3
"""Number of the packed layout written by this version; it stands first in the bytes.

Layouts 1 and 2 counted coarser cells and no instants: of them only how far each source was counted is read, so rows are still
counted once, but counts start afresh. Layout 1 kept one offset of the inference log for each source, its record being the last
counted.
"""

AT_ONCE: Final = -1
"""What stands for the place that ended a wait where a row did not wait."""

_LAST: Final = np.iinfo(np.int64).max
_MANY_ROWS = 150
"""From so many rows in a group on, on average, counting each group is faster than encoding all."""


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
    counts: Ints  # (columns, bins + 3)
    instants: int
    """Distinct event times of the rows; from 512 in one pane an estimate (`monitoring.instants`)."""
    by_pane: tuple[Ints, ...] = ()
    """Counts of the panes that have rows, oldest first."""


@dataclass(slots=True, eq=False)
class _Pane:
    counts: Ints  # (columns, bins + 3)
    times: instants.Sketch

    def add(self, other: _Pane) -> None:
        self.counts = self.counts + other.counts
        self.times = instants.joined(self.times, other.times)

    def instants(self, rows: int) -> int:
        return min(instants.distinct(self.times), rows)


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
        self.note = ""
        """What was lost in reading packed panes of an older layout."""
        self._panes: dict[int, _Pane] = {}

    def add(self, values: Floats, ts_event_us: Ints, *, source: str, own: Ints, decided: Ints) -> list[Window]:
        """Count rows of one source partition, as they came, and return the windows they closed, oldest first.

        `values` float64[rows, columns]; `ts_event_us`, `own`, `decided` int64[rows]: `own` are the rows' places in the source,
        `decided` those that ended their waits, or `AT_ONCE`. Rows that were counted before are skipped.
        """
        return self.add_all(values, ts_event_us, sources=[(source, len(values))], own=own, decided=decided)

    def add_all(
        self, values: Floats, ts_event_us: Ints, *, sources: Sequence[tuple[str, int]], own: Ints, decided: Ints
    ) -> list[Window]:
        """As `add` for each source after the other, at once: `sources` are their names and how many of the rows are theirs."""
        marks: dict[str, Marks] = {}
        fresh, at = np.empty(len(own), np.bool_), 0
        for source, rows in sources:
            part = slice(at, at + rows)
            known = marks.get(source) or self.watermarks.get(source) or Marks()
            fresh[part], marks[source] = _fresh(own[part], decided[part], known)
            at += rows
        if not fresh.any():
            return []
        values, times = _where(fresh, values, ts_event_us)
        pane = (times - 1) // self.pane_us
        newest = np.maximum.accumulate(pane if self.newest is None else np.maximum(pane, self.newest))
        in_time = pane > newest - self.panes - self.grace_panes
        groups = self._groups(*_where(in_time, values, times, pane, newest))
        # Only now, when nothing can be refused any more, is the state touched.
        self.watermarks |= marks
        self.late_rows += int((~in_time).sum())
        closed: list[Window] = []
        for now, index, some in groups:
            closed += self._advance(now)
            held = self._panes.get(index)
            if held is None:
                self._panes[index] = some
            else:
                held.add(some)
        return closed

    def window(self, end_us: int | None = None) -> Window:
        """The sliding window ending at `end_us` (rounded up to a pane's end), or at the newest pane: closed or not."""
        last = -1 if self.newest is None else self.newest
        return self._window(last if end_us is None else (end_us - 1) // self.pane_us)

    def _groups(self, values: Floats, times: Ints, pane: Ints, newest: Ints) -> list[tuple[int, int, _Pane]]:
        """Rows grouped by (newest pane so far, own pane), in the order time advanced: (newest, pane, what it adds)."""
        if not len(pane):
            return []
        order = np.lexsort((pane, newest))
        key = np.stack([newest[order], pane[order]])
        cuts = [0, *(np.flatnonzero((np.diff(key) != 0).any(axis=0)) + 1).tolist(), len(order)]
        spans = list(itertools.pairwise(cuts))
        values = values if (np.diff(order) > 0).all() else values[order]
        if len(order) >= _MANY_ROWS * len(spans):
            counts = [count(self.reference, values[a:b]) for a, b in spans]
        else:
            codes = encode(self.reference, values)
            counts = [tally(self.reference, codes[:, a:b]) for a, b in spans]
        hashed = instants.hashed(times[order])
        return [
            (int(key[0, a]), int(key[1, a]), _Pane(held, instants.joined(instants.EMPTY, hashed[a:b])))
            for (a, b), held in zip(spans, counts, strict=True)
        ]

    def _advance(self, newest: int) -> list[Window]:
        """Move time to `newest`: close the windows of panes passed, forget the panes no open window covers."""
        before, self.newest = self.newest, newest
        if before is None or before == newest:
            return []
        due = range(before - self.grace_panes, newest - self.grace_panes)
        closed = [self._window(index) for index in sorted(self._panes) if index in due]
        for index in [i for i in self._panes if i <= newest - self.panes - self.grace_panes]:
            del self._panes[index]
        return closed

    def _window(self, last: int) -> Window:
        held = [self._panes[i] for i in sorted(self._panes) if last - self.panes < i <= last]
        counts, times = np.zeros(self.reference.shape, np.int64), 0
        for pane in held:
            counts += pane.counts
            times += pane.instants(_rows(pane.counts))
        end_us = (last + 1) * self.pane_us
        start_us = end_us - self.panes * self.pane_us
        by_pane = tuple(pane.counts for pane in held)  # adding to a pane makes new counts, so these stand
        return Window(start_us=start_us, end_us=end_us, rows=_rows(counts), counts=counts, instants=times, by_pane=by_pane)

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
        w.ints(len(self._panes))
        for index, held in sorted(self._panes.items()):
            w.ints(index, len(held.times))
            w.raw(held.times.astype("<u8").tobytes())
            w.counts(held.counts)
        return w.done()

    @classmethod
    def unpack(cls, reference: Reference, data: bytes) -> Panes:
        """Read `pack`'s bytes. Raises `StateError` on an unknown layout, another reference, or damage.

        Of an older layout the panes come without counts, and their `note` says so.
        """
        r = Reader(data, range(1, LAYOUT + 1), what="panes")
        if r.raw(8) != reference.digest() and r.layout == LAYOUT:
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
        if r.layout < LAYOUT:
            self.note = f"panes of layout {r.layout} counted coarser cells: counts start afresh, the next window is incomplete"
            return self
        for _ in range(r.ints(1)[0]):
            index, times = r.ints(2)
            sketch = np.frombuffer(r.raw(8 * times), "<u8").astype(np.uint64)
            self._panes[index] = _Pane(r.counts(reference.shape), sketch)
        r.end()
        return self


def _where(mask: NDArray[np.bool_], *arrays: Any) -> tuple[Any, ...]:
    """These rows of the arrays; as they are where it is all of them, which it nearly always is."""
    return arrays if mask.all() else tuple(a[mask] for a in arrays)


def _rows(counts: Ints) -> int:
    """Rows counted: every column counts each."""
    return int(counts[0].sum()) if len(counts) else 0


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
