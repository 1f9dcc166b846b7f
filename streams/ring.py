"""The windows of one feature set, all symbols at once. Core: no clock, no I/O. `windows` joins the sets.

One window is the newest rows of a (symbol, feature set), ordered by (ts_event, revision). What a vector for
the row at offset o sees is defined without reference to when anything ran:

    seen     = the window's rows with source offset <= o ("offset cut"); of those the newest `depth_rows`
    visible  = seen rows with ts_known <= decision time
    value    = the newest visible row with ts_event <= instant, unless instant - its ts_event > max age

| row arriving for a window                      | what happens                                      |
|------------------------------------------------|---------------------------------------------------|
| newer than all held                            | appended                                          |
| older than `depth_rows` newer ones             | `EXPIRED`: no lookup could ever reach it          |
| same event time and revision, same payload     | `DUPLICATE`: ignored                              |
| same event time and revision, other payload    | `CONFLICT`: the first stays                       |
| otherwise (late, or a revision)                | `LATE`: placed in order; nothing emitted changes  |

A window holds `depth_rows + slack_rows` rows, and at most `slack_rows` rows of one window may be pushed between two
lookups (`pipeline` cuts its chunks so), which is why an earlier row of a chunk still finds all it may see.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

REVISION_BITS: Final = 10
EMPTY: Final = np.int64(-1)
"""Sort key of a place with no row; real keys are >= 0."""
UNSEEN: Final = np.iinfo(np.int64).max

APPENDED, LATE, DUPLICATE, CONFLICT, EXPIRED, REPLAYED = range(6)
"""What `push` did with a row. REPLAYED: at or below the symbol's applied offset, so its outputs are already out."""


def sort_key(ts_event_us: I64, revision: I64) -> I64:
    """(event time, revision) as one int64 that orders like the pair."""
    return (ts_event_us << REVISION_BITS) | revision


def instant_key(instant_us: I64) -> I64:
    """The greatest sort key a row at or before the instant can have."""
    return (instant_us << REVISION_BITS) | ((1 << REVISION_BITS) - 1)


class SetWindows:
    """Windows of one feature set: rows of slot s lie in a ring, in ascending key order from its oldest."""

    def __init__(self, features: int, *, depth_rows: int, slack_rows: int) -> None:
        self.features = features
        self.depth = depth_rows
        self.capacity = depth_rows + slack_rows
        self.key = np.empty((0, self.capacity), dtype=np.int64)  # (slots, capacity)
        self.known = np.empty((0, self.capacity), dtype=np.int64)
        self.offset = np.empty((0, self.capacity), dtype=np.int64)
        self.values = np.empty((0, self.capacity, features), dtype=np.float64)  # (slots, capacity, features)
        self.count = np.zeros(0, dtype=np.int64)  # rows ever placed; place of the next = count % capacity
        self.newest = np.full(0, EMPTY, dtype=np.int64)
        self.grown: dict[int, list[tuple[int, int]]] = {}
        self.in_order = np.zeros(0, dtype=np.int64)  # rows placed from this one on came in the order in which they lie

    def grow(self, slots: int) -> None:
        """Make room for this many slots; new ones are empty."""
        more = slots - len(self.count)
        if more > 0:
            self.key = np.concatenate([self.key, np.full((more, self.capacity), EMPTY, dtype=np.int64)])
            self.known = np.concatenate([self.known, np.zeros((more, self.capacity), dtype=np.int64)])
            self.offset = np.concatenate([self.offset, np.full((more, self.capacity), UNSEEN, dtype=np.int64)])
            self.values = np.concatenate([self.values, np.full((more, self.capacity, self.features), np.nan)])
            self.count = np.concatenate([self.count, np.zeros(more, dtype=np.int64)])
            self.newest = np.concatenate([self.newest, np.full(more, EMPTY, dtype=np.int64)])
            self.in_order = np.concatenate([self.in_order, np.zeros(more, dtype=np.int64)])

    def clear(self, slot: int) -> None:
        """Empty one slot."""
        self.key[slot] = EMPTY
        self.offset[slot] = UNSEEN
        self.count[slot] = 0
        self.newest[slot] = EMPTY
        self.in_order[slot] = 0

    def push(self, slots: NDArray[np.intp], key: I64, known: I64, offset: I64, values: F64) -> NDArray[np.int8]:
        """Place rows (in the order given for each slot); returns one status a row.

        Slots whose rows all are newer than what they hold take the vectorised path, the others row by row.
        """
        n = len(slots)
        status = np.zeros(n, dtype=np.int8)
        if n == 0:
            return status
        order = np.argsort(slots, kind="stable")
        s, k = slots[order], key[order]
        first = np.empty(n, dtype=bool)
        first[0] = True
        np.not_equal(s[1:], s[:-1], out=first[1:])
        before = np.empty(n, dtype=np.int64)
        before[1:] = k[:-1]
        before[first] = self.newest[s[first]]
        disordered = k <= before
        if disordered.any():
            slow_slot = np.zeros(len(self.count), dtype=bool)
            slow_slot[s[disordered]] = True
            slow = slow_slot[s]
            for i in np.sort(order[slow]).tolist():
                status[i] = self._place(int(slots[i]), int(key[i]), int(known[i]), int(offset[i]), values[i])
            order, first = order[~slow], first[~slow]
            s, k = slots[order], key[order]
            if len(order) == 0:
                return status
        starts = np.flatnonzero(first)
        sizes = np.diff(np.append(starts, len(order)))
        within = np.arange(len(order)) - np.repeat(starts, sizes)
        place = (self.count[s] + within) % self.capacity
        self.key[s, place] = k
        self.known[s, place] = known[order]
        self.offset[s, place] = offset[order]
        self.values[s, place] = values[order]
        heads = s[starts]
        self.count[heads] += sizes
        self.newest[heads] = k[starts + sizes - 1]
        return status

    def ordered(self, slot: int) -> NDArray[np.int64]:
        """Places of the slot's rows, oldest first."""
        count = int(self.count[slot])
        held = min(count, self.capacity)
        return np.arange(count - held, count) % self.capacity

    def guess(
        self,
        slots: NDArray[np.intp],
        *,
        later: I64 | int,
        back: I64,
        instant_us: I64,
        decision_us: I64,
        offset: I64,
        depth_rows: I64,
    ) -> tuple[NDArray[np.intp], I64, NDArray[np.bool_]]:
        """What `View.newest_at` finds where rows came in order, without looking through the windows.

        `slots`, `decision_us`, `offset`: (rows,), as for `View`; `later`: how many of the window's rows probably have
        greater offsets. `instant_us`: (looks, rows). `back`, `depth_rows`: (looks, 1); `back` is how many rows before the
        newest a look's row lies if no bar is absent. Returns place and event time, (looks, rows), and where both are
        certain: the row there is visible and at or before the instant, the next in order is after it. Elsewhere they mean
        nothing.
        """
        start = slots * self.capacity
        last = self.count[slots] - 1
        index = last - later - back  # counted from the first row ever placed
        place = index % self.capacity
        at, after = start + place, start + (index + 1) % self.capacity
        bound = instant_key(instant_us)
        key = self.key.ravel().take(at)
        certain = (key <= bound) & ((index == last) | (self.key.ravel().take(after) > bound))
        certain &= (self.known.ravel().take(at) <= decision_us) & (self.offset.ravel().take(at) <= offset)
        # Of the rows after it those at hand by then count: all but `later`, if these lie behind the row itself, as they came.
        itself = self.offset[slots, (last - later) % self.capacity] == offset
        newer = last - index - np.where(itself & (index + 1 >= self.in_order[slots]), later, 0)
        certain &= newer < depth_rows
        return place, key >> REVISION_BITS, certain

    def values_at(self, slots: NDArray[np.intp], place: NDArray[np.intp], features: NDArray[np.intp] | None) -> F64:
        """Values of these features (None: all, in order) in the rows at these places: float64 (rows, features)."""
        picked: F64 = self.values.reshape(-1, self.features).take(slots * self.capacity + place, axis=0)
        return picked if features is None else picked[:, features]

    def restore(self, slot: int, key: I64, known: I64, offset: I64, values: F64) -> None:
        """Put rows (ascending key) into a slot in place of what it held; keeps the newest `capacity`."""
        self.clear(slot)
        m = min(len(key), self.capacity)
        if m:
            self.key[slot, :m] = key[-m:]
            self.known[slot, :m] = known[-m:]
            self.offset[slot, :m] = offset[-m:]
            self.values[slot, :m] = values[-m:]
            self.count[slot] = m
            self.newest[slot] = key[-1]
            self.in_order[slot] = 0 if (np.diff(offset[-m:]) > 0).all() else m

    def _floor(self, slot: int, places: NDArray[np.int64], keys: I64) -> int:
        """Rows with a lesser key may have come and left when the windows were less deep: such a one is not taken twice."""
        floor = 0
        for position, depth in self.grown.get(slot, ()):
            before = keys[self.offset[slot, places] < position]
            if len(before) >= depth > 0:
                floor = max(floor, int(before.min()))
        return floor

    def _place(self, slot: int, key: int, known: int, offset: int, values: F64) -> int:
        places = self.ordered(slot)
        keys = self.key[slot, places]
        at = int(np.searchsorted(keys, key))
        if len(keys) - int(np.searchsorted(keys, key, side="right")) >= self.depth or key < self._floor(slot, places, keys):
            return EXPIRED
        if at < len(keys) and keys[at] == key:
            p = places[at]
            same = self.known[slot, p] == known and self.values[slot, p].tobytes() == values.tobytes()
            return DUPLICATE if same else CONFLICT
        status = APPENDED if at == len(keys) else LATE
        self.restore(
            slot,
            np.insert(keys, at, key),
            np.insert(self.known[slot, places], at, known),
            np.insert(self.offset[slot, places], at, offset),
            np.insert(self.values[slot, places], at, values, axis=0),
        )
        return status


class View:
    """What the rows at given offsets and decision times see of one feature set's windows."""

    def __init__(self, windows: SetWindows, slots: NDArray[np.intp], decision_us: I64, offset: I64) -> None:
        self._windows = windows
        self._slots = slots
        key = windows.key[slots]  # (rows, capacity)
        cut = windows.offset[slots] <= offset[:, None]
        self._seen = np.where(cut, key, EMPTY)
        self._visible = np.where(windows.known[slots] <= decision_us[:, None], self._seen, EMPTY)
        self._rows = np.arange(len(slots))

    def newest_at(self, instant_us: I64, *, depth_rows: int) -> tuple[NDArray[np.intp], I64]:
        """For each row: the place of the newest visible row at or before the instant, and its event time.

        Event time -1 where there is none within the newest `depth_rows` seen.
        """
        reach = np.where(self._visible <= instant_key(instant_us)[:, None], self._visible, EMPTY)
        place = reach.argmax(axis=1)
        best = reach[self._rows, place]
        newer = (self._seen > best[:, None]).sum(axis=1)
        best = np.where(newer < depth_rows, best, EMPTY)
        return place, np.where(best >= 0, best >> REVISION_BITS, EMPTY)

    def newer_than(self, key: I64) -> NDArray[np.intp]:
        """How many seen rows have a greater sort key, for each row: (rows,)."""
        count: NDArray[np.intp] = (self._seen > key[:, None]).sum(axis=1)
        return count

    def revision_before(self, ts_event_us: int, revision: int, row: int, *, depth_rows: int) -> int | None:
        """The greatest revision of an event time below `revision` in the newest `depth_rows` seen, for one row of the view.

        What lies deeper may still be in memory, or gone with a checkpoint: no record may tell which.
        """
        keys = self._seen[row]
        same = keys[(keys >> REVISION_BITS == ts_event_us) & (keys >= 0)] & ((1 << REVISION_BITS) - 1)
        older = same[same < revision]
        if not len(older):
            return None
        before = int(older.max())
        newer = int((keys > (ts_event_us << REVISION_BITS | before)).sum())
        return before if newer < depth_rows else None
