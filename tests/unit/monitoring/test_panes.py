"""Panes: bounds, closing, late rows, replays, the packed layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from monitoring.errors import BadReferenceError, StateError
from monitoring.panes import Panes, Window
from monitoring.reference import Reference

GOLDEN = Path(__file__).parents[2] / "golden" / "monitoring_panes_v1.hex"
REFERENCE = Reference.from_columns(["a"], {"a": {"edges": [0.0], "counts": [5, 5, 0], "low": -1, "high": 1}})


def add(panes: Panes, ts: list[int], *, first: int, source: str = "features:0", value: float = 1.0) -> list[Window]:
    offsets = np.arange(first, first + len(ts))
    return panes.add(np.full((len(ts), 1), value), np.array(ts), source=source, offsets=offsets)


def test_the_bar_that_ends_at_the_bound_belongs_to_what_ended_there() -> None:
    panes = Panes(REFERENCE, pane_us=5, panes=2, grace_panes=0)
    closed = add(panes, [0, 1, 5, 6, 11], first=0)
    assert [(w.start_us, w.end_us, w.rows) for w in closed] == [(-10, 0, 1), (-5, 5, 3), (0, 10, 3)]


def test_a_window_closes_only_after_its_grace_and_counts_late_rows_until_then() -> None:
    panes = Panes(REFERENCE, pane_us=10, panes=2, grace_panes=1)
    assert add(panes, [5, 15], first=0) == []
    assert add(panes, [7], first=2) == []
    (window,) = add(panes, [25], first=3)
    assert (window.end_us, window.rows) == (10, 2)
    assert panes.late_rows == 0


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
    assert panes.watermarks == {"features:0": 3, "features:1": 1}


def test_descending_offsets_are_refused() -> None:
    with pytest.raises(ValueError, match="offsets of source 's' descend"):
        Panes(REFERENCE, pane_us=10).add(np.zeros((2, 1)), np.array([1, 2]), source="s", offsets=np.array([5, 4]))


def test_refused_rows_leave_the_state_as_it_was() -> None:
    panes = Panes(REFERENCE, pane_us=10)
    before = panes.pack()
    with pytest.raises(BadReferenceError):
        panes.add(np.zeros((2, 3)), np.array([1, 2]), source="s", offsets=np.array([4, 5]))
    assert panes.pack() == before


def test_bounds_are_checked() -> None:
    with pytest.raises(ValueError, match="pane_us 0 and panes 12 must be positive"):
        Panes(REFERENCE, pane_us=0)


def packed_example() -> Panes:
    panes = Panes(REFERENCE, pane_us=300_000_000, panes=12, grace_panes=1)
    add(panes, [1_167_782_400_000_000, 1_167_782_700_000_000], first=41, value=0.5)
    add(panes, [1_167_782_700_000_000], first=7, source="features:1", value=np.nan)
    add(panes, [1], first=43)
    return panes


def test_the_packed_layout_is_the_golden_one() -> None:
    golden = bytes.fromhex(GOLDEN.read_text())
    assert packed_example().pack() == golden
    assert golden[:2] == b"\x01\x00"
    again = Panes.unpack(REFERENCE, golden)
    assert again.pack() == golden
    assert (again.late_rows, again.watermarks) == (1, {"features:0": 43, "features:1": 7})
    assert again.window().counts.tolist() == [[0, 2, 1]]


def test_an_empty_state_survives_packing() -> None:
    panes = Panes.unpack(REFERENCE, Panes(REFERENCE, pane_us=10).pack())
    assert panes.newest is None
    assert panes.window().rows == 0


def test_what_cannot_be_read_is_said() -> None:
    data = packed_example().pack()
    other = Reference.from_columns(["b"], {"b": {"edges": [0.0], "counts": [5, 5, 0], "low": -1, "high": 1}})
    for broken, says in [(b"\x02" + data[1:], "layout 2"), (data[:-1], "end early"), (data + b"\0", "1 bytes too many")]:
        with pytest.raises(StateError, match=says):
            Panes.unpack(REFERENCE, broken)
    with pytest.raises(StateError, match="another reference"):
        Panes.unpack(other, data)
