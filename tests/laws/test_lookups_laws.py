"""The short way to a look's row finds what looking through the whole window finds, whatever came before."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.bars import BarGrid
from streams.lookups import find, rows_to_come
from streams.plan import Lookup
from streams.ring import LATE, SetWindows, View, sort_key
from streams.wire import FeatureBatch

BAR_US = 10
DEPTH = 5
SLACK = 4


def look(lag: float, depth_rows: int) -> Lookup:
    """A whole number of bars is counted on the grid, a fraction is a lag in time."""
    bars = None if lag % 1 else int(lag)
    lag_us = int(lag * BAR_US) if bars is None else 0
    return Lookup("s", lag_us, bars, BarGrid(BAR_US), None, depth_rows, slice(0, 1), None, awaited=False)


class World:
    """One set's windows filled with rows mostly in order, as a producer with hiccups would send them."""

    def __init__(self, seed: int, *, hiccups: float) -> None:
        self.rng = np.random.default_rng(seed)
        self.hiccups = hiccups
        self.windows = SetWindows(1, depth_rows=DEPTH, slack_rows=SLACK)
        self.windows.grow(3)
        self.offset = 0
        self.bar = [0, 0, 0]

    def push(self, rows: int) -> tuple[np.ndarray, FeatureBatch]:
        rng = self.rng
        slots: list[int] = []
        events: list[int] = []
        known: list[int] = []
        revision: list[int] = []
        for _ in range(rows):
            slot = int(rng.integers(3))
            if slots.count(slot) == SLACK:
                continue
            self.bar[slot] += 1
            event, rev, delay = self.bar[slot] * BAR_US, 0, 0
            if rng.random() < self.hiccups:
                event -= int(rng.integers(0, 4)) * BAR_US
                rev = int(rng.integers(0, 3))
                delay = int(rng.integers(0, 40))
                self.bar[slot] += int(rng.integers(0, 3))
            slots.append(slot)
            events.append(max(event, 0))
            known.append(max(event, 0) + delay)
            revision.append(rev)
        n = len(slots)
        at, event_us, known_us, rev_no = np.array(slots), np.array(events), np.array(known), np.array(revision)
        offset = np.arange(self.offset, self.offset + n)
        self.offset += n
        values = rng.standard_normal((n, 1))
        status = self.windows.push(at, sort_key(event_us, rev_no), known_us, offset, values)
        kept = np.flatnonzero(status <= LATE)
        batch = FeatureBatch(
            "s", "t", [f"S{s}" for s in at], np.arange(n), np.zeros(n, dtype=np.int64), event_us, known_us, rev_no, offset, values
        )
        return at[kept], batch.take(kept)


def brute(windows: SetWindows, look: Lookup, slots: np.ndarray, rows: FeatureBatch) -> list[tuple[int, int]]:
    """Place and event time by looking through the windows; place −1 where there is no row."""
    view = View(windows, slots, rows.ts_known_us, rows.offset)
    place, event = view.newest_at(look.instants(rows.ts_event_us)[0], depth_rows=look.depth_rows)
    return [(int(p) if e >= 0 else -1, int(e)) for p, e in zip(place, event, strict=True)]


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.1, 0.5]),
    st.booleans(),
    st.lists(st.builds(look, st.sampled_from([0, 1, 3, 0.5, 2.5]), st.sampled_from([DEPTH, DEPTH - 2])), min_size=1, max_size=3),
)
def test_a_look_finds_what_the_whole_window_holds(seed: int, hiccups: float, wrong_hint: object, looks: list[Lookup]) -> None:
    world = World(seed, hiccups=hiccups)
    for _ in range(12):
        slots, rows = world.push(int(world.rng.integers(1, 9)))
        if not len(slots):
            continue
        # A hint that is wrong (rows looked at again later, as waiting rows are) may cost time, never the answer.
        later = world.rng.integers(0, 6, size=len(slots)) if wrong_hint else rows_to_come(slots)
        for found in find(world.windows, looks, slots, rows, later):
            got = [(int(p) if e >= 0 else -1, max(int(e), -1)) for p, e in zip(found.place, found.event, strict=True)]
            assert got == brute(world.windows, found.look, slots, rows)


def test_rows_in_order_need_no_look_through_the_window() -> None:
    world = World(7, hiccups=0.0)
    for _ in range(11):
        world.push(6)
    slots, rows = world.push(6)
    back, depth = np.array([[0], [1], [3]]), np.full((3, 1), DEPTH)
    instants = rows.ts_event_us - back * BAR_US
    _, event, certain = world.windows.guess(
        slots,
        later=rows_to_come(slots),
        back=back,
        instant_us=instants,
        decision_us=rows.ts_known_us,
        offset=rows.offset,
        depth_rows=depth,
    )
    assert certain.all()
    assert np.array_equal(event, instants)


def test_rows_to_come_counts_those_behind() -> None:
    slots = np.random.default_rng(3).integers(0, 5, size=40)
    expected = [sum(int(s) == int(slots[i]) for s in slots[i + 1 :]) for i in range(40)]
    assert rows_to_come(slots).tolist() == expected


def filled(rows: list[tuple[int, int]]) -> SetWindows:
    """One window of (event, revision) rows, in the order they came, offsets from 0."""
    windows = SetWindows(1, depth_rows=DEPTH, slack_rows=SLACK)
    windows.grow(1)
    for offset, (event, revision) in enumerate(rows):
        key = sort_key(np.array([event]), np.array([revision]))
        windows.push(np.array([0]), key, np.array([event]), np.array([offset]), np.zeros((1, 1)))
    return windows


def asks(windows: SetWindows, of: Lookup, *, event: int, offset: int, later: int) -> tuple[int, list[tuple[int, int]]]:
    """The event time that a row finds, and what looking through says."""
    at = np.array([event])
    rows = FeatureBatch("s", "t", ["S"], at * 0, at * 0, at, np.array([1_000]), at * 0, np.array([offset]), np.zeros((1, 1)))
    (found,) = find(windows, [of], np.array([0]), rows, np.array([later]))
    return int(found.event[0]), brute(windows, of, np.array([0]), rows)


def test_revisions_take_the_depth_even_if_a_wrong_hint_leads_to_the_right_row() -> None:
    windows = filled([(10, 0), (20, 0), (20, 1), (20, 2)])
    event, right = asks(windows, look(1, 3), event=20, offset=3, later=2)
    assert [event] == [e for _, e in right] == [-1]


def test_rows_seen_before_a_late_one_take_the_depth() -> None:
    # The late row stands where a row with one to come would, but the row behind it came before, and one before it after.
    windows = filled([(10, 0), (20, 0), (40, 0), (30, 0), (5, 0)])
    event, right = asks(windows, look(2, 3), event=30, offset=3, later=1)
    assert [event] == [e for _, e in right] == [-1]
