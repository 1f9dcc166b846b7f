"""Panes: bounds, closing, late rows, replays, the packed layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from monitoring.errors import BadReferenceError, StateError
from monitoring.instants import MOST
from monitoring.panes import AT_ONCE, LAYOUT, Marks, Panes, Window
from monitoring.reference import Reference

GOLDEN = Path(__file__).parents[2] / "golden"
REFERENCE = Reference.from_columns(["a"], {"a": {"edges": [0.0], "counts": [5, 5, 0], "low": -1, "high": 1}})


def add(
    panes: Panes, ts: list[int], *, first: int, source: str = "features:0", value: float = 1.0, decided: int = AT_ONCE
) -> list[Window]:
    own = np.arange(first, first + len(ts))
    return panes.add(np.full((len(ts), 1), value), np.array(ts), source=source, own=own, decided=np.full(len(ts), decided))


def rows_counted(panes: Panes, places: list[tuple[int, int]]) -> int:
    """How many of these rows count, each (decided, own), that come in one call."""
    before = panes.window().rows
    decided, own = np.array(places).T
    panes.add(np.ones((len(own), 1)), np.full(len(own), 5), source="s", own=own, decided=decided)
    return panes.window().rows - before


def test_the_bar_that_ends_at_the_bound_belongs_to_what_ended_there() -> None:
    panes = Panes(REFERENCE, pane_us=5, panes=2, grace_panes=0)
    closed = add(panes, [0, 1, 5, 6, 11], first=0)
    assert [(w.start_us, w.end_us, w.rows) for w in closed] == [(-10, 0, 1), (-5, 5, 3), (0, 10, 3)]


def test_a_window_closes_only_after_its_grace_and_counts_late_rows_until_then() -> None:
    panes = Panes(REFERENCE, pane_us=10, panes=2, grace_panes=1)
    assert add(panes, [5, 15], first=0) == []
    assert add(panes, [7], first=2) == []
    (window,) = add(panes, [25], first=3)
    assert (window.end_us, window.rows, window.instants) == (10, 2, 2)
    assert panes.late_rows == 0


def test_a_window_keeps_the_counts_of_its_panes_when_time_goes_on() -> None:
    panes = Panes(REFERENCE, pane_us=10, panes=2, grace_panes=0)
    add(panes, [5, 15, 15], first=0)
    before = panes.window()
    (closed,) = add(panes, [12, 100_000], first=3)
    assert [int(part.sum()) for part in before.by_pane] == [1, 2]
    assert [int(part.sum()) for part in closed.by_pane] == [1, 3]
    assert panes.window(20).by_pane == ()


def test_instants_are_distinct_event_times_whatever_their_pane() -> None:
    panes = Panes(REFERENCE, pane_us=10, panes=2, grace_panes=0)
    add(panes, [5, 5, 7], first=0)
    add(panes, [5, 12, 7, 12], first=0, source="features:1")
    assert (panes.window().rows, panes.window().instants) == (7, 3)
    add(panes, [23], first=3)
    assert (panes.window().rows, panes.window().instants) == (3, 2)
    assert panes.window(10).instants == 0


def test_a_refused_replay_adds_no_instants() -> None:
    panes = Panes(REFERENCE, pane_us=10)
    add(panes, [5, 6], first=0)
    add(panes, [7, 8], first=0)
    assert panes.window().instants == 2


@pytest.mark.parametrize(("symbols", "times"), [(1, 511), (3, 511), (1, 5_000), (4, 5_000)])
def test_beyond_512_instants_of_a_pane_are_an_estimate(symbols: int, times: int) -> None:
    """Three standard errors of it are 13 %; there are never more instants than rows."""
    panes = Panes(REFERENCE, pane_us=10_000)
    for s in range(symbols):
        add(panes, list(range(1, times + 1)), first=0, source=f"features:{s}")
    found = panes.window().instants
    assert found == pytest.approx(times, rel=0.13 if times > MOST else 0)
    assert found <= symbols * times
    assert len(panes.pack()) < 200 + 8 * MOST + 100 * symbols


def test_a_row_no_open_window_covers_is_dropped_and_counted() -> None:
    panes = Panes(REFERENCE, pane_us=10, panes=2, grace_panes=0)
    add(panes, [100], first=0)
    add(panes, [85, 80], first=1)
    assert (panes.late_rows, panes.window().rows) == (1, 2)


def test_a_gap_closes_no_window_and_forgets_what_is_old() -> None:
    panes = Panes(REFERENCE, pane_us=10, panes=2, grace_panes=0)
    (window,) = [*add(panes, [5], first=0), *add(panes, [100_005], first=1)]
    assert window.end_us == 10
    assert panes.window().rows == 1
    assert panes.window(10).rows == 0


def test_rows_at_or_below_the_watermark_are_skipped_per_source() -> None:
    panes = Panes(REFERENCE, pane_us=10)
    add(panes, [1, 2, 3], first=0)
    add(panes, [2, 3, 4], first=1)
    add(panes, [1, 2], first=0, source="features:1")
    assert panes.window().rows == 6
    assert panes.watermarks == {"features:0": Marks(3), "features:1": Marks(1)}


def test_rows_repeated_in_the_same_call_count_once() -> None:
    panes = Panes(REFERENCE, pane_us=10)
    assert rows_counted(panes, [(AT_ONCE, own) for own in (4, 5, 4, 5, 6, 7, 5, 6, 7, 8)]) == 5
    assert panes.watermarks == {"s": Marks(8)}


def test_rows_that_waited_are_known_by_what_decided_them_then_by_their_own_place() -> None:
    panes = Panes(REFERENCE, pane_us=10)
    assert rows_counted(panes, [(AT_ONCE, 5), (9, 2), (AT_ONCE, 7), (9, 6), (10, 1), (12, 12)]) == 6
    assert panes.watermarks == {"s": Marks(7, 12, 12)}
    assert rows_counted(panes, [(9, 6), (10, 1), (AT_ONCE, 7), (12, 12)]) == 0
    assert rows_counted(panes, [(10, 1), (12, 12), (12, 13), (AT_ONCE, 8), (13, 0), (12, 13)]) == 3
    assert panes.watermarks == {"s": Marks(8, 13, 0)}


def test_refused_rows_leave_the_state_as_it_was() -> None:
    panes = Panes(REFERENCE, pane_us=10)
    before = panes.pack()
    with pytest.raises(BadReferenceError):
        panes.add(np.zeros((2, 3)), np.array([1, 2]), source="s", own=np.array([4, 5]), decided=np.full(2, AT_ONCE))
    assert panes.pack() == before


def test_bounds_are_checked() -> None:
    with pytest.raises(ValueError, match="pane_us 0 and panes 12 must be positive"):
        Panes(REFERENCE, pane_us=0)


def packed_example() -> Panes:
    panes = Panes(REFERENCE, pane_us=300_000_000, panes=12, grace_panes=1)
    add(panes, [1_167_782_400_000_000, 1_167_782_700_000_000], first=41, value=0.5)
    add(panes, [1_167_782_700_000_000], first=7, source="features:1", value=np.nan, decided=9)
    add(panes, [1], first=43)
    return panes


def golden(layout: int) -> bytes:
    return bytes.fromhex((GOLDEN / f"monitoring_panes_v{layout}.hex").read_text())


def test_the_packed_layout_is_the_golden_one() -> None:
    assert packed_example().pack() == golden(LAYOUT)
    again = Panes.unpack(REFERENCE, golden(LAYOUT))
    assert again.pack() == golden(LAYOUT)
    assert again.watermarks == {"features:0": Marks(43), "features:1": Marks(decided=9, waited=7)}
    assert again.late_rows == 1
    assert again.note == ""
    assert again.window().counts.tolist() == [[0, 0, 2, 0, 1]]
    assert again.window().instants == 2


@pytest.mark.parametrize("layout", range(1, LAYOUT))
def test_of_an_older_layout_only_how_far_it_was_counted_is_read(layout: int) -> None:
    assert golden(layout)[:2] == bytes([layout, 0])
    again = Panes.unpack(REFERENCE, golden(layout))
    assert again.note == f"panes of layout {layout} counted coarser cells: counts start afresh, the next window is incomplete"
    assert (again.late_rows, again.window().rows, again.panes) == (1, 0, 12)
    assert Panes.unpack(REFERENCE, again.pack()).note == ""


def test_rows_counted_under_layout_2_are_not_counted_again() -> None:
    panes = Panes.unpack(REFERENCE, golden(2))
    assert panes.watermarks == {"features:0": Marks(43), "features:1": Marks(decided=9, waited=7)}
    ts = 1_167_782_700_000_000
    add(panes, [ts, ts, ts], first=42)
    assert panes.window().rows == 1


def test_rows_counted_under_layout_1_are_known_by_their_records_offset_in_the_log() -> None:
    panes = Panes.unpack(REFERENCE, golden(1))
    ts = 1_167_782_700_000_000
    add(panes, [ts, ts], first=0, decided=42)
    add(panes, [ts], first=100, decided=43)
    assert panes.window().rows == 0
    add(panes, [ts, ts], first=0, decided=44)
    assert panes.window().rows == 2


def test_an_empty_state_survives_packing() -> None:
    panes = Panes.unpack(REFERENCE, Panes(REFERENCE, pane_us=10).pack())
    assert panes.newest is None
    assert panes.window().rows == 0


def test_what_cannot_be_read_is_said() -> None:
    data = packed_example().pack()
    other = Reference.from_columns(["b"], {"b": {"edges": [0.0], "counts": [5, 5, 0], "low": -1, "high": 1}})
    for broken, says in [
        (b"\x04" + data[1:], r"layout 4, this version reads \[1, 2, 3\]"),
        (data[:-1], "end early"),
        (data + b"\0", "1 bytes too many"),
    ]:
        with pytest.raises(StateError, match=says):
            Panes.unpack(REFERENCE, broken)
    with pytest.raises(StateError, match="another reference"):
        Panes.unpack(other, data)
